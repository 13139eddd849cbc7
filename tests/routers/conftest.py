"""What the routers' tests share: one cache of embeddings, and sixty simulated queries to learn from."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from jaxroute import RoutingTable, load_source

MODELS = ["sim-nano", "sim-coder", "sim-large", "sim-medium"]


@pytest.fixture(scope="package", autouse=True)
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Every prompt is encoded once for all of these tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXROUTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def sixty() -> tuple[RoutingTable, RoutingTable]:
    """Sixty queries to learn from, in which every seventh cell was never run, and thirty to answer."""
    table = load_source("simulated", queries=90).select(models=MODELS)
    train, test = table.select(np.arange(60)), table.select(np.arange(60, 90))
    quality = train.quality.copy()
    quality.ravel()[::7] = np.nan
    return RoutingTable(train.prompts, train.models, quality, train.cost_usd, domains=train.domains), test
