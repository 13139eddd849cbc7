"""Fine-tuned classifiers learn which of two kinds of prompts a model is good at."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxroute import RoutingTable
from jaxroute.data.table import Queries
from jaxroute.errors import RouterError
from jaxroute.routers.base import find_router

pytestmark = pytest.mark.slow

KINDS = ("add two and two", "judge the court case")


def two_kinds() -> RoutingTable:
    kind = np.arange(24) % 2
    return RoutingTable(
        [f"{KINDS[one]} {row}" for row, one in enumerate(kind)],
        ["sums", "law"],
        np.column_stack([1.0 - kind, kind]),
        np.ones(2),
    )


@pytest.mark.parametrize(
    "spec", ["tensoropera_bert:epochs=10:temperature=1:learning_rate=0.003", "routellm_bert:steps=30:learning_rate=0.003"]
)
def test_the_encoder_learns_who_wins(spec: str, tiny_encoder: Path) -> None:
    trained = find_router(f"{spec}:encoder={tiny_encoder}").fit(two_kinds())
    found = trained.estimate(Queries([f"{KINDS[0]} 99", f"{KINDS[1]} 98"], [""] * 2)).quality
    assert found[0, 0] > found[0, 1] and found[1, 1] > found[1, 0]


def test_win_tie_or_loss_is_for_two_models(tiny_encoder: Path) -> None:
    table = RoutingTable(["a"], ["x", "y", "z"], np.ones((1, 3)), np.ones(3))
    with pytest.raises(RouterError, match=r"x, y, z: this router is for two"):
        find_router(f"routellm_bert:encoder={tiny_encoder}").fit(table)
