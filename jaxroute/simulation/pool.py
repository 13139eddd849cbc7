"""What a simulated model answers to any prompt: right or wrong, how long, how fast; the same for the same seed and prompt.

A prompt that stands in the pool's table has the outcomes, tokens and latency of its row. Any other is drawn from the same
model (see data/sources/simulated.py), with a generator of its own: its domain and level are those of the template that it
follows; where it follows none, they are drawn too.

A token of an answer is a word here. Answers end in `The answer is NUMBER.`, and `reference(prompt)` is the right number.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from jaxroute.data.sources.simulated import DOMAINS, LEVELS, MODELS, RESIDUAL, SLOPE
from jaxroute.data.table import RoutingTable

REASONING = {"sim-math": 0.3, "sim-frontier": 0.3}
"""Models that think first: the share of their output that is reasoning. The others do not report reasoning tokens."""
FILLER = ("we", "look", "at", "what", "is", "asked", "and", "then", "go", "through", "it", "step", "by", "step")
WAIT_SECONDS = 0.2
"""Until the first token, as in the simulated table."""
NUMBERS = 1000


@dataclass(frozen=True)
class Outcome:
    """One model's answer to one prompt, before any limit on its length."""

    right: bool
    """Whether it ends in the reference."""
    chance: float
    """The probability of that."""
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None
    """None where the model does not report them."""
    latency_seconds: float
    """From the request to the last token."""


@dataclass(frozen=True)
class Written:
    """What is sent: the words of the answer, cut where the limit of tokens is reached."""

    words: tuple[str, ...]
    completion_tokens: int
    reasoning_tokens: int | None
    finish_reason: str
    """`stop`, or `length` where it was cut."""


class SimulatedPool:
    """The ten invented models, as they answer."""

    def __init__(self, table: RoutingTable | None = None, *, seed: int = 0) -> None:
        self.seed, self.table = seed, table
        self.models = list(MODELS)
        self._rows = {} if table is None else {prompt: row for row, prompt in enumerate(table.prompts)}
        # Drawing a row takes longer than serving it, and every model is asked the same prompts.
        self._row = lru_cache(maxsize=65_536)(self._draw)

    def outcome(self, model: str, prompt: str) -> Outcome:
        """What that model makes of the prompt."""
        return self._row(prompt)[self.models.index(model)]

    def reference(self, prompt: str) -> str:
        """The right answer."""
        return str(_number(f"{self.seed}\0{prompt}"))

    def answer(self, model: str, prompt: str) -> str:
        """The number in which that model's answer ends."""
        right = _number(f"{self.seed}\0{prompt}")
        if self.outcome(model, prompt).right:
            return str(right)
        return str((right + 1 + _number(f"{self.seed}\0{model}\0{prompt}") % (NUMBERS - 1)) % NUMBERS)

    def write(self, model: str, prompt: str, most_tokens: int | None = None, *, as_json: bool = False) -> Written:
        """The answer, of at most so many tokens."""
        outcome, number = self.outcome(model, prompt), self.answer(model, prompt)
        allowed = outcome.completion_tokens if most_tokens is None else min(most_tokens, outcome.completion_tokens)
        thought = None if outcome.reasoning_tokens is None else min(outcome.reasoning_tokens, allowed)
        length = outcome.completion_tokens - (outcome.reasoning_tokens or 0)
        if as_json:
            words = [json.dumps({"answer": number})]
        else:
            end = ["The", "answer", "is", f"{number}."]
            words = [*(FILLER[place % len(FILLER)] for place in range(length - len(end))), *end][-length:]
        kept = words[: allowed - (thought or 0)]
        finish = "length" if allowed < outcome.completion_tokens else "stop"
        return Written(tuple(kept), allowed, thought, finish)

    def template(self, prompt: str) -> tuple[str, int] | None:
        """Domain and level of the template that the prompt follows; None where it follows none."""
        return next(((domain, level) for pattern, domain, level in self._templates if pattern.fullmatch(prompt)), None)

    @cached_property
    def _templates(self) -> list[tuple[re.Pattern[str], str, int]]:
        return [
            (re.compile(".{0,40}?" + ".+?".join(map(re.escape, re.split(r"\{\w+\}", template))), re.DOTALL), domain, level)
            for domain, (_, templates) in DOMAINS.items()
            for level, template in enumerate(templates)
        ]

    def _draw(self, prompt: str) -> list[Outcome]:
        """The outcomes of all models."""
        generator = np.random.default_rng(digest(f"{self.seed}\0{prompt}"))
        names = list(DOMAINS)
        domain, level = names[generator.integers(len(names))], int(generator.integers(len(LEVELS)))
        domain, level = self.template(prompt) or (domain, level)
        difficulty = LEVELS[level] + generator.normal(0.0, RESIDUAL)
        chance = [
            1.0 / (1.0 + math.exp(-SLOPE * (model.ability + model.skills.get(domain, 0.0) - difficulty)))
            for model in MODELS.values()
        ]
        spread = generator.lognormal(0.0, 0.25, len(MODELS))
        mean = DOMAINS[domain][0] * (1.0 + 0.15 * level)
        output = [math.ceil(mean * model.verbosity * factor) for model, factor in zip(MODELS.values(), spread, strict=True)]
        right = list(generator.uniform(size=len(MODELS)) < chance)
        length = prompt_tokens(prompt)
        if (row := self._rows.get(prompt)) is not None and self.table is not None:
            table = self.table
            assert table.output_tokens is not None and table.input_tokens is not None
            right, output = list(table.quality[row] > 0.5), [int(count) for count in table.output_tokens[row]]
            length = int(table.input_tokens[row, 0])
        return [
            Outcome(
                right=bool(right[place]),
                chance=chance[place],
                prompt_tokens=length,
                completion_tokens=output[place],
                reasoning_tokens=int(output[place] * REASONING[name]) if name in REASONING else None,
                latency_seconds=WAIT_SECONDS + output[place] / model.speed,
            )
            for place, (name, model) in enumerate(MODELS.items())
        ]


def prompt_tokens(text: str) -> int:
    """About 1.4 tokens per word and mark, as in the simulated table."""
    return max(1, math.ceil(1.4 * len(re.findall(r"\w+|[^\w\s]", text))))


def digest(text: str) -> int:
    """64 bits of it, as the seed of what is drawn for that text alone."""
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest())


def _number(text: str) -> int:
    return digest(text) % NUMBERS
