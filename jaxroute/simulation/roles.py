"""What the simulated models reply where they are asked to judge answers, or to write questions: known by the request's form.

A simulated judge sees whether an answer ends in the right number, as through a fog: the quality that it perceives is the true
one with noise, less of it the abler the judge is. Of two answers it favours the one that is shown first a little. A simulated
writer fills the templates that the examples follow with other words, and now and then repeats an example. All of this is
invented, for demos and tests.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass

import numpy as np

from jaxroute.data.sources.simulated import DOMAINS, LEVELS, MODELS, simulated_question
from jaxroute.simulation.pool import SimulatedPool, Written, digest

JUDGE = re.compile(r"system: You are a judge\..*?<answer-(?P<code>[0-9a-f]+)>", re.DOTALL)
SCALE = re.compile(r"a whole number from 0 to (\d+)\.")
RIGHT, WRONG = 0.9, 0.15
"""The quality that a judge without noise perceives."""
NOISE = 0.3
"""Standard deviation of what a judge of ability 0 perceives; it falls by half with each further unit of ability."""
FIRST = 0.1
"""What being shown first adds to it, for a judge of ability 0."""
AS_GOOD = 0.1
"""Two answers that differ by less are a tie."""
WRITER = re.compile(
    r"system: You write new questions\..*?\n\nuser: Examples:\n(?P<examples>\[.*\])\n\nWrite exactly (?P<batch>\d+)", re.DOTALL
)
REPEATED = 0.1
"""How often a writer repeats an example."""
MOST_WRITTEN = 1000
SLOPPY = {"sim-nano": 0.1}
"""How often a model forgets the form of a verdict."""


@dataclass(frozen=True)
class _Case:
    """What a judge is shown."""

    question: str
    answers: tuple[str, ...]
    """One to grade, or two to compare."""
    levels: int


def special_reply(pool: SimulatedPool, model: str, prompt: str, most_tokens: int | None, *, as_json: bool) -> Written | None:
    """The reply to such a request, of at most so many tokens; None where the prompt, as rendered, is no such request."""
    case, wanted = _read(prompt), WRITER.match(prompt)
    if case is None and wanted is None:
        return None
    generator = np.random.default_rng(digest(f"{pool.seed}\0role\0{model}\0{prompt}"))
    if generator.uniform() < SLOPPY.get(model, 0.0):
        return _cut(["It", "is", "fine."], most_tokens)
    if case is not None:
        return _cut(_judged(pool, model, case, generator, as_json=as_json), most_tokens)
    assert wanted is not None
    return _cut(_composed(pool, wanted["examples"], int(wanted["batch"]), generator), most_tokens)


def _judged(pool: SimulatedPool, model: str, case: _Case, generator: np.random.Generator, *, as_json: bool) -> list[str]:
    """A verdict with its reason."""
    strength = 0.5 ** MODELS[model].ability
    seen = [_perceived(pool, model, case.question, answer, NOISE * strength) for answer in case.answers]
    verdict: int | str
    if len(seen) == 1:
        verdict = round(float(np.clip(seen[0], 0.0, 1.0)) * (case.levels - 1))
    else:
        # In the other order the judge has other doubts.
        ahead = seen[0] - seen[1] + FIRST * strength + generator.normal(0.0, 0.5 * NOISE * strength)
        verdict = "TIE" if abs(ahead) < AS_GOOD else "A" if ahead > 0 else "B"
    reason = "This is a simulated verdict."
    return [json.dumps({"reason": reason, "verdict": verdict})] if as_json else [*reason.split(), f"\nVERDICT: {verdict}"]


def _composed(pool: SimulatedPool, examples: str, batch: int, generator: np.random.Generator) -> list[str]:
    """Questions from the templates of the examples, or from any where these follow none, as the words of a JSON array."""
    try:
        shown = [one for one in json.loads(examples) if isinstance(one, str)]
    except ValueError:
        shown = []
    known = [place for one in shown if (place := pool.template(one)) is not None]
    written = []
    for _ in range(min(batch, MOST_WRITTEN)):
        if shown and generator.uniform() < REPEATED:
            written.append(shown[generator.integers(len(shown))])
            continue
        domain, level = list(DOMAINS)[generator.integers(len(DOMAINS))], int(generator.integers(len(LEVELS)))
        if known:
            domain, level = known[generator.integers(len(known))]
        written.append(simulated_question(domain, level, generator))
    return json.dumps(written, ensure_ascii=False).split(" ")


def _read(prompt: str) -> _Case | None:
    found = JUDGE.match(prompt)
    if found is None:
        return None
    blocks = dict(re.findall(rf"<(\w+)-{found['code']}>\n(.*?)\n</\1-{found['code']}>", prompt, re.DOTALL))
    names = [name for name in ("answer", "answer_a", "answer_b") if name in blocks]
    scale = SCALE.search(prompt)
    if "question" not in blocks or names not in (["answer"], ["answer_a", "answer_b"]):
        return None
    return _Case(blocks["question"], tuple(blocks[name] for name in names), int(scale[1]) + 1 if scale else 2)


def _perceived(pool: SimulatedPool, model: str, question: str, answer: str, noise: float) -> float:
    """The same in either order."""
    right = answer.rstrip(" .").endswith(f" {pool.reference(question)}")
    generator = np.random.default_rng(digest(f"{pool.seed}\0perceived\0{model}\0{question}\0{answer}"))
    return (RIGHT if right else WRONG) + generator.normal(0.0, noise)


def _cut(words: list[str], most_tokens: int | None) -> Written:
    """A token is a word."""
    length = sum(len(word.split()) for word in words)
    allowed = length if most_tokens is None else min(most_tokens, length)
    kept = words if allowed == length else words[:allowed]
    return Written(tuple(kept), max(1, math.ceil(allowed)), None, "stop" if allowed == length else "length")
