"""Prompts of a new kind come in: what do the first graded ones bring, by `jaxroute extend --shift`?

    JAXROUTE_DATA=... uv run python -m experiments.new_traffic

Trains on one kind of prompts, draws some of another kind with the outcomes of all models, moves every model's level by them,
and judges on the rest of that kind: on RouterBench one task after the other, in the MMLU pool a group of subjects after all
others. Beside it a router that knows nothing but the means of the same few outcomes, shrunk to each other.

About 5 minutes of one core. Seen, 12 draws: log-loss as it was and after 10, 30, 100 prompts, then points over the zero router
that knows the means of the prompts that are judged on (errors up to 1.2), before, after 10, 30, 100, and by their means alone.

    ARC, then MBPP                0.831  0.712 0.680 0.669   -11.4  -8.1 -2.2 -1.6   -7.0 -4.3 -2.3
    MBPP, then ARC                1.322  0.525 0.495 0.481    -3.9  -3.4 -3.2 -1.3   -5.5 -2.6 -1.0
    MMLU, then law                0.714  0.680 0.661 0.659    +0.4  +0.5 +0.1 +0.1   -6.3 -1.9 -1.2
    MMLU, then mathematics        0.675  0.692 0.676 0.672    +0.2  -0.1 -0.1 -0.7   -1.4 -1.4 -2.2
    MMLU, then medicine           0.629  0.678 0.642 0.631    -1.3  -1.5 -1.6 -1.4   -6.1 -2.6 -0.4
    MMLU, then moral scenarios    0.738  0.657 0.642 0.629    -0.1  -1.6 -0.9 -1.5   -9.7 -3.3 -1.6
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float, Int
from tqdm.auto import tqdm

from experiments.real_data import load_mmlu_pool, routerbench_parts
from jaxroute import JaxrouteError, RoutingTable, TrainConfig
from jaxroute.data.shrinkage import shrunk_means
from jaxroute.errors import TableError
from jaxroute.evaluation import aiq, cost_quality_curve, log_loss
from jaxroute.evaluation.areas import areas
from jaxroute.evaluation.outcomes import single_models
from jaxroute.predictor.shift import shift
from jaxroute.predictor.training import train_estimator
from jaxroute.storage.files import write_json

GROUPS = {
    "law": ("professional_law", "international_law", "jurisprudence"),
    "mathematics": (
        "abstract_algebra",
        "college_mathematics",
        "elementary_mathematics",
        "high_school_mathematics",
        "high_school_statistics",
    ),
    "medicine": ("anatomy", "clinical_knowledge", "college_medicine", "professional_medicine", "medical_genetics", "virology"),
    "moral_scenarios": ("moral_scenarios",),
}
"""Subjects of MMLU that are left out of training together."""
MOST_ASKED = 0.5
"""Of the new prompts: the rest is needed to judge on."""


@dataclass(frozen=True)
class Config:
    """How many prompts of the new kind, how many draws, the output."""

    output: Path = Path("runs/new_traffic")
    """Folder for result.json."""
    counts: tuple[int, ...] = (10, 30, 100)
    """Graded prompts of the new kind."""
    draws: int = 12
    """Random draws of them."""
    groups: tuple[str, ...] = tuple(GROUPS)
    """Groups of MMLU subjects to leave out."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The training on the old kind."""
    task_encoder: str = "minilm"
    """Reads ARC's and MBPP's prompts, which are long."""

    def __post_init__(self) -> None:
        if self.draws < 1 or min(self.counts, default=0) < 1:
            raise TableError(f"draws={self.draws} and counts={self.counts} must be at least 1")
        if unknown := [name for name in self.groups if name not in GROUPS]:
            raise TableError(f"groups={unknown} must be some of {', '.join(GROUPS)}")


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    print("points over the zero router that knows the models' means on the very prompts that are judged on")
    print(f"{'trained on, asked':<24} {'prompts':>7} {'way':<8} {'log-loss':>8} {'points':>7} {'error':>6}")
    result: dict[str, float | str] = {"draws": config.draws}
    for name, (old, new, train) in _kinds(config).items():
        result |= _one_kind(name, old, new, train, config)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/result.json")
    return result


def _kinds(config: Config) -> dict[str, tuple[RoutingTable, RoutingTable, TrainConfig]]:
    """By name: the kind that is trained on, the one that comes later, and how to train."""
    tasks = {name: routerbench_parts(name) for name in ("arc_challenge", "mbpp")}
    reading = replace(config.train, encoder=config.task_encoder)
    kinds = {
        "arc_to_mbpp": (tasks["arc_challenge"][0], _together(*tasks["mbpp"]), reading),
        "mbpp_to_arc": (tasks["mbpp"][0], _together(*tasks["arc_challenge"]), reading),
    }
    pool = load_mmlu_pool()
    for group in config.groups:
        within = [np.isin(part.domains, GROUPS[group]) for part in (pool.train, pool.test)]
        new = _together(pool.train.select(within[0]), pool.test.select(within[1]))
        kinds[f"mmlu_{group}"] = (pool.train.select(~within[0]), new, config.train)
    return kinds


def _together(first: RoutingTable, second: RoutingTable) -> RoutingTable:
    """The rows of both."""
    second = second.select(models=first.models)
    return RoutingTable(
        prompts=first.prompts + second.prompts,
        domains=first.domains + second.domains,
        models=first.models,
        quality=np.concatenate([first.quality, second.quality]),
        cost_usd=np.concatenate([first.cost_usd, second.cost_usd]),
        name=first.name,
    )


def _one_kind(name: str, old: RoutingTable, new: RoutingTable, train: TrainConfig, config: Config) -> dict[str, float | str]:
    predictor, _ = train_estimator(old, train)
    new = new.select(models=old.models)
    before = predictor.estimate(new.queries)
    assert before.features is not None
    found: dict[tuple[int, str], list[list[float]]] = {}
    for count in config.counts:
        if count > MOST_ASKED * len(new):
            continue
        for draw in tqdm(range(config.draws), desc=f"{name}, {count} prompts", leave=False, delay=2):
            rows = np.random.default_rng(draw).permutation(len(new))
            asked, rest = np.sort(rows[:count]), np.sort(rows[count:])
            probes = new.select(asked)
            moved, _ = shift(predictor, probes)
            ways = {
                "before": before.quality[rest],
                "shifted": moved.estimate(new.select(rest).queries).quality,
                "means": np.tile(shrunk_means(probes.quality), (len(rest), 1)),
            }
            for way, quality in ways.items():
                found.setdefault((count, way), []).append(_judged(new, rest, quality, before.cost_usd[rest]))
    result: dict[str, float | str] = {f"prompts_{name}": len(new)}
    for (count, way), each in found.items():
        loss, gain = np.mean(each, axis=0)
        error = np.std([one[1] for one in each], ddof=1) / np.sqrt(len(each)) if len(each) > 1 else 0.0
        print(f"{name:<24} {count:>7} {way:<8} {loss:>8.4f} {gain:>+7.2f} {error:>6.2f}", flush=True)
        result |= {f"loss_{name}_{count}_{way}": float(loss), f"gain_{name}_{count}_{way}": float(gain)}
        result[f"error_{name}_{count}_{way}"] = float(error)
    return result


def _judged(
    table: RoutingTable,
    rows: Int[np.ndarray, " rest"],
    quality: Float[np.ndarray, "rest models"],
    cost_usd: Float[np.ndarray, "rest models"],
) -> list[float]:
    """Log-loss, and points over the zero router whose means are those of the very rows that are judged on."""
    judged = table.select(rows)
    curve = cost_quality_curve(judged, quality, expected_cost_usd=cost_usd)
    alone = single_models(judged).means()
    low, high = float(alone[0].min()), float(alone[0].max())
    return [log_loss(judged.quality, quality), 100 * float(areas(*curve.means(), low, high) - aiq(*alone, low, high))]


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
