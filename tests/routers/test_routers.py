"""A router is one file: found by its name, trained, saved, read again; a file of one's own goes as well."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from jaxroute import Router
from jaxroute.cli import main
from jaxroute.data.prices import Price
from jaxroute.data.sources import load_source
from jaxroute.data.table import Queries
from jaxroute.errors import CheckpointError, OutputError, RouterError, TableError
from jaxroute.routers.base import find_router, load_router, router_names

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
    estimates = trained.estimate(test.queries).quality
    expected = np.nanmean(train.quality, axis=0) - 0.5 * len(test.prompts[3])
    np.testing.assert_allclose(estimates[3], expected)
    trained.save(tmp_path / "saved")
    np.testing.assert_array_equal(load_router(tmp_path / "saved").estimate(test.queries).quality, estimates)


def test_domain_means_are_shrunk_towards_the_mean(tmp_path: Path) -> None:
    table = load_source("simulated", queries=200)
    train, test = replace(table, cost_usd=table.mean_cost_usd()).split(0.5, seed=0)
    own, shared = (
        find_router(f"domain_mean:strength={strength}").fit(train).estimate(test.queries).quality for strength in (0, 1e9)
    )
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
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        load_router(tmp_path)
    assert all(router_names().values())


@pytest.mark.slow
def test_a_file_of_ones_own_is_trained_routed_scored_and_judged_by_the_commands(tmp_path: Path, capsys) -> None:
    (tmp_path / "mine.py").write_text(OWN)
    assert len(OWN.splitlines()) < 60
    spec, checkpoint = f"{tmp_path}/mine.py:slope=0.0005", tmp_path / "checkpoint"
    main(["train", "--router", spec, "--source", "simulated", "--output", str(checkpoint)])
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("What is 3 plus 4?\nProve that x^3 + 2 x = 1 has exactly one real root, and say which.\n")
    output = tmp_path / "assignment.jsonl"
    main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 0.005 --output {output}".split())
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    trained = load_router(checkpoint)
    estimates = trained.estimate(Queries([row["prompt"] for row in rows], ["", ""]))
    expected = estimates.quality
    for row, values, cost in zip(rows, expected, estimates.cost_usd):
        column = trained.models.index(row["model"])
        assert row["estimate"] == pytest.approx(values[column], abs=1e-6)
        assert row["cost_usd"] == pytest.approx(cost[column])
    assert sum(row["cost_usd"] for row in rows) <= 0.005
    main(f"score --checkpoint {checkpoint} --prompts {prompts} --output {tmp_path}/scored --rows-per-shard 1".split())
    shards = [pyarrow.parquet.read_table(path).to_pylist()[0] for path in sorted((tmp_path / "scored").glob("shard-*"))]
    np.testing.assert_allclose([[row[model] for model in trained.models] for row in shards], expected, rtol=1e-6)
    report = tmp_path / "report"
    main(f"evaluate --source simulated --router {spec} --budgets 5 --shuffles 20 --resamples 20 --output {report}".split())
    assert "mine.py" in (report / "report.html").read_text(encoding="utf-8")


def test_a_router_that_is_not_as_it_was_in_training_is_refused(tmp_path: Path) -> None:
    own = tmp_path / "mine.py"
    own.write_text(OWN)
    saved = tmp_path / "saved"
    find_router(str(own)).fit(load_source("simulated", queries=20)).save(saved)
    assert Router.load(saved).models == load_router(saved).models
    own.write_text(OWN.replace("slope: float = 0.001", "slope: float = 0.002"))
    with pytest.raises(CheckpointError, match=r"slope was 0.001 and is 0.002; .*mine.py is another file than in training"):
        load_router(saved)
    own.write_text(OWN)
    described = json.loads((saved / "estimator.json").read_text())
    (saved / "estimator.json").write_text(json.dumps(described | {"models": ["a", "a"]}))
    with pytest.raises(CheckpointError, match=r"distinct names.*for each of the 2 models"):
        load_router(saved)
    (saved / "estimator.json").write_text(json.dumps(described | {"format": 9}))
    with pytest.raises(CheckpointError, match="its format is 9"):
        load_router(saved)
    (saved / "estimator.json").write_text(json.dumps({**described, "colour": 1, "models": "a"}))
    with pytest.raises(CheckpointError, match=r"colour is unknown; models='a' is not a list"):
        load_router(saved)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--router knnn", "router='knnn' is unknown"),
        ("--router oracle", "can only be evaluated"),
        ("--router knn --levels 3", "router='knn' reads none of levels"),
        ("--router domain_mean:strength=much", "an option's value does not fit"),
    ],
)
def test_bad_input_to_train_writes_nothing(arguments: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(RouterError, match=words):
        main(f"train {arguments} --source simulated --output {tmp_path}/checkpoint".split())
    assert not list(tmp_path.iterdir())


def test_options_of_the_predictor_mean_nothing_to_another_router(tmp_path: Path) -> None:
    table = load_source("simulated", queries=30)
    table = replace(table, cost_usd=table.mean_cost_usd())
    find_router("domain_mean").fit(table).save(tmp_path / "saved")
    (tmp_path / "prompts.txt").write_text("What is 3 plus 4?\n")
    with pytest.raises(CheckpointError, match="encoder='elsewhere'"):
        Router.load(tmp_path / "saved", encoder="elsewhere")
    with pytest.raises(OutputError, match="max_tokens"):
        given = f"--prompts {tmp_path}/prompts.txt --output {tmp_path}/s --max-tokens 9"
        main(f"score --checkpoint {tmp_path}/saved {given}".split())
    assert not (tmp_path / "s").exists()
    router = Router.load(tmp_path / "saved")
    with pytest.raises(TableError, match="this router counts none"):
        router.route(["What is 3 plus 4?"], budget_usd=1.0, prices={model: Price(1, 1) for model in router.models})
