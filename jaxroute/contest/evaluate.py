"""`jaxroute evaluate`: routers that learnt from the same outcomes, judged on the same others, with intervals, in one report."""

from __future__ import annotations

import csv
import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from jaxroute.contest.judging import Entry, Judged, difference, enter, judge
from jaxroute.contest.rows import Contest
from jaxroute.data.estimates import Estimator
from jaxroute.data.table import RoutingTable
from jaxroute.errors import RouterError, TableError
from jaxroute.evaluation import BUDGETS, Interval
from jaxroute.predictor.predictor import Predictor
from jaxroute.routers.base import RouterKind, find_router, load, router_names
from jaxroute.storage.files import LOCK, alone_in, check_folder, replacing, write_json
from solvers import SOLVERS, solve

BASELINES = ("best_single", "random", "prompt_length", "domain_mean", "zero_router", "oracle")
"""Every report has them; the means per domain where there are domains."""
PAIRS_ONLY = ("routellm_bert",)
"""Routers for two models."""
ESTIMATING = ("routers", "predictor", "encoders", "data")
"""The rooms whose code decides estimates; the others assign, judge and print."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Train routers on outcomes, judge them on others, and write a report, a table and its numbers."""

    router: tuple[str, ...] = ("predictor",)
    """Names as `--router list` prints them, with options as in knn:neighbours=5, or .py files of your own; several by commas or
    spaces. The others are compared with the first. `all`: every one, without options. best_single, random, prompt_length,
    domain_mean, zero_router and oracle always come along."""
    checkpoint: tuple[Path, ...] = ()
    """Folders that `jaxroute train` wrote, judged as well; what they were trained on must not be among the test queries."""
    solver: tuple[str, ...] = ("lagrangian",)
    """How budgets are met: lagrangian, greedy_ratio, exact, auto; several by commas or spaces."""
    budgets: int = BUDGETS
    """Points of a curve, evenly from the cheapest to the dearest assignment."""
    shuffles: int = 20
    """Of the choices across queries, for the null beside AIQ."""
    output: Path = Path("runs/evaluate")
    """Folder for report.html, table.csv, result.json, and estimates/, from which a stopped evaluation goes on."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)} must be at least {least}"
            for name, least in (("budgets", 2), ("shuffles", 1))
            if getattr(self, name) < least
        ]
        unknown = [name for name in self.solvers if name not in ("auto", *SOLVERS)]
        if unknown or not self.solvers or len(set(self.solvers)) < len(self.solvers):
            problems.append(f"solver={' '.join(self.solver)} must name one or several of auto, {', '.join(SOLVERS)}, each once")
        if problems:
            raise TableError("; ".join(problems))

    @property
    def solvers(self) -> list[str]:
        return [one.strip() for part in self.solver for one in part.split(",") if one.strip()]


@dataclass(frozen=True)
class Evaluation:
    """All routers, judged; the first is the one that the others are compared with."""

    contest: Contest
    judged: list[Judged]

    def against_first(self, one: Judged) -> Interval | None:
        """AIQ of the first router less that of another one, paired."""
        first = self.judged[0]
        return None if one is first else difference(first.aiq - one.aiq, first.areas - one.areas)


def evaluate(contest: Contest, config: EvaluateConfig) -> Evaluation:
    """Train, assign, measure; prints the table and writes the report, table.csv and result.json."""
    check_folder("output", config.output, ours=is_evaluation)
    kinds = chosen_routers(config)
    known = [kind.spec for kind in kinds]
    kinds += [find_router(name) for name in BASELINES if name not in known and (name != "domain_mean" or contest.has_domains)]
    checkpoints = {folder: _load(folder, contest.test.models) for folder in config.checkpoint}
    print("\n".join(contest.notes))
    total = sum(1 if kind.hindsight else len(config.solvers) for kind in kinds) + len(checkpoints) * len(config.solvers)
    with alone_in(config.output):
        entries = tqdm(_entries(contest, config, kinds, checkpoints), desc="routers", total=total, unit=" routers")
        evaluation = Evaluation(contest, [judge(contest, one, shuffles=config.shuffles) for one in entries])
        _write(config.output, evaluation)
    print(_printed(evaluation))
    print(f"written to {config.output}/: report.html, table.csv, result.json")
    return evaluation


def chosen_routers(config: EvaluateConfig) -> list[RouterKind]:
    """`a,b:layers=1,2` are a and b: a number that stands alone continues the option before it."""
    found: list[str] = []
    for part in ",".join(config.router).split(","):
        if found and "=" in found[-1] and part.strip().lstrip("-").replace(".", "", 1).isdigit():
            found[-1] += f",{part.strip()}"
        elif part.strip():
            found.append(part.strip())
    if found == ["all"]:
        found = ["predictor", *(name for name in router_names() if name not in ("predictor", *BASELINES, *PAIRS_ONLY))]
    if not found or len(set(found)) != len(found):
        raise RouterError(f"router={' '.join(config.router)!r}: name at least one, and none twice")
    return [find_router(spec) for spec in found]


def _entries(
    contest: Contest, config: EvaluateConfig, kinds: Sequence[RouterKind], checkpoints: Mapping[Path, Estimator]
) -> Iterator[Entry]:
    for kind in kinds:
        if kind.hindsight:
            started = time.perf_counter()
            curve = kind.curve(contest.train, contest.test)
            note = kind.module.note({}, kind.config) if hasattr(kind.module, "note") else ""
            yield Entry(kind.spec, kind.caption, curve, note, estimate_seconds=time.perf_counter() - started)
        else:
            yield from _by_solver(contest, config, kind.spec, kind.caption, **_estimated(contest, config.output, kind))
    for folder, one in checkpoints.items():
        caption = f"checkpoint of {one.name}"
        yield from _by_solver(contest, config, str(folder), caption, **_of_checkpoint(one, contest.test))


def _by_solver(contest: Contest, config: EvaluateConfig, name: str, caption: str, **estimated) -> Iterator[Entry]:
    for solver in config.solvers:
        told = name if solver == config.solvers[0] else f"{name} ({solver})"
        yield enter(contest, told, caption, solver=partial(solve, solver=solver), budgets=config.budgets, **estimated)


def _estimated(contest: Contest, output: Path, kind: RouterKind) -> Mapping:
    """Estimates of the test rows, seconds, and a note; from disk where the same router, rows and code were there before."""
    source = Path(str(kind.module.__file__)).read_text(encoding="utf-8")
    described = [kind.spec, str(kind.config), kind.encoder_identity(), contest.digest, source, _code()]
    path = output / "estimates" / f"{hashlib.sha256(json.dumps(described).encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        started = time.perf_counter()
        trained = kind.fit(contest.train)
        between = time.perf_counter()
        values = trained.estimate(contest.test.queries)
        seconds = (between - started, time.perf_counter() - between)
        with replacing(path) as partial_path:
            np.savez(partial_path, values=values.quality, seconds=seconds, note=trained.note)
    with np.load(path, allow_pickle=False) as stored:
        fit_seconds, estimate_seconds = map(float, stored["seconds"])
        return {
            "estimates": stored["values"],
            "note": str(stored["note"]),
            "encoder": _encoder_name(kind.config),
            "fit_seconds": fit_seconds,
            "estimate_seconds": estimate_seconds,
        }


def _encoder_name(config: object) -> str:
    """Of a folder or a file its last part; empty where a router has none."""
    return Path(str(getattr(config, "encoder", ""))).name


def _load(folder: Path, wanted: Sequence[str]) -> Estimator:
    """A trained estimator. Raises `TableError` where it does not know a wanted model."""
    found = load(folder)
    missing = [model for model in wanted if model not in found.models]
    if missing:
        raise TableError(f"checkpoint={str(folder)!r} knows {', '.join(found.models)}, but not {', '.join(missing)}")
    return found


def _of_checkpoint(estimator: Estimator, test: RoutingTable) -> Mapping:
    """Estimates of the test rows, and how long they took."""
    started = time.perf_counter()
    estimates = estimator.estimate(test.queries).select(test.models)
    encoder = estimator.encoder.name if isinstance(estimator, Predictor) else ""
    return {"estimates": estimates.quality, "encoder": encoder, "estimate_seconds": time.perf_counter() - started}


def _code() -> str:
    """SHA-256 over the code that makes estimates: those that other code made are not read."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for room in ESTIMATING:
        for path in sorted((package / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def numbers(evaluation: Evaluation, one: Judged) -> dict[str, float | str | int | None]:
    """Everything that was measured of a router, by name, for a row of table.csv."""
    found: dict[str, float | str | int | None] = {"router": one.name, "encoder": one.entry.encoder or None, "aiq": one.aiq}
    intervals = {
        "aiq_gain": one.gain,
        "first_over_it": evaluation.against_first(one),
        "gain_at": one.gain_at,
        "deployed_aiq_gain": one.deployed,
        "overrun_at": one.overrun,
        "apgr": one.apgr,
    }
    for name, interval in intervals.items():
        for part, value in (("", "value"), ("_low", "low"), ("_high", "high")):
            found[name + part] = None if interval is None else getattr(interval, value)
    found["aiq_gain_shuffled"], found["aiq_gain_shuffled_95"] = one.shuffled or (None, None)
    found |= {"quality_at": one.quality_at, "cost_usd_of_best_single_model": one.cost_of_best}
    found |= {"log_loss": one.log_loss, "brier": one.brier}
    found["expected_calibration_error"] = one.reliability.expected_calibration_error if one.reliability else None
    found["cpt_50"], found["cpt_80"] = one.cpt or (None, None)
    found["routerarena_score_at"] = one.arena
    for name in ("gain_over_random", "gain_over_best", "gap_to_oracle"):
        found[f"{name}_at"] = getattr(one.leaderboard, name) if one.leaderboard else None
    account = one.account.columns() if one.account else {}
    columns = ("quality", "total_cost_usd", "throughput", "negative_log_likelihood")
    found |= {f"assigned_{name}_at": account.get(name) for name in columns}
    for model in evaluation.contest.test.models:
        found[f"queries_at {model}"] = one.account.queries.get(model, 0) if one.account else None
    return found | {"fit_seconds": one.entry.fit_seconds, "estimate_seconds": one.entry.estimate_seconds}


def _write(output: Path, evaluation: Evaluation) -> None:
    # Figures take half a second to import, which other commands need not wait for.
    from jaxroute.contest.report import write_report

    rows = [numbers(evaluation, one) for one in evaluation.judged]
    used = [name for name in rows[0] if any(row[name] is not None for row in rows)]
    with replacing(output / "table.csv") as partial_path, partial_path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=used, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    contest = evaluation.contest
    result: dict[str, float | str | int | None] = {"queries": len(contest.test), "training_queries": len(contest.train)}
    result |= {f"{row['router']} {name}": row[name] for row in rows for name in used[1:] if _finite(row[name])}
    write_json(output / "result.json", result)
    over = [evaluation.against_first(one) for one in evaluation.judged]
    write_report(output / "report.html", contest, evaluation.judged, over)


def _finite(value: float | str | int | None) -> bool:
    return value is not None and (isinstance(value, str) or bool(np.isfinite(value)))


def _printed(evaluation: Evaluation) -> str:
    contest, first = evaluation.contest, evaluation.judged[0].name
    low, high = (cost * contest.scale for cost in contest.costs)
    lines = [
        f"\nAIQ over mean costs from {low:.4g} to {high:.4g} {contest.unit}, in points",
        f"{'':<34} {'encoder':<8} {'AIQ':>5}  {'over the zero router':<26} {'shuffled':>8}  {f'{first} over it':<26} "
        f"{'log-loss':>8} {'ECE':>6} {'fit':>7} {'estimate':>8}",
    ]
    for one in evaluation.judged:
        null = f"{100 * one.shuffled[0]:+.1f}" if one.shuffled else ""
        loss = "" if one.log_loss is None else f"{one.log_loss:.4f}"
        error = "" if one.reliability is None else f"{one.reliability.expected_calibration_error:.3f}"
        compared = told(evaluation.against_first(one))
        lines.append(
            f"{one.name[:34]:<34} {one.entry.encoder[:8]:<8} {100 * one.aiq:5.1f}  {told(one.gain):<26} {null:>8}  "
            f"{compared:<26} {loss:>8} {error:>6} {_seconds(one.entry.fit_seconds):>7} "
            f"{_seconds(one.entry.estimate_seconds):>8}"
        )
    return "\n".join([*lines, *(f"{one.name}: {one.entry.note}" for one in evaluation.judged if one.entry.note)])


def told(interval: Interval | None) -> str:
    """In points, and whether the interval leaves it open."""
    return "" if interval is None else f"{interval}{', tie' if interval.tie else ''}"


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s"


def is_evaluation(folder: Path) -> bool:
    """Where an evaluation was, or was stopped."""
    names = {path.name for path in folder.iterdir()}
    return names <= {"report.html", "table.csv", "result.json", "estimates", LOCK} or "result.json" in names
