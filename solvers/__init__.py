"""Budgeted assignment of queries to models, and the choice of models to serve.

What belongs here: problems, solvers, bounds and proofs, on arrays of values and costs in numpy and OR-Tools. What does not:
prompts, language models, predictions, files and the command line; those are `jaxroute`, which imports this package and never
the other way round.

Import names from `solvers` itself. The files, by what they hold:

- `problem`, `assignment`, `errors`: what solvers take, return and raise.
- `_solve`, `_exact`, `_lagrangian`, `_greedy`, `_frontier`: the solvers, one public function per file (two at a multiplier).
- `online`: `Pacer`, a multiplier for queries that come one after the other.
- `online_tolls`: `Toll`, what a place at a model is worth where it can take only so many queries a second.
- `subset/`: `build_universe`, the models worth serving.
- `sharded/`: `solve_shards`, one price over more queries than a machine holds.
- `dual`, `narrowing`, `mixing`, `filling`: the multiplier, in few readings of a large problem; ties; upgrades.
- `core/`, `capacity/`: elimination and search; capacities.
- `choices`, `survey`, `inputs`, `grid`, `sums`, `on_demand`, `cp_sat`: the standard form, its first reading, checks of input,
  exact arithmetic, fields that are computed when they are read, OR-Tools' settings.

To add a solver: write `_name.py` with one function `name(problem, ...) -> Assignment`. Read the problem through its standard
form (`problem.chunks()`, or `problem.choices` where it is small), compute a choice per query, a bound (`dual.dual_bound`, or a
call that computes it when it is read) and return `assignment.proved(...)`, which sums exactly. List it in `_solve.SOLVERS` and
here, and add it to the solvers that `tests/solvers/test_assignment_solvers.py` holds against brute force.
"""

from solvers._exact import exact
from solvers._frontier import Frontier, frontier
from solvers._greedy import greedy_ratio
from solvers._lagrangian import at_price, lagrangian
from solvers._solve import SOLVERS, check_solver, solve
from solvers.assignment import Assignment
from solvers.dual import PROVED
from solvers.errors import InfeasibleBudget, InfeasibleCapacity, InfeasibleProblem, InfeasibleValue, ProblemError
from solvers.online import Pacer
from solvers.online_tolls import Toll
from solvers.problem import Problem
from solvers.subset import Universe, build_universe

__all__ = [
    "PROVED",
    "SOLVERS",
    "Assignment",
    "Frontier",
    "InfeasibleBudget",
    "InfeasibleCapacity",
    "InfeasibleProblem",
    "InfeasibleValue",
    "Pacer",
    "Problem",
    "ProblemError",
    "Toll",
    "Universe",
    "at_price",
    "build_universe",
    "check_solver",
    "exact",
    "frontier",
    "greedy_ratio",
    "lagrangian",
    "solve",
]
