"""Windows on Ray: the same bytes as in this process, whoever is killed on the way; and errors that come in seconds."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet
import pytest

from benchmarks.processes import Process, descendants, still_there
from jaxroute import Checkpoint, save_checkpoint
from jaxroute.batch import shards, workers
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shards import score_file
from jaxroute.batch.workers import EngineConfig, check_engine, mapping
from jaxroute.cli import main
from jaxroute.data.estimates import Estimates
from jaxroute.data.table import Queries
from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.errors import EngineError, OutputError, SourceError
from jaxroute.predictor.pricing import Pricing
from jaxroute.storage.files import LOCK
from solvers.errors import ProblemError
from tests.batch.scored import MODELS, random_predictor
from tests.batch.test_assigning import BUDGET
from tests.batch.test_assigning import write as write_estimates

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra: scale)")
RAY = EngineConfig("ray", workers=2 if len(os.sched_getaffinity(0)) > 1 else 1)
STARTED = "JAXROUTE_TEST_STARTED"
PATIENCE = 300.0
"""Seconds after which something is said not to happen: Ray starts in 5, and on a busy machine in 60."""


@pytest.fixture(scope="module")
def checkpoint(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers") / "checkpoint"
    pricing = Pricing(models=MODELS, mean_cost_usd=[0.1, 0.2, 0.3])
    save_checkpoint(folder, Checkpoint(random_predictor(tiny_encoder), pricing, {}))
    return folder


@pytest.fixture
def config(checkpoint: Path, tmp_path: Path, fresh_cache: Path) -> ScoreConfig:
    """100 prompts in three files and ten shards."""
    prompts = [f"{'word ' * (number % 11)}What is {number % 40} plus {number % 3}?" for number in range(100)]
    (tmp_path / "prompts").mkdir()
    for number, first in enumerate((0, 33, 70)):
        part = prompts[first : (33, 70, 100)[number]]
        (tmp_path / "prompts" / f"{number}.txt").write_text("\n".join(part) + "\n")
    return ScoreConfig(checkpoint, tmp_path / "prompts", tmp_path / "scored", rows_per_shard=10)


@pytest.fixture
def ray_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where Ray keeps its sockets and logs: short, since their paths are limited, and no other run's."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rays-") as folder:
        monkeypatch.setenv("RAY_TMPDIR", folder)
        yield Path(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != LOCK}


def test_options_of_workers_need_ray(config: ScoreConfig) -> None:
    for options in ({"address": "auto"}, {"workers": 2}, {"cores_per_worker": 2}):
        with pytest.raises(EngineError, match="add --engine ray"):
            EngineConfig(**options)
    with pytest.raises(EngineError, match="workers=0 must be at least 1"):
        EngineConfig("ray", workers=0)


def test_without_ray_the_error_names_what_to_install(config: ScoreConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "ray" else find(name, *rest))
    with pytest.raises(EngineError, match=r"pip install 'jaxroute\[scale\]'"):
        score_file(config, RAY)
    assert not config.output.exists()


@needs_ray
def test_an_address_that_does_not_answer_is_found_at_once(config: ScoreConfig) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(EngineError, match="does not answer"):
        score_file(config, EngineConfig("ray", address=f"127.0.0.1:{port}"))
    for wrong in ("ray://head:10001", "head", "head:123456"):
        with pytest.raises(EngineError, match="must be HOST:PORT"):
            check_engine(EngineConfig("ray", address=wrong))
    assert time.monotonic() - started < 2 and not config.output.exists()


def test_the_plain_map_is_the_map_of_python() -> None:
    with mapping(EngineConfig()) as each:
        assert list(each(abs, [-1, 2])) == [1, 2]


def test_shards_within_the_folder_of_prompts_are_rejected(config: ScoreConfig) -> None:
    with pytest.raises(OutputError, match="lies within"):
        score_file(replace(config, output=config.prompts / "scored"))


@needs_ray
@pytest.mark.slow
def test_ray_writes_what_this_process_writes_and_leaves_nothing_behind(
    config: ScoreConfig, tmp_path: Path, ray_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    score_file(config)
    ray, seen, write = tmp_path / "ray", set[Process](), shards.write_shard
    monkeypatch.setattr(shards, "write_shard", lambda *given: (write(*given), seen.update(descendants(os.getpid()))))
    assert score_file(replace(config, output=ray), RAY).already == 0
    assert contents(ray) == contents(config.output)
    for name in ("shard-00003.parquet", "shard-00009.parquet", "summary.json"):
        (ray / name).unlink()
    # While one shard is written, its worker has the next one in hand.
    monkeypatch.setenv(STARTED, str(tmp_path))
    monkeypatch.setattr(workers, "Worker", Noting)
    monkeypatch.setattr(shards, "write_shard", lambda *given: (_wait_for(tmp_path / "started-9"), write(*given)))
    assert score_file(replace(config, output=ray), EngineConfig("ray", workers=1)).already == 80
    assert contents(ray) == contents(config.output)
    ours = [one for one in seen if str(ray_folder) in one.command or one.command.startswith("ray::")]
    assert any(one.command.startswith("ray::Worker") for one in ours)
    assert not still_there(ours, seconds=PATIENCE) and not list(ray_folder.iterdir())


@needs_ray
@pytest.mark.slow
def test_ray_writes_the_same_bytes_in_bfloat16(config: ScoreConfig, tmp_path: Path, ray_folder: Path) -> None:
    narrow = replace(config, scoring=ScoringConfig(dtype="bfloat16"))
    score_file(narrow)
    score_file(replace(narrow, output=tmp_path / "ray"), RAY)
    assert contents(tmp_path / "ray") == contents(config.output)


@needs_ray
@pytest.mark.slow
def test_errors_of_workers_are_those_of_this_process(config: ScoreConfig, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"workers=999 of 1 core each: this machine has"):
        score_file(config, EngineConfig("ray", workers=999))
    with mapping(RAY) as each:
        assert sorted(each(_halved, [2, 4, 6])) == [1, 2, 3]
        with pytest.raises(ProblemError, match="3 is odd"):
            list(each(_halved, [2, 3]))


@needs_ray
@pytest.mark.skipif(shutil.which("uv") is None, reason="uv is not installed")
@pytest.mark.slow
def test_a_command_that_uv_runs_sends_no_folder_to_its_workers(tmp_path: Path) -> None:
    program = """
from jaxroute.batch.workers import EngineConfig, mapping
with mapping(EngineConfig("ray")) as each:
    print(*each(abs, [-1, 2]))
"""
    # Ray would pack the working directory for its workers, and gives up on one as large as this.
    with (tmp_path / "prompts.jsonl").open("wb") as large:
        large.truncate(2**30)
    command = ["uv", "run", "--no-project", "--python", sys.executable, "python", "-c", program]
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert sorted(found.stdout.split()) == ["1", "2"], found.stderr[-2000:]


@needs_ray
@pytest.mark.slow
def test_assignments_by_ray_are_those_of_this_process(
    tmp_path: Path, ray_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = write_estimates(tmp_path / "in")
    command = ["assign", "--estimates", "in", "--solver", "shards", "--budget-usd", str(BUDGET)]
    main([*command, "--output", "plain"])
    plain = capsys.readouterr().out
    main([*command, "--output", "ray", "--engine", "ray"])
    assert capsys.readouterr().out.replace("ray/", "plain/") == plain
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    (tmp_path / "ray" / "shard-00002.parquet").unlink()
    main([*command, "--output", "ray", "--engine", "ray"])
    assert "3 of them by an earlier run" in capsys.readouterr().out
    assert contents(tmp_path / "ray") == contents(tmp_path / "plain")
    # What a worker finds wrong in a file is said as here.
    table = pyarrow.parquet.read_table(folder / "shard-00001.parquet").to_pandas()
    table.loc[7, "middle|cost_usd"] = -1.0
    table.to_parquet(folder / "shard-00001.parquet", index=False)
    said = []
    for options in ([], ["--engine", "ray"]):
        with pytest.raises(SourceError, match=r"shard-00001.parquet, row 7 .*'middle': dollars -1.0 must be") as error:
            main([*command, "--output", "wrong", *options])
        said.append(str(error.value))
    assert Path(said[0].partition(",")[0]).name == Path(said[1].partition(",")[0]).name
    assert said[0].partition(",")[2] == said[1].partition(",")[2]


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["worker", "driver"])
def test_whoever_is_killed_no_row_is_lost_or_written_twice(
    config: ScoreConfig, tmp_path: Path, ray_folder: Path, victim: str
) -> None:
    score_file(config)
    killed = replace(config, output=tmp_path / "killed")
    run = _started(killed, tmp_path, pause="while not done.exists(): time.sleep(0.05)")
    below = list(descendants(run.pid))
    scoring = [one for one in below if one.command.startswith("ray::Worker")]
    os.kill(scoring[0].pid if victim == "worker" else run.pid, signal.SIGKILL)
    (tmp_path / "done").touch()
    said = run.communicate(timeout=PATIENCE)[1].decode()
    if victim == "driver":
        assert run.returncode == -signal.SIGKILL and not (killed.output / "summary.json").exists()
    else:
        assert run.returncode == 0 and not scoring[0].alive, said
    assert not still_there(below, seconds=PATIENCE)
    if victim == "driver":
        # What a killed process could not remove is removed by the next one; its lock tells that it has ended.
        (left,) = ray_folder.iterdir()
        os.utime(left / LOCK, (0, 0))
        assert 0 < score_file(killed, EngineConfig("ray", workers=1)).already < 100
    assert contents(killed.output) == contents(config.output) and not list(ray_folder.iterdir())


@needs_ray
@pytest.mark.slow
def test_ctrl_c_leaves_no_process_behind(config: ScoreConfig, tmp_path: Path, ray_folder: Path) -> None:
    run = _started(config, tmp_path, pause="time.sleep(600)")
    below = list(descendants(run.pid))
    # A terminal sends it to all of them.
    os.killpg(run.pid, signal.SIGINT)
    said = run.communicate(timeout=PATIENCE)[1].decode()
    assert run.returncode == 130 and "the same command resumes from there" in said
    assert "Traceback" not in said
    assert not still_there(below, seconds=PATIENCE) and not list(ray_folder.iterdir())
    assert list(config.output.glob("shard-*")) and not (config.output / "summary.json").exists()


class Noting(workers.Worker):
    """Leaves a file when it starts with a window."""

    def score(self, number: int, queries: Queries, place: str) -> tuple[int, Estimates]:
        Path(os.environ[STARTED], f"started-{number}").touch()
        return super().score(number, queries, place)


def _wait_for(path: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.05)


def _halved(number: int) -> int:
    if number % 2:
        raise ProblemError(f"{number} is odd")
    return number // 2


def _started(config: ScoreConfig, folder: Path, *, pause: str) -> subprocess.Popen[bytes]:
    """`score --engine ray` as a process of its own that has written its first shard and pauses there."""
    program = f"""
import sys, time
from pathlib import Path
import jaxroute.batch.shards as files
written, done, write = Path({str(folder / "written")!r}), Path({str(folder / "done")!r}), files.write_shard
def slowly(path, table):
    write(path, table)
    written.touch()
    {pause}
files.write_shard = slowly
from jaxroute.cli import run
sys.argv[1:] = ["score", "--engine", "ray", "--rows-per-shard", "10", *sys.argv[1:]]
run()
"""
    given = ["--checkpoint", str(config.checkpoint), "--prompts", str(config.prompts), "--output", str(config.output)]
    command = [sys.executable, "-c", program, *given, "--workers", str(RAY.workers)]
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while not (folder / "written").exists():
        if run.poll() is not None or time.monotonic() > deadline:
            run.kill()
            pytest.fail(f"no shard was written: {run.communicate()[1].decode()[-2000:]}")
        time.sleep(0.05)
    return run
