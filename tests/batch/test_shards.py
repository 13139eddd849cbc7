"""jaxroute score: a file of any size to shards, in order, each row once, whatever happens on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from jaxroute import Checkpoint, PromptError, Router, save_checkpoint
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shards import score_file
from jaxroute.cli import main
from jaxroute.data.prompts import read_rows
from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.errors import OutputError, SourceError
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import alone_in
from tests.batch.scored import MODELS, random_predictor

PROMPTS = [f"{'word ' * (number % 11)}What is {number % 40} plus {number % 3}?" for number in range(100)]


@pytest.fixture(scope="module")
def checkpoint(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scored") / "checkpoint"
    pricing = Pricing(models=MODELS, mean_cost_usd=[0.1, 0.2, 0.3])
    save_checkpoint(folder, Checkpoint(random_predictor(tiny_encoder), pricing, {}))
    return folder


@pytest.fixture
def config(checkpoint: Path, tmp_path: Path, fresh_cache: Path) -> ScoreConfig:
    """100 prompts in ten shards."""
    return ScoreConfig(checkpoint, write(tmp_path / "prompts.jsonl"), tmp_path / "scored", rows_per_shard=10)


def write(path: Path, prompts: list[str] = PROMPTS) -> Path:
    ids = [7 * number for number in range(len(prompts))]
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"query_id": ids, "prompt": prompts, "other": ids}), path)
    elif path.suffix == ".txt":
        path.write_text("\n".join(prompts) + "\n\n")
    else:
        path.write_text("".join(json.dumps({"id": one, "prompt": prompt}) + "\n" for one, prompt in zip(ids, prompts)))
    return path


def rows_of(folder: Path) -> list[dict]:
    """Of all shards, in the order of their names."""
    rows = []
    for path in sorted(folder.glob("shard-*")):
        if path.suffix == ".parquet":
            rows += pyarrow.parquet.read_table(path).to_pylist()
        else:
            rows += [json.loads(line) for line in path.read_text().splitlines()]
    return rows


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".txt"])
@pytest.mark.parametrize("shards", ["parquet", "jsonl"])
def test_rows_come_in_order_with_the_estimates_of_the_router(
    config: ScoreConfig, tmp_path: Path, suffix: str, shards: str, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = write(tmp_path / f"prompts{suffix}")
    main(
        f"score --checkpoint {config.checkpoint} --prompts {prompts} --output {config.output} "
        f"--format {shards} --rows-per-shard 30 --scoring.tokens-per-batch 256".split()
    )
    assert "100 prompts scored, in 4 shards" in capsys.readouterr().out
    rows = rows_of(config.output)
    assert [row["row"] for row in rows] == list(range(100))
    named = {".jsonl": "id", ".parquet": "query_id"}.get(suffix)
    assert set(rows[0]) == {"row", "cut", *MODELS, *(f"{model}|cost_usd" for model in MODELS)} | ({named} if named else set())
    assert [rows[0][f"{model}|cost_usd"] for model in MODELS] == [0.1, 0.2, 0.3]
    assert not named or [row[named] for row in rows] == [7 * number for number in range(100)]
    found = np.array([[row[model] for model in MODELS] for row in rows])
    np.testing.assert_allclose(found, Router.load(config.checkpoint).estimate(PROMPTS), rtol=1e-5)
    assert json.loads((config.output / "summary.json").read_text()) == {"rows": 100, "shards": 4, "cut": 0, "unknown": 0}


@pytest.mark.parametrize("shards", ["parquet", "jsonl"])
def test_assign_reads_what_score_wrote_and_assigns_what_route_does(config: ScoreConfig, tmp_path: Path, shards: str) -> None:
    score_file(replace(config, format=shards))
    assigned = tmp_path / "assigned"
    main(f"assign --estimates {config.output} --budget-usd 18 --solver exact --output {assigned}".split())
    found = pyarrow.parquet.read_table(assigned / "assignment.parquet").to_pylist()
    routed = Router.load(config.checkpoint).route_in_full(PROMPTS, budget_usd=18.0, solver="exact")
    assert [row["query_id"] for row in found] == [str(7 * number) for number in range(100)]
    assert sum(row["estimate"] for row in found) == pytest.approx(routed.assignment.value, rel=1e-5)
    assert sum(row["cost_usd"] for row in found) <= 18 * (1 + 1e-12)
    one = next(config.output.glob("shard-00003.*"))
    main(f"assign --estimates {one} --budget-usd 3 --output {tmp_path / 'one'}".split())
    (config.output / "summary.json").unlink()
    with pytest.raises(SourceError, match=r"it holds 10 shards and no summary\.json"):
        main(f"assign --estimates {config.output} --budget-usd 18 --output {tmp_path / 'never'}".split())
    assert not (tmp_path / "never").exists()


def test_two_processes_do_not_write_to_one_folder(config: ScoreConfig) -> None:
    with alone_in(config.output), pytest.raises(OutputError, match="another process writes there"):
        score_file(config)
    assert score_file(config).rows == 100


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_ends_as_an_unbroken_run(config: ScoreConfig, tmp_path: Path) -> None:
    score_file(config)
    killed = tmp_path / "killed"
    # Every shard waits, so that the run is surely killed between the third and the last.
    program = f"""
import time
import jaxroute.batch.shards as files
write = files.write_shard
files.write_shard = lambda path, table: (write(path, table), time.sleep(0.5))
from jaxroute.cli import main
main("score --checkpoint {config.checkpoint} --prompts {config.prompts} --output {killed} --rows-per-shard 10".split())
"""
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not (killed / "shard-00002.parquet").exists() and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL, run.stderr and run.stderr.read().decode()
    left = sorted(path.name for path in killed.glob("shard-*"))
    assert 3 <= len(left) < 10 and not (killed / "summary.json").exists()
    (killed / ".partial-torn.parquet").write_bytes(b"half of a sh")

    report = score_file(replace(config, output=killed))
    assert report.already == 10 * len(left)
    assert contents(killed) == contents(config.output)


def test_a_finished_run_started_again_computes_nothing(config: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = score_file(config)
    before = contents(config.output)
    monkeypatch.setattr("jaxroute.encoders.batching.BatchEncoder.encode", None)
    again = score_file(config)
    assert (again.rows, again.cut, again.already) == (first.rows, first.cut, 100)
    assert contents(config.output) == before


def test_a_shard_that_is_not_whole_is_written_again(config: ScoreConfig) -> None:
    score_file(config)
    before = contents(config.output)
    (config.output / "shard-00004.parquet").write_bytes(b"")
    assert score_file(config).already == 90
    assert contents(config.output) == before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"rows_per_shard": 20}, "rows_per_shard was 10 and is 20"),
        ({"format": "jsonl"}, "shard_format was 'parquet' and is 'jsonl'"),
        ({"truncation_side": "right"}, "truncation_side was 'left' and is 'right'"),
        ({"max_tokens": 5}, "max_tokens was None and is 5"),
    ],
)
def test_other_options_in_the_same_folder_are_refused(config: ScoreConfig, changed: dict, message: str) -> None:
    score_file(config)
    before = contents(config.output)
    with pytest.raises(OutputError, match=message):
        score_file(replace(config, **changed))
    assert contents(config.output) == before


def test_another_input_or_checkpoint_in_the_same_folder_is_refused(config: ScoreConfig, tiny_encoder: Path) -> None:
    score_file(config)
    write(config.prompts, ["Another?", *PROMPTS[1:]])
    with pytest.raises(OutputError, match="prompts_sha256 was"):
        score_file(config)
    write(config.prompts)
    other = config.output.parent / "other"
    pricing = Pricing(models=MODELS, mean_cost_usd=[0.1, 0.2, 0.4])
    save_checkpoint(other, Checkpoint(random_predictor(tiny_encoder), pricing, {"note": "another"}))
    with pytest.raises(OutputError, match="checkpoint_sha256 was"):
        score_file(replace(config, checkpoint=other))


def test_a_folder_with_other_files_is_not_touched(config: ScoreConfig) -> None:
    config.output.mkdir()
    (config.output / "mine.txt").write_text("keep me")
    with pytest.raises(OutputError, match="holds other files"):
        score_file(config)
    assert contents(config.output) == {"mine.txt": b"keep me"}


def test_long_prompts_are_cut_and_counted(config: ScoreConfig, tmp_path: Path) -> None:
    prompts = write(tmp_path / "long.txt", ["short", "very " * 200 + "long", "short", "very " * 200 + "long"])
    report = score_file(replace(config, prompts=prompts, max_tokens=8, truncation_side="right"))
    assert report.cut == 2 and "2 longer than" in str(report)
    assert [row["cut"] for row in rows_of(config.output)] == [False, True, False, True]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
def test_rows_without_a_prompt_are_named_before_any_work(config: ScoreConfig, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"bad{suffix}"
    bad: list = ["fine", "", None, "  ", "fine"]
    if suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.table({"prompt": bad}), path)
        message = "3 of 5 rows [^$]*row 1 [^$]*row 2 [^$]*row 3 "
    else:
        lines = [json.dumps({"prompt": prompt}) for prompt in bad] + ["{not json", "[1]", '{"prompt": "\\ud800"}', "", "{}"]
        path.write_text("\n".join(lines))
        message = "7 of 9 rows [^$]*" + "[^$]*".join(f"line {line}: " for line in (2, 3, 4, 6, 7, 8, 10))
    with pytest.raises(PromptError, match=message) as caught:
        score_file(replace(config, prompts=path))
    assert str(path) in str(caught.value)
    assert not config.output.exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.jsonl", b"\n\n", "holds no prompt"),
        ("absent.jsonl", None, "no such file"),
        ("latin.txt", "café".encode("latin-1"), "not UTF-8"),
        ("torn.parquet", b"PAR1", "cannot be read"),
        ("table.tsv", b"prompt\nhello\n", "must end in one of .jsonl"),
    ],
)
def test_files_that_hold_no_prompts(
    config: ScoreConfig, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(PromptError, match=message):
        score_file(replace(config, prompts=tmp_path / name))


def test_a_parquet_file_without_the_column_says_which_it_has(config: ScoreConfig, tmp_path: Path) -> None:
    path = tmp_path / "questions.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"question": ["why?"]}), path)
    with pytest.raises(PromptError, match="no column 'prompt' or 'messages'; it has question"):
        score_file(replace(config, prompts=path))


def test_ids_of_several_kinds_become_text(config: ScoreConfig, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    path.write_text("".join(json.dumps({"query_id": one, "prompt": "hello"}) + "\n" for one in (1, "a", None, 2.0)))
    score_file(replace(config, prompts=path))
    assert [row["query_id"] for row in rows_of(config.output)] == ["1", "a", None, "2"]


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet", ".txt"])
def test_files_are_read_from_any_row_on(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"prompts{suffix}", [f"prompt {number}" for number in range(2500)])
    rows = list(read_rows(path))
    for skip in (0, 1, 1024, 2499, 2500):
        assert list(read_rows(path, skip=skip)) == rows[skip:]


def test_large_files_are_not_held_in_memory(tmp_path: Path) -> None:
    """300 MB of prompts are checked in a process that grows by far less."""
    path = tmp_path / "large.jsonl"
    with path.open("w") as file:
        for number in range(3000):
            file.write(json.dumps({"prompt": f"{number} " + "x" * 100_000}) + "\n")
    program = f"""
from pathlib import Path
from benchmarks.memory import peak_gigabytes
from jaxroute.data.prompts import check_prompt_file
before = peak_gigabytes()
assert check_prompt_file(Path({str(path)!r})).rows == 3000
print(int(1024 * (peak_gigabytes() - before)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert int(done.stdout) < 60


@pytest.mark.slow
def test_shards_of_one_run_are_of_one_dtype(config: ScoreConfig) -> None:
    score_file(config)
    wide = rows_of(config.output)
    narrow = replace(config, scoring=ScoringConfig(dtype="bfloat16"))
    with pytest.raises(OutputError, match=r"scoring\.dtype was 'float32' and is 'bfloat16'.*new folder"):
        score_file(narrow)
    manifest = json.loads((config.output / "manifest.json").read_text())
    assert manifest.pop("scoring.dtype") == "float32"
    (config.output / "manifest.json").write_text(json.dumps(manifest))
    (config.output / "shard-00001.parquet").unlink()
    assert score_file(config).already == 90, "a run of before there were others is resumed"
    with pytest.raises(OutputError, match=r"scoring\.dtype was 'float32'"):
        score_file(narrow)
    other = config.output.with_name("narrow")
    score_file(replace(narrow, output=other))
    found, expected = (np.array([[row[model] for model in MODELS] for row in rows]) for rows in (rows_of(other), wide))
    assert 0 < np.abs(found - expected).max() < 0.01


def test_auto_is_decided_before_the_work_and_is_in_the_manifest(config: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxroute.encoders.narrowing.computes_in_bfloat16", lambda: True)
    automatic = replace(config, scoring=ScoringConfig(dtype="auto"))
    score_file(automatic)
    assert json.loads((config.output / "manifest.json").read_text())["scoring.dtype"] == "bfloat16"
    monkeypatch.setattr("jaxroute.encoders.narrowing.computes_in_bfloat16", lambda: False)
    with pytest.raises(OutputError, match=r"scoring\.dtype was 'bfloat16' and is 'float32'"):
        score_file(automatic)
