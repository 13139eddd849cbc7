"""The answer is the reference, apart from case, spaces and marks around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import boxed, plain, references, stated
from jaxroute.errors import shortened


@dataclass(frozen=True)
class Config:
    """What of the answer counts, and what of it does not."""

    ignore_case: bool = True
    """Whether `london` is `London`."""
    whole: bool = False
    r"""Compare the whole answer only; else what its last `\boxed{}` holds, or what follows `the answer is`, counts too."""


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where the answer equals the reference, or any of a list of references; else 0."""
    wanted = [plain(one, ignore_case=config.ignore_case) for one in references(reference)]
    box = None if config.whole else boxed(answer)
    said = None if config.whole or box is not None else stated(answer)
    candidates = [answer, *(one for one in (box, said) if one is not None)]
    right = [one for one in candidates if plain(one, ignore_case=config.ignore_case) in wanted]
    read = shortened((right or candidates[1:] or candidates)[0].strip())
    return Grade(float(bool(right)), f"{read} is {'' if right else 'not '}the reference")
