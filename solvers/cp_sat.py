"""OR-Tools' CP-SAT as it is used here: imported where it is needed, with the settings that its proofs need."""

from __future__ import annotations

import sys
from typing import Any

MODULE = "ortools.sat.python.cp_model"


def seconds_to_load() -> float:
    """What `load_cp_sat` takes the first time, generously."""
    return 0.0 if MODULE in sys.modules else 1.0


def load_cp_sat() -> Any:
    """The module `cp_model`, which takes most of a second to import. Its type stubs are incomplete, hence `Any`."""
    from ortools.sat.python import cp_model

    return cp_model


def new_solver(max_seconds: float, *, relative_gap: float = 0.0, workers: int = 0) -> Any:
    """A `CpSolver` with a fixed seed; `workers` = 0 uses all cores."""
    solver = load_cp_sat().CpSolver()
    solver.parameters.max_time_in_seconds = max_seconds
    solver.parameters.num_workers = workers
    solver.parameters.relative_gap_limit = relative_gap
    solver.parameters.random_seed = 0
    # With it, OR-Tools 9.15 removes solutions and proves too little (google/or-tools#5293).
    solver.parameters.presolve_inclusion_work_limit = 0
    return solver
