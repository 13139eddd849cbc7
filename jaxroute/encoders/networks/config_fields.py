"""Checks of config.json that all kinds of encoder share; each returns what is wrong, for one message with everything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxroute.errors import EncoderError

# What is larger is no encoder but a mistake, and would cost more memory than there is before anything is read.
LARGEST_COUNT = 2**30
LARGEST = {"num_hidden_layers": 10_000}
SMALLEST_NUMBER = 1e-15
# Fields of every family that would change the arithmetic -> the only value that does not.
FIXED_EVERYWHERE: dict[str, Any] = {"quantization_config": None, "per_layer_config": None}


def missing(fields: dict[str, Any], needed: tuple[str, ...]) -> list[str]:
    """Those of `needed` that are absent or null."""
    return [f"{name} is missing" for name in needed if fields.get(name) is None]


def unsupported(fields: dict[str, Any], fixed: dict[str, Any]) -> list[str]:
    """Fields of `fixed`, and of every family's, with another value than the only one that is computed here."""
    return [
        f"{name}={short(fields[name])} is not supported (only {only!r})"
        for name, only in (fixed | FIXED_EVERYWHERE).items()
        if fields.get(name) is not None and fields[name] != only
    ]


def misshapen(
    fields: dict[str, Any], *, counts: tuple[str, ...], numbers: tuple[str, ...], truths: tuple[str, ...]
) -> list[str]:
    """What is not of its kind; null and absent are."""
    problems = []
    for name, value in fields.items():
        if value is None:
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        largest = LARGEST.get(name, LARGEST_COUNT)
        if name in counts and not (number and 1 <= value <= largest and value == int(value)):
            problems.append(f"{name}={short(value)} must be a whole number from 1 to {largest}")
        elif name in numbers and not (number and SMALLEST_NUMBER <= value <= 1 / SMALLEST_NUMBER):
            problems.append(f"{name}={short(value)} must be a number above 0, from {SMALLEST_NUMBER} on and not huge")
        elif name in truths and not isinstance(value, bool):
            problems.append(f"{name}={short(value)} must be true or false")
    return problems


def short(value: Any) -> str:
    """Its repr, of at most 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def refusal(path: Path, problems: list[str]) -> EncoderError:
    return EncoderError(f"{path} describes an encoder that jaxroute cannot compute: " + "; ".join(problems))
