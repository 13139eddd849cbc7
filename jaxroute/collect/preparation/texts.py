"""When two texts are the same, or nearly so: their words without case and marks, and the Jaccard similarity of their shingles.

    J(a, b) = |S(a) & S(b)| / |S(a) | S(b)|        S(a): every run of three words of a, or all of a where it is shorter

Near texts among many are found by MinHash and locality-sensitive hashing (Broder 1997, "On the resemblance and containment of
documents"; Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4), with datasketch; what is found is then
compared exactly. Of R rows in each of B bands, a pair with similarity J is missed with probability (1 - J^R)^B.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np

IDEOGRAPHS = "\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Written without blanks, so that each counts as a word."""
WORD = re.compile(rf"[{IDEOGRAPHS}]|[^\W{IDEOGRAPHS}]+|[+*/=<>^%$€£#~|&@\\]|-(?![^\W\d])")
"""Words, and the marks that change what a question asks: x + 3 is not x - 3, well-known is well known."""
SHINGLE = 3
PERMUTATIONS = 128
MISSED = 0.001
"""Bands are chosen so that a pair exactly at the threshold is missed no more often."""
MARGIN = 0.2
"""Five standard deviations of a similarity that 128 permutations estimate: what is estimated lower is not compared."""


def words(text: str) -> list[str]:
    """The words of a text without case and marks; of a text of marks alone, that text."""
    return WORD.findall(unicodedata.normalize("NFKC", text).casefold()) or [text.strip()]


def whole(found: list[str]) -> str:
    """The words as one text: equal for texts that differ in case, blanks and marks alone."""
    return " ".join(found)


def shingles(found: list[str]) -> frozenset[str]:
    """Every run of three words; all of them where there are fewer."""
    return frozenset(" ".join(found[at : at + SHINGLE]) for at in range(max(1, len(found) - SHINGLE + 1)))


def jaccard(first: frozenset[str], second: frozenset[str]) -> float:
    """What two sets share, as a part of what they hold together."""
    shared = len(first & second)
    return shared / (len(first) + len(second) - shared)


class NearTexts:
    """Texts, by the order in which they are added, to find one that is at least as similar as `threshold`, in (0, 1]."""

    def __init__(self, threshold: float) -> None:
        from datasketch import MinHash, MinHashLSH

        self.threshold = threshold
        self._empty = MinHash(num_perm=PERMUTATIONS, hashfunc=zlib.crc32)
        bands, rows = bands_and_rows(threshold)
        self._index: Any = MinHashLSH(num_perm=PERMUTATIONS, params=(bands, rows))
        self._sets: list[frozenset[str]] = []
        self._signatures = np.zeros((1024, PERMUTATIONS), np.uint32)

    def __len__(self) -> int:
        return len(self._sets)

    def add(self, found: frozenset[str]) -> None:
        """Add a text, given as its shingles."""
        sketch, number = self._sketch(found), len(self._sets)
        if number == len(self._signatures):
            self._signatures = np.concatenate([self._signatures, np.zeros_like(self._signatures)])
        self._signatures[number] = sketch.hashvalues
        self._index.insert(number, sketch)
        self._sets.append(found)

    def nearest(self, found: frozenset[str]) -> tuple[int, float] | None:
        """The most similar text of those that are near enough, by its number, and how similar; the first of equals."""
        if not self._sets:
            return None
        sketch = self._sketch(found)
        candidates = np.array(sorted(self._index.query(sketch)), int)
        estimates = np.mean(self._signatures[candidates] == sketch.hashvalues, axis=1)
        best = None
        for number in candidates[estimates >= self.threshold - MARGIN]:
            similarity = jaccard(found, self._sets[number])
            if similarity >= self.threshold and (best is None or similarity > best[1]):
                best = (int(number), similarity)
        return best

    def _sketch(self, found: Iterable[str]) -> Any:
        # A copy shares the permutations, which take longer to draw than a sketch to make.
        sketch = self._empty.copy()
        sketch.update_batch([one.encode(errors="surrogatepass") for one in found])
        return sketch


def bands_and_rows(threshold: float) -> tuple[int, int]:
    """The most rows per band with which a pair at the threshold is missed with at most MISSED: (1 - J^R)^B."""
    fitting = [
        rows for rows in range(1, PERMUTATIONS // 2 + 1) if (1 - threshold**rows) ** (PERMUTATIONS // rows) <= MISSED
    ] or [1]
    return PERMUTATIONS // fitting[-1], fitting[-1]
