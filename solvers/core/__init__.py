"""The core: the few queries that the Lagrangian proof leaves open, and three ways to solve them.

What belongs here: `core_of`, `undecided`, `easiest` and `most_loss` (what is left of a problem), `search_states` (dynamic
programming, without capacities), `search_counts` (branch and bound, for capacities with one cost per model) and
`solve_integers` (CP-SAT, for all others). What does not: the order in which they are tried and the time they get, which is
`solvers._exact`.
"""

from solvers.core.counts import one_cost_per_choice, search_counts
from solvers.core.elimination import core_of, easiest, most_loss, undecided
from solvers.core.integers import IntegerAnswer, solve_integers
from solvers.core.states import StateSearch, search_states

__all__ = [
    "IntegerAnswer",
    "StateSearch",
    "core_of",
    "easiest",
    "most_loss",
    "one_cost_per_choice",
    "search_counts",
    "search_states",
    "solve_integers",
    "undecided",
]
