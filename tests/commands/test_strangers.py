"""What strangers typed: each is rejected with its name, before anything is written, and nothing of theirs is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute import JaxrouteError, OutputError, RouterError, RoutingTable, SourceError, TableError
from jaxroute.cli import main
from jaxroute.data.prices import Price
from jaxroute.routers.base import find_router


@pytest.fixture
def outcomes(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    quality = (generator.uniform(size=(40, 2)) < [0.3, 0.7]).astype(float)
    prompts = [f"question {row}" for row in range(40)]
    path = tmp_path / "outcomes.csv"
    RoutingTable(prompts, ["small", "large"], quality, np.array([0.1, 1.0]), domains=["law", "art"] * 20).save(path)
    return path


@pytest.fixture
def checkpoint(outcomes: Path, tmp_path: Path) -> Path:
    main(f"train --router domain_mean --table {outcomes} --output {tmp_path}/checkpoint".split())
    return tmp_path / "checkpoint"


def prompts_of(folder: Path, rows: int = 5) -> Path:
    path = folder / "prompts.jsonl"
    path.write_text("".join(json.dumps({"id": row, "prompt": f"new {row}", "domain": "law"}) + "\n" for row in range(rows)))
    return path


def test_a_checkpoint_is_not_judged_on_what_it_was_trained_on(outcomes: Path, checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"was trained on 12 of the 12 test queries"):
        main(f"evaluate --table {outcomes} --router random --checkpoint {checkpoint} --output {tmp_path}/leak".split())


def test_scores_that_are_incomplete_are_not_assigned(checkpoint: Path, tmp_path: Path) -> None:
    scored = tmp_path / "scored"
    main(f"score --checkpoint {checkpoint} --prompts {prompts_of(tmp_path)} --output {scored} --rows-per-shard 2".split())
    (scored / "shard-00001.parquet").unlink()
    with pytest.raises(SourceError, match=r"its shards hold 3 rows, summary\.json says 5"):
        main(f"assign --estimates {scored} --budget-usd 1 --output {tmp_path}/assigned".split())
    (scored / "summary.json").write_text("[1")
    with pytest.raises(SourceError, match=r"summary\.json says None"):
        main(f"assign --estimates {scored} --budget-usd 1 --output {tmp_path}/assigned".split())


def test_a_file_that_is_read_or_a_link_is_not_written_over(checkpoint: Path, tmp_path: Path) -> None:
    prompts = prompts_of(tmp_path)
    before = prompts.read_text()
    with pytest.raises(OutputError, match="is the file that is read"):
        main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 9 --output {prompts}".split())
    (tmp_path / "link.jsonl").symlink_to(prompts)
    with pytest.raises(OutputError, match="a link or a device"):
        main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 9 --output {tmp_path}/link.jsonl".split())
    assert prompts.read_text() == before


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("knn:neighbours=0", "neighbours=0 must be above 0"),
        ("random:seed=-1", "seed=-1 must be at least 0"),
        ("domain_mean:strength=nan", "strength=nan must be finite"),
        ("cascade:epsilon=2", r"epsilon=2.0 must lie in \[0, 1\]"),
        ("mlp:hidden=100,0", r"hidden=\(100, 0\) must be above 0"),
    ],
)
def test_options_that_no_router_can_use_are_rejected_when_it_is_named(spec: str, words: str) -> None:
    with pytest.raises(RouterError, match=words):
        find_router(spec)


def test_true_and_false_are_options_values() -> None:
    assert find_router("predictor:domains=false").config.domains is False
    assert find_router("predictor:domains=true:predict_costs=False").config.predict_costs is False


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("def fit(", r"cannot be imported.*SyntaxError"),
        ("import nothing_of_that_name", r"cannot be imported in line 1: ModuleNotFoundError"),
        ("{config}\ndef fit(train, config):\n    return None\ndef estimate(s, q, c): return 1", "fit failed.*TypeError"),
        (
            "{config}\ndef fit(train, config):\n    return {{}}['x']\ndef estimate(s, q, c): return 1",
            "fit failed in line 6: KeyError",
        ),
    ],
)
def test_a_router_of_ones_own_that_fails_is_named_with_its_line(code: str, words: str, tmp_path: Path, outcomes: Path) -> None:
    config = "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    slope: float = 1.0"
    (tmp_path / "mine.py").write_text(code.format(config=config) if "{config}" in code else code)
    with pytest.raises(RouterError, match=words):
        main(["train", "--router", f"{tmp_path}/mine.py", "--table", str(outcomes), "--output", f"{tmp_path}/never"])
    assert not (tmp_path / "never").exists()


def test_prices_a_million_times_off_those_of_training_are_rejected(tmp_path: Path) -> None:
    table = RoutingTable(
        [f"question {row}" for row in range(30)],
        ["a", "b"],
        np.tile([0.0, 1.0], (30, 1)),
        np.array([2e-5, 2e-4]),
        input_tokens=np.full((30, 2), 10.0),
        output_tokens=np.full((30, 2), 10.0),
    )
    trained = find_router("domain_mean").fit(table, prices={"a": Price(1, 1), "b": Price(10, 10)})
    with pytest.raises(TableError, match="times those that the checkpoint was trained with"):
        trained.priced({"a": Price(1e-6, 1e-6), "b": Price(1e-5, 1e-5)})
    assert trained.priced({"a": Price(2, 2), "b": Price(5, 5)}).models == ["a", "b"]


def test_nameless_models_colliding_names_and_paths_that_nobody_reads(tmp_path: Path) -> None:
    with pytest.raises(TableError, match="models must be names and not empty"):
        RoutingTable(["x"], [""], np.ones((1, 1)), np.ones(1))
    table = RoutingTable(["x", "y"], ["a", "a|cost_usd"], np.eye(2), np.ones(2))
    find_router("best_single").fit(table).save(tmp_path / "checkpoint")
    with pytest.raises(OutputError, match="end like the columns of expected dollars"):
        main(f"score --checkpoint {tmp_path}/checkpoint --prompts {prompts_of(tmp_path)} --output {tmp_path}/scored".split())
    with pytest.raises(JaxrouteError, match="reads no file"):
        main(f"train --source simulated --path {tmp_path}/mine.csv --output {tmp_path}/never".split())
