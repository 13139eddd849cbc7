"""What all logs have in common: repeats, missing outcomes, scales, dollars."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxroute import RoutingTable, SourceError
from jaxroute.data.prices import Price
from jaxroute.data.reading import Problems
from jaxroute.data.sources.logs import Log, Record, gathered
from jaxroute.data.table_options import TableOptions

PRICES = {"a": Price(1.0, 2.0), "b": Price(10.0, 20.0)}


def record(model: str = "a", query: str = "q", score: float = 1.0, **more: Any) -> Record:
    return Record(model, query, more.pop("prompt", f"prompt of {query}"), score, more.pop("where", "line 1"), **more)


def table(*records: Record, prompts_identify: bool = False, **options: Any) -> RoutingTable:
    log = Log(records, ["from a test"], prompts_identify)
    return gathered(log, Problems(Path("log"), "a log"), TableOptions(**({"paid": False} | options)), "log")


def refusal(*records: Record, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        table(*records, **options)
    return str(caught.value)


def test_repeats_are_averaged_and_counted_and_failures_are_missing():
    found = table(
        record(score=1.0),
        record(score=0.0),
        record(score=np.nan, missing="TimeoutError"),
        record("b", score=np.nan, missing="TimeoutError"),
    )
    np.testing.assert_array_equal(found.quality, [[0.5, np.nan]])
    assert found.note == "from a test; 2 repeated outcomes were averaged; 2 of 4 outcomes are missing: TimeoutError (2)"


def test_other_prompts_are_other_queries_where_prompts_identify_them():
    records = record(prompt="one"), record("b", prompt="two")
    joined, apart = table(*records), table(*records, prompts_identify=True)
    assert joined.prompts == ["one"] and "different prompts for 1 query" in joined.note
    assert apart.prompts == ["one", "two"] and apart.query_ids == ["q", "q#2"]


def test_scores_on_another_scale_are_refused_until_it_is_given():
    records = [record(score=7.0, where="file, line 3"), record(query="r", score=10.0)]
    assert "file, line 3: the score 7 must lie in [0, 1] (2 such cells); scores on another scale need scale=10" in refusal(
        *records
    )
    found = table(*records, scale=10)
    assert found.quality.tolist() == [[0.7], [1.0]] and "quality is score / 10" in found.note


def test_a_few_scores_outside_are_cut_before_repeats_are_averaged():
    records = [record(score=-0.5), record(score=1.0), record(query="r", score=0.25)]
    assert "the score -0.5" in refusal(*records)
    found = table(*records, clip=True)
    assert found.quality.tolist() == [[0.5], [0.25]] and "1 score outside of [0, 1] was cut to it" in found.note
    assert "that is another scale" in refusal(record(score=70.0), record(query="r", score=80.0), clip=True)


def test_dollars_of_the_log_come_before_tokens_and_tokens_before_mean_prices():
    both = {"input_tokens": 1e6, "output_tokens": 1e6}
    found = table(record(cost_usd=2.5, **both), record("b", **both), paid=True, prices=PRICES)
    assert found.cost_usd.tolist() == [[2.5, 30.0]] and "tokens times prices" in found.note
    assert table(record(), record("b"), paid=True, prices=PRICES).cost_usd.tolist() == [[1.5, 15.0]]


def test_an_answer_whose_tokens_were_not_counted_costs_its_models_mean():
    found = table(record(input_tokens=1e6, output_tokens=0.0), record(query="r"), paid=True, prices=PRICES)
    assert found.cost_usd.tolist() == [[1.0], [1.0]] and "1 outcome without tokens or dollars" in found.note
    one_counts = [record(input_tokens=1.0, output_tokens=1.0), record("b")]
    assert "nothing says what answers of b cost" in refusal(*one_counts, paid=True, prices=PRICES)


def test_without_dollars_a_price_list_is_asked_for():
    assert "mean prices" in refusal(record(), paid=True)
    assert "tokens times prices" in refusal(record(input_tokens=1.0, output_tokens=1.0), paid=True)
    assert "no price for b" in refusal(record("b"), paid=True, prices={"a": Price(1, 1)})


def test_prices_that_contradict_dollars_by_powers_of_ten_are_refused():
    known = record(cost_usd=3.0, input_tokens=1e6, output_tokens=1e6)
    assert "contradict" in refusal(known, paid=True, prices={"a": Price(1e-6, 2e-6)})


def test_a_log_without_any_score_is_refused():
    assert "none of its 1 outcome has a score: it has no score (1)" in refusal(record(score=np.nan))
    assert "it holds no outcomes" in refusal()
    assert "the prompt is empty" in refusal(record(prompt=" "))
