"""Graders by name, `exact`, `numeric:tolerance=0.01`, or a file of one's own: found, checked, applied.

A grader is one module with a frozen dataclass `Config` of its options and

    grade(answer, reference, question, config) -> Grade

where `question` is the prompt, or the row that it came in (a mapping with `prompt` and whatever else the grader reads, such as
`choices`). It may have `problem(reference, question, config) -> str`, which says before anything is asked why an answer could
not be graded, `grade_many(answers, references, questions, config)` where many at once are faster, and NEEDS_REFERENCE = False.

A grader that asks a model, as `judge` does, has `grade_asking` in place of `grade`; what else it has is described there. Its
score may be NaN: there is no grade.

A file of one's own may return a number in place of a `Grade`, and needs no `Config`: its grade then takes no config.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from jaxroute.collect.graders.grade import Grade
from jaxroute.errors import GraderError, shortened
from jaxroute.storage.digests import file_digest, text_digest
from jaxroute.storage.specs import Shelf, caption

GRADERS = Shelf("jaxroute.collect.graders", "grader", GraderError, others=("base", "grade", "reading"))
Question = str | Mapping[str, Any]


def find_grader(spec: str) -> Grader:
    """The grader that a name, or a file, and options say. Raises `GraderError` naming what is known."""
    module = GRADERS.module(spec)
    if not any(callable(getattr(module, name, None)) for name in ("grade", "grade_asking")):
        raise GraderError(f"grader={shortened(spec)}: {module.__name__} must hold grade(answer, reference, question)")
    if not is_dataclass(getattr(module, "Config", None)):
        if ":" in spec:
            raise GraderError(f"grader={shortened(spec)}: it has no options, since it holds no dataclass Config")
        return Grader(spec, module, None)
    return Grader(spec, module, GRADERS.config(spec, module))


def grader_names() -> dict[str, str]:
    """Name and caption of every grader in this room."""
    return GRADERS.captions()


@dataclass(frozen=True)
class Grader:
    """A grader with its options."""

    spec: str
    """As it was asked for, such as `numeric:tolerance=0.01`."""
    module: ModuleType
    """Where it is defined."""
    config: Any
    """Its options, the module's `Config`; None where it has none."""

    def grade(self, answer: str, reference: Any = None, question: Question = "") -> Grade:
        """The answer's grade; raises `GraderError` where a file of one's own fails or gives no score in [0, 1]."""
        return self._checked(self._call("grade", answer, reference, question))

    def grade_many(self, answers: Sequence[str], references: Sequence[Any], questions: Sequence[Question]) -> list[Grade]:
        """The grades of many answers, in order."""
        if not hasattr(self.module, "grade_many"):
            return [self.grade(*one) for one in zip(answers, references, questions, strict=True)]
        return [self._checked(one) for one in self._call("grade_many", list(answers), list(references), list(questions))]

    async def grade_asking(
        self,
        answer: str,
        reference: Any,
        question: Question,
        *,
        model: str,
        asker: Any,
        others: Mapping[str, str | None] | None = None,
    ) -> Grade:
        """The grade of that model's answer by a grader that `asks`; its score is NaN, with the reason, where it has none.

        `asker` sends, pays and keeps its requests (see `judge.Asker`); `others` are the answers of `needed_answers` to the same
        question. Raises `CallFailed` where it could not ask.
        """
        given = (answer, reference, question) if self.config is None else (answer, reference, question, self.config)
        return self._checked(
            await self.module.grade_asking(*given, model=model, asker=asker, others=others or {}), may_be_missing=True
        )

    def check_models(self, endpoints: Mapping[str, Any], asked: Sequence[str]) -> None:
        """Raise `GraderError` where it needs a model that is not among the `endpoints`, or not among those that are `asked`."""
        if hasattr(self.module, "problem_of_models") and (said := self._call("problem_of_models", endpoints, list(asked))):
            raise GraderError(f"grader={shortened(self.spec, quoted=False)}: {said}")

    def check(self, reference: Any, question: Question = "", *, where: str = "") -> None:
        """Raise `GraderError`, with the place `where`, if an answer to the question could not be graded."""
        problem = ""
        if self.needs_reference and (reference is None or reference == "" or reference == []):
            problem = "the reference is missing"
        elif hasattr(self.module, "problem"):
            problem = self._call("problem", reference, question)
        if problem:
            raise GraderError(f"{where + ': ' if where else ''}grader={shortened(self.spec, quoted=False)}: {problem}")

    @property
    def needs_reference(self) -> bool:
        """Whether it compares answers with a reference."""
        return getattr(self.module, "NEEDS_REFERENCE", True)

    @property
    def asks(self) -> bool:
        """Whether it asks models itself: then `grade_asking` grades, and costs."""
        return hasattr(self.module, "grade_asking")

    @property
    def asked_models(self) -> tuple[str, ...]:
        """The models of models.yaml that it asks."""
        return tuple(self._call("asked_models")) if hasattr(self.module, "asked_models") else ()

    @property
    def needed_answers(self) -> tuple[str, ...]:
        """The models whose answers to the same question it must see."""
        return tuple(self._call("needed_answers")) if hasattr(self.module, "needed_answers") else ()

    def summary(self, grades: Sequence[Grade]) -> list[str]:
        """Lines about many of its grades, for people."""
        return list(self._call("summary", list(grades))) if hasattr(self.module, "summary") else []

    @property
    def caption(self) -> str:
        return caption(self.module) or self.spec

    @property
    def identity(self) -> str:
        """A digest of its code and options: where it differs, stored answers are to be graded again."""
        options = asdict(self.config) if self.config is not None else {}
        code = file_digest(Path(str(self.module.__file__)))
        parts = [self.module.__name__.rpartition(".")[2], code, options]
        # Only where there is more, so that stored grades of the others stay good.
        parts += [self._call("material")] if hasattr(self.module, "material") else []
        return text_digest(json.dumps(parts, sort_keys=True, default=str))

    def _call(self, name: str, *arguments: Any) -> Any:
        given = arguments if self.config is None else (*arguments, self.config)
        return GRADERS.own_words(self.spec, self.module, name, lambda: getattr(self.module, name)(*given))

    def _checked(self, found: Any, *, may_be_missing: bool = False) -> Grade:
        grade = Grade(float(found)) if isinstance(found, bool | int | float) else found
        if may_be_missing and isinstance(grade, Grade) and isinstance(grade.score, float) and math.isnan(grade.score):
            return grade
        if not isinstance(grade, Grade) or not isinstance(grade.score, int | float) or not 0 <= grade.score <= 1:
            shown = grade.score if isinstance(grade, Grade) else found
            what = "not finite" if isinstance(shown, float) and not math.isfinite(shown) else "not a score in [0, 1]"
            raise GraderError(f"grader={shortened(self.spec, quoted=False)}: it gave {shortened(shown)}, {what}")
        return grade
