"""Numbers, switches and arrays as users pass them: taken where they are what a field asks for, else rejected by its name."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from solvers.errors import MOST_LETTERS, ProblemError, shown

Checked = TypeVar("Checked", bound=Callable[..., Any])
NO_NUMBERS = (str, np.str_, bytes, np.bytes_, bool, np.bool_)
"""Types that Python converts to numbers, and that are none."""


def no_type_check(checked: Checked) -> Checked:
    """Marks a public function or class that checks its own arguments and whose messages name them.

    jaxtyping's import hook leaves what has a decorator of this name alone, so that these checks come first in the tests
    as well. `typing.no_type_check` would hide the annotations from static type checkers too.
    """
    return checked


def number(name: str, value: Any) -> float:
    """`value` as a float, NaN and infinity included. Raises `ProblemError` for anything that is no real number."""
    if not (type(value) in NO_NUMBERS or np.ma.isMaskedArray(value)):
        try:
            return float(value)
        except (TypeError, ValueError, OverflowError):
            pass
    raise ProblemError(f"{name}={shown(value)} must be a number")


def at_least(name: str, value: object, least: float | int, *, finite: bool = True, above: bool = False) -> float:
    """`value` as a float from `least` on, or `above` it. Raises `ProblemError`, also for NaN."""
    found = number(name, value)
    enough = found > least if above else found >= least
    if not enough or (finite and math.isinf(found)):
        raise ProblemError(f"{name}={shown(value)} must be {'finite and ' if finite else ''}{'>' if above else '>='} {least:g}")
    return found


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """`value` as an int from `least` to `most`. Raises `ProblemError`."""
    if type(value) not in NO_NUMBERS:
        try:
            found = operator.index(value)
        except TypeError:
            found = None
        if found is not None and least <= found and (most is None or found <= most):
            return found
    span = f"at least {least}" if most is None else f"from {least} to {most}"
    raise ProblemError(f"{name}={shown(value)} must be {span}, as a whole number")


def switch(name: str, value: Any) -> bool:
    """`value` as a bool. Raises `ProblemError`."""
    if type(value) in (bool, np.bool_):
        return bool(value)
    raise ProblemError(f"{name}={shown(value)} must be True or False")


def array(name: str, value: Any, *, instead: str) -> np.ndarray:
    """`value` as an array of any kind, without a copy where it is one.

    Raises `ProblemError` for what is no array, and for a masked array with masked cells: numpy would drop the mask. `instead`
    says how to express what the mask meant.
    """
    masked = int(np.sum(np.ma.getmaskarray(value))) if np.ma.isMaskedArray(value) else 0
    if masked:
        raise ProblemError(f"{name} is a masked array with {masked} masked cells: {instead}")
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise ProblemError(f"{name} is no array: {str(error)[:MOST_LETTERS]}") from error


def floats(name: str, value: Any, *, instead: str) -> np.ndarray:
    """`value` as an array of float32 or float64, without a copy where it is one (memory-mapped ones too), else of float64.

    Raises `ProblemError` for what is no array of numbers.
    """
    found = array(name, value, instead=instead)
    if str(found.dtype) in ("float32", "float64"):
        return found
    if found.dtype.kind not in "fiub":
        raise ProblemError(f"{name} must be numbers: its dtype is {found.dtype}")
    return found.astype(np.float64)


def problem_of(check: Callable[..., object], *arguments: Any, **options: Any) -> str | None:
    """What one of these checks has to say, for a list of everything that is wrong; None if it passes."""
    try:
        check(*arguments, **options)
    except ProblemError as error:
        return str(error)
    return None


def together(checks: Iterable[str | None]) -> None:
    """Raise one `ProblemError` that lists all problems found, if there are any."""
    if problems := [problem for problem in checks if problem]:
        raise ProblemError("; ".join(problems))
