r"""Do our graders give the scores that RouterArena published for the same answers?

    JAXROUTE_DATA=... uv run python -m experiments.graders_agree

Grades 809 answers each of Claude 3 Haiku and Gemini 2.0 Flash, and compares with RouterArena's score, metric by metric. One
whose reference the grader rejects (a time, a name in a metric for numbers) is left out and counted. A disagreement counts as
shown to be theirs where the answer literally states the reference (or, where they gave 1, does not) by a test that shares no
code with the graders: what is in its last box, or after `answer is`, is the letter, or the digits without commas and units.

One second. Seen: `choice` agrees on 99.7 percent of 1,130 answers, `exact` on all of 124 (and on all 26 about chess games),
`numeric` on 36 of 42 (6 left out). All disagreements are shown to be theirs. `\boxed{B. Tarrasque}` was not read as B, nor an
answer in bold; `353,582`, `48 g`, `95 minutes`, `62\%` and `20 percentage points` were not read as numbers; letters in a cloze
test were compared with the text of the option; and a letter that no question offered, `\boxed{B}`, counts as No.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from experiments.real_data import data_folder
from jaxroute import JaxrouteError
from jaxroute.collect.graders import Grader, find_grader
from jaxroute.errors import GraderError, shortened
from jaxroute.storage.files import write_json

GRADERS = {
    "mcq_accuracy": ("choice:digits=index",),
    "superglue_clozetest": ("choice",),
    "exact_match": ("exact",),
    "chess_accuracy": ("choice:digits=index", "exact"),
    "math_metric": ("numeric",),
    "superglue_exact_match": ("numeric", "exact"),
}
"""Which grader does what one of their metrics does: the first that takes the reference. METEOR and runs of code have none."""
OPTION = re.compile(r"^([A-Z])\. (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Config:
    """Where results go."""

    output: Path = Path("runs/graders_agree")
    """Folder for result.json."""
    shown: int = 40
    """How many disagreements are printed."""


@dataclass(frozen=True)
class Compared:
    """One answer, graded by both."""

    name: str
    ours: float
    theirs: float
    reason: str
    stated: bool
    """Whether the answer literally states the reference."""

    @property
    def is_theirs(self) -> bool:
        """Whether the disagreement is shown to be theirs."""
        return self.ours != self.theirs and self.stated == (self.ours == 1)


def main(config: Config) -> dict[str, float | str]:
    """Run it; result.json goes to the output folder."""
    print(f"results go to {config.output}/")
    rows = list(answers(data_folder() / "routerarena"))
    result: dict[str, float | str] = {}
    differing: list[tuple[str, Compared]] = []
    print(f"{'metric':<22} {'grader':<27} {'graded':>7} {'left out':>8} {'agree':>7} {'differ':>7} {'shown theirs':>13}")
    for metric, specs in GRADERS.items():
        mine = [row for row in rows if row["evaluation_result"]["metric"] == metric]
        compared, left_out = compare(mine, [find_grader(spec) for spec in specs])
        differ = [one for one in compared if one.ours != one.theirs]
        agreement, theirs = 1 - len(differ) / len(compared), sum(one.is_theirs for one in differ)
        counts = f"{len(compared):>7} {left_out:>8} {agreement:>7.1%} {len(differ):>7} {theirs:>13}"
        print(f"{metric:<22} {', '.join(specs):<27} {counts}")
        result |= {
            f"{metric} agreement": agreement,
            f"{metric} graded": len(compared),
            f"{metric} left_out": left_out,
            f"{metric} differ": len(differ),
            f"{metric} shown_theirs": theirs,
        }
        differing += [(metric, one) for one in differ]
    print(f"\n{'':<22} {'question':<44} {'ours':>4} {'theirs':>6}")
    for metric, one in differing[: config.shown]:
        print(f"{metric:<22} {one.name:<44} {one.ours:>4g} {one.theirs:>6g}  {one.reason}")
    write_json(config.output / "result.json", result)
    print(f"written to {config.output}/result.json")
    return result


def answers(folder: Path) -> Iterator[dict[str, Any]]:
    """Every published answer."""
    for file in sorted(folder.glob("*.jsonl")):
        with file.open(encoding="utf-8") as lines:
            yield from map(json.loads, lines)


def compare(rows: list[dict[str, Any]], graders: list[Grader]) -> tuple[list[Compared], int]:
    """Every answer that a grader can grade with both scores, and how many none can."""
    found, left_out = [], 0
    for row in rows:
        judged, question, answer = row["evaluation_result"], row["question"], row["generated_answer"] or ""
        grader = next((one for one in graders if takes(one, judged["ground_truth"], question)), None)
        if grader is None:
            left_out += 1
            continue
        grade = grader.grade(answer, judged["ground_truth"], question)
        name = f"{row['global_index']} {row['llm_selected'].split('-')[0]}"
        said, wanted = literal(answer), wanted_by(judged["ground_truth"], question)
        reason = f"{grade.reason}; they want {shortened(judged['ground_truth'], 24)} and it says {shortened(said, 44)}"
        found.append(Compared(name, grade.score, judged["score"], reason, bare(said) in wanted))
    return found, left_out


def takes(grader: Grader, reference: str, question: str) -> bool:
    """Whether the grader can grade answers to the question."""
    try:
        grader.check(reference, question)
    except GraderError:
        return False
    return True


def literal(answer: str) -> str:
    """What is in the last box, else what follows `answer is`."""
    boxes = re.findall(r"\\boxed\{+([^{}]*)\}", answer)
    said = re.findall(r"answer is ([^\n]*?)(?:\.\s|\.?$)", answer, re.MULTILINE)
    return (boxes or said or [""])[-1]


def wanted_by(truth: str, question: str) -> set[str]:
    """The ways to state the reference: itself, the letter of its option, the text of it."""
    options = dict(OPTION.findall(question))
    letters = {letter for letter, text in options.items() if text.strip() == truth}
    if re.fullmatch(r"\d+(\.0)?", truth) and options:
        letters.add(chr(ord("A") + int(float(truth))))
    return {
        bare(one) for one in [truth, *letters, *(f"{letter}. {options[letter]}" for letter in letters if letter in options)]
    }


def bare(text: str) -> str:
    """Numbers as their digits; other texts without marks and case."""
    digits = re.sub(r"[^\d.]", "", text)
    return f"{float(digits):g}" if re.fullmatch(r"\d+\.?\d*", digits) and len(text) < 30 else re.sub(r"\W", "", text).casefold()


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
