"""The adaptive plan on simulated pools: how much it asks, of whom, and why it ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxroute.collect.choosing.posterior import principal
from jaxroute.collect.plans import find_plan
from jaxroute.collect.plans.adaptive import Adaptive, Config, expected_cost_usd
from jaxroute.errors import EncoderError, PlanError
from tests.collect.choosing.pools import SimulatedCells


def run(pool: SimulatedCells, config: Config, *, asked: np.ndarray | None = None, dead: int | None = None):
    """Ask all that the plan wants; returns the plan, the order of the cells and the batches' sizes."""
    plan = Adaptive(config, principal(pool.features))
    asked = np.zeros(pool.quality.shape, bool) if asked is None else asked.copy()
    failed = np.zeros(asked.shape, bool)
    order, sizes = [], []
    while cells := plan.next_cells(pool.collected(asked, failed)):
        assert not any(asked[cell] for cell in cells) and len(set(cells)) == len(cells)
        for cell in cells:
            asked[cell] = True
            failed[cell] = cell[1] == dead
        order += cells
        sizes.append(len(cells))
        assert len(sizes) < 100
    return plan, order, sizes


@pytest.mark.parametrize("cells", [5, 60, 400])
def test_it_asks_exactly_as_many_cells_as_it_may(cells: int) -> None:
    plan, order, _ = run(SimulatedCells(), Config(cells=cells, stop=False))
    assert len(order) == len(set(order)) == cells
    assert f"{cells} cells" in plan.note and f"cells={cells}" in plan.note


def test_without_a_limit_and_without_stopping_it_asks_everything() -> None:
    plan, order, _ = run(SimulatedCells(queries=60), Config(stop=False))
    assert len(order) == 180 and "everything was asked" in plan.note


def test_it_is_the_same_by_seed_and_another_by_another() -> None:
    pool = SimulatedCells(queries=120)
    first, again, other = (run(pool, Config(cells=150, stop=False, seed=seed))[1] for seed in (0, 0, 1))
    assert first == again and first != other


def test_every_model_is_asked_at_first_and_later() -> None:
    pool = SimulatedCells(queries=250)
    _, order, sizes = run(pool, Config(cells=300, stop=False))
    counts = np.bincount([column for _, column in order[: sizes[0]]], minlength=3)
    assert (counts == 20).all()
    assert (np.bincount([column for _, column in order], minlength=3) > counts).all()


def test_per_dollar_most_cells_are_of_cheap_models_and_per_cell_they_are_not() -> None:
    pool = SimulatedCells(queries=250)
    shares = {}
    for per in ("cells", "dollars"):
        _, order, _ = run(pool, Config(cells=250, per=per, random=0.0, stop=False))
        shares[per] = np.mean([column == 2 for _, column in order])
    assert shares["dollars"] < 0.1 < 0.15 < shares["cells"]


def test_a_limit_of_cells_makes_cells_what_is_scarce() -> None:
    pool = SimulatedCells(queries=200)
    chosen = run(pool, Config(cells=200, per="cells", random=0.5, stop=False))[1]
    assert run(pool, Config(cells=200, stop=False))[1] == chosen
    assert run(pool, Config(cells=200, per="dollars", stop=False))[1] != chosen


def test_it_stops_on_an_easy_pool_and_says_why() -> None:
    pool = SimulatedCells(queries=250, strength=0.5)
    plan, order, _ = run(pool, Config())
    spent = sum(pool.cost_usd[column] for _, column in order)
    assert spent < 0.6 * pool.cost_usd.sum() * pool.queries
    assert f"{len(order):,} cells of 750" in plan.note and "would raise the curve by" in plan.note
    assert len(run(pool, Config(stop=False, cells=len(order) + 1))[1]) == len(order) + 1


def test_killed_in_a_batch_it_resumes_with_what_is_stored() -> None:
    """Half of the third batch is lost: nothing is asked twice and the limit holds."""
    pool, config = SimulatedCells(queries=120), Config(cells=250, stop=False)
    _, order, sizes = run(pool, config)
    assert len(sizes) > 3
    stored = np.zeros(pool.quality.shape, bool)
    for cell in order[: sum(sizes[:2]) + sizes[2] // 2]:
        stored[cell] = True
    _, rest, _ = run(pool, config, asked=stored)
    assert len(rest) == 250 - stored.sum()
    whole = np.zeros(pool.quality.shape, bool)
    for cell in order[: sum(sizes[:2])]:
        whole[cell] = True
    assert run(pool, config, asked=whole)[1] == order[sum(sizes[:2]) :]


def test_a_model_that_never_answers_is_left_alone() -> None:
    pool = SimulatedCells(queries=100)
    plan, order, _ = run(pool, Config(stop=False), dead=1)
    asked = np.bincount([column for _, column in order], minlength=3)
    assert asked.tolist() == [100, 20, 100]
    assert "models that answer" in plan.note
    alone = SimulatedCells(queries=100, models=1)
    plan, order, _ = run(alone, Config(stop=False), dead=0)
    assert len(order) == 20 and "no model answered" in plan.note


def test_a_cost_that_is_not_known_yet_is_a_share_of_its_worst_case() -> None:
    pool = SimulatedCells(queries=10)
    asked = np.zeros(pool.quality.shape, bool)
    asked[:, :2] = True
    found = expected_cost_usd(pool.collected(asked))
    assert found == pytest.approx(pool.cost_usd)
    assert expected_cost_usd(pool.collected(np.zeros_like(asked))) == pytest.approx(2 * pool.cost_usd)


@pytest.mark.slow
def test_it_is_found_by_name_and_reads_the_prompts(tiny_encoder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path))
    pool = SimulatedCells(queries=40)
    plan = find_plan(f"adaptive:encoder={tiny_encoder}:random=0.2", cells=70)
    asked = np.zeros(pool.quality.shape, bool)
    for _ in range(3):
        for cell in plan.next_cells(pool.collected(asked)):
            asked[cell] = True
    assert 33 < asked.sum() <= 70


def test_wrong_options_are_rejected_before_anything_is_asked() -> None:
    with pytest.raises(PlanError, match=r"first=0.0 must be a share.*per='euros' must be one of auto, cells, dollars, both"):
        Config(first=0.0, per="euros")
    with pytest.raises(PlanError, match="random=2"):
        Config(random=2)
    with pytest.raises(EncoderError):
        find_plan("adaptive:encoder=nowhere.gguf")
