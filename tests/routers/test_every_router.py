"""Every router in the folder: finite estimates, the same twice, whatever the models' order, saved and read again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable
from jaxroute.errors import RouterError
from jaxroute.routers.base import RouterKind, find_router, load, router_names

FASTER = {
    "predictor": ":layers=2:head=difference:folds=2",
    "mlp": ":epochs=20",
    "matrix_factorization": ":epochs=2",
    "tensoropera_bert": ":epochs=1:max_tokens=16",
    "routellm_bert": ":steps=4:max_tokens=16",
}
"""What makes a router's training short here."""
ORDERED = {"matrix_factorization", "tensoropera_mlp", "tensoropera_bert", "random_model"}
"""Their first parameters, or their draws, are given to models by place."""


def kind_of(name: str, encoder: Path) -> RouterKind:
    found = find_router(name + FASTER.get(name, ""))
    return find_router(f"{found.spec}:encoder={encoder}") if hasattr(found.config, "encoder") else found


def trained_on(name: str, train: RoutingTable, test: RoutingTable, encoder: Path) -> np.ndarray:
    """Estimates, or a curve's qualities and costs."""
    kind = kind_of(name, encoder)
    if kind.hindsight:
        curve = kind.curve(train, test)
        return np.stack([curve.quality, curve.cost_usd])
    return kind.fit(train).estimate(test.queries).quality


def routers() -> list:
    """Those that fine-tune an encoder are slow."""
    return [pytest.param(name, marks=[pytest.mark.slow] if name.endswith("_bert") else []) for name in sorted(router_names())]


@pytest.mark.parametrize("name", routers())
def test_every_router(name: str, sixty: tuple[RoutingTable, RoutingTable], tiny_encoder: Path, tmp_path: Path) -> None:
    train, test = (table.select(models=table.models[:2]) if name == "routellm_bert" else table for table in sixty)
    kind = kind_of(name, tiny_encoder)
    if kind.hindsight:
        curve = kind.curve(train, test)
        assert curve.quality.shape == curve.cost_usd.shape and curve.quality.shape[1] == len(test)
        assert np.isfinite(curve.quality).all() and np.isfinite(curve.cost_usd).all()
    else:
        trained = kind.fit(train)
        estimates = trained.estimate(test.queries).quality
        assert estimates.shape == (len(test), len(test.models)) and np.ptp(estimates) > 0
        trained.save(tmp_path / "router")
        np.testing.assert_array_equal(load(tmp_path / "router").estimate(test.queries).quality, estimates)
        # A prompt's estimates do not depend on which others are asked about; ranks drawn at random do.
        if name != "random":
            alone = trained.estimate(test.select([7]).queries).quality
            np.testing.assert_allclose(alone, estimates[[7]], rtol=1e-5, atol=1e-5)

    first = trained_on(name, train, test, tiny_encoder)
    np.testing.assert_array_equal(trained_on(name, train, test, tiny_encoder), first)
    if name in ORDERED:
        return
    order = (1, 0) if name == "routellm_bert" else (2, 0, 3, 1)
    turned = [train.models[column] for column in order]
    second = trained_on(name, train.select(models=turned), test.select(models=turned), tiny_encoder)
    if not kind.hindsight:
        second = second[:, np.argsort(order)]
    np.testing.assert_allclose(second, first, rtol=1e-3, atol=1e-3 if name == "predictor" else 1e-5)


def test_a_router_trained_with_another_encoder_is_refused(
    sixty: tuple[RoutingTable, RoutingTable], tiny_encoder: Path, tmp_path: Path
) -> None:
    train, test = sixty
    trained = find_router(f"svm:encoder={tiny_encoder}").fit(train)
    spoiled = {**trained.state, "encoder_sha256": np.array("0" * 64)}
    with pytest.raises(RouterError, match="another encoder"):
        replace(trained, state=spoiled).estimate(test.queries)


def test_a_model_that_was_never_run_is_refused_by_name(sixty: tuple[RoutingTable, RoutingTable]) -> None:
    train, _ = sixty
    quality = train.quality.copy()
    quality[:, 1] = np.nan
    table = RoutingTable(train.prompts, train.models, quality, train.cost_usd)
    with pytest.raises(RouterError, match="sim-coder was never run"):
        find_router("best_single").fit(table)
