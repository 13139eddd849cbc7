"""Routers on embeddings, on points in a plane: neighbours as by brute force, scikit-learn's own predictions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from sklearn.neural_network import MLPRegressor
from sklearn.svm import LinearSVR

from jaxroute import RoutingTable
from jaxroute.data.table import Queries
from jaxroute.routers import knn, mlp, routoo_knn, svm


def points(prompts: Sequence[str], encoder: str = "") -> np.ndarray:
    """The unit vectors at the angles that the prompts name, in degrees."""
    angle = np.deg2rad([float(prompt.split()[0]) for prompt in prompts])
    return np.column_stack([np.cos(angle), np.sin(angle)])


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (knn, mlp, routoo_knn, svm):
        monkeypatch.setattr(module, "embed", points)


def a_table(queries: int = 80, *, missing: float = 0.0, response: np.ndarray | None = None) -> RoutingTable:
    generator = np.random.default_rng(5)
    angle = generator.uniform(0, 90, queries)
    quality = (generator.uniform(0, 90, (queries, 2)) < np.column_stack([angle, 90 - angle])).astype(float)
    quality[generator.uniform(size=quality.shape) < missing] = np.nan
    return RoutingTable([f"{one:.6f}" for one in angle], ["east", "north"], quality, np.ones(2), response=response)


ASKED = Queries(["3", "44.5", "80"], [""] * 3)


def unshrunk(state: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a rarely run model's estimates lean on is `tests/data/test_shrinkage.py`'s."""
    return {name: value for name, value in state.items() if name != "reliability"}


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_neighbours_are_the_nearest_prompts_that_the_model_was_run_on(missing: float) -> None:
    table = a_table(missing=missing)
    config = knn.Config(neighbours=5)
    state = unshrunk(knn.fit(table, config))
    estimates = knn.estimate(state, ASKED, config)
    for row, asked in enumerate(ASKED.prompts):
        for model in range(2):
            run = np.flatnonzero(~np.isnan(table.quality[:, model]))
            distance = [abs(float(table.prompts[one]) - float(asked)) for one in run]
            nearest = run[np.argsort(distance)[:5]]
            assert estimates[row, model] == pytest.approx(table.quality[nearest, model].mean())


def test_more_neighbours_than_prompts_are_all_of_them() -> None:
    table = a_table(queries=6)
    config = knn.Config(neighbours=40)
    np.testing.assert_allclose(knn.estimate(knn.fit(table, config), ASKED, config), [table.quality.mean(axis=0)] * 3)


def test_the_support_vectors_are_scikit_learns() -> None:
    table, config = a_table(missing=0.2), svm.Config(strength=2.0)
    estimates = svm.estimate(unshrunk(svm.fit(table, config)), ASKED, config)
    for model in range(2):
        run = ~np.isnan(table.quality[:, model])
        theirs = LinearSVR(C=2.0, random_state=1234).fit(points(table.prompts)[run], table.quality[run, model])
        np.testing.assert_allclose(estimates[:, model], theirs.predict(points(ASKED.prompts)))


@pytest.mark.parametrize("hidden", [(7,), (7, 5)])
def test_the_networks_are_scikit_learns(hidden: tuple[int, ...]) -> None:
    table, config = a_table(missing=0.2), mlp.Config(hidden=hidden, epochs=30)
    estimates = mlp.estimate(unshrunk(mlp.fit(table, config)), ASKED, config)
    for model in range(2):
        run = ~np.isnan(table.quality[:, model])
        theirs = MLPRegressor(hidden_layer_sizes=hidden, max_iter=30, random_state=1234)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs.fit(points(table.prompts)[run], table.quality[run, model])
        np.testing.assert_allclose(estimates[:, model], theirs.predict(points(ASKED.prompts)), rtol=1e-6)


def test_routoos_estimate_is_the_similarity_to_what_a_model_answered_right() -> None:
    quality = np.array([[1.0, 0.0], [1.0, 0.2], [0.0, 1.0], [np.nan, 0.8]])
    table = RoutingTable(["0", "60", "30", "90"], ["east", "north"], quality, np.ones(2))
    config = routoo_knn.Config(neighbours=1)
    state = unshrunk(routoo_knn.fit(table, config))
    estimates = routoo_knn.estimate(state, Queries(["10"], [""]), config)
    np.testing.assert_allclose(estimates, [[np.cos(np.deg2rad(10)), np.cos(np.deg2rad(20))]])
    both = routoo_knn.estimate(state, Queries(["10"], [""]), routoo_knn.Config(neighbours=5))
    assert both[0, 1] == pytest.approx((np.cos(np.deg2rad(20)) + np.cos(np.deg2rad(80))) / 2)
    assert "no answers" in routoo_knn.note(state, config)


def test_routoos_pairs_hold_the_answers_where_there_are_any(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(routoo_knn, "embed", lambda prompts, encoder: seen.extend(prompts) or np.ones((len(prompts), 1)))
    response = np.array([["yes", "no"], ["maybe", ""]], object)
    table = RoutingTable(["0", "1"], ["a", "b"], np.array([[1.0, 0.0], [1.0, 1.0]]), np.ones(2), response=response)
    state = routoo_knn.fit(table, routoo_knn.Config())
    assert seen == ["0\nyes", "1\nmaybe", "1\n"]
    assert "together with" in routoo_knn.note(state, routoo_knn.Config())
