"""Windows on Ray: the same bytes as in this process, whoever is killed on the way; and errors that come in seconds."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.scale_engines import _descendants
from jaxroute import Checkpoint, save_checkpoint
from jaxroute.batch.score_config import ScoreConfig
from jaxroute.batch.shards import score_file
from jaxroute.batch.workers import EngineConfig, check_engine, mapping
from jaxroute.errors import EngineError, OutputError
from jaxroute.predictor.pricing import Pricing
from solvers.errors import ProblemError
from tests.batch.scored import MODELS, random_predictor

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed (extra: scale)")
RAY = EngineConfig("ray", workers=2 if len(os.sched_getaffinity(0)) > 1 else 1)


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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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
def test_ray_writes_what_this_process_writes_and_leaves_nothing_behind(config: ScoreConfig, tmp_path: Path) -> None:
    score_file(config)
    ray = tmp_path / "ray"
    assert score_file(replace(config, output=ray), RAY).already == 0
    assert contents(ray) == contents(config.output)
    for name in ("shard-00003.parquet", "shard-00009.parquet", "summary.json"):
        (ray / name).unlink()
    assert score_file(replace(config, output=ray), EngineConfig("ray", workers=1)).already == 80
    assert contents(ray) == contents(config.output)
    time.sleep(2)
    assert not list(_ray_processes(os.getpid())) and not list(Path("/tmp").glob("jaxroute-ray-*"))


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
@pytest.mark.slow
@pytest.mark.parametrize("victim", ["ray::Worker", "driver"])
def test_whoever_is_killed_no_row_is_lost_or_written_twice(config: ScoreConfig, tmp_path: Path, victim: str) -> None:
    score_file(config)
    killed = tmp_path / "killed"
    program = f"""
import time
import jaxroute.batch.shards as files
write = files.write_shard
files.write_shard = lambda path, table: (write(path, table), time.sleep(0.5))
from jaxroute.cli import main
given = "--checkpoint {config.checkpoint} --prompts {config.prompts} --output {killed}"
main(["score", *given.split(), "--rows-per-shard", "10", "--engine", "ray"])
"""
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while not list(killed.glob("shard-*")) and run.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    below = dict(_descendants(run.pid))
    victims = [pid for pid, name in below.items() if name.startswith(victim)] or [run.pid]
    assert victim == "driver" or run.pid not in victims
    os.kill(victims[0], signal.SIGKILL)
    said = run.communicate(timeout=200)[1].decode()
    if victim == "driver":
        assert run.returncode == -signal.SIGKILL and not (killed / "summary.json").exists()
        _wait_until_gone(set(below))
        score_file(replace(config, output=killed))
    else:
        assert run.returncode == 0, said
    assert contents(killed) == contents(config.output)


@needs_ray
@pytest.mark.slow
def test_ctrl_c_leaves_no_process_behind(config: ScoreConfig, tmp_path: Path) -> None:
    program = f"""
import time
import jaxroute.batch.shards as files
files.write_shard = lambda path, table: time.sleep(60)
import sys
sys.argv[1:] = "score --checkpoint {config.checkpoint} --prompts {config.prompts} --output {tmp_path}/out --engine ray".split()
print("ready", flush=True)
from jaxroute.cli import run
run()
"""
    run = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    below: dict[int, str] = {}
    deadline = time.monotonic() + 100
    while not any(name.startswith("ray::Worker") for name in below.values()) and time.monotonic() < deadline:
        time.sleep(0.1)
        below = dict(_descendants(run.pid))
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=60)[1].decode()
    assert run.returncode == 130 and "the same command resumes from there" in said
    _wait_until_gone(set(below))


def _halved(number: int) -> int:
    if number % 2:
        raise ProblemError(f"{number} is odd")
    return number // 2


def _ray_processes(pid: int) -> Iterator[str]:
    for below, name in _descendants(pid):
        if ("ray" in name or "gcs_server" in name) and Path(f"/proc/{below}/exe").exists():
            yield name


def _wait_until_gone(pids: set[int]) -> None:
    # Ray's own agents take some seconds to see that nothing is left.
    deadline = time.monotonic() + 60
    while left := [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]:
        assert time.monotonic() < deadline, f"{left} are still there"
        time.sleep(0.1)
