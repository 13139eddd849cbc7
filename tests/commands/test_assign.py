"""`jaxroute assign`: the same answer from every format, compared side by side, and clear words for what is wrong."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxroute import JaxrouteError
from jaxroute.cli import main
from jaxroute.data.estimate_files import read_given
from solvers import Problem, ProblemError, exact

MODELS = ["small", "middle", "large"]
COSTS = [0.001, 0.004, 0.02]


@pytest.fixture
def estimates() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.2, 1.0, (30, 3)).round(4)


def table(array: np.ndarray, **columns: object) -> pd.DataFrame:
    frame = pd.DataFrame(array, columns=MODELS)
    for name, values in columns.items():
        frame.insert(0, name, values)
    return frame


def write_all(folder: Path, estimates: np.ndarray) -> dict[str, list[str]]:
    """The same problem in every format: the arguments that name its files."""
    ids = [f"q{row}" for row in range(len(estimates))]
    table(estimates, query_id=ids).to_csv(folder / "e.csv", index=False)
    table(estimates, query_id=ids).to_parquet(folder / "e.parquet")
    table(estimates, query_id=ids).to_json(folder / "e.jsonl", orient="records", lines=True)
    (folder / "c.json").write_text(json.dumps(dict(zip(MODELS, COSTS, strict=True))))
    table(np.array([COSTS]))[MODELS[::-1]].to_csv(folder / "c.csv", index=False)
    # Per query, rows and columns in another order.
    spread = table(np.tile(COSTS, (len(estimates), 1)), query_id=ids)
    spread[["query_id", *MODELS[::-1]]].sample(frac=1.0, random_state=1).to_parquet(folder / "c.parquet")
    np.savez(folder / "e.npz", estimates=estimates, cost_usd=np.array(COSTS), models=np.array(MODELS), query_id=np.array(ids))
    return {
        "csv": ["--estimates", str(folder / "e.csv"), "--costs", str(folder / "c.csv")],
        "jsonl": ["--estimates", str(folder / "e.jsonl"), "--costs", str(folder / "c.json")],
        "parquet": ["--estimates", str(folder / "e.parquet"), "--costs", str(folder / "c.parquet")],
        "npz": ["--estimates", str(folder / "e.npz")],
    }


def test_every_format_gives_the_same_assignment(tmp_path: Path, estimates: np.ndarray):
    best = exact(Problem(estimates, COSTS, 0.1))
    for name, files in write_all(tmp_path, estimates).items():
        output = tmp_path / f"out-{name}"
        main(["assign", *files, "--budget-usd", "0.1", "--solver", "exact", "--output", str(output)])
        if name == "npz":
            with np.load(output / "assignment.npz") as stored:
                assert stored["choice"].tolist() == [best.choice.tolist()]
                assert stored["models"].tolist() == MODELS and stored["budget_usd"].tolist() == [0.1]
            continue
        read = pd.read_parquet if name == "parquet" else pd.read_csv
        rows = read(output / f"assignment.{'parquet' if name == 'parquet' else 'csv'}")
        assert rows["model"].tolist() == [MODELS[column] for column in best.choice]
        assert rows["query_id"].tolist() == [f"q{row}" for row in range(30)]
        assert math.fsum(rows["estimate"]) == pytest.approx(best.value, rel=1e-12)
        assert math.fsum(rows["cost_usd"]) <= 0.1 * (1 + 1e-12)


def test_several_budgets_and_solvers_stand_side_by_side(
    tmp_path: Path, estimates: np.ndarray, capsys: pytest.CaptureFixture[str]
):
    files = write_all(tmp_path, estimates)["csv"]
    solvers = ["--solver", "greedy_ratio,lagrangian,exact"]
    main(["assign", *files, "--budget-usd", "0.05", "0.2", *solvers, "--output", str(tmp_path / "out")])
    compared = pd.read_csv(tmp_path / "out" / "comparison.csv")
    assert compared["budget_usd"].tolist() == [0.05] * 3 + [0.2] * 3
    assert (compared["cost_usd"] <= compared["budget_usd"] * (1 + 1e-12)).all()
    for _, runs in compared.groupby("budget_usd"):
        greedy, near, best = runs["value"]
        assert greedy <= best + 1e-12 and near <= best + 1e-12 and best <= runs["bound"].min() + 1e-11
    assert (compared[[f"{model}|queries" for model in MODELS]].sum(axis=1) == 30).all()
    rows = pd.read_csv(tmp_path / "out" / "assignment.csv")
    assert len(rows) == 6 * 30
    sums = rows.groupby(["budget_usd", "solver"])["estimate"].sum()
    for _, run in compared.iterrows():
        assert sums[run["budget_usd"], run["solver"]] == pytest.approx(run["value"], rel=1e-12)
    printed = capsys.readouterr().out
    assert printed.count("greedy_ratio") == 2 and printed.count("optimal") >= 2


def test_auto_says_what_it_took(tmp_path: Path, estimates: np.ndarray, capsys: pytest.CaptureFixture[str]):
    files = write_all(tmp_path, estimates)["csv"]
    main(["assign", *files, "--budget-usd", "0.1", "--output", str(tmp_path / "out")])
    assert "exact was taken since 30 queries are up to 20,000" in capsys.readouterr().out


def test_constraints_reach_the_solver(tmp_path: Path, estimates: np.ndarray):
    files = write_all(tmp_path, estimates)["csv"]
    mask = np.ones((30, 3), int)
    mask[:10, 0] = 0
    table(mask).to_csv(tmp_path / "mask.csv", index=False)
    constrained = [
        "--available",
        str(tmp_path / "mask.csv"),
        "--capacity",
        "small=12",
        "large=9",
        "--output",
        str(tmp_path / "out"),
    ]
    main(["assign", *files, *constrained, "--minimum-value", "18.5", "--solver", "exact"])
    rows = pd.read_csv(tmp_path / "out" / "assignment.csv")
    assert (rows["model"][:10] != "small").all()
    assert (rows["model"] == "small").sum() <= 12 and (rows["model"] == "large").sum() <= 9
    assert rows["estimate"].sum() >= 18.5 - 1e-9
    run = pd.read_csv(tmp_path / "out" / "comparison.csv").iloc[0]
    assert run["minimum_value"] == 18.5 and run["bound"] <= run["cost_usd"] and run["status"] == "optimal"


def test_an_empty_cell_means_that_the_model_may_not_answer(
    tmp_path: Path, estimates: np.ndarray, capsys: pytest.CaptureFixture[str]
):
    estimates[4, 2] = np.nan
    estimates[7] = np.nan
    files = write_all(tmp_path, estimates)["csv"]
    with pytest.raises(ProblemError, match="no model is available for query 7"):
        main(["assign", *files, "--budget-usd", "1", "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()
    main(["assign", *files, "--budget-usd", "1", "--allow-unanswered", "--output", str(tmp_path / "out")])
    rows = pd.read_csv(tmp_path / "out" / "assignment.csv")
    assert rows["model"][4] != "large" and pd.isna(rows["model"][7]) and rows["cost_usd"][7] == 0
    assert "4 of 90 answers are not available or have no number" in capsys.readouterr().out


def test_rows_are_matched_by_name_and_masks_read_as_words(tmp_path: Path, estimates: np.ndarray):
    write_all(tmp_path, estimates)
    words = table(np.where(estimates > 0.3, "True", "False"), query_id=[f"q{row}" for row in range(30)])
    words.iloc[::-1].to_csv(tmp_path / "mask.csv", index=False)
    given = read_given(tmp_path / "e.csv", tmp_path / "c.parquet", tmp_path / "mask.csv")
    assert given.cost_usd.tolist() == [COSTS] * 30
    assert given.available is not None and (given.available == (estimates > 0.3)).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--budget-usd"], "give one or several of either"),
        (["--budget-usd", "1", "--minimum-value", "1"], "give one or several of either"),
        (["--budget-usd", "1", "--solver", "magic,exact"], "solver='magic' must be one of auto, greedy_ratio"),
        (["--budget-usd", "1", "--solver", "exact,exact"], "name every solver once"),
        (["--budget-usd", "1", "--capacity", "huge=3"], "capacity of unknown models: huge"),
        (["--budget-usd", "1", "--capacity", "small=few"], "capacity='small=few' must be MODEL=COUNT"),
        (["--budget-usd", "1", "--capacity", "small=5", "--solver", "greedy_ratio"], "greedy_ratio knows no capacity"),
        (["--budget-usd", "1", "--capacity", "small=1", "middle=1", "large=1"], "leaves 27 of 30 queries without a place"),
        (["--budget-usd", "-1"], "budget_usd=-1.0 must be finite"),
        (["--budget-usd", "1", "0.001"], "give at least budget_usd=0.03"),
        (["--minimum-value", "31"], "give at most minimum_value="),
        (["--budget-usd", "1", "--max-seconds", "0"], "max_seconds=0.0 must be > 0"),
        (["--budget-usd", "1", "--alpha", "nan", "--solver", "greedy_ratio"], "alpha=nan must be finite"),
    ],
)
def test_wrong_options_are_refused_and_nothing_is_written(
    tmp_path: Path, estimates: np.ndarray, changed: list[str], message: str
):
    files = write_all(tmp_path, estimates)["csv"]
    with pytest.raises((JaxrouteError, ProblemError), match=message.replace("(", r"\(")):
        main(["assign", *files, *changed, "--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_wrong_files_are_reported_apart(tmp_path: Path, estimates: np.ndarray):
    write_all(tmp_path, estimates)

    def refused(estimates_file: str, costs: str | None) -> str:
        with pytest.raises(JaxrouteError) as caught:
            read_given(tmp_path / estimates_file, None if costs is None else tmp_path / costs)
        return str(caught.value)

    assert "costs: give --costs FILE" in refused("e.csv", None)
    assert "there is no such file" in refused("nothing.csv", "c.csv")
    (tmp_path / "renamed.json").write_text(json.dumps({"small": 1, "huge": 2}))
    assert "missing models: middle, large; unknown models: huge" in refused("e.csv", "renamed.json")
    (tmp_path / "empty.json").write_text("[]")
    assert 'must hold {"model": dollars}' in refused("e.csv", "empty.json")
    table(np.ones((7, 3))).to_csv(tmp_path / "short.csv", index=False)
    assert "it has 7 rows, expected 1 or 30" in refused("e.csv", "short.csv")
    table(-np.ones((1, 3))).to_csv(tmp_path / "negative.csv", index=False)
    assert "must be at least 0.0" in refused("e.csv", "negative.csv")
    table(np.ones((30, 3)), query_id=[f"p{row}" for row in range(30)]).to_csv(tmp_path / "others.csv", index=False)
    assert "missing queries: q0, q1" in refused("e.csv", "others.csv")
    table(estimates, query_id=["same"] * 30).to_csv(tmp_path / "twice.csv", index=False)
    assert "query_id that appear twice: same" in refused("twice.csv", "c.csv")
    (tmp_path / "words.csv").write_text("small,large\n0.5,good\n")
    assert "'good' is not a number" in refused("words.csv", "c.csv")
    np.savez(tmp_path / "odd.npz", estimates=estimates, prices=np.ones(3))
    assert "unknown arrays: prices" in refused("odd.npz", None)
    np.savez(tmp_path / "bent.npz", estimates=estimates, cost_usd=np.ones(2), models=np.array(["a"]))
    message = refused("bent.npz", None)
    assert "cost_usd is float64 of shape (2,), expected numbers (queries, 3)" in message
    assert "models has 1 names for 3 columns" in message
    (tmp_path / "not.npz").write_text("no archive")
    assert "it cannot be read" in refused("not.npz", None)


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path, estimates: np.ndarray):
    files = write_all(tmp_path, estimates)["csv"]
    with pytest.raises(JaxrouteError, match="holds other files"):
        main(["assign", *files, "--budget-usd", "1", "--output", str(tmp_path)])


def test_greedy_to_the_letter_counts_what_it_leaves_unanswered(tmp_path: Path, estimates: np.ndarray):
    files = write_all(tmp_path, estimates)["csv"]
    options = ["--solver", "greedy_ratio", "--no-reserve", "--alpha", "0.01", "--output", str(tmp_path / "out")]
    main(["assign", *files, "--budget-usd", "0.05", *options])
    run = pd.read_csv(tmp_path / "out" / "comparison.csv").iloc[0]
    rows = pd.read_csv(tmp_path / "out" / "assignment.csv")
    assert run["solver"] == "greedy_ratio(alpha=0.01, reserve=False)"
    assert run["unanswered"] == rows["model"].isna().sum() > 0
