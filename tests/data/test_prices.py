"""Price lists: dollars per million tokens in, dollars per query out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxroute import RoutingTable, TableError
from jaxroute.data.prices import (
    ROUTOO_TABLE_1,
    Price,
    check_against_dollars,
    flat_cost_usd,
    load_prices,
    price_entries,
    token_cost_usd,
)
from jaxroute.endpoints.price_lists import listed_price, read_price_list
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.errors import EndpointError
from jaxroute.predictor.pricing import DEFAULT_OUTPUT_TOKENS, Pricing, table_pricing

PRICES = {"small": Price(input=2.0, output=6.0), "large": Price(input=10.0, output=30.0)}
amounts = st.floats(0, 1e6, allow_nan=False)


def refusal(path: Path) -> str:
    with pytest.raises(TableError) as caught:
        load_prices(path)
    return str(caught.value)


# --- from tokens to dollars ---


def test_a_query_costs_its_tokens_times_their_prices():
    """1,000 tokens at 2 dollars and 500 at 6 dollars per million are half a cent; worked by hand."""
    cost = token_cost_usd(PRICES, ["small", "large"], np.array([[1_000.0], [0.0]]), np.array([500.0, 100.0]))
    np.testing.assert_allclose(cost, [[0.005, 0.013], [0.003, 0.003]], rtol=1e-12)


def test_a_million_tokens_each_way_cost_both_prices():
    cost = token_cost_usd(PRICES, ["large"], np.array([[1e6]]), np.array([[1e6]]))
    assert cost.tolist() == [[40.0]]


def test_without_token_counts_a_query_costs_the_mean_price():
    assert flat_cost_usd(PRICES, ["large", "small"]).tolist() == [20.0, 4.0]


def test_the_published_prices_are_routoos():
    """Seven small models at 0.2, Mixtral at 0.6 and GPT-4 Turbo at 20 dollars."""
    assert sorted(price.mean for price in ROUTOO_TABLE_1.values()) == [0.2] * 7 + [0.6, 20.0]
    assert flat_cost_usd(ROUTOO_TABLE_1, ["gpt-4-1106-preview"]).tolist() == [20.0]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(input_price=amounts, output_price=amounts, tokens=st.tuples(amounts, amounts), times=st.integers(1, 9))
def test_more_tokens_cost_in_proportion(input_price: float, output_price: float, tokens: tuple[float, float], times: int):
    prices = {"only": Price(input_price, output_price)}

    def cost(scale: int) -> float:
        shape = (np.array([[scale * tokens[0]]]), np.array([[scale * tokens[1]]]))
        return float(token_cost_usd(prices, ["only"], *shape)[0, 0])

    assert cost(times) == pytest.approx(times * cost(1), rel=1e-12, abs=1e-300)
    assert cost(times) >= cost(1) >= 0


def test_models_without_a_price_are_all_named():
    with pytest.raises(TableError) as caught:
        flat_cost_usd(PRICES, ["small", "huge", "tiny"])
    message = str(caught.value)
    assert "no price for huge, tiny" in message
    assert "small, large" in message


@pytest.mark.parametrize("wrong", [-0.01, float("nan"), float("inf")])
@pytest.mark.parametrize("side", ["input", "output"])
def test_a_price_is_a_number_of_dollars(side: str, wrong: float):
    with pytest.raises(TableError, match=rf"price\.{side}="):
        Price(**({"input": 1.0, "output": 1.0} | {side: wrong}))


# --- price lists in files ---


def test_a_price_list_is_read_as_it_was_written(tmp_path: Path):
    """Whole numbers, nought and names of any script are prices and names."""
    prices = PRICES | {"模型/frei": Price(0.0, 0.1 + 0.2)}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(price_entries(prices), ensure_ascii=False), encoding="utf-8")
    assert load_prices(file) == prices
    file.write_text('{"small": {"input": 0, "output": 3}}')
    assert load_prices(file) == {"small": Price(0.0, 3.0)}


def test_one_list_serves_models_yaml_and_training(tmp_path: Path):
    """Prices of cached input and of reasoning matter to who pays for calls, and do no harm where costs are expected ones."""
    file = tmp_path / "prices.json"
    file.write_text('{"small": {"input": 2, "output": 6, "cached_input": 0.5, "reasoning": 7}}')
    assert load_prices(file) == {"small": Price(2.0, 6.0)}
    assert listed_price(file, read_price_list(file), "small", None) == TokenPrice(2.0, 6.0, 0.5, 7.0)
    file.write_text('{"small": {"input": 2000000, "output": 6}}')
    with pytest.raises(TableError, match=r"small: price\.input=2000000.0 must be from 0 to 1,000,000"):
        load_prices(file)
    with pytest.raises(EndpointError, match=r"price\.input=2000000.0 must be from 0 to 1,000,000"):
        listed_price(file, read_price_list(file), "small", None)


def test_every_wrong_entry_is_reported_in_one_message(tmp_path: Path):
    """Six mistakes in six models; the good one is not mentioned."""
    entries = {
        "fine": {"input": 1, "output": 2},
        "half": {"input": 1},
        "more": {"input": 1, "output": 2, "cached": 0.5},
        "words": {"input": "1", "output": 2},
        "truth": {"input": True, "output": 2},
        "debt": {"input": -1, "output": 2},
        "bare": 0.2,
    }
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(entries))
    message = refusal(file)
    assert str(file) in message
    for model in entries.keys() - {"fine"}:
        assert f"{model}: " in message
    assert "fine" not in message


@pytest.mark.parametrize(
    "content",
    [b"", b"small: 2", b'{"small": {"input": 1', b"[]", b"{}", b'"small"', b"\xff\xfe", b'{"a": {"input": NaN, "output": 1}}'],
)
def test_what_is_no_price_list_is_refused(tmp_path: Path, content: bytes):
    file = tmp_path / "prices.json"
    file.write_bytes(content)
    assert str(file) in refusal(file)


def test_a_price_list_that_is_not_there_is_refused(tmp_path: Path):
    for path in (tmp_path / "nowhere.json", tmp_path):
        assert str(path) in refusal(path)


# --- what an answer is expected to cost ---


def test_without_prices_an_answer_costs_the_models_mean():
    """However long the prompt is; to say how long an answer will be makes no sense then."""
    pricing = Pricing(models=["small", "large"], mean_cost_usd=[0.25, 4.0], output_tokens=[9.0, 9.0])
    cost, words = pricing.expected_cost_usd(np.array([1, 1_000, 5]))
    with pytest.raises(TableError, match="output_tokens=77 needs prices"):
        pricing.expected_cost_usd(np.array([1]), output_tokens=77.0)
    assert cost.tolist() == [[0.25, 4.0]] * 3
    assert "mean over its training outcomes" in words


def test_with_prices_and_counts_an_answer_has_the_models_mean_length():
    pricing = Pricing(["small", "large"], [0.0, 0.0], prices=PRICES, output_tokens=[500.0, 100.0])
    cost, words = pricing.expected_cost_usd(np.array([1_000, 0]))
    np.testing.assert_allclose(cost, [[0.005, 0.013], [0.003, 0.003]], rtol=1e-12)
    assert "mean number of tokens in training" in words


def test_with_prices_alone_the_assumed_length_is_said():
    pricing = Pricing(["small", "large"], [0.0, 0.0], prices=PRICES)
    cost, words = pricing.expected_cost_usd(np.array([0]))
    np.testing.assert_allclose(cost, [[DEFAULT_OUTPUT_TOKENS * 6e-6, DEFAULT_OUTPUT_TOKENS * 30e-6]], rtol=1e-12)
    assert f"{DEFAULT_OUTPUT_TOKENS:g} tokens" in words and "output_tokens" in words


@pytest.mark.parametrize("counted", [None, [500.0, 100.0]])
def test_a_length_that_is_given_replaces_every_expectation(counted: list[float] | None):
    """Nought is a length too."""
    pricing = Pricing(["small", "large"], [0.0, 0.0], prices=PRICES, output_tokens=counted)
    cost, words = pricing.expected_cost_usd(np.array([1_000_000]), output_tokens=1_000_000)
    np.testing.assert_allclose(cost, [[8.0, 40.0]], rtol=1e-12)
    assert "1e+06 tokens" in words
    none, _ = pricing.expected_cost_usd(np.array([1_000_000]), output_tokens=0)
    np.testing.assert_allclose(none, [[2.0, 10.0]], rtol=1e-12)


@pytest.mark.parametrize("prices", [None, PRICES])
@pytest.mark.parametrize("counted", [None, [500.0, 100.0]])
def test_selected_models_keep_their_costs_in_the_new_order(prices: dict[str, Price] | None, counted: list[float] | None):
    pricing = Pricing(["small", "large"], [0.25, 4.0], prices=prices, output_tokens=counted)
    whole, words = pricing.expected_cost_usd(np.array([10, 20]))
    turned, same_words = pricing.select(["large", "small"]).expected_cost_usd(np.array([10, 20]))
    np.testing.assert_array_equal(turned, whole[:, ::-1])
    single, _ = pricing.select(["large"]).expected_cost_usd(np.array([10, 20]))
    np.testing.assert_array_equal(single, whole[:, 1:])
    assert words == same_words


def test_a_model_without_a_price_has_no_cost_and_the_others_keep_theirs():
    """A price list may name only the models that are asked."""
    cost, _ = Pricing(["huge", "small"], [0.0, 0.0], prices=PRICES).expected_cost_usd(np.array([10, 20]))
    alone, _ = Pricing(["small"], [0.0], prices=PRICES).expected_cost_usd(np.array([10, 20]))
    assert np.isnan(cost[:, 0]).all()
    np.testing.assert_array_equal(cost[:, 1:], alone)


# --- what a table of outcomes says about costs ---


def table(**parts) -> RoutingTable:
    return RoutingTable(
        prompts=["one", "two"],
        models=["small", "large"],
        quality=np.array([[1.0, 1.0], [np.nan, 0.0]]),
        cost_usd=np.array([[0.5, 1.0], [99.0, 3.0]]),
        **parts,
    )


def test_means_are_taken_over_the_runs_that_were_made():
    """A cost or a length that stands beside a missing run is nobody's."""
    pricing = table_pricing(table(output_tokens=np.array([[10.0, 20.0], [9999.0, 40.0]])), None)
    assert pricing.mean_cost_usd == [0.5, 2.0]
    assert pricing.output_tokens == [10.0, 30.0]
    assert pricing.prices is None


def test_lengths_that_are_not_known_of_every_model_are_left_out():
    """Half of the counts would price one model by its outcomes and the other by an assumption."""
    assert table_pricing(table(), None).output_tokens is None
    assert table_pricing(table(output_tokens=np.array([[np.nan, 20.0], [5.0, 40.0]])), None).output_tokens is None


def test_a_table_takes_its_models_from_a_longer_price_list():
    """And a shorter one is refused by the names it lacks."""
    pricing = table_pricing(table(), PRICES | {"huge": Price(1.0, 1.0)})
    assert pricing.prices == PRICES
    with pytest.raises(TableError, match="no price for large"):
        table_pricing(table(), {"small": PRICES["small"]})


# --- lists of other formats, and of any length ---


def foreign(kind: str, price: Price) -> dict:
    """A price as LiteLLM's and RouterArena's lists have it, with fields that do not matter."""
    if kind == "litellm":
        per_token = {"input_cost_per_token": price.input / 1e6, "output_cost_per_token": price.output / 1e6}
        return per_token | {"max_tokens": 4096, "mode": "chat", "cache_read_input_token_cost": 1e-6}
    return {"input_token_price_per_million": price.input, "output_token_price_per_million": price.output, "note": "list"}


@pytest.mark.parametrize("kind", ["litellm", "routerarena"])
def test_lists_of_other_formats_are_read(tmp_path: Path, kind: str):
    """Per token or per million, the same prices, to the last digit: 2e-07 dollars per token are 0.2 per million."""
    prices = PRICES | {"odd": Price(0.2, 0.6), "odder": Price(0.15, 0.075)}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({model: foreign(kind, price) for model, price in prices.items()}))
    assert load_prices(file) == prices


def test_only_the_models_at_hand_matter(tmp_path: Path):
    """A public list has thousands of entries, many without a price per token; they are nobody's mistake."""
    others = {f"embedding-{number}": {"input_cost_per_token": 1e-7, "mode": "embedding"} for number in range(4_878)}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(others | {"small": foreign("litellm", PRICES["small"]), "large": {"input": "free"}}))
    assert load_prices(file, ["small"]) == {"small": PRICES["small"]}
    with pytest.raises(TableError, match=r"large: .*'free'"):
        load_prices(file, ["small", "large"])
    with pytest.raises(TableError, match="no price for smal; near them are small"):
        load_prices(file, ["smal"])


def test_a_message_about_thousands_of_entries_is_short(tmp_path: Path):
    file = tmp_path / "prices.json"
    file.write_text(json.dumps({f"model-{number}": {"wrong": "x" * 500} for number in range(4_878)}))
    message = refusal(file)
    assert "model-0: " in message and "and 4,866 more" in message
    assert len(message) < 4_000
    with pytest.raises(TableError) as caught:
        flat_cost_usd({f"model-{number}": Price(1, 1) for number in range(4_878)}, [f"other-{number}" for number in range(900)])
    assert len(str(caught.value)) < 1_000


def test_the_published_list_of_routerarena_is_read(data: Path):
    prices = load_prices(data / "routerarena" / "cost.json", ["gpt-4", "gpt-4.1-mini"])
    assert prices["gpt-4"] == Price(10.0, 30.0) and prices["gpt-4.1-mini"].input == 0.4


# --- prices against known dollars ---


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1e-6, "look like dollars per token"), (1e-3, "dollars per thousand tokens"), (1e4, "too high by powers of ten")],
)
def test_prices_that_are_off_by_powers_of_ten_contradict_the_dollars(factor: float, said: str):
    tokens = np.array([1000.0, 800.0]), np.array([500.0, 300.0])
    cost = token_cost_usd(PRICES, PRICES, tokens[0][None], tokens[1][None])[0]
    wrong = {name: Price(price.input * factor, price.output * factor) for name, price in PRICES.items()}
    check_against_dollars(PRICES, list(PRICES), cost, *tokens)
    with pytest.raises(TableError, match=f"contradict the known dollars .*{said}.*give dollars per million tokens"):
        check_against_dollars(wrong, list(wrong), cost, *tokens)


@settings(derandomize=True, deadline=None, max_examples=50)
@given(tokens=st.floats(1, 5e6), factor=st.sampled_from([0.05, 1, 20]), counted=st.booleans())
def test_prices_that_are_right_never_contradict_the_dollars(tokens: float, factor: float, counted: bool):
    """Answers from one token to millions, a discount or hidden reasoning of a factor of 20."""
    counts = np.full(2, tokens), np.full(2, tokens)
    cost = factor * token_cost_usd(PRICES, PRICES, counts[0][None], counts[1][None])[0]
    if counted or 0.5 <= cost[0] / (PRICES["small"].mean / 1e6) <= 1e7:
        check_against_dollars(PRICES, list(PRICES), cost, *(counts if counted else ()))


def test_free_models_and_unknown_costs_contradict_nothing():
    free = {"small": Price(0, 0), "large": Price(10, 30)}
    check_against_dollars(free, ["small", "large"], np.array([0.5, np.nan]))
    check_against_dollars(PRICES, ["small", "large"], np.array([0.0, 0.002]))


def test_training_with_prices_per_token_is_refused():
    """The table's own dollars say so, before anything is fitted."""
    with pytest.raises(TableError, match="contradict the known dollars"):
        table_pricing(table(), {name: Price(price.input * 1e-6, price.output * 1e-6) for name, price in PRICES.items()})
