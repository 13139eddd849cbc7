"""`jaxroute evaluate`: routers that learnt from the same outcomes, judged on the same others, with intervals, in one report."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from jaxroute.contest.judging import Entry, enter, judge
from jaxroute.contest.results import Evaluation, write_results
from jaxroute.contest.rows import Contest
from jaxroute.contest.savings import RouterPrice, savings
from jaxroute.data.estimates import Estimator
from jaxroute.data.table import RoutingTable
from jaxroute.errors import RouterError, TableError, listed
from jaxroute.evaluation import BUDGETS, SHUFFLES
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.pricing import CostModel
from jaxroute.predictor.training import learn_costs
from jaxroute.routers.base import PREDICTOR, RouterKind, find_router, load, router_names
from jaxroute.storage.digests import files_digest, text_digest
from jaxroute.storage.files import LOCK, alone_in, check_folder, replacing
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
    """Points of a curve, from the cheapest to the most valuable assignment."""
    shuffles: int = SHUFFLES
    """Of the choices across queries, for the p-values; at least 20, since fewer cannot show p < 0.05."""
    router_usd: float = 0.0
    """Dollars that a router itself costs per prompt, which are taken off what it saves."""
    router_usd_per_hour: float = 0.0
    """The same for a machine that it runs on: dollars per hour, for the seconds that its estimates take here."""
    output: Path = Path("runs/evaluate")
    """Folder for report.html, table.csv, result.json, and estimates/, from which a stopped evaluation resumes."""

    def __post_init__(self) -> None:
        problems = [
            f"{name}={getattr(self, name)} must be at least {least}"
            for name, least in (("budgets", 2), ("shuffles", 20))
            if getattr(self, name) < least
        ]
        problems += [
            f"{name}={getattr(self, name)} must be a number of dollars, 0 or more"
            for name in ("router_usd", "router_usd_per_hour")
            if not 0 <= getattr(self, name) < math.inf
        ]
        unknown = [name for name in self.solvers if name not in ("auto", *SOLVERS)]
        if unknown or not self.solvers or len(set(self.solvers)) < len(self.solvers):
            problems.append(f"solver={' '.join(self.solver)} must name one or several of auto, {', '.join(SOLVERS)}, each once")
        if problems:
            raise TableError("; ".join(problems))

    @property
    def solvers(self) -> list[str]:
        return [one.strip() for part in self.solver for one in part.split(",") if one.strip()]


def evaluate(contest: Contest, config: EvaluateConfig) -> Evaluation:
    """Train, assign, measure; writes report.html, table.csv and result.json. `results.printed` is the table for the screen."""
    # Figures take half a second to import, which other commands need not wait for.
    from jaxroute.contest.report import write_report

    check_folder("output", config.output, ours=is_evaluation)
    kinds = chosen_routers(config)
    known = [kind.spec for kind in kinds]
    kinds += [find_router(name) for name in BASELINES if name not in known and (name != "domain_mean" or contest.has_domains)]
    checkpoints = {folder: _load(folder, contest.test) for folder in config.checkpoint}
    total = sum(1 if kind.hindsight else len(config.solvers) for kind in kinds) + len(checkpoints) * len(config.solvers)
    with alone_in(config.output):
        entries = tqdm(_entries(contest, config, kinds, checkpoints), desc="routers", total=total, unit=" routers")
        judged = [judge(contest, one, shuffles=config.shuffles) for one in entries]
        price = RouterPrice(config.router_usd, config.router_usd_per_hour)
        evaluation = Evaluation(contest, judged, savings(contest, judged, price, shuffles=config.shuffles))
        write_results(config.output, evaluation)
        write_report(config.output / "report.html", evaluation)
    return evaluation


def chosen_routers(config: EvaluateConfig) -> list[RouterKind]:
    """`a,b:layers=1,2` are a and b: a lone number continues the option before it."""
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
    # Learnt once and only where an estimate is missing: what answers cost is the same for every router that is no predictor.
    costs = cache(lambda: learn_costs(contest.train, contest.prices))
    for kind in kinds:
        if kind.hindsight:
            started = time.perf_counter()
            curve = kind.curve(contest.train, contest.test)
            yield Entry(kind.spec, kind.caption, curve, kind.note({}), estimate_seconds=time.perf_counter() - started)
        else:
            yield from _by_solver(contest, config, kind.spec, kind.caption, **_estimated(contest, config.output, kind, costs))
    for folder, one in checkpoints.items():
        caption = f"checkpoint of {one.name}"
        yield from _by_solver(contest, config, str(folder), caption, **_of_checkpoint(one, contest.test))


def _by_solver(contest: Contest, config: EvaluateConfig, name: str, caption: str, **estimated) -> Iterator[Entry]:
    for solver in config.solvers:
        entered = name if solver == config.solvers[0] else f"{name} ({solver})"
        yield enter(
            contest,
            entered,
            caption,
            solver=SOLVERS.get(solver) or partial(solve, solver=solver),
            budgets=config.budgets,
            **estimated,
        )


def _estimated(contest: Contest, output: Path, kind: RouterKind, costs: Callable[[], CostModel]) -> Mapping:
    """Estimates of the test rows, seconds, and a note; from disk where the same router, rows and code were there before."""
    source = Path(str(kind.module.__file__)).read_text(encoding="utf-8")
    described = [kind.spec, str(kind.config), kind.encoder_identity(), contest.digest, source, _code(), str(contest.prices)]
    path = output / "estimates" / f"{text_digest(json.dumps(described))[:24]}.npz"
    if not path.exists():
        started = time.perf_counter()
        own = kind.spec.split(":")[0] == PREDICTOR
        trained = kind.fit(contest.train, prices=contest.prices, costs=None if own else costs())
        between = time.perf_counter()
        found = trained.estimate(contest.test.queries)
        seconds = (between - started, time.perf_counter() - between)
        with replacing(path) as partial_path:
            np.savez(partial_path, quality=found.quality, cost_usd=found.cost_usd, seconds=seconds, note=trained.note)
    with np.load(path, allow_pickle=False) as stored:
        fit_seconds, estimate_seconds = map(float, stored["seconds"])
        return {
            "quality": stored["quality"],
            "expected_cost_usd": stored["cost_usd"],
            "note": str(stored["note"]),
            "encoder": _encoder_name(kind.config),
            "fit_seconds": fit_seconds,
            "estimate_seconds": estimate_seconds,
        }


def _encoder_name(config: object) -> str:
    """Of a folder or a file its last part; empty where a router has none."""
    return Path(str(getattr(config, "encoder", ""))).name


def _load(folder: Path, test: RoutingTable) -> Estimator:
    """A trained estimator. Raises `TableError` where it does not know a model of the test rows, or was trained on them."""
    found = load(folder)
    if found.seen is not None and (leaked := int(np.isin(test.prompt_numbers, found.seen).sum())):
        raise TableError(
            f"checkpoint={str(folder)!r} was trained on {leaked:,} of the {len(test):,} test queries: judge it on others, with "
            "--test-table"
        )
    missing = [model for model in test.models if model not in found.models]
    if missing:
        raise TableError(f"checkpoint={str(folder)!r} knows {listed(found.models)}, but not {listed(missing)}")
    return found


def _of_checkpoint(estimator: Estimator, test: RoutingTable) -> Mapping:
    """Estimates of the test rows, and how long they took."""
    started = time.perf_counter()
    estimates = estimator.estimate(test.queries).select(test.models)
    known = getattr(getattr(estimator, "kind", None), "config", None)
    encoder = estimator.encoder.name if isinstance(estimator, Predictor) else _encoder_name(known)
    return {
        "quality": estimates.quality,
        "expected_cost_usd": estimates.cost_usd,
        "encoder": encoder,
        "estimate_seconds": time.perf_counter() - started,
    }


def _code() -> str:
    """SHA-256 over the code that makes estimates: those that other code made are not read."""
    package = Path(__file__).parents[1]
    return files_digest([path for room in ESTIMATING for path in sorted((package / room).rglob("*.py"))])


def is_evaluation(folder: Path) -> bool:
    """Where an evaluation was, or was stopped."""
    names = {path.name for path in folder.iterdir()}
    return names <= {"report.html", "table.csv", "result.json", "estimates", LOCK} or "result.json" in names
