"""What the reference model fails is kept, with a random part of the rest, and everything is counted."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jaxroute.collect.preparation.filtering import filter_rows, join_with_table, read_with_quality
from jaxroute.data.table import RoutingTable
from jaxroute.errors import CollectError

ROWS = [{"prompt": f"question {number}"} for number in range(1000)]
QUALITY = np.where(np.arange(1000) < 300, 0.0, 1.0)


def test_all_failures_and_a_share_of_the_others_are_kept_in_order():
    kept = filter_rows(ROWS, QUALITY, share=0.1)
    assert (kept.failed, kept.drawn, kept.others, kept.missing) == (300, 70, 700, 0)
    assert [row["kept"] for row in kept.rows] == ["failed"] * 300 + ["drawn"] * 70
    numbers = [int(str(row["prompt"]).split()[1]) for row in kept.rows]
    assert numbers == sorted(numbers) and numbers[:300] == list(range(300)) and max(numbers) > 900
    assert "kept 370 of 1,000 questions: 300 that the reference model fails, and 70 of the 700 others" in str(kept)
    assert ROWS[0] == {"prompt": "question 0"}


def test_the_draw_is_that_of_the_seed():
    first, again, other = (filter_rows(ROWS, QUALITY, count=50, seed=seed) for seed in (1, 1, 2))
    assert first == again and first.rows != other.rows and first.drawn == other.drawn == 50


def test_by_default_it_is_routoos_share():
    quality = np.concatenate([np.zeros(45_645), np.ones(101_434 - 45_645)])
    kept = filter_rows([{}] * 101_434, quality)
    assert (kept.failed, kept.drawn) == (45_645, 10_000)


def test_graded_quality_fails_below_the_threshold_and_unknown_quality_is_left_out():
    kept = filter_rows(ROWS[:5], [0.0, 0.5, 0.75, 1.0, np.nan], threshold=0.75, share=0.0)
    assert [row["prompt"] for row in kept.rows] == ["question 0", "question 1"]
    assert kept.missing == 1 and "1 left out" in str(kept)
    everything = filter_rows(ROWS[:5], [0.0, 0.5, 0.75, 1.0, np.nan], threshold=0.75, share=1.0)
    assert len(everything.rows) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": 0.0}, "threshold=0.0 must be above 0"),
        ({"threshold": float("nan")}, "threshold=nan must be"),
        ({"share": 1.5}, "share=1.5 must be from 0 to 1"),
        ({"share": 0.5, "count": 3}, "exclude each other"),
        ({"count": 701}, "count=701 is more than the 700 questions"),
        ({"count": -1}, "count=-1 must be"),
        ({"seed": -1}, "seed=-1 must be"),
    ],
)
def test_wrong_options_are_named(options: dict, said: str):
    with pytest.raises(CollectError, match=said):
        filter_rows(ROWS, QUALITY, **options)


def test_a_column_of_a_file_may_hold_the_quality(tmp_path: Path):
    path = tmp_path / "questions.jsonl"
    cells = [1, 0.5, True, None, "0.25", ""]
    path.write_text("".join(json.dumps({"prompt": f"p{number}", "q": cell}) + "\n" for number, cell in enumerate(cells)))
    rows, quality = read_with_quality(path, "q")
    np.testing.assert_array_equal(quality, [1, 0.5, 1, np.nan, 0.25, np.nan])
    assert rows[0] == {"prompt": "p0", "q": 1}
    with pytest.raises(CollectError, match=r"has no column 'x'; it has prompt, q"):
        read_with_quality(path, "x")
    path.write_text('{"prompt": "a", "q": 0.5}\n{"prompt": "b", "q": 90}\n{"prompt": "c", "q": "good"}\n')
    with pytest.raises(
        CollectError, match=r"must hold qualities from 0 to 1.*in 2 rows it does not: line 2: 90, line 3: 'good'"
    ):
        read_with_quality(path, "q")


def test_a_table_is_joined_by_id_or_by_text(tmp_path: Path):
    table = RoutingTable(["a", "b", "c"], ["m", "n"], np.array([[0, 1], [1, 0], [np.nan, 1]]), np.ones(2), ["x", "y", "z"])
    rows, quality = join_with_table(table, "m", None)
    assert rows[0] == {"query_id": "x", "prompt": "a"} and quality[0] == 0 and np.isnan(quality[2])
    path = tmp_path / "questions.jsonl"
    path.write_text('{"id": "y", "prompt": "B!", "reference": 5}\n{"prompt": "a"}\n{"id": "w", "prompt": "c"}\n')
    rows, quality = join_with_table(table, "m", path)
    assert rows[0]["reference"] == 5
    np.testing.assert_array_equal(quality, [1, 0, np.nan])
    with pytest.raises(CollectError, match="reference_model='k' is none of the table's models: m, n"):
        join_with_table(table, "k", None)
    path.write_text('{"id": "y", "prompt": "a"}\n{"id": "x", "prompt": "other words"}\n')
    with pytest.raises(CollectError, match=r"in 1 row the id is that of another prompt of the table: line 1: 'y' is 'x'"):
        join_with_table(table, "m", path)
    path.write_text('{"id": 7, "prompt": "B!"}\n')
    with pytest.raises(CollectError, match=r"none of its rows is in the table; its ids are like '7', the table's like 'x'"):
        join_with_table(table, "m", path)
