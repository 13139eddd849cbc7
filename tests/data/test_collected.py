"""The database of a collection as a table of outcomes: whole, partly collected, while it is written, and what is none."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from jaxroute import load_source
from jaxroute.cli import main
from jaxroute.data.table import RoutingTable
from jaxroute.errors import SourceError
from tests.collect.simulated import place


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("collected")
    with place(folder, 24) as there:
        there.collect("sim-nano", "sim-medium", "sim-large")
    return folder / "outcomes.db"


def test_parquet_made_of_it_reads_the_same(outcomes: Path, tmp_path: Path) -> None:
    table = load_source("table", outcomes)
    assert (len(table), table.models, table.name) == (24, ["sim-nano", "sim-medium", "sim-large"], "outcomes")
    assert table.log_likelihood is None and table.latency_seconds is not None
    table.save(tmp_path / "outcomes.parquet")
    assert RoutingTable.load(tmp_path / "outcomes.parquet").digest == table.digest


def test_commands_take_it_as_a_table(outcomes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["universe", "--table", str(outcomes), "--size", "2", "--output", str(tmp_path / "universe.json")])
    main(["train", "--table", str(outcomes), "--router", "domain_mean", "--output", str(tmp_path / "trained")])
    said = capsys.readouterr().out
    assert "24 queries, 3 models" in said and "checkpoint written" in said


def test_it_is_read_while_it_is_written(outcomes: Path) -> None:
    with sqlite3.connect(outcomes, isolation_level=None) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM collect_grades")
        assert np.isfinite(RoutingTable.load(outcomes).quality).all()
        writer.execute("ROLLBACK")


def test_what_is_no_collection_is_named(outcomes: Path, tmp_path: Path) -> None:
    for option in ({"scale": 10.0}, {"clip": True}):
        with pytest.raises(SourceError, match="leave scale and clip out"):
            RoutingTable.load(outcomes, **option)
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE notes (text)")
    with pytest.raises(SourceError, match="is no collection of `jaxroute collect`"):
        RoutingTable.load(tmp_path / "other.db")
    broken = tmp_path / "broken.db"
    broken.write_bytes(outcomes.read_bytes()[:5000])
    with pytest.raises(SourceError, match="cannot be read"):
        RoutingTable.load(broken)
    with pytest.raises(SourceError, match="no such file"):
        RoutingTable.load(tmp_path / "none.db")
    empty = tmp_path / "empty.db"
    with sqlite3.connect(outcomes) as source, sqlite3.connect(empty) as copy:
        source.backup(copy)
        copy.execute("DELETE FROM collect_grades")
    with pytest.raises(SourceError, match="no graded answer yet"):
        RoutingTable.load(empty)
