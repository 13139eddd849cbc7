"""The core: the few queries that the Lagrangian proof leaves open, and two ways to solve them.

What belongs here: `core_of`, `undecided`, `easiest` and `most_loss` (what is left of a problem), `search_states` (dynamic
programming) and `solve_integers` (CP-SAT). What does not: the order in which they are tried and the time they get, which is
`solvers._exact`.
"""

from solvers.core.elimination import core_of, easiest, most_loss, undecided
from solvers.core.integers import IntegerAnswer, solve_integers
from solvers.core.states import StateSearch, search_states

__all__ = [
    "IntegerAnswer",
    "StateSearch",
    "core_of",
    "easiest",
    "most_loss",
    "search_states",
    "solve_integers",
    "undecided",
]
