"""An evaluation in numbers: table.csv, result.json, and the table that a command prints."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaxroute.contest.judging import Judged
from jaxroute.contest.rows import Contest
from jaxroute.contest.savings import Savings
from jaxroute.contest.savings import in_words as savings_in_words
from jaxroute.contest.savings import numbers as savings_numbers
from jaxroute.evaluation import Gain, Interval
from jaxroute.storage.files import replacing, write_json

Number = float | str | int | None


@dataclass(frozen=True)
class Evaluation:
    """All routers, judged; the first is the one that the others are compared with."""

    contest: Contest
    judged: list[Judged]
    savings: Savings | None = None
    """What each router would have saved; None where nothing can be saved."""

    def against_first(self, one: Judged) -> Interval | None:
        """Mean height of the first router's curve less that of another one's, paired."""
        first = self.judged[0]
        return None if one is first else self.contest.difference(first.entry.curve, one.entry.curve)


def printed(evaluation: Evaluation) -> str:
    """The table in words: gains, verdicts and p-values, in points; then what a reader of some router's numbers must know."""
    contest, first = evaluation.contest, evaluation.judged[0].name
    low, high = (cost * contest.scale for cost in contest.costs)
    lines = [
        f"\nmean quality at {high:.4g} {contest.unit}, which is what every model costs, in points"
        if contest.same_cost
        else f"\nmean quality over mean costs from {low:.4g} to {high:.4g} {contest.unit}, in points",
        f"{'':<34} {'encoder':<8} {'quality':>7}  {'over the zero router':<24} {'p':>5}  {'verdict':<7}  "
        f"{f'{first[:15]} over it':<29} {'hull AIQ':>8} {'log-loss':>8} {'ECE':>6} {'fit':>7} {'estimate':>8}",
    ]
    for one in evaluation.judged:
        loss, error = ("", "") if one.calibration is None else _calibration(one)
        compared = evaluation.against_first(one)
        lines.append(
            f"{one.name[:34]:<34} {one.entry.encoder[:8]:<8} {100 * one.area:7.1f}  {one.gain.in_points:<24} "
            f"{p_words(one.gain):>5}  {one.gain.verdict:<7}  {in_words(compared):<29} "
            f"{100 * one.hull.aiq:8.1f} {loss:>8} {error:>6} {_seconds(one.entry.fit_seconds):>7} "
            f"{_seconds(one.entry.estimate_seconds):>8}"
        )
    lines += [f"{one.name}: {one.entry.note}" for one in evaluation.judged if one.entry.note]
    lines += [savings_in_words(contest, evaluation.savings)] if evaluation.savings else []
    return "\n".join(lines)


def numbers(evaluation: Evaluation, one: Judged) -> dict[str, Number]:
    """Everything that was measured of a router, by name, for a row of table.csv."""
    found: dict[str, Number] = {"router": one.name, "encoder": one.entry.encoder or None, "area": one.area}
    found |= _gain("gain", one.gain)
    found |= _interval("first_over_it", evaluation.against_first(one))
    found |= {"quality_at": one.quality_at} | _gain("gain_at", one.gain_at) | _gain("deployed_gain", one.deployed)
    found |= {"hull_aiq": one.hull.aiq} | _interval("hull_aiq_gain", one.hull.gain)
    found["hull_aiq_gain_shuffled"], found["hull_aiq_gain_shuffled_95"] = one.hull.shuffled or (None, None)
    found["cost_usd_of_best_single_model"] = one.hull.cost_of_best
    found |= _interval("apgr", one.pair.apgr if one.pair else None)
    found["cpt_50"], found["cpt_80"] = one.pair.cpt if one.pair else (None, None)
    found["log_loss"] = one.calibration.log_loss if one.calibration else None
    found["brier"] = one.calibration.brier if one.calibration else None
    found["expected_calibration_error"] = one.calibration.reliability.expected_calibration_error if one.calibration else None
    found |= _at_budget(evaluation.contest, one)
    return found | {"fit_seconds": one.entry.fit_seconds, "estimate_seconds": one.entry.estimate_seconds}


def write_results(output: Path, evaluation: Evaluation) -> None:
    """table.csv and result.json, each written atomically."""
    rows = [numbers(evaluation, one) for one in evaluation.judged]
    names = dict.fromkeys(name for row in rows for name in row)
    used = [name for name in names if any(row.get(name) is not None for row in rows)]
    with replacing(output / "table.csv") as partial_path, partial_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=used, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    contest = evaluation.contest
    result: dict[str, Number] = {"queries": len(contest.test), "training_queries": len(contest.train)}
    result |= {f"{row['router']} {name}": row.get(name) for row in rows for name in used[1:] if _finite(row.get(name))}
    result |= savings_numbers(evaluation.savings) if evaluation.savings else {}
    write_json(output / "result.json", result)


def in_words(interval: Interval | None) -> str:
    """A difference in points, and whether its interval leaves the sign open; empty where there is none."""
    return "" if interval is None else f"{interval}{', tie' if interval.tie else ''}"


def p_words(gain: Gain) -> str:
    """A p-value to three digits; empty where there is none."""
    return "" if gain.p_value is None else f"{gain.p_value:.3f}"


def _at_budget(contest: Contest, one: Judged) -> dict[str, Number]:
    at = one.at
    found: dict[str, Number] = _interval("overrun_at", at.overrun if at else None)
    found["routerarena_score_at"] = at.arena if at else None
    for name in ("gain_over_random", "gain_over_best", "gap_to_oracle"):
        found[f"{name}_at"] = getattr(at.leaderboard, name) if at else None
    columns = at.account.columns() if at else {}
    for name in ("quality", "total_cost_usd", "throughput", "negative_log_likelihood"):
        found[f"assigned_{name}_at"] = columns.get(name)
    for model in contest.test.models:
        found[f"queries_at {model}"] = at.account.queries.get(model, 0) if at else None
    return found


def _gain(name: str, gain: Gain | None) -> dict[str, Number]:
    """The verdict's own columns have no prefix."""
    prefix = "" if name == "gain" else f"{name}_"
    known = {f"{prefix}p_value": gain.p_value if gain else None, f"{prefix}verdict": (gain.verdict or None) if gain else None}
    return _interval(name, gain) | known


def _interval(name: str, interval: Interval | None) -> dict[str, Number]:
    found: dict[str, Number] = {
        f"{name}{end}": _known(getattr(interval, value)) if interval else None
        for end, value in (("", "value"), ("_low", "low"), ("_high", "high"))
    }
    if interval and interval.undefined:
        found[f"{name}_undefined_resamples"] = interval.undefined
    return found


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _finite(value: Number) -> bool:
    return value is not None and (isinstance(value, str) or bool(np.isfinite(value)))


def _calibration(one: Judged) -> tuple[str, str]:
    assert one.calibration is not None
    return f"{one.calibration.log_loss:.4f}", f"{one.calibration.reliability.expected_calibration_error:.3f}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"
