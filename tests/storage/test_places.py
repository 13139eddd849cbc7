"""URLs in place of paths: the same rows, the same bytes, and clear words for what is missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaxroute import Checkpoint, save_checkpoint
from jaxroute.batch.assigning import AssignShards, assign_shards
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shards import score_file
from jaxroute.data.prompt_files import check_prompt_files
from jaxroute.errors import OutputError, PlaceError, PromptError
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import LOCK, replacing
from jaxroute.storage.places import check_local, is_remote, placed
from tests.batch.scored import MODELS, random_predictor

upath = pytest.importorskip("upath", reason="pip install 'jaxroute[scale]'")


@pytest.fixture
def store() -> Iterator[Any]:
    """A store in memory, empty."""
    folder = upath.UPath("memory://store")
    yield folder
    folder.fs.rm("/store", recursive=True)


def contents(folder: Any) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def test_what_is_a_url_and_what_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote: Any = placed("prompts", Path("memory://store/a.jsonl"))
    assert is_remote(remote) and str(remote) == "memory://store/a.jsonl" and placed("prompts", remote) is remote
    assert placed("prompts", Path(f"file://{tmp_path}/a b.txt")) == tmp_path / "a b.txt"
    assert placed("prompts", Path("logs/*.jsonl")) == Path("logs/*.jsonl")
    monkeypatch.chdir(tmp_path)
    Path("odd:/folder").mkdir(parents=True)
    assert placed("prompts", Path("odd:/folder")) == Path("odd:/folder")
    with pytest.raises(PlaceError, match="prompts='nowhere://x/y': fsspec knows no scheme 'nowhere'"):
        placed("prompts", Path("nowhere://x/y"))
    with pytest.raises(PlaceError, match=r"output='memory://x/y' must be on this machine"):
        check_local("output", Path("memory://x/y"))
    if importlib.util.find_spec("s3fs") is None:
        with pytest.raises(PlaceError, match="its package is missing: Install s3fs"):
            placed("prompts", Path("s3://bucket/prompts.jsonl"))


def test_without_the_packages_the_message_names_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PlaceError, match=r"need fsspec and universal-pathlib: pip install 'jaxroute\[scale\]'"):
        placed("prompts", Path("s3://bucket/prompts.jsonl"))


def test_an_object_is_put_when_it_is_finished(store: Any) -> None:
    with pytest.raises(ZeroDivisionError), replacing(store / "a.txt") as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert not (store / "a.txt").exists()
    with replacing(store / "a.txt") as partial:
        partial.write_text("whole")
    assert (store / "a.txt").read_text() == "whole"


def test_prompts_are_files_folders_and_patterns(store: Any) -> None:
    (store / "prompts/a.jsonl").write_text('{"id": 1, "prompt": "one"}\n{"id": 2, "prompt": "two"}\n')
    (store / "prompts/b.txt").write_text("three\n")
    for name, expected in {
        "prompts": ["one", "two", "three"],
        "prompts/a.jsonl": ["one", "two"],
        "prompts/*.txt": ["three"],
    }.items():
        found = check_prompt_files(placed("prompts", Path(f"memory://store/{name}")))
        assert [row.prompt for row in found.read()] == expected
    with pytest.raises(PromptError, match="there is no such file"):
        check_prompt_files(placed("prompts", Path("memory://store/prompts/*.csv")))


def test_score_and_assign_write_what_they_write_on_this_machine(
    store: Any, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path
) -> None:
    save_checkpoint(
        tmp_path / "checkpoint",
        Checkpoint(random_predictor(tiny_encoder), Pricing(models=MODELS, mean_cost_usd=[0.1, 0.2, 0.3]), {}),
    )
    text = "".join(f'{{"id": {number}, "prompt": "What is {number} plus {number}?"}}\n' for number in range(25))
    (store / "prompts.jsonl").write_text(text)
    (tmp_path / "prompts.jsonl").write_text(text)
    for folder in (Path("memory://store"), tmp_path):
        score_file(ScoreConfig(tmp_path / "checkpoint", folder / "prompts.jsonl", folder / "scored", rows_per_shard=10))
    assert contents(store / "scored") == contents(tmp_path / "scored") != {}
    # It resumes, and what belongs to others is not touched.
    (store / "scored/shard-00001.parquet").unlink()
    again = ScoreConfig(
        tmp_path / "checkpoint", Path("memory://store/prompts.jsonl"), Path("memory://store/scored"), rows_per_shard=10
    )
    assert score_file(again).already == 15 and contents(store / "scored") == contents(tmp_path / "scored")
    with pytest.raises(OutputError, match="holds other files"):
        score_file(ScoreConfig(tmp_path / "checkpoint", tmp_path / "prompts.jsonl", Path("memory://store")))
    for name, folder in {"there": Path("memory://store"), "here": tmp_path}.items():
        assign_shards(AssignShards(folder / "scored", None, tmp_path / name, budget_usd=4.0, capacity={"large": 3}))
    found, here = contents(tmp_path / "there"), contents(tmp_path / "here")
    assert found["summary.json"] == here["summary.json"] and found.keys() == here.keys()
