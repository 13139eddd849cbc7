"""How long does it take to compare training prompts with a test set, and is everything found?

    uv run python -m benchmarks.decontaminating [--small]

Texts of 10 to 150 words, drawn by Zipf's law from 20,000, so that unrelated ones share common words. Planted in the tests:
prompts as they are, runs of 13 words inside of other texts, and prompts of about 22 words with one changed in the middle,
so that no run of 13 is left. The peer is what one would write first: the Jaccard similarity of every pair, in the same process
on a part of the texts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from benchmarks.memory import peak_gigabytes
from jaxroute.collect.preparation.decontaminating import NEAR, RUN, SAME, WORDS, Overlap, overlap
from jaxroute.collect.preparation.texts import jaccard, shingles, words
from jaxroute.storage.files import write_json

VOCABULARY = 20_000
PLANTED = 100
"""Of each kind."""


@dataclass(frozen=True)
class Config:
    """Prompts against tests; `--small` shows that everything runs."""

    output: Path = Path("runs/benchmarks/decontaminating")
    """Folder for result.json."""
    prompts: int = 100_000
    """Training prompts."""
    tests: int = 10_000
    """Test texts."""
    pairs: int = 3_000_000
    """How many pairs the peer compares."""
    small: bool = False
    """2,000 prompts, 500 tests; its figures say nothing."""


def main(config: Config) -> dict[str, float]:
    """Compare, print and write."""
    count, tested, pairs = (2_000, 500, 100_000) if config.small else (config.prompts, config.tests, config.pairs)
    generator = np.random.default_rng(0)
    prompts, tests = _texts(count, generator), _texts(tested, generator)
    expected = _plant(prompts, tests, generator)
    started = time.process_time()
    found = overlap(prompts, tests)
    seconds = time.process_time() - started
    print(found)
    result = {"prompts": count, "tests": tested, "seconds": seconds, "prompts_per_second": count / seconds}
    result |= _found(found, expected)
    sets = [shingles(words(text)) for text in tests[: max(1, pairs // 1000)]]
    started = time.process_time()
    others = [shingles(words(text)) for text in prompts[:1000]]
    for one in others:
        for other in sets:
            jaccard(one, other)
    per_pair = (time.process_time() - started) / (len(others) * len(sets))
    result["times_faster_than_all_pairs"] = per_pair * count * tested / seconds
    result["peak_gigabytes"] = peak_gigabytes()
    print(f"{count:,} prompts against {tested:,} tests: {seconds:.1f} s of one core, {result['peak_gigabytes']:.2f} GB")
    print(f"every pair would take {per_pair * count * tested / 3600:.2f} h: {result['times_faster_than_all_pairs']:.0f} times")
    print(", ".join(f"{name} {value:.1%}" for name, value in result.items() if name.startswith("found_")))
    write_json(config.output / "result.json", result)
    print(f"written to {config.output}/result.json")
    return result


def _texts(count: int, generator: np.random.Generator) -> list[str]:
    vocabulary = np.array([f"w{number}" for number in range(VOCABULARY)])
    frequency = 1 / np.arange(1, VOCABULARY + 1)
    lengths = generator.integers(10, 150, count)
    drawn = vocabulary[generator.choice(VOCABULARY, int(lengths.sum()), p=frequency / frequency.sum())]
    return [" ".join(part) for part in np.split(drawn, np.cumsum(lengths)[:-1])]


def _plant(prompts: list[str], tests: list[str], generator: np.random.Generator) -> dict[int, tuple[str, int]]:
    """Copy some prompts, changed or not, into tests; returns how each must be found, and in which test."""
    expected: dict[int, tuple[str, int]] = {}
    place = 0
    for how in (SAME, RUN, NEAR):
        fitting = (22, 25) if how == NEAR else (40, 151)
        chosen = [number for number, text in enumerate(prompts) if fitting[0] <= len(text.split()) < fitting[1]]
        for number in generator.permutation([one for one in chosen if one not in expected])[:PLANTED].tolist():
            text = prompts[number].split()
            if how == RUN:
                at = int(generator.integers(0, len(text) - WORDS))
                text = [*tests[place].split(), *text[at : at + WORDS], *tests[place + 1].split()]
            elif how == NEAR:
                text[11] = "changed"
            tests[place] = " ".join(text)
            expected[number] = (how, place)
            place += 1
    return expected


def _found(found: Overlap, expected: dict[int, tuple[str, int]]) -> dict[str, float]:
    """Which share of each kind was found where it is, and how many others were."""
    by_prompt = {match.prompt: (match.how, match.test) for match in found.matches}
    shares = {}
    for kind in (SAME, RUN, NEAR):
        wanted = [number for number, (how, _) in expected.items() if how == kind]
        shares[f"found_{kind.replace(' ', '_')}"] = float(np.mean([by_prompt.get(one) == expected[one] for one in wanted]))
    return shares | {"false_alarms": float(len(by_prompt.keys() - expected.keys()))}


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
