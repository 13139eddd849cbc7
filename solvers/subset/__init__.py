"""The models worth serving: a small set out of a big pool, chosen by what it can answer together.

What belongs here: `build_universe` (`build.py`), the ways to choose (`greedy.py`, `exact.py`) and what a set answers
(`coverage.py`). What does not: which query goes to which model of the set; that is an `Assignment`.
"""

from solvers.subset.build import Universe, build_universe

__all__ = ["Universe", "build_universe"]
