"""Outcomes that are not as the schema says: other scales, scores just outside, repeats, tokens in place of dollars."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError, TableError, load_source
from jaxroute.data.prices import FLAT_COST_NOTE, Price

PRICES = {"small": Price(0.2, 0.6), "large": Price(10.0, 30.0)}
MISTAKEN = {name: Price(price.input * 1e-6, price.output * 1e-6) for name, price in PRICES.items()}


def long(folder: Path, *rows: tuple, columns: str = "prompt,model,quality,cost_usd") -> Path:
    file = folder / "mine.csv"
    file.write_text("\n".join([columns, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return file


def wide(folder: Path, small: list[Any], large: list[Any], **columns: list[Any]) -> Path:
    """Scores of two models, as JSON lines; costs are 0.0001 and 0.002 dollars unless they are given."""
    columns = {"small|cost_usd": [0.0001] * len(small), "large|cost_usd": [0.002] * len(small)} | columns
    file = folder / "mine.jsonl"
    rows = [
        {"prompt": f"q{row}", "small|quality": small[row], "large|quality": large[row]}
        | {name: values[row] for name, values in columns.items() if values}
        for row in range(len(small))
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def refusal(file: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        load_source("table", file, **options)
    return str(caught.value)


# --- scales ---


@pytest.mark.parametrize("scale", [10, 100.0])
def test_scores_of_another_scale_are_divided(tmp_path: Path, scale: float):
    table = load_source("table", wide(tmp_path, [0, scale / 4], [scale, None]), scale=scale)
    np.testing.assert_array_equal(table.quality, [[0.0, 1.0], [0.25, np.nan]])
    assert f"quality is score / {scale:g}; the highest score is {scale:g}" in table.note


def test_a_score_above_the_scale_is_named_as_the_file_has_it(tmp_path: Path):
    assert "line 2, column 'large|quality': 11.0 must be at most 10.0" in refusal(wide(tmp_path, [1, 2], [3, 11]), scale=10)


@pytest.mark.parametrize("rows", [([0.5, 0.7], [-0.033, 1.0])])
def test_scores_just_outside_are_refused_with_their_count_and_cut_where_asked(tmp_path: Path, rows: tuple):
    """RouterArena has a score of -0.033."""
    file = wide(tmp_path, *rows)
    message = refusal(file)
    assert "line 1, column 'large|quality': -0.033 must be at least 0.0 (1 such cell)" in message and "clip=True" in message
    table = load_source("table", file, clip=True)
    assert table.quality.tolist() == [[0.5, 0.0], [0.7, 1.0]]
    assert "1 scores outside of [0, 1] were cut to it" in table.note


def test_another_scale_is_not_clipped_away(tmp_path: Path):
    """Cut to [0, 1], all of these scores would be 1."""
    message = refusal(wide(tmp_path, [7, 8], [9, 10]), clip=True)
    assert "4 of 4 scores lie outside of [0, 1]" in message and "scale=10" in message
    assert load_source("table", wide(tmp_path, [7, 8], [9, 11]), clip=True, scale=10).quality[1, 1] == 1.0


# --- repeats ---


def test_repeated_outcomes_are_refused_with_their_places_or_averaged(tmp_path: Path):
    file = long(tmp_path, ("sum", "small", 1, 0.1), ("sum", "large", 1, 2), ("sum", "small", 0, 0.3), ("sum", "small", "", ""))
    message = refusal(file)
    assert "line 4: model 'small' on the query 'sum' is also in line 2 (2 such rows, in line 4, line 5)" in message
    assert "repeats=mean" in message
    table = load_source("table", file, repeats="mean")
    assert (table.quality.tolist(), table.prompts) == ([[0.5, 1.0]], ["sum"])
    np.testing.assert_allclose(table.cost_usd, [[0.2, 2.0]])
    assert "2 repeated rows were averaged" in table.note


def test_repeated_rows_of_a_wide_file_are_averaged_where_asked(tmp_path: Path):
    """By id where there is one; without ids, equal prompts are queries of their own until one asks for their mean."""
    ids = wide(tmp_path, [1, 0, 1], [1, 1, 0], query_id=["a", "b", "a"])
    ids.write_text(ids.read_text().replace('"q2"', '"q0"'))
    assert "line 3: the query 'a' is also in line 1" in refusal(ids)
    assert load_source("table", ids, repeats="mean").quality.tolist() == [[1.0, 0.5], [0.0, 1.0]]
    plain = wide(tmp_path, [1, 0, 1], [1, 1, 0])
    plain.write_text(plain.read_text().replace('"q2"', '"q0"'))
    assert len(load_source("table", plain)) == 3
    assert load_source("table", plain, repeats="mean").quality.tolist() == [[1.0, 0.5], [0.0, 1.0]]


def test_a_query_keeps_one_prompt(tmp_path: Path):
    """Averages of two different questions would be nobody's."""
    file = long(tmp_path, (1, "one", "a", 1, 1), (1, "two", "a", 1, 1), columns="query_id,prompt,model,quality,cost_usd")
    assert "line 3: query_id '1' has another prompt than in line 2" in refusal(file, repeats="mean")


def test_a_long_response_survives_averaging(tmp_path: Path):
    """The first that is not empty."""
    file = long(
        tmp_path,
        ("q", "a", 1, 1, ""),
        ("q", "a", 0, 1, "yes"),
        ("q", "a", 0, 1, "no"),
        columns="prompt,model,quality,cost_usd,response",
    )
    table = load_source("table", file, repeats="mean")
    assert table.response is not None and table.response.tolist() == [["yes"]]


# --- dollars from tokens ---


def tokens(folder: Path, **columns: list[Any]) -> Path:
    counts = {"small|input_tokens": [1000, 10], "small|output_tokens": [500, 20], "large|input_tokens": [1000, 10]}
    counts |= {"large|output_tokens": [100, 40], "small|cost_usd": [], "large|cost_usd": []}
    return wide(folder, [1, 0], [1, 1], **(counts | columns))


def test_dollars_are_tokens_times_prices_where_a_table_has_none(tmp_path: Path):
    table = load_source("table", tokens(tmp_path), prices=PRICES)
    np.testing.assert_allclose(table.cost_usd, [[0.0005, 0.013], [1.4e-5, 1.3e-3]], rtol=1e-12)
    assert "costs are tokens times prices" in table.note


def test_a_long_file_takes_prices_from_a_file(tmp_path: Path):
    prices = tmp_path / "prices.json"
    prices.write_text('{"small": {"input": 0.2, "output": 0.6}, "large": {"input": 10, "output": 30}, "other": null}')
    file = tmp_path / "mine.jsonl"
    rows = [
        {"prompt": "q", "model": model, "quality": 1, "input_tokens": 10, "output_tokens": 40} for model in ("small", "large")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for given in (prices, str(prices), PRICES):
        np.testing.assert_allclose(load_source("table", file, prices=given).cost_usd, [[2.6e-5, 1.3e-3]], rtol=1e-12)
    assert "missing columns: cost_usd" in refusal(file) and "--prices" in refusal(file)


def test_known_dollars_stay_and_gaps_are_filled(tmp_path: Path):
    table = load_source(
        "table", tokens(tmp_path, **{"small|cost_usd": [0.0007, None], "large|cost_usd": [0.013, 0.0013]}), prices=PRICES
    )
    np.testing.assert_allclose(table.cost_usd, [[0.0007, 0.013], [1.4e-5, 1.3e-3]], rtol=1e-12)


def test_without_tokens_either_a_query_costs_the_mean_price(tmp_path: Path):
    """As for every source that counts no tokens, and the note says so."""
    table = load_source("table", wide(tmp_path, [1], [0], **{"small|cost_usd": [], "large|cost_usd": []}), prices=PRICES)
    assert table.cost_usd.tolist() == [[0.4, 20.0]]
    assert table.note == FLAT_COST_NOTE


def test_a_run_whose_tokens_are_not_known_has_no_cost(tmp_path: Path):
    message = refusal(tokens(tmp_path, **{"large|output_tokens": [100, None]}), prices=PRICES)
    assert "line 2, column 'large|output_tokens' is empty where the model was run (1 such cell)" in message


def test_a_model_without_a_price_is_named(tmp_path: Path):
    """It is the list that lacks something, not the table."""
    with pytest.raises(TableError, match="no price for large"):
        load_source("table", tokens(tmp_path), prices={"small": PRICES["small"]})


def test_prices_per_token_contradict_the_dollars_of_the_table(tmp_path: Path):
    """With tokens the factor is known; without, no query has as many tokens as they would need."""
    costs = {"small|cost_usd": [0.0005, 1.4e-5], "large|cost_usd": [0.013, 0.0013]}
    message = refusal(tokens(tmp_path, **costs), prices=MISTAKEN)
    assert "contradict the known dollars of 'large'" in message and "dollars per token: give dollars per million" in message
    message = refusal(wide(tmp_path, [1, 0], [1, 1]), prices=MISTAKEN)
    assert "a query that cost 0.002 dollars would have had 1e+08 tokens" in message and "dollars per token" in message
    for file in (tokens(tmp_path, **costs), wide(tmp_path, [1, 0], [1, 1])):
        assert isinstance(load_source("table", file, prices=PRICES), RoutingTable)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"scale": 0}, "scale=0 must be a number above 0"),
        ({"scale": float("nan")}, "scale=nan"),
        ({"scale": True}, "scale=True"),
        ({"clip": "yes"}, "clip='yes' must be True or False"),
        ({"repeats": "median"}, "repeats='median' must be one of refuse, mean"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: dict, said: str):
    with pytest.raises(TableError, match=said):
        load_source("table", tmp_path / "nowhere.csv", **options)
