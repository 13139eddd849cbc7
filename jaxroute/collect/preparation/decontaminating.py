"""Which training prompts overlap with a test set: the same text, a shared run of words, or nearly the same shingles.

A run of 13 words is what GPT-3 was decontaminated by (Brown et al. 2020, "Language Models are Few-Shot Learners", appendix C);
as there, a run that is in more than ten prompts, or here in more than ten test texts, is a phrase that says nothing, like the
instructions around every question of a test. A run that only begins or ends like a phrase says as little: eight of its thirteen
words must lie outside of phrases. Prompts shorter than a run are compared whole. MinHash finds what was edited here and there
(see `texts.py`); it does not look at the test set's phrases.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jaxroute.collect.preparation.texts import NearTexts, jaccard, shingles, whole, words
from jaxroute.errors import CollectError, counted, shortened

WORDS = 13
COMMON = 10
SIMILARITY = 0.7
SAME, RUN, NEAR = "same text", "run of words", "near"
OUTSIDE = 8 / 13
"""Of a run's words, how many must lie outside of phrases; eight is the shortest run that GPT-3's appendix C uses."""
EVERY = 1000
MOST_SHOWN = 400
"""Characters of a text in a report."""


@dataclass(frozen=True)
class Match:
    """A prompt, and the test text that it overlaps with."""

    prompt: int
    """Its number, from 0."""
    test: int
    """The test text's number."""
    how: str
    """`same text`, `run of words` or `near`; the first of these that holds."""
    similarity: float
    """Jaccard similarity of the shingles of both."""
    shared: str
    """The first run of words that both hold; empty for near ones."""


@dataclass(frozen=True)
class Overlap:
    """What of the prompts overlaps with the test set."""

    prompts: int
    tests: int
    matches: list[Match]
    """One for each prompt that overlaps, in their order."""
    phrases: int
    """Runs of words that are in both, and so common that they do not count."""

    def __str__(self) -> str:
        counts = Counter(one.how for one in self.matches)
        by_kind = ", ".join(f"{counts[how]:,} {how}" for how in (SAME, RUN, NEAR) if counts[how])
        said = f"{len(self.matches):,} of {counted(self.prompts, 'prompt')} overlap with the {counted(self.tests, 'test text')}"
        ignored = f"\n{counted(self.phrases, 'run')} of words in both are common phrases and do not count" * bool(self.phrases)
        return said + f": {by_kind}" * bool(by_kind) + ignored


@dataclass(frozen=True)
class DecontaminateConfig:
    """What counts as an overlap."""

    words: int = WORDS
    """How many words in a row a prompt and a test text must share; shorter texts are compared whole. 0: only whole texts."""
    common: int = COMMON
    """A run of words that is in more prompts, or more test texts, than this is a phrase and does not count."""
    similarity: float = SIMILARITY
    """From which Jaccard similarity of their runs of three words two texts are near; 0: do not look for near ones. One word
    changed in twenty gives about 0.7."""

    def __post_init__(self) -> None:
        if self.words < 0 or 0 < self.words < 3:
            raise CollectError(f"words={self.words} must be 0, or at least 3: fewer are shared by all texts")
        if self.common < 1:
            raise CollectError(f"common={self.common} must be at least 1")
        if not 0 <= self.similarity <= 1 or 0 < self.similarity < 0.1:
            raise CollectError(f"similarity={self.similarity} must be 0, or from 0.1 to 1")


def overlap(
    prompts: Sequence[str],
    tests: Sequence[str],
    config: DecontaminateConfig | None = None,
    *,
    progress: Callable[[int], None] = lambda done: None,
) -> Overlap:
    """Every prompt that overlaps with a test text; `progress` gets the number of prompts that are done, now and then."""
    config = config or DecontaminateConfig()
    index = _Index(tests, config)
    found = []
    for number, prompt in enumerate(prompts):
        found.append(index.look_up(number, prompt))
        if number % EVERY == 0:
            progress(number)
    matches = [match for one in found if (match := index.decided(one)) is not None]
    progress(len(prompts))
    return Overlap(len(prompts), len(tests), matches, index.phrases)


def report_rows(
    found: Overlap, prompts: Sequence[str], tests: Sequence[str], prompt_places: Sequence[str], test_places: Sequence[str]
) -> list[dict[str, Any]]:
    """A row for each match: where both are, how they overlap, how similar they are, and their texts, shortened."""
    return [
        {
            "prompt_place": prompt_places[one.prompt],
            "test_place": test_places[one.test],
            "how": one.how,
            "similarity": round(one.similarity, 4),
            "shared": one.shared,
            "prompt": shortened(prompts[one.prompt], MOST_SHOWN, quoted=False),
            "test": shortened(tests[one.test], MOST_SHOWN, quoted=False),
        }
        for one in found.matches
    ]


@dataclass(frozen=True)
class _Found:
    """What of one prompt is in the test set, before it is known which runs are common."""

    number: int
    same: int | None
    runs: list[tuple[int, int]]
    """Hash and position of each run of words that a test text has too."""
    near: tuple[int, float] | None
    words: list[str] = field(repr=False)


class _Index:
    """The test texts, by whole text, by run of words, and by sketch."""

    def __init__(self, tests: Sequence[str], config: DecontaminateConfig) -> None:
        self.config = config
        self._near = NearTexts(config.similarity) if config.similarity else None
        self._whole: dict[str, int] = {}
        self._runs: dict[int, int] = {}
        """The first test text that holds a run."""
        self._tests: Counter[int] = Counter()
        self._prompts: Counter[int] = Counter()
        texts = [words(text) for text in tests]
        for number, found in enumerate(texts):
            self._whole.setdefault(whole(found), number)
            for run in set(self._hashes(found)):
                self._runs.setdefault(run, number)
                self._tests[run] += 1
        self._shingles = [shingles(self._without_phrases(found)) for found in texts]
        if self._near is not None:
            for found in self._shingles:
                self._near.add(found)

    def look_up(self, number: int, text: str) -> _Found:
        """What of the prompt is here; it counts the runs."""
        found = words(text)
        runs = [(run, at) for at, run in enumerate(self._hashes(found)) if run in self._runs]
        self._prompts.update({run for run, _ in runs})
        same = self._whole.get(whole(found))
        near = None
        if self._near is not None and same is None:
            near = self._near.nearest(shingles(self._without_phrases(found)))
        return _Found(number, same, runs, near, found if runs or same is not None else [])

    def decided(self, found: _Found) -> Match | None:
        """The prompt's match once all prompts were looked up: the test text with most of the runs that count."""
        if found.same is not None:
            return Match(found.number, found.same, SAME, 1.0, whole(found.words))
        shared: dict[int, list[int]] = defaultdict(list)
        for run, at in self._counting(found):
            shared[self._runs[run]].append(at)
        if shared:
            test = max(shared, key=lambda one: (len(shared[one]), -one))
            at = shared[test][0]
            similarity = jaccard(shingles(self._without_phrases(found.words)), self._shingles[test])
            return Match(found.number, test, RUN, similarity, " ".join(found.words[at : at + self.config.words]))
        return None if found.near is None else Match(found.number, found.near[0], NEAR, found.near[1], "")

    def _counting(self, found: _Found) -> list[tuple[int, int]]:
        """The runs that are no phrase and, for the most part, outside of those."""
        size = self.config.words
        covered = _covered(len(found.words), size, [at for run, at in found.runs if self._is_common(run)])
        least = math.ceil(OUTSIDE * size)
        return [
            (run, at) for run, at in found.runs if not self._is_common(run) and size - sum(covered[at : at + size]) >= least
        ]

    def _without_phrases(self, found: list[str]) -> list[str]:
        """The words outside of runs that are common in the test set; all of them where there are no others."""
        common = [at for at, run in enumerate(self._hashes(found)) if self._tests.get(run, 0) > self.config.common]
        covered = _covered(len(found), self.config.words, common)
        return [word for word, hidden in zip(found, covered, strict=True) if not hidden] or found

    @property
    def phrases(self) -> int:
        """How many runs are in both, and common."""
        return sum(self._is_common(run) for run in self._prompts)

    def _is_common(self, run: int) -> bool:
        # `get`, since a Counter asked for what it lacks is slower.
        return max(self._prompts.get(run, 0), self._tests.get(run, 0)) > self.config.common

    def _hashes(self, found: list[str]) -> list[int]:
        """64 bits of each run of words; two different ones share them with a chance of about 10^-19."""
        size = self.config.words
        return [hash(tuple(found[at : at + size])) for at in range(len(found) - size + 1)] if size else []


def _covered(length: int, size: int, starts: Sequence[int]) -> list[bool]:
    """Which of so many words are in one of the runs that start there."""
    covered = [False] * length
    for start in starts:
        covered[start : start + size] = [True] * size
    return covered
