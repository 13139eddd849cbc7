"""A router is one file: found by its name, trained, saved, read again; a file of one's own goes as well."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jaxroute.errors import CheckpointError, RouterError
from jaxroute.routers import find_router, load_router, router_names
from jaxroute.sources import load_source

OWN = '''
"""Longer prompts are harder."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Config:
    """How much a letter counts."""

    slope: float = 0.001


def fit(train, config):
    return {"mean": np.nanmean(train.quality, axis=0)}


def estimate(state, queries, config):
    return state["mean"] - config.slope * np.array([[len(prompt)] for prompt in queries.prompts])
'''


def test_a_file_of_ones_own_is_a_router(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    train, test = load_source("simulated", queries=60).split(0.5, seed=0)
    trained = find_router(f"{tmp_path}/mine.py:slope=0.5").fit(train)
    estimates = trained.estimate(test.queries)
    expected = np.nanmean(train.quality, axis=0) - 0.5 * len(test.prompts[3])
    np.testing.assert_allclose(estimates[3], expected)
    trained.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_router(tmp_path / "saved").estimate(test.queries), estimates)


def test_domain_means_are_shrunk_towards_the_mean(tmp_path: Path) -> None:
    train, test = load_source("simulated", queries=200).split(0.5, seed=0)
    own, shared = (find_router(f"domain_mean:strength={strength}").fit(train).estimate(test.queries) for strength in (0, 1e9))
    rows = np.array(train.domains) == test.domains[0]
    np.testing.assert_allclose(own[0], train.quality[rows].mean(axis=0))
    np.testing.assert_allclose(shared[0], train.quality.mean(axis=0), atol=1e-6)


def test_what_is_no_router_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(RouterError, match=r"router='knnn' is unknown; known are .*domain_mean.*oracle"):
        find_router("knnn")
    with pytest.raises(RouterError, match=r"'strenght=2' is none of its options, which are strength"):
        find_router("domain_mean:strenght=2")
    with pytest.raises(RouterError, match="value does not fit"):
        find_router("domain_mean:strength=much")
    with pytest.raises(RouterError, match="no such file"):
        find_router(f"{tmp_path}/nothing.py")
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(RouterError, match="must hold a dataclass Config"):
        find_router(f"{tmp_path}/empty.py")
    with pytest.raises(RouterError, match="can only be evaluated"):
        find_router("oracle").fit(load_source("simulated", queries=20))
    with pytest.raises(CheckpointError, match="no whole router"):
        load_router(tmp_path)
    assert all(router_names().values())
