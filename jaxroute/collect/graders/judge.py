"""A model of models.yaml grades the answer on K levels, or compares it with another model's answer in both orders.

Level k of K counts k / (K - 1), as in Routoo (section 4.1). A reply without a readable verdict is asked for once more; after
that the grade is missing, never a low or a middle one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.judging import prompts
from jaxroute.collect.graders.judging.orders import LOSES, SCORES, TIES, WINS, both_orders, order_bias
from jaxroute.collect.graders.judging.templates import Template, default_template, read_template
from jaxroute.collect.graders.judging.verdicts import Verdict, read_verdict
from jaxroute.collect.graders.reading import references
from jaxroute.data.messages import prompt_field, prompt_text, row_prompt
from jaxroute.errors import listed, shortened
from jaxroute.storage.digests import file_digest, text_digest

NEEDS_REFERENCE = False
MOST_LEVELS = 101
JSON = "json_schema"


@dataclass(frozen=True)
class Config:
    """Who judges, and how."""

    model: str = ""
    """The judge: a name of models.yaml. Required."""
    mode: Literal["levels", "pairs"] = "levels"
    """`levels`: grade each answer by itself. `pairs`: compare it with the baseline's answer to the same question, in both
    orders; a win in both counts 1, a loss in both 0, anything else a tie, 0.5."""
    levels: int = 5
    """Of `levels`: how many there are."""
    baseline: str = ""
    """Of `pairs`: the model whose answers the others are compared with."""
    reference: bool = True
    """Whether the judge is shown the reference, where a question has one."""
    template: str = ""
    """A text file with your own wording around {question}, {reference} and {answer}; for `pairs`, {answer_a} and
    {answer_b} in place of {answer}."""
    output_tokens: int = 512
    """How long a verdict with its reason may be; a judge that thinks first needs more."""
    temperature: float | None = 0.0
    """As the judge is asked; None leaves it out, for models that reject it."""

    def __post_init__(self) -> None:
        if "," in self.model and "=" in self.model:
            raise ValueError(f"options are joined by colons, so that {self.model!r} is read as one name")
        if not 2 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"levels={self.levels} must be from 2 to {MOST_LEVELS}")
        if self.output_tokens < 1:
            raise ValueError(f"output_tokens={self.output_tokens} must be at least 1")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature={self.temperature} must be from 0 to 2")
        if self.baseline and self.mode != "pairs":
            raise ValueError(f"baseline={self.baseline!r} goes with mode=pairs")
        # Read once, here, so that the wording that is asked with is the one that the grader's identity counts.
        if self.template:
            found = read_template(Path(self.template), pairs=self.mode == "pairs", reference=self.reference)
            object.__setattr__(self, "_wording", found)

    @property
    def wording(self) -> Template | None:
        """The user's own, where there is a template."""
        return vars(self).get("_wording")


class Reply(Protocol):
    """What is read of a judge's reply; a live answer and a stored one have it."""

    @property
    def text(self) -> str: ...

    @property
    def finish_reason(self) -> str | None: ...

    @property
    def refusal(self) -> str | None: ...


class Asker(Protocol):
    """Who sends a judge's requests, pays for them, and keeps the replies."""

    def accepts(self, model: str) -> Sequence[str]:
        """What the model accepts beside text, as in models.yaml."""
        ...

    async def ask(self, model: str, messages: list[dict[str, str]], *, output_tokens: int, options: Mapping[str, Any]) -> Reply:
        """The reply; one that was paid for before is found again. Raises `CallFailed` where there is none."""
        ...


def problem(reference: Any, question: Any, config: Config) -> str:
    """The judge, and the baseline of pairs, must be named."""
    if not config.model:
        return "the judge is missing: name a model of models.yaml, as in judge:model=NAME"
    if config.mode == "pairs" and not config.baseline:
        return "the baseline is missing: name the model to compare with, as in judge:model=NAME:mode=pairs:baseline=OTHER"
    return ""


def problem_of_models(endpoints: Mapping[str, Any], asked: Sequence[str], config: Config) -> str:
    """The judge must be one of the endpoints, the baseline one of the models that are asked."""
    if said := problem(None, "", config):
        return said
    if config.model not in endpoints:
        return f"model={shortened(config.model)} is none of models.yaml: {listed(endpoints)}"
    if config.mode == "pairs" and config.baseline not in asked:
        return f"baseline={shortened(config.baseline)} is none of the models that are asked: {listed(asked)}"
    return ""


def asked_models(config: Config) -> tuple[str, ...]:
    """The models that it asks."""
    return (config.model,)


def needed_answers(config: Config) -> tuple[str, ...]:
    """The models whose answers to the same question it must see."""
    return (config.baseline,) if config.mode == "pairs" else ()


def material(config: Config) -> str:
    """Digests of all that a grade depends on beside this file and the options: the rest of the code, and the user's wording."""
    files = sorted((Path(__file__).parent / "judging").glob("*.py"))
    own = [text_digest(config.wording.text)] if config.wording else []
    return " ".join([*map(file_digest, files), *own])


async def grade_asking(
    answer: str, reference: Any, question: Any, config: Config, *, model: str, asker: Asker, others: Mapping[str, str | None]
) -> Grade:
    """The grade of that model's answer; its score is NaN where the judge has given no readable verdict.

    `others` are the answers of `needed_answers`. Raises `CallFailed` where the judge could not be asked.
    """
    asked = _Asked(config, asker, _question_text(question), _reference_text(reference, config))
    if config.mode == "levels":
        return await asked.level(answer)
    if model == config.baseline:
        return Grade(0.5, "it is the baseline")
    other = others.get(config.baseline)
    if other is None:
        return Grade(math.nan, f"the baseline {config.baseline} has no answer to compare with")
    return await asked.comparison(answer, other)


def summary(grades: Sequence[Grade], config: Config) -> list[str]:
    """How many verdicts are missing, and of pairs how often their order alone decided."""
    missing = sum(math.isnan(one.score) for one in grades)
    lines = [f"{missing:,} of {len(grades):,} grades are missing"] if missing else []
    return lines + ([str(order_bias(one.reason for one in grades))] if config.mode == "pairs" else [])


@dataclass(frozen=True)
class _Asked:
    """One question, before a judge."""

    config: Config
    asker: Asker
    question: str
    reference: str | None

    async def level(self, answer: str) -> Grade:
        if not answer.strip():
            return Grade(0.0, "there is no text to judge")
        levels = self.config.levels
        messages = prompts.level_messages(
            self.template, self.question, self.reference, answer, levels=levels, as_json=self.as_json
        )
        verdict = await self._verdict(messages, levels)
        if not verdict.readable:
            return Grade(math.nan, verdict.reason)
        # Level k of K counts k / (K - 1).
        reason = f"level {verdict.value} of 0 to {levels - 1}" + (f": {verdict.reason}" if verdict.reason else "")
        return Grade(int(verdict.value) / (levels - 1), reason)

    async def comparison(self, answer: str, other: str) -> Grade:
        if answer.strip() == other.strip():
            return Grade(SCORES[TIES], "the same text as the baseline's")
        if not answer.strip() or not other.strip():
            end = WINS if answer.strip() else LOSES
            return Grade(SCORES[end], f"{'the baseline has' if answer.strip() else 'there is'} no text to judge")
        verdicts = []
        for first, second in ((answer, other), (other, answer)):
            messages = prompts.pair_messages(self.template, self.question, self.reference, first, second, as_json=self.as_json)
            verdicts.append(await self._verdict(messages, None))
            if not verdicts[-1].readable:
                return Grade(math.nan, verdicts[-1].reason)
        end = both_orders(verdicts[0].value, verdicts[1].value)
        return Grade(SCORES[end], end)

    @property
    def template(self) -> Template:
        pairs = self.config.mode == "pairs"
        return self.config.wording or default_template(pairs=pairs, reference=self.reference is not None)

    @property
    def as_json(self) -> bool:
        return JSON in self.asker.accepts(self.config.model)

    async def _verdict(self, messages: list[dict[str, str]], levels: int | None) -> Verdict:
        """What the judge says, asked once more where that is unreadable."""
        options: dict[str, Any] = {} if self.config.temperature is None else {"temperature": self.config.temperature}
        if self.as_json:
            options["response_format"] = prompts.response_format(levels=levels)
        verdict = Verdict("", "")
        for _ in range(2):
            reply = await self.asker.ask(self.config.model, messages, output_tokens=self.config.output_tokens, options=options)
            if reply.refusal:
                verdict = Verdict("", f"the judge refuses: {shortened(reply.refusal)}")
            else:
                verdict = read_verdict(reply.text, reply.finish_reason, levels=levels, as_json=self.as_json)
            if verdict.readable:
                break
            messages = prompts.once_more(messages, reply.text)
        return verdict


def _question_text(question: Any) -> str:
    return row_prompt(question, prompt_field(question)) if isinstance(question, Mapping) else prompt_text(question)


def _reference_text(reference: Any, config: Config) -> str | None:
    """The reference as the judge sees it; of several any is right."""
    if not config.reference or reference is None or reference == "" or reference == []:
        return None
    many = references(reference)
    return many[0] if len(many) == 1 else "any of these:\n" + "\n".join(f"- {one}" for one in many)
