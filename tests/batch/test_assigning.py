"""Shards of estimates to shards of assignments: as the solvers assign them, written once, and clear words for what is wrong."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from benchmarks.instances import batch
from jaxroute import OutputError, SourceError, TableError
from jaxroute.batch.assigning import AssignShards, assign_shards
from jaxroute.batch.shard_files import shard_table
from jaxroute.cli import main
from jaxroute.data.estimates import Estimates
from solvers import InfeasibleBudget, InfeasibleProblem, Problem, ProblemError, lagrangian
from solvers.sharded import ArrayShard, solve_shards

MODELS = ["small", "middle", "large"]
ENDS = [0, 40, 100, 130, 300]
VALUE, COST, BUDGET = batch(300, 3, cost_per_query=True)
VALUE = VALUE.astype(np.float32).astype(float)


def write(folder: Path, value: np.ndarray = VALUE, cost: np.ndarray | None = COST, *, kind: str = "score") -> Path:
    """The same queries in shards as `jaxroute score` writes them, without rows and in another order of models, or as .npz."""
    folder.mkdir()
    for number, (first, last) in enumerate(pairwise(ENDS)):
        rows, order = slice(first, last), [0, 1, 2] if kind == "score" or number % 2 else [2, 0, 1]
        if kind == "npz":
            names = np.array(MODELS)[order]
            costs = {} if cost is None else {"cost_usd": cost[rows][:, order]}
            np.savez(folder / f"part-{number}.npz", estimates=value[rows][:, order], models=names, **costs)
            continue
        columns = {MODELS[model]: value[rows, model].astype(np.float32) for model in order}
        if cost is not None:
            columns |= {f"{MODELS[model]}|cost_usd": cost[rows, model] for model in order}
        table = pyarrow.table(columns)
        if kind == "score":
            scored = as_scored(first, value[rows], np.zeros_like(value[rows]) if cost is None else cost[rows])
            table = scored if cost is not None else scored.select([n for n in scored.column_names if "|" not in n])
        pyarrow.parquet.write_table(table, folder / f"shard-{number:05d}.parquet")
    return folder


def as_scored(first: int, value: np.ndarray, cost: np.ndarray) -> pyarrow.Table:
    """The table that `jaxroute score` writes, with all its columns."""
    rows = [SimpleNamespace(id=f"q{number}") for number in range(first, first + len(value))]
    estimates = Estimates(MODELS, value, cost, "", np.zeros(len(value), bool), p_value=np.full(len(value), 0.5))
    return shard_table(first, rows, estimates, SimpleNamespace(id_field="id", id_kind="text"))


def read(folder: Path) -> list[dict]:
    paths = sorted(folder.glob("*.parquet"))
    return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]


def expected() -> tuple[float, float, list[str]]:
    shard = ArrayShard(VALUE, COST)
    found = solve_shards([shard], BUDGET)
    return found.value, found.cost_usd, [MODELS[column] for part in found.price.assign(shard) for column in part.choice]


@pytest.mark.parametrize(
    ("kind", "costs"), [("score", "inside"), ("score", "folder"), ("plain", "inside"), ("plain", "folder"), ("npz", "inside")]
)
def test_every_layout_gives_the_same_assignment(tmp_path: Path, kind: str, costs: str):
    folder = write(tmp_path / "in", VALUE, COST if costs == "inside" else None, kind=kind)
    options = [] if costs == "inside" else ["--costs", str(write(tmp_path / "costs", COST, None, kind="dollars"))]
    if costs == "folder":
        # Dollars need more digits than estimates.
        for number, (first, last) in enumerate(pairwise(ENDS)):
            table = pyarrow.table({model: COST[first:last, column] for column, model in enumerate(MODELS)})
            pyarrow.parquet.write_table(table, tmp_path / "costs" / f"shard-{number:05d}.parquet", row_group_size=17)
    main(
        [
            "assign",
            "--estimates",
            str(folder),
            *options,
            "--budget-usd",
            str(BUDGET),
            "--solver",
            "shards",
            "--output",
            str(tmp_path / "out"),
        ]
    )
    value, cost, models = expected()
    rows = read(tmp_path / "out")
    assert [row["model"] for row in rows] == models
    assert math.fsum(row["estimate"] for row in rows) == value and math.fsum(row["cost_usd"] for row in rows) == cost
    assert [row["row"] for row in rows] == list(range(300))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["value"], summary["cost_usd"], summary["shards"]) == (value, cost, 4)
    assert summary["queries_by_model"] == {model: models.count(model) for model in MODELS}
    if kind == "score":
        assert [row["id"] for row in rows] == [f"q{number}" for number in range(300)]


def test_one_file_of_dollars_and_cells_that_are_empty(tmp_path: Path):
    value = VALUE.copy()
    value[50:60, 2] = np.nan
    (tmp_path / "dollars.json").write_text(json.dumps({"large": 0.02, "small": 0.001, "middle": 0.004}))
    config = AssignShards(write(tmp_path / "in", value, None), tmp_path / "dollars.json", tmp_path / "out", budget_usd=3.0)
    report = assign_shards(config)
    rows = read(tmp_path / "out")
    assert {row["model"] for row in rows[50:60]} <= {"small", "middle"}
    assert {row["cost_usd"] for row in rows} <= {0.001, 0.004, 0.02} and report.figures["cost_usd"] <= 3.0 * (1 + 1e-12)


def test_route_takes_scored_shards(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = write(tmp_path / "in")
    command = ["route", "--scored", str(folder), "--output", str(tmp_path / "out")]
    main([*command, "--minimum-quality", "0.6"])
    assert np.mean([row["estimate"] for row in read(tmp_path / "out")]) >= 0.6 - 1e-12
    assert "relative gap" in capsys.readouterr().out
    main(
        [
            "route",
            "--scored",
            str(folder),
            "--multiplier",
            "5",
            "--models",
            "large",
            "small",
            "--output",
            str(tmp_path / "price"),
        ]
    )
    best = (VALUE - 5 * COST)[:, [2, 0]].argmax(axis=1)
    assert [row["model"] for row in read(tmp_path / "price")] == [["large", "small"][column] for column in best]
    with pytest.raises(InfeasibleProblem, match=r"mean estimate of 1\.0 .*: give at most 0\."):
        main(["route", "--scored", str(folder), "--output", str(tmp_path / "never"), "--minimum-quality", "1"])
    with pytest.raises(TableError, match="checkpoint, prompts and encoder"):
        main([*command, "--budget-usd", "1", "--prompts", "p.jsonl"])
    with pytest.raises(TableError, match="give --checkpoint and --prompts, or --scored"):
        main(["route", "--budget-usd", "1"])


def test_a_second_run_writes_what_is_missing_and_nothing_else(tmp_path: Path):
    config = AssignShards(write(tmp_path / "in"), None, tmp_path / "out", budget_usd=BUDGET)
    first = assign_shards(config)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").glob("*.parquet")}
    (tmp_path / "out" / "shard-00001.parquet").unlink()
    (tmp_path / "out" / "shard-00002.parquet").write_bytes(b"")
    again = assign_shards(config)
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out").glob("*.parquet")}
    assert again.already == 2 and first.already == 0 and again.figures == first.figures
    assert {name: content for name, (content, _) in after.items()} == {name: content for name, (content, _) in before.items()}
    assert sum(after[name][1] != before[name][1] for name in after) == 2


def test_another_run_in_the_same_folder_is_rejected(tmp_path: Path):
    folder = write(tmp_path / "in")
    assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=BUDGET))
    with pytest.raises(OutputError, match=r"budget_usd was .* and is 9\.0"):
        assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=9.0))
    os.utime(folder / "shard-00001.parquet", ns=(1, 1))
    with pytest.raises(OutputError, match=r"files were changed, added or removed since: .*shard-00001\.parquet"):
        assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=BUDGET))
    with pytest.raises(OutputError, match="holds other files"):
        assign_shards(AssignShards(folder, None, folder, budget_usd=BUDGET))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(OutputError, match="holds other files"):
        assign_shards(AssignShards(folder, None, tmp_path / "mine", budget_usd=BUDGET))


def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path):
    folder = write(tmp_path / "in")

    def touching(step, shards):
        (folder / "shard-00003.parquet").touch()
        return map(step, shards)

    with pytest.raises(SourceError, match=r"shard-00003\.parquet was changed or removed while it was read"):
        assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=BUDGET), map=touching)
    assert not list((tmp_path / "out").glob("*.parquet"))


def test_wrong_shards_are_named(tmp_path: Path):
    def fails(folder: Path, match: str, costs: Path | None = None, **options: object) -> None:
        with pytest.raises(SourceError, match=match):
            assign_shards(AssignShards(folder, costs, tmp_path / "out", budget_usd=BUDGET, **options))
        assert not (tmp_path / "out").exists() or not list((tmp_path / "out").glob("*.parquet"))

    fails(tmp_path / "nowhere", "there is no such folder")
    folder = write(tmp_path / "missing")
    (folder / "shard-00001.parquet").unlink()
    fails(folder, "shard-00002.parquet begins with row 100, expected 40: is one missing")
    folder = write(tmp_path / "twice")
    (folder / "copy.parquet").write_bytes((folder / "shard-00001.parquet").read_bytes())
    fails(folder, "begins with row 40, expected 100: is one there twice")
    folder = write(tmp_path / "broken")
    (folder / "shard-00001.parquet").write_bytes(b"PAR1")
    fails(folder, "shard-00001.parquet cannot be read")
    fails(write(tmp_path / "free", cost=None), "holds no dollars .*: give --costs")
    fails(write(tmp_path / "other"), r"costs='.*' has no shard-00000\.parquet", costs=write(tmp_path / "c", kind="npz"))
    folder = write(tmp_path / "names", kind="plain")
    table = pyarrow.parquet.read_table(folder / "shard-00002.parquet")
    renamed = table.rename_columns([name.replace("small", "tiny") for name in table.column_names])
    pyarrow.parquet.write_table(renamed, folder / "shard-00002.parquet")
    fails(folder, "shard-00002.parquet has other models .* missing models: small; unknown models: tiny")
    fails(write(tmp_path / "subset"), "missing models: huge", models=("small", "huge"))
    wrong = VALUE.copy()
    wrong[45, 1] = np.inf
    fails(write(tmp_path / "infinite", wrong), r"shard-00001\.parquet, row 5 .*, model 'middle': estimate inf must be finite")
    cost = COST.copy()
    cost[120, 2] = -1
    fails(
        write(tmp_path / "negative", VALUE, cost),
        r"shard-00002\.parquet, row 20 .*'large': dollars -1.0 must be finite and >= 0",
    )
    folder = write(tmp_path / "texts")
    table = pyarrow.parquet.read_table(folder / "shard-00002.parquet").append_column("note", pyarrow.array(["x"] * 30))
    pyarrow.parquet.write_table(table, folder / "shard-00002.parquet")
    fails(folder, "shard-00002.parquet, column 'note': it holds string, not numbers")


def test_a_budget_that_is_too_small_leaves_nothing_behind(tmp_path: Path):
    folder = write(tmp_path / "in")
    with pytest.raises(InfeasibleBudget) as raised:
        assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=1e-6))
    assert not (tmp_path / "out").exists()
    least = raised.value.least_budget_usd
    assert assign_shards(AssignShards(folder, None, tmp_path / "out", budget_usd=least)).figures["cost_usd"] <= least * (
        1 + 1e-12
    )


def test_capacities_hold_over_all_shards_and_are_asked_for_as_without_shards(tmp_path: Path):
    folder = write(tmp_path / "in")
    there = f"--estimates {folder} --output {tmp_path}"
    main(f"assign {there}/a --budget-usd {BUDGET} --solver shards --capacity large=20 middle=150".split())
    summary = json.loads((tmp_path / "a/summary.json").read_text())
    counts = summary["queries_by_model"]
    assert counts["large"] == 20 and counts["middle"] <= 150 and summary["tolls"]["large"] > 0
    names = [row["model"] for row in read(tmp_path / "a")]
    assert {model: names.count(model) for model in MODELS} == counts
    found = lagrangian(Problem(VALUE, COST, BUDGET, capacity=np.array([300, 150, 20])))
    assert summary["bound"] == pytest.approx(found.bound, rel=1e-9) and summary["value"] <= found.bound
    main(f"route --scored {folder} --output {tmp_path}/b --budget-usd {BUDGET} --capacity large=20 middle=150".split())
    assert read(tmp_path / "b") == read(tmp_path / "a")
    # A stopped run resumes with the same capacities only.
    (tmp_path / "a/shard-00001.parquet").unlink()
    with pytest.raises(OutputError, match="capacity was"):
        main(f"assign {there}/a --budget-usd {BUDGET} --solver shards --capacity large=21 middle=150".split())
    main(f"assign {there}/a --budget-usd {BUDGET} --solver shards --capacity large=20 middle=150".split())
    assert read(tmp_path / "b") == read(tmp_path / "a")


@pytest.mark.parametrize(
    ("capacity", "said"),
    [
        ("huge=3", "capacity of unknown models: huge=3"),
        ("small=few", "capacity='small=few' must be MODEL=COUNT"),
        ("small=1 middle=1 large=1", "has 3 places for 300 queries"),
    ],
)
def test_capacities_that_cannot_be_are_named(tmp_path: Path, capacity: str, said: str):
    folder = write(tmp_path / "in")
    with pytest.raises((TableError, ProblemError), match=said):
        main(f"assign --estimates {folder} --budget-usd 9 --solver shards --output {tmp_path}/no --capacity {capacity}".split())
    assert not (tmp_path / "no").exists()


@pytest.mark.slow
def test_a_killed_run_resumes_with_the_same_bytes(tmp_path: Path):
    """SIGKILL at moments all over the run; what is there is kept, nothing is half written, and the end is the same."""
    folder = write(tmp_path / "in")
    whole = AssignShards(folder, None, tmp_path / "whole", budget_usd=BUDGET)
    assign_shards(whole)
    killed = tmp_path / "killed"
    # Every shard waits, so that the run is killed between the first and the last.
    slowly = (
        "import sys, time; import jaxroute.batch.assigning as files; write = files.WriteShard.__call__\n"
        "def waiting(self, shard):\n    time.sleep(0.3); write(self, shard)\n"
        "files.WriteShard.__call__ = waiting\n"
        "from jaxroute.cli import main; main(sys.argv[1:])"
    )
    arguments = f"assign --estimates {folder} --budget-usd {BUDGET!r} --solver shards --workers 1 --output {killed}".split()
    for moment in range(4):
        run = subprocess.Popen([sys.executable, "-c", slowly, *arguments])
        deadline = time.monotonic() + 60
        while len(list(killed.glob("shard-*.parquet"))) < moment and run.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if not moment:
            time.sleep(0.5)
        run.send_signal(signal.SIGKILL)
        run.wait()
        assert not (killed / "summary.json").exists()
    assign_shards(AssignShards(folder, None, killed, budget_usd=BUDGET))
    for path in (tmp_path / "whole").glob("shard-*.parquet"):
        assert pyarrow.parquet.read_table(path).equals(pyarrow.parquet.read_table(killed / path.name))
    assert json.loads((killed / "summary.json").read_text())["value"] == expected()[0]
    assert not list(killed.glob(".partial-*"))
