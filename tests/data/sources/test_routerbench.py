"""RouterBench's wide frame: the published parts, broken files, and pickles that are read without being trusted."""

from __future__ import annotations

import builtins
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from jaxroute import RoutingTable, SourceError, load_source

ELEVEN = 11


def wide_frame() -> pd.DataFrame:
    """Three rows of two models in the published layout, as texts and numbers in object columns; one cell never run."""
    columns = {
        "sample_id": ["arc.1", "arc.2", "mbpp.1"],
        "prompt": ["['Why is the sky blue?']", "[\"It's 'quoted'\"]", "plain text"],
        "eval_name": ["arc-challenge", "arc-challenge", "mbpp"],
        "small": [1.0, 0.0, np.nan],
        "large": [1.0, 0.25, 1.0],
        "small|model_response": ["['A']", "['B']", ""],
        "large|model_response": ["['A']", "['C']", "['def f(): ...']"],
        "small|total_cost": [1e-5, 2e-5, np.nan],
        "large|total_cost": [1e-3, 2e-3, 0.1 + 0.2],
        "oracle_model_to_route_to": ["small", "large", "large"],
    }
    return pd.DataFrame(columns, columns=pd.Index(list(columns), dtype=object), dtype=object)


def write(frame: pd.DataFrame, path: Path) -> Path:
    """Store the frame in the format of the path's suffix."""
    if path.suffix == ".csv":
        frame.to_csv(path)
    elif path.suffix == ".parquet":
        frame.astype({name: float for name in frame.columns if name in ("small", "large") or "cost" in name}).to_parquet(path)
    else:
        path.write_bytes(pickle.dumps(frame))
    return path


def refusal(path: Path) -> str:
    with pytest.raises(SourceError) as caught:
        load_source("routerbench", path)
    return str(caught.value)


def assert_same(one: RoutingTable, other: RoutingTable) -> None:
    assert (one.prompts, one.models, one.query_ids, one.domains) == (
        other.prompts,
        other.models,
        other.query_ids,
        other.domains,
    )
    np.testing.assert_array_equal(one.quality, other.quality)
    np.testing.assert_array_equal(one.cost_usd, other.cost_usd)
    assert one.response is not None and other.response is not None
    assert one.response.tolist() == other.response.tolist()


# --- the published bytes ---


@pytest.mark.parametrize(
    ("file", "count", "task"),
    [
        ("arc_challenge_test.csv", 445, "arc-challenge"),
        ("arc_challenge_train.csv", 1_039, "arc-challenge"),
        ("mbpp_test.csv", 128, "mbpp"),
        ("mbpp_train.csv", 299, "mbpp"),
    ],
)
def test_a_published_part_has_its_size(data: Path, file: str, count: int, task: str):
    """Eleven models, the task as domain, a positive cost and an answer wherever a model was run."""
    table = load_source("routerbench", data / "routerbench" / file)
    run = ~np.isnan(table.quality)
    assert (len(table), len(table.models)) == (count, ELEVEN)
    assert set(table.domains) == {task}
    assert (table.cost_usd[run] > 0).all()
    assert table.response is not None and all(table.response[run])
    assert len(set(table.query_ids)) == count


def test_a_model_that_was_not_run_is_nan_and_never_zero(data: Path):
    """ARC-Challenge has such cells, MBPP has none."""
    arc = load_source("routerbench", data / "routerbench" / "arc_challenge_train.csv")
    mbpp = load_source("routerbench", data / "routerbench" / "mbpp_train.csv")
    missing = np.isnan(arc.quality)
    assert 0 < missing.sum() < 0.05 * missing.size
    assert not np.isnan(mbpp.quality).any()
    kept, dropped = arc.complete()
    assert len(kept) + dropped == len(arc)
    assert dropped == missing.any(axis=1).sum()


def test_prompts_are_freed_from_the_list_they_are_stored_in(data: Path):
    table = load_source("routerbench", data / "routerbench" / "mbpp_test.csv")
    assert "Write a python function to identify non-prime numbers." in table.prompts
    assert not any(prompt.startswith("['") for prompt in table.prompts)


# --- the same frame in every format ---


@pytest.mark.parametrize("suffix", [".csv", ".pkl", ".parquet"])
def test_the_frame_is_the_same_table_in_every_format(tmp_path: Path, suffix: str):
    """An object frame, as old versions of pandas pickled it, loads equal to the CSV, digit by digit."""
    table = load_source("routerbench", write(wide_frame(), tmp_path / f"frame{suffix}"))
    assert table.models == ["small", "large"]
    assert table.prompts == ["Why is the sky blue?", "It's 'quoted'", "plain text"]
    assert table.cost_usd[2, 1] == 0.1 + 0.2
    assert np.isnan(table.quality[2, 0]) and np.isnan(table.cost_usd[2, 0])
    assert_same(table, load_source("routerbench", write(wide_frame(), tmp_path / "other.csv")))


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_filtered_frame_is_read_at_every_binary_protocol(tmp_path: Path, protocol: int):
    """Row labels that are no plain range, as after a filter, do not matter."""
    frame = wide_frame()
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(frame[frame["eval_name"] != "mbpp"].iloc[::-1], protocol=protocol))
    assert load_source("routerbench", path).query_ids == ["arc.2", "arc.1"]


def test_a_prompt_may_be_a_real_list_and_repeated_ids_are_numbered(tmp_path: Path):
    """Two texts of a list follow each other; one that is there twice is said once."""
    frame = wide_frame()
    frame["prompt"] = pd.Series([["first", "second"], ["same", "same"], "plain"], dtype=object)
    frame["sample_id"] = pd.Series(["same", "other", "same"], dtype=object)
    table = load_source("routerbench", write(frame, tmp_path / "frame.pkl"))
    assert table.prompts == ["first\n\nsecond", "same", "plain"]
    assert table.query_ids == ["same", "other", "same#2"]


def test_a_prompt_is_never_run_as_code(tmp_path: Path):
    """A list of texts is read as a literal; a list of calls is a text like any other."""
    sentinel = tmp_path / "it ran"
    frame = wide_frame()
    frame.loc[0, "prompt"] = code = f"[open({str(sentinel)!r}, 'w')]"
    assert load_source("routerbench", write(frame, tmp_path / "frame.csv")).prompts[0] == code
    assert not sentinel.exists()


def test_the_clusters_that_routerdc_adds_are_ignored(tmp_path: Path):
    """Its CSV parts have them as its JSON files do."""
    with_clusters = write(wide_frame().assign(cluster_id=[3, 0, 1]), tmp_path / "clusters.csv")
    assert_same(
        load_source("routerbench", with_clusters), load_source("routerbench", write(wide_frame(), tmp_path / "plain.csv"))
    )


def test_bytes_are_texts_and_other_cells_are_not(tmp_path: Path):
    """In Parquet a prompt, a task or an answer may be stored as UTF-8 bytes."""
    frame = wide_frame()
    texts = ["sample_id", "prompt", "eval_name", "small|model_response", "large|model_response"]
    for name in texts:
        frame[name] = frame[name].map(str.encode)
    assert_same(
        load_source("routerbench", write(frame, tmp_path / "bytes.parquet")),
        load_source("routerbench", write(wide_frame(), tmp_path / "plain.csv")),
    )
    for name in texts:
        wrong = wide_frame().assign(**{name: 2.5})
        assert f"row 0 (the first is 0), column '{name}'" in refusal(write(wrong, tmp_path / "wrong.pkl"))


# --- files that are wrong ---


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.drop(columns="prompt"), "missing columns: prompt"),
        (lambda frame: frame.drop(columns="small"), "missing columns: small"),
        (lambda frame: frame.drop(columns=["small|total_cost", "large|total_cost"]), "names no model"),
        (lambda frame: frame.assign(mood="gay"), "unknown columns: mood"),
        (lambda frame: frame.assign(small=1.5), "1.5 must be at most 1"),
        (lambda frame: frame.assign(small="perhaps"), "'perhaps' is not a number"),
        (lambda frame: frame.assign(**{"large|total_cost": -1.0}), "must be at least 0"),
        (
            lambda frame: frame.assign(**{"large|total_cost": ""}),
            "line 2, column 'large|total_cost' is empty, and 'large' was run: it has no cost (3 such cells)",
        ),
        (lambda frame: frame.assign(prompt="[]"), "line 2, column 'prompt' is empty"),
        (lambda frame: frame.assign(prompt="[1, 2]"), "line 2, column 'prompt' is not a list of texts: [1, 2]"),
        (lambda frame: frame.iloc[:0], "no rows"),
    ],
)
def test_a_wrong_frame_is_refused(tmp_path: Path, change: Callable, named: str):
    path = write(change(wide_frame()), tmp_path / "frame.csv")
    message = refusal(path)
    assert str(path) in message
    assert named in message


def test_several_problems_are_reported_in_one_message(tmp_path: Path):
    """Columns first, since cells cannot be judged without them; then every wrong cell."""
    message = refusal(write(wide_frame().drop(columns="sample_id").assign(mood="gay"), tmp_path / "frame.csv"))
    assert "missing columns: sample_id" in message and "unknown columns: mood" in message
    wrong = wide_frame().assign(small="perhaps", large=7, eval_name="", **{"large|total_cost": ""})
    message = refusal(write(wrong, tmp_path / "frame.csv"))
    for named in ("'perhaps'", "7.0 must be at most 1", "'large' was run: it has no cost", "'eval_name' is empty"):
        assert named in message


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".pkl"])
def test_a_file_that_is_cut_off_empty_or_not_there_is_refused(tmp_path: Path, suffix: str):
    """Whatever the format, the answer is one SourceError that names the file."""
    path = write(wide_frame(), tmp_path / f"frame{suffix}")
    whole = path.read_bytes()
    for content in (whole[: len(whole) - 25], whole[: len(whole) // 2], b""):
        path.write_bytes(content)
        assert str(path) in refusal(path)
    path.unlink()
    assert str(path) in refusal(path)
    path.mkdir()
    assert str(path) in refusal(path)


def test_an_unknown_suffix_is_refused_with_the_known_ones(tmp_path: Path):
    path = tmp_path / "frame.xlsx"
    path.write_bytes(b"PK")
    assert ".csv" in refusal(path) and ".parquet" in refusal(path)


# --- pickles that are not to be trusted ---


class Calls:
    """Unpickling it calls `function(*arguments)`."""

    def __init__(self, function: Callable, *arguments: object):
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple:
        return self.function, self.arguments


def short_text(text: str) -> bytes:
    return pickle.SHORT_BINUNICODE + bytes([len(text)]) + text.encode()


def named_global(module: str, name: str) -> bytes:
    """The opcodes of protocol 4 that import a global; dots in the name are followed as attributes."""
    return short_text(module) + short_text(name) + pickle.STACK_GLOBAL


def smuggling(cargo: object) -> pd.DataFrame:
    """A frame that is whole but for one cell."""
    frame = wide_frame()
    frame.loc[1, "prompt"] = cargo
    return frame


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda sentinel: Calls(os.system, f"touch '{sentinel}'"), f"{os.system.__module__}.system"),
        (lambda sentinel: Calls(builtins.eval, f"open({str(sentinel)!r}, 'w')"), "builtins.eval"),
        (lambda sentinel: Calls(builtins.getattr, wide_frame(), "to_csv"), "builtins.getattr"),
        (lambda sentinel: Calls(os.mkdir, str(sentinel)), f"{os.mkdir.__module__}.mkdir"),
        (lambda sentinel: Calls(pd.DataFrame.to_csv, wide_frame(), str(sentinel)), f"{pd.DataFrame.to_csv.__qualname__}"),
        (lambda sentinel: Calls(pd.eval, "1 + 1"), f"{pd.eval.__module__}.eval"),
        (lambda sentinel: smuggling(Calls(os.system, f"touch '{sentinel}'")), f"{os.system.__module__}.system"),
        (lambda sentinel: smuggling(Calls(builtins.eval, f"open({str(sentinel)!r}, 'w')")), "builtins.eval"),
    ],
    ids=["system", "eval", "getattr", "mkdir", "to_csv", "pandas.eval", "system in a cell", "eval in a cell"],
)
@pytest.mark.parametrize("protocol", [4, 5])
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path, protocol: int, make: Callable, named: str):
    """The error names the global that it asked for; the plain unpickler shows that the trap was live."""
    sentinel = tmp_path / "it ran"
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(make(sentinel), protocol=protocol))
    message = refusal(path)
    assert named in message and "refused" in message
    assert not sentinel.exists()


def test_the_trap_of_these_tests_is_live(tmp_path: Path):
    """Python's own unpickler falls into it, so that an absent sentinel says something."""
    sentinel = tmp_path / "it ran"
    pickle.loads(pickle.dumps(smuggling(Calls(os.system, f"touch '{sentinel}'"))))
    assert sentinel.exists()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("pandas.core.frame", "DataFrame.to_csv"),
        ("pandas.core.frame", "DataFrame.__init__.__globals__"),
        ("pandas", "DataFrame.eval"),
        ("numpy", "ndarray.tofile"),
        ("numpy.core.multiarray", "_reconstruct.__class__"),
        ("pandas", "read_pickle"),
        ("builtins", "slice.__class__"),
        ("builtins", "__import__"),
        ("numpy.core._multiarray_umath", "_reconstruct"),
    ],
)
def test_an_attribute_of_an_allowed_global_is_not_allowed(tmp_path: Path, module: str, name: str):
    """Protocol 4 follows dots in a name; only whole names of the list are imported."""
    path = tmp_path / "frame.pkl"
    path.write_bytes(b"\x80\x04" + named_global(module, name) + pickle.STOP)
    assert f"{module}.{name}" in refusal(path)


def test_a_pickle_leaves_pandas_as_it_was(tmp_path: Path):
    """A state that is set on a class, not on an object, would change pandas for the whole process."""
    state = pickle.NONE + pickle.EMPTY_DICT + short_text("changed_by_a_pickle") + pickle.NEWTRUE + pickle.SETITEM
    path = tmp_path / "frame.pkl"
    path.write_bytes(b"\x80\x04" + named_global("pandas", "Index") + state + pickle.TUPLE2 + pickle.BUILD + pickle.STOP)
    refusal(path)
    changed = "changed_by_a_pickle" in vars(pd.Index)
    if changed:
        delattr(pd.Index, "changed_by_a_pickle")
    assert not changed


@pytest.mark.parametrize(
    ("content", "kind"), [([1, 2], "list"), ({"prompt": ["x"]}, "dict"), (pd.Index([1], dtype=object), "Index")]
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: object, kind: str):
    path = tmp_path / "frame.pkl"
    path.write_bytes(pickle.dumps(content))
    assert f"holds a {kind}, not a pandas DataFrame" in refusal(path)


def test_a_frame_without_content_is_refused(tmp_path: Path):
    """A pickle can make a frame without ever filling it."""
    path = tmp_path / "frame.pkl"
    path.write_bytes(b"\x80\x04" + named_global("pandas", "DataFrame") + pickle.EMPTY_TUPLE + pickle.NEWOBJ + pickle.STOP)
    assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda frame: frame.iloc[:0], "no rows"),
        (lambda frame: frame.iloc[:, [*range(frame.shape[1]), 3]], "appear twice: small"),
        (lambda frame: frame.rename(columns={"small": 7}), "missing columns: small"),
    ],
    ids=["no rows", "a column twice", "a number as a column"],
)
def test_a_wrong_frame_is_refused_from_a_pickle_too(tmp_path: Path, change: Callable, named: str):
    """A pickle skips the parsers of the other formats, and no rule with them."""
    assert named in refusal(write(change(wide_frame()), tmp_path / "frame.pkl"))


@pytest.mark.parametrize("column", ["sample_id", "prompt", "small", "small|model_response", "small|total_cost"])
def test_an_array_in_a_cell_is_refused(tmp_path: Path, column: str):
    """Arrays can be pickled into a cell; there they are no text and no number."""
    frame = wide_frame()
    frame.at[0, column] = np.array([1.0, 2.0])
    assert column in refusal(write(frame, tmp_path / "frame.pkl"))
