"""RoutingTable: what it refuses, how it is cut, joined, stored and read back."""

from __future__ import annotations

import string
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jaxroute import JaxrouteError, RoutingTable, SourceError, TableError, join
from jaxroute.data.table import OPTIONAL, text_key

SUFFIXES = (".parquet", ".csv", ".jsonl")
steady = settings(derandomize=True, deadline=None, max_examples=30)

visible_text = st.text(min_size=1, max_size=12).filter(str.strip)
model_names = st.sampled_from(["small", "große", "a|b", "with, comma", 'say "hi"', "模型", "two\nlines", "x|response"])


def small_table(**changes) -> RoutingTable:
    """Three queries, two models, one cell never run."""
    parts = {
        "prompts": ["one", "two", "three"],
        "models": ["small", "large"],
        "quality": np.array([[1.0, 0.5], [0.0, 1.0], [np.nan, 0.25]]),
        "cost_usd": np.array([[0.1, 1.0], [0.2, 2.0], [np.nan, 3.0]]),
        "query_ids": ["q1", "q2", "q3"],
        "domains": ["law", "art", ""],
    }
    return RoutingTable(**(parts | changes))


@st.composite
def tables(draw: st.DrawFn) -> RoutingTable:
    """Any table that makes sense: unicode texts, missing runs, some optional columns."""
    models = draw(st.lists(model_names, min_size=1, max_size=3, unique=True))
    prompts = draw(st.lists(visible_text, min_size=1, max_size=4))
    shape = (len(prompts), len(models))

    def cells(values: st.SearchStrategy) -> np.ndarray:
        size = len(prompts) * len(models)
        return np.array(draw(st.lists(values, min_size=size, max_size=size))).reshape(shape)

    optional = {}
    for name in draw(st.lists(st.sampled_from(OPTIONAL), unique=True)):
        if name == "response":
            optional[name] = cells(st.text(max_size=8)).astype(object)
        else:
            lowest = -1e6 if name == "log_likelihood" else 0.0
            optional[name] = cells(st.just(float("nan")) | st.floats(lowest, 1e6))
    return RoutingTable(
        prompts=prompts,
        models=models,
        quality=cells(st.just(float("nan")) | st.floats(0, 1)),
        cost_usd=cells(st.floats(0, 1e3)),
        query_ids=draw(st.lists(visible_text, min_size=len(prompts), max_size=len(prompts), unique=True)),
        domains=draw(st.lists(st.text(max_size=6), min_size=len(prompts), max_size=len(prompts))),
        **optional,
    )


def assert_same(left: RoutingTable, right: RoutingTable) -> None:
    for part in fields(RoutingTable):
        one, other = getattr(left, part.name), getattr(right, part.name)
        if part.name == "name":
            continue
        if isinstance(one, np.ndarray) and one.dtype != object:
            np.testing.assert_array_equal(one, other, err_msg=part.name)
        elif isinstance(one, np.ndarray):
            assert one.tolist() == other.tolist(), part.name
        else:
            assert one == other, part.name


# --- what a table refuses ---


def test_everything_misshapen_is_reported_in_one_message():
    """Names that repeat, lists that are too short and arrays of another shape are all named at once."""
    with pytest.raises(TableError) as caught:
        small_table(
            models=["small", "small"],
            query_ids=["q1", "q2", "q2"],
            domains=["law"],
            quality=np.zeros((2, 2)),
            output_tokens=np.ones((3, 5)),
        )
    message = str(caught.value)
    for named in ("small appear twice", "q2 appear twice", "domains has 1", "quality has shape (2, 2)", "(3, 5)"):
        assert named in message


def test_a_quality_outside_its_range_and_a_negative_cost_are_reported_together():
    """Both cells are named by model, query and value, with how many there are."""
    with pytest.raises(TableError) as caught:
        small_table(
            quality=np.array([[1.0, 1.5], [0.0, -0.5], [0.0, 1.0]]),
            cost_usd=np.array([[1.0, 1.0], [1.0, 1.0], [-3.0, 1.0]]),
        )
    message = str(caught.value)
    assert "quality of 'large' on query 'q1' is 1.5" in message and "2 such cells" in message
    assert "cost_usd of 'small' on query 'q3' is -3.0" in message and "(1 such cell)" in message


def test_a_repeated_model_does_not_hide_a_wrong_quality():
    """Both problems stand in the same message, since a person mends a file once."""
    with pytest.raises(TableError) as caught:
        small_table(models=["small", "small"], quality=np.full((3, 2), 2.0))
    assert "small appear twice" in str(caught.value)
    assert "quality" in str(caught.value)


@pytest.mark.parametrize("cost", [-1e-9, np.inf, np.nan])
def test_a_model_that_was_run_has_a_finite_cost(cost: float):
    """NaN is no cost of an answer that was given, and neither is a negative or endless one."""
    with pytest.raises(TableError, match="cost_usd of 'large' on query 'q1'"):
        small_table(cost_usd=np.array([[0.1, cost], [0.2, 2.0], [0.3, 3.0]]))


def test_a_model_that_was_not_run_needs_no_cost():
    table = small_table()
    assert np.isnan(table.quality[2, 0]) and np.isnan(table.cost_usd[2, 0])


def test_one_cost_per_model_is_spread_over_the_queries():
    """The rows are copies: a change to one is none to the others."""
    table = small_table(cost_usd=np.array([0.2, 20.0]))
    np.testing.assert_array_equal(table.cost_usd, [[0.2, 20.0]] * 3)
    table.cost_usd[0, 0] = 9.0
    assert table.cost_usd[1, 0] == 0.2


def test_a_cost_per_query_is_not_mistaken_for_one_per_model():
    with pytest.raises(TableError, match=r"cost_usd has shape \(3,\)"):
        small_table(cost_usd=np.array([0.1, 0.2, 0.3]))


def test_queries_without_ids_are_numbered_and_have_no_domain():
    table = small_table(query_ids=[], domains=[])
    assert table.query_ids == ["0", "1", "2"]
    assert table.domains == ["", "", ""]


def test_every_error_of_a_table_can_be_caught_as_one_kind():
    """A caller who catches JaxrouteError, or plain ValueError, misses none."""
    assert issubclass(TableError, JaxrouteError) and issubclass(SourceError, JaxrouteError)
    assert issubclass(JaxrouteError, ValueError)


# --- cutting ---


def test_complete_keeps_the_queries_that_every_model_was_run_on():
    """What was dropped is counted."""
    kept, dropped = small_table().complete()
    assert kept.query_ids == ["q1", "q2"]
    assert dropped == 1
    assert not np.isnan(kept.quality).any()


@steady
@given(table=tables(), data=st.data())
def test_select_permutes_every_part_alike(table: RoutingTable, data: st.DataObject):
    """Wherever a query and a model land, their cells are the ones they had."""
    rows = data.draw(st.lists(st.integers(0, len(table) - 1), unique=True))
    models = data.draw(st.lists(st.sampled_from(table.models), min_size=1, unique=True))
    chosen = table.select(rows, models)
    assert chosen.models == models
    assert [chosen.prompts, chosen.query_ids, chosen.domains] == [
        [whole[row] for row in rows] for whole in (table.prompts, table.query_ids, table.domains)
    ]
    for name in ("quality", "cost_usd", *OPTIONAL):
        whole, part = getattr(table, name), getattr(chosen, name)
        assert (whole is None) == (part is None)
        if whole is not None:
            expected = [[whole[row, table.models.index(model)] for model in models] for row in rows]
            np.testing.assert_array_equal(part, np.array(expected, dtype=part.dtype).reshape(part.shape))


def test_a_mask_selects_what_its_positions_select():
    assert_same(small_table().select([True, False, True]), small_table().select([0, 2]))


def test_select_without_arguments_is_the_table_itself():
    assert_same(small_table().select(), small_table())


def test_an_unknown_model_is_named_beside_the_known_ones():
    with pytest.raises(TableError) as caught:
        small_table().select(models=["large", "huge", "tiny"])
    for name in ("huge", "tiny", "small", "large"):
        assert name in str(caught.value)


@steady
@given(
    domains=st.lists(st.sampled_from(["law", "art", "biology", ""]), min_size=1, max_size=40),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32 - 1),
)
def test_a_split_takes_its_share_of_every_domain(domains: list[str], fraction: float, seed: int):
    """The parts are disjoint, whole and in order; each domain's share is met to within one query."""
    count = len(domains)
    table = RoutingTable(
        prompts=[f"prompt {row}" for row in range(count)],
        models=["only"],
        quality=np.arange(count)[:, None] / count,
        cost_usd=np.ones(1),
        domains=domains,
    )
    first, second = table.split(fraction, seed=seed)
    rows = [[int(name) for name in part.query_ids] for part in (first, second)]
    assert sorted(rows[0] + rows[1]) == list(range(count))
    assert all(part == sorted(part) for part in rows)
    for domain in set(domains):
        assert abs(first.domains.count(domain) - fraction * domains.count(domain)) <= 1
    np.testing.assert_array_equal(first.quality[:, 0], np.array(rows[0]) / count)
    assert_same(first, table.split(fraction, seed=seed)[0])


def test_another_seed_splits_otherwise():
    table = RoutingTable([str(row) for row in range(100)], ["only"], np.zeros((100, 1)), np.ones(1))
    assert table.split(0.5, seed=0)[0].query_ids != table.split(0.5, seed=1)[0].query_ids


def test_many_small_domains_add_up_to_the_share():
    """Were every domain of one rounded down, a fifth of 200 such domains would be nothing."""
    names = [f"domain {row}" for row in range(200)]
    table = RoutingTable(names, ["only"], np.zeros((200, 1)), np.ones(1), domains=names)
    assert 20 <= len(table.split(0.2, seed=3)[0]) <= 60


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 20, float("nan")])
def test_a_share_is_more_than_nothing_and_less_than_all(fraction: float):
    with pytest.raises(TableError, match="fraction="):
        small_table().split(fraction, seed=0)


# --- joining ---


def outcomes(prompts: list[str], model: str, quality: list[float], **parts) -> RoutingTable:
    return RoutingTable(prompts, [model], np.array(quality)[:, None], np.ones(1), name=f"about {model}", **parts)


def test_a_join_finds_the_same_question_in_other_clothes():
    """Case, white space and a trailing `Answer:` do not tell questions apart; prompts are the left table's."""
    left = outcomes(["What is  law?\nA. x", "only left"], "small", [1.0, 0.0], domains=["", "art"])
    right = outcomes(["only right", "what is law? A. X\nAnswer:"], "large", [0.25, 0.5], domains=["", "law"])
    joined = join(left, right)
    assert joined.table.prompts == ["What is  law?\nA. x"]
    assert joined.table.models == ["small", "large"]
    assert joined.table.quality.tolist() == [[1.0, 0.5]]
    assert joined.table.domains == ["law"]
    assert (joined.matched, joined.unmatched, joined.repeated, joined.conflicting) == (1, 1, 0, 0)


def test_repeats_are_merged_and_conflicts_dropped():
    """A question that appears twice alike counts once; one that appears twice otherwise, on either side, is nobody's truth."""
    left = outcomes(["same", "same", "same", "torn", "torn", "clear"], "small", [1, 1, 1, 0, 1, 0], query_ids=[*"abcdef"])
    right = outcomes(["torn", "same", "clear", "clear"], "large", [1, 0, 1, 0])
    joined = join(left, right)
    assert joined.table.prompts == ["same"]
    assert joined.table.query_ids == ["a"]
    assert (joined.matched, joined.repeated, joined.conflicting, joined.unmatched) == (1, 2, 2, 0)


def test_a_repeat_that_was_run_nowhere_agrees_with_itself():
    """NaN is the same outcome as NaN, and another one than 0."""
    right = outcomes(["both", "torn"], "large", [1.0, 1.0])
    left = outcomes(["both", "both", "torn", "torn"], "small", [np.nan, np.nan, np.nan, 0.0])
    joined = join(left, right)
    assert joined.table.prompts == ["both"]
    assert joined.conflicting == 1


@steady
@given(
    left=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0])), min_size=1, max_size=8),
    right=st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([0.0, 1.0])), min_size=1, max_size=8),
)
@example(left=[("a", 1.0)], right=[("A", 0.0)])
def test_a_join_gives_the_same_outcomes_from_either_side(left: list[tuple[str, float]], right: list[tuple[str, float]]):
    """Every question keeps each model's outcome, whichever table stands on the left."""
    one = outcomes([text for text, _ in left], "small", [grade for _, grade in left])
    other = outcomes([text for text, _ in right], "large", [grade for _, grade in right])
    if not {text_key(text) for text in one.prompts} & {text_key(text) for text in other.prompts}:
        with pytest.raises(TableError, match="share no prompt"):
            join(one, other)
        return

    def known(table: RoutingTable) -> dict[str, tuple[float, ...]]:
        ordered = table.select(models=["small", "large"])
        return dict(zip(map(text_key, ordered.prompts), map(tuple, ordered.quality.tolist()), strict=True))

    forth, back = join(one, other), join(other, one)
    assert known(forth.table) == known(back.table)
    assert (forth.matched, forth.conflicting) == (back.matched, back.conflicting)
    for text, (small, large) in known(forth.table).items():
        assert {small} == {grade for name, grade in left if text_key(name) == text}
        assert {large} == {grade for name, grade in right if text_key(name) == text}


def test_tables_with_a_model_in_common_are_not_joined():
    with pytest.raises(TableError, match="large"):
        join(small_table(), small_table(models=["large", "other"]))


def test_optional_columns_survive_a_join_where_both_tables_have_them():
    """Half of a column would be a guess, so it is left out."""
    left = outcomes(["same"], "small", [1.0], output_tokens=np.array([[7.0]]), latency_seconds=np.array([[1.0]]))
    right = outcomes(["same"], "large", [0.0], output_tokens=np.array([[9.0]]))
    table = join(left, right).table
    assert table.output_tokens is not None and table.output_tokens.tolist() == [[7.0, 9.0]]
    assert table.latency_seconds is None


@given(text=st.text(alphabet=string.printable, max_size=20))
@steady
def test_the_key_of_a_text_is_its_own_key(text: str):
    """Making texts comparable twice changes nothing but a second `Answer:`."""
    key = text_key(text)
    assert text_key(f" {key.upper()}\n") == key.removesuffix("answer:")


# --- storing ---


@pytest.mark.parametrize("suffix", SUFFIXES)
@steady
@given(table=tables())
def test_a_table_is_read_as_it_was_saved(tmp_path_factory: pytest.TempPathFactory, suffix: str, table: RoutingTable):
    """Every cell comes back: every digit of a float, missing runs as NaN, texts of any script."""
    path = tmp_path_factory.mktemp("saved") / f"table{suffix}"
    table.save(path)
    assert_same(RoutingTable.load(path), table)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    "prompt",
    [
        *("None", "NaN", "1.50", " led and trailed ", 'a "quote", a comma', "ß🙂"),
        *("a\nb", "a\rb", "a\r\nb", "a\u2028b", "a\0b"),
        pytest.param("word " * 40_000, id="200 thousand characters"),
    ],
)
def test_an_awkward_prompt_is_read_as_it_was_saved(tmp_path: Path, suffix: str, prompt: str):
    """A prompt is text and nothing else: no number, no missing cell, no line, at any length."""
    table = small_table(prompts=[prompt, "two", "three"], domains=["nan", "None", ""])
    table.save(tmp_path / f"table{suffix}")
    loaded = RoutingTable.load(tmp_path / f"table{suffix}")
    assert loaded.prompts == table.prompts
    assert_same(loaded, table)


def test_a_table_is_only_written_in_a_format_that_is_read(tmp_path: Path):
    with pytest.raises(TableError, match=r"\.parquet, \.csv or \.jsonl"):
        small_table().save(tmp_path / "table.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_a_file_survives_a_failed_overwrite(tmp_path: Path, suffix: str):
    """Half a surrogate pair cannot be stored; what stood there before still does, and nothing else."""
    path = tmp_path / f"table{suffix}"
    small_table().save(path)
    with pytest.raises(UnicodeError):
        small_table(domains=["one", "two", "\ud800"]).save(path)
    assert_same(RoutingTable.load(path), small_table())
    assert list(tmp_path.iterdir()) == [path]


def test_half_a_surrogate_pair_is_no_prompt():
    with pytest.raises(TableError, match=r"prompts\[2\] holds half of a surrogate pair"):
        small_table(prompts=["one", "two", "\ud800"])


def test_a_printed_table_counts_the_runs_of_each_model():
    """A model that was never run shows as such and disturbs nobody."""
    shown = str(small_table(quality=np.array([[np.nan, 0.5], [np.nan, 1.0], [np.nan, 0.0]]), name="tale"))
    small, large = shown.splitlines()[-2:]
    assert shown.startswith("tale: 3 queries, 2 models")
    assert small.split()[:3] == ["small", "0", "nan"]
    assert large.split()[:3] == ["large", "3", "0.500"]
