"""The learned cascade on the simulated pool: only agreement shows what is right, and the curves and gains are all there."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import experiments.learned_cascade as experiment
from jaxroute import TableError, TrainConfig
from jaxroute.evaluation import Curve


def test_on_answers_of_which_only_equal_ones_are_right(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAXROUTE_CACHE", str(tmp_path / "cache"))
    config = experiment.Config(
        output=tmp_path / "run", pools=("simulated",), train=TrainConfig(encoder=str(tiny_encoder)), queries=120, points=9,
        resamples=50,
    )  # fmt: skip
    result = experiment.main(config)
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == result
    assert (tmp_path / "run" / "learned_cascade.png").stat().st_size > 5000
    for way in experiment.WAYS:
        gain = f"simulated_{way}_gain"
        assert float(result[f"{gain}_low"]) <= float(result[gain]) <= float(result[f"{gain}_high"])
        assert abs(float(result[gain])) < 0.1 and 0 < float(result[f"simulated_{way}_p"]) <= 1
    assert float(result["simulated_loss_together"]) < 0.6 * float(result["simulated_loss_before"])
    assert result["simulated_cascade_calls"] == 1.0 < float(result["simulated_look_ahead_calls"])


def test_two_ways_that_are_alike_do_not_differ_and_a_better_one_does() -> None:
    generator = np.random.default_rng(0)
    cost = np.repeat(np.linspace(1.0, 2.0, 5)[:, None], 200, axis=1)
    curve = Curve(generator.random((5, 200)), cost)
    config = experiment.Config(permutations=199)
    assert experiment.swapped_p_value(curve, curve, config) == 1.0
    other = Curve(generator.random((5, 200)), cost)
    assert experiment.swapped_p_value(other, curve, config) > 0.005
    assert experiment.swapped_p_value(Curve(curve.quality + 0.1, cost), curve, config) == pytest.approx(0.005)
    found = experiment.at_share({"routing": curve}, 0.5)
    assert found[0] == pytest.approx(2**0.5)


def test_the_figure_shows_differences_where_both_ways_have_a_cost() -> None:
    """At the costs of the points of either, between which lines are straight."""
    cost = np.array([[1.0], [2.0], [4.0]])
    routing = Curve(np.array([[0.2], [0.4], [0.8]]), cost)
    found = experiment.over_routing(Curve(routing.quality + 0.05, cost), routing)
    np.testing.assert_allclose(found, [[1, 2, 4], [0.05] * 3])
    found = experiment.over_routing(Curve(np.array([[0.4], [0.9]]), np.array([[3.0], [5.0]])), routing)
    np.testing.assert_allclose(found, [[3, 4], [-0.2, -0.15]])


def test_an_answer_in_a_list_is_unpacked() -> None:
    assert experiment.plain_answer("['B']") == "B"
    assert experiment.plain_answer("[see below") == "[see below"
    assert experiment.plain_answer("[1, 2]") == "[1, 2]"


def test_unknown_pools_are_refused() -> None:
    with pytest.raises(TableError, match="pools='arena'"):
        experiment.Config(pools=("arena",))
