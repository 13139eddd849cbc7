"""What strangers typed: each is rejected with its name, before anything is written, and nothing of theirs is lost."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute import JaxrouteError, OutputError, Router, RouterError, RoutingTable, SourceError, TableError
from jaxroute.cli import main
from jaxroute.data.prices import Price, load_prices
from jaxroute.errors import JaxrouteWarning
from jaxroute.routers.base import find_router
from jaxroute.routing.request import read_capacity
from jaxroute.storage.files import alone_in


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
        ("svm:strength=0", r"strength=0.0 must be above 0"),
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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evaluate --table {table} --router random --router knn", "--router: given more than once"),
        ("evaluate --table {table} --option scale=1 scale=2", "scale is given twice"),
        ("evaluate --table {table} --test-table {table} --test-fraction 0.2", r"test_fraction=0\.2 splits one table"),
        ("evaluate --source simulated --option seed=-1", "seed=-1 must be at least 0"),
        ("route --checkpoint {checkpoint} --prompts {prompts} --multiplier nan", "multiplier=nan must be finite"),
        (
            "route --checkpoint {checkpoint} --prompts {prompts} --multiplier 1 --solver banana",
            r"solver='banana' assigns within a budget",
        ),
        (
            "route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 9 --capacity small=1 large=1",
            r"small=1, large=1 leaves 3 of 5 queries without a place: capacity small=4 would do",
        ),
    ],
)
def test_what_was_silently_ignored_is_rejected(arguments: str, words: str, checkpoint: Path, outcomes: Path) -> None:
    folder = outcomes.parent
    filled = arguments.format(table=outcomes, checkpoint=checkpoint, prompts=prompts_of(folder))
    with pytest.raises(ValueError, match=words):
        main([*filled.split(), "--output", f"{folder}/never"])
    assert not (folder / "never").exists()


@pytest.mark.parametrize("count", ["\u00b2", "-1", "1.5", "9" * 400])
def test_a_count_is_a_whole_number_of_bounded_length(count: str) -> None:
    with pytest.raises(TableError, match="must be MODEL=COUNT") as caught:
        read_capacity([f"large={count}"])
    assert len(str(caught.value)) < 300


def test_a_list_of_models_is_a_list(checkpoint: Path) -> None:
    router = Router.load(checkpoint)
    for models in ("small", ()):
        with pytest.raises(TableError, match="must be a list of at least one name"):
            router.route(["a question"], budget_usd=9, models=models)


def test_a_run_that_is_rejected_leaves_nothing_behind(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(JaxrouteError, match="devices=99"):
        main(
            f"score --checkpoint {checkpoint} --prompts {prompts_of(tmp_path)} --output {tmp_path}/scored "
            "--scoring.devices 99".split()
        )
    assert not (tmp_path / "scored").exists()
    with pytest.raises(JaxrouteError), alone_in(tmp_path / "tried"):
        raise JaxrouteError("nothing was written")
    assert not (tmp_path / "tried").exists()
    with alone_in(tmp_path / "kept"):
        (tmp_path / "kept" / "result").touch()
    assert (tmp_path / "kept" / "result").exists()


def test_a_router_of_ones_own_is_found_from_everywhere(outcomes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "from dataclasses import dataclass\nimport numpy as np\n@dataclass(frozen=True)\nclass Config:\n    pass\n"
        "def fit(train, config):\n    return {'mean': np.nanmean(train.quality, axis=0)}\n"
        "def estimate(state, queries, config):\n    return np.tile(state['mean'], (len(queries), 1))\n"
    )
    monkeypatch.chdir(tmp_path)
    main(["train", "--router", "mine.py", "--table", str(outcomes), "--output", "own"])
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert Router.load(tmp_path / "own").estimate(["a question"]).shape == (1, 2)


def test_prices_per_token_are_noticed_where_no_dollars_contradict_them(tmp_path: Path) -> None:
    per_token = {"small": {"input": 2e-7, "output": 6e-7}, "large": {"input": 2e-6, "output": 1e-5}}
    (tmp_path / "prices.json").write_text(json.dumps(per_token))
    with pytest.warns(JaxrouteWarning, match="highest price is 1e-05 dollars per million tokens"):
        load_prices(tmp_path / "prices.json")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("t.csv", "prompt;model;quality;cost_usd\nx;a;1;1\n", "line 1: its columns are separated by ';'"),
        ("t.csv", "prompt\tmodel\tquality\tcost_usd\n", r"separated by '\\t'"),
        ("t.json", '{\n "prompt": "x",\n "model": "a"\n}', "it is one JSON object with 'prompt', 'model'"),
        (
            "t.csv",
            "prompt,domain,model,quality,cost_usd\nx,law,a,1,1\nx,art,b,1,1\n",
            "line 3, column 'domain': 'art', but the same query has 'law' in line 2",
        ),
        ("t.csv", "prompt,model,quality,cost_usd\nx,a,1,1e308\n", r"is 1e\+308; it must be from 0 to 1e\+12 dollars"),
    ],
)
def test_files_that_only_look_right(name: str, text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(SourceError, match=words):
        RoutingTable.load(tmp_path / name)
