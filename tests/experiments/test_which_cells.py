"""Ways to choose cells on a corner of the real data: what they ask, and that they are judged alike."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

import experiments.which_cells as experiment
from experiments.ways_to_choose import Replay, neyman, ways
from jaxroute import RoutingTable, TableError, TrainConfig
from jaxroute.errors import RouterError


def replay(queries: int = 120, seed: int = 0) -> Replay:
    generator = np.random.default_rng(7)
    places = generator.standard_normal((queries, 4)) / 2
    chance = 1 / (1 + np.exp(-(np.array([0.2, 0.5, 1.5]) + places[:, :3])))
    table = RoutingTable(
        prompts=[f"question {row}" for row in range(queries)],
        models=["small", "middle", "large"],
        quality=(generator.random(chance.shape) < chance).astype(float),
        cost_usd=np.array([0.01, 0.1, 1.0]),
    )
    return Replay(table, places, seed)


@pytest.mark.parametrize("name", list(ways()))
def test_every_way_asks_every_cell_once_in_an_order_of_its_seed(name: str) -> None:
    way = ways()[name]
    order = list(way.cells(replay()))
    assert sorted(order) == [(row, column) for row in range(120) for column in range(3)]
    assert list(islice(way.cells(replay()), 100)) == order[:100]
    assert list(islice(way.cells(replay(seed=1)), 100)) != order[:100]


def test_shares_of_models_are_those_of_least_loss() -> None:
    """Against all allocations of the same expense: the loss is A / n summed over the models, A = worth n^2."""
    asked, cost, spend = np.array([10, 10, 10]), np.array([1.0, 2.0, 5.0]), 120.0
    value = np.array([0.04, 0.02, 0.09])
    loss = (value * asked**2) / (asked + neyman(value, asked, cost, spend, 1000))
    grid = np.stack(np.meshgrid(*[np.arange(0, 121)] * 2, indexing="ij"), -1).reshape(-1, 2)
    third = (spend - grid @ cost[:2]) / cost[2]
    every = np.column_stack([grid, third])[third >= 0]
    assert loss.sum() <= ((value * asked**2) / (asked + every)).sum(axis=1).min() + 1e-4
    assert cost @ neyman(value, asked, cost, spend, 1000) == pytest.approx(spend)
    assert neyman(value, asked, cost, 1e9, 15) == pytest.approx([5, 5, 5])


def test_the_ways_are_judged_at_the_shares_that_they_asked(
    data: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    result = experiment.main(
        experiment.Config(
            output=tmp_path / "run",
            pools=("paretobandit",),
            ways=("random cells", "by worth, per dollar"),
            shares=(0.3,),
            seeds=2,
            rows=120,
            resamples=30,
            train=TrainConfig(encoder=str(tiny_encoder), penalties=(3.0, 1.0), corrections=(0.45,), folds=3),
        )
    )
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "which_cells.png").stat().st_size > 5000
    for name, axes in (("random cells", ("cells", "dollars")), ("by worth, per dollar", ("dollars",))):
        for axis in axes:
            gain = float(result[f"paretobandit {name} gain_at_30_percent_of_{axis}"])
            less = result[f"paretobandit {name} less_than_full_at_30_percent_of_{axis}"]
            assert gain - float(result["paretobandit gain_at_100_percent"]) == pytest.approx(less, abs=1e-12)
            assert result[f"paretobandit {name} least_share_of_{axis}"] in (0.3, 1.0)
    assert "paretobandit by worth, per dollar gain_at_30_percent_of_cells" not in result
    assert 0 < float(result["paretobandit own_end_dollars"]) <= 1


def test_what_is_not_there_is_rejected() -> None:
    with pytest.raises(TableError, match="pools=squad: known are mmlu; paretobandit"):
        experiment.Config(pools=("squad",))
    with pytest.raises(TableError, match="ways=by luck: known are random cells"):
        experiment.Config(ways=("by luck",))
    with pytest.raises(TableError, match=r"shares=.* between 0 and 1"):
        experiment.Config(shares=(1.5,))
    with pytest.raises(RouterError, match="ways"):
        experiment.Config(ways=())
