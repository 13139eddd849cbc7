"""The same run on one device, on four, and in two processes: the same losses to rounding, checkpoints that move."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

# Weights of the tiny decoder are split as well; by default such small ones are copied.
SETUP = """
import sys
from pathlib import Path
import jax
import numpy as np
import pytest
from jaxroute import RoutingTable, TrainConfig, train
from jaxroute.encoders.networks.lora import LoraConfig
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.tuning import MeshConfig, TuneConfig, mesh

mesh.SMALL = 0
quality = np.random.default_rng(0).integers(0, 2, (36, 2)).astype(float)
prompts = [f"{word} {number}" for number in range(12) for word in ("red", "blue", "cold")]
table = RoutingTable(prompts=prompts, models=["a", "b"], quality=quality, cost_usd=np.ones(2))

def run(state, mode="lora", **devices):
    rates = dict(encoder_learning_rate=0.01, head_learning_rate=0.01)
    steps = dict(epochs=2, batch_size=16, tokens_per_batch=128, save_every=1, keep=9)
    tune = TuneConfig(mode=mode, lora=LoraConfig(rank=4), mesh=MeshConfig(**devices), **rates, **steps)
    features = FeatureConfig(layers=(2,))
    config = TrainConfig(encoder=sys.argv[1], features=features, penalties=(0.3,), folds=2, tune=tune)
    predictor, _ = train(table, config, state=Path(state))
    return predictor

def numbers(predictor):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(predictor.encoder.trained.arrays)])
"""

MESHES = """
import json, shutil

folder = Path(sys.argv[2])
one = numbers(run(folder / "one"))
errors = {}

def compare(name, found, expected):
    errors[name] = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

for data, fsdp in ((4, 1), (1, 4), (2, 2)):
    compare(f"{data}, {fsdp}", numbers(run(folder / f"{data}-{fsdp}", data=data, fsdp=fsdp)), one)
for step in (3, 4):
    shutil.rmtree(folder / "4-1" / "steps" / str(step))
compare("begun on 4, 1 and ended on 1, 4", numbers(run(folder / "4-1", fsdp=4)), one)
full = numbers(run(folder / "full", mode="full"))
compare("all weights on 2, 2", numbers(run(folder / "full-2-2", mode="full", data=2, fsdp=2)), full)
grid = mesh.devices(MeshConfig(data=2, fsdp=2))
split = {str(shape): list(grid.weight(shape).spec) for shape in ((2, 48, 64), (600, 48), (3, 7))}
print("result", json.dumps({"errors": errors, "split": split}))
"""

PROCESSES = """
address, process, data, fsdp = sys.argv[3], *map(int, sys.argv[4:])
joined = dict(coordinator=address, processes=2, process=process, data=data, fsdp=fsdp)
print("result", numbers(run(sys.argv[2], **(joined if process >= 0 else {}))).tolist())
"""


def start(program: str, *arguments: str, devices: int, cache: Path) -> subprocess.Popen:
    environment = os.environ | {
        "JAXROUTE_CACHE": str(cache),
        "XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", SETUP + program, *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process: subprocess.Popen) -> object:
    try:
        output, errors = process.communicate(timeout=400)
    finally:
        # SIGTERM is caught once processes are joined.
        process.kill()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(next(line for line in output.splitlines() if line.startswith("result ")).removeprefix("result "))


@pytest.mark.slow
def test_meshes_agree_and_restore_each_others_checkpoints(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    found = result(start(MESHES, str(tiny_encoder), str(tmp_path), devices=4, cache=fresh_cache))
    assert isinstance(found, dict)
    assert found["split"] == {"(2, 48, 64)": [None, None, "fsdp"], "(600, 48)": ["fsdp", None], "(3, 7)": []}
    for name, error in found["errors"].items():
        assert error < 1e-3, name
    for name in ("4-1", "1-4", "2-2"):
        same_training(tmp_path / name, tmp_path / "one")


@pytest.mark.slow
def test_two_processes_train_what_one_does(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    encoder = str(tiny_encoder)
    alone = result(start(PROCESSES, encoder, str(tmp_path / "alone"), "", "-1", "1", "1", devices=1, cache=fresh_cache))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    both = [
        start(
            PROCESSES,
            *(encoder, str(tmp_path / "together"), address, str(number), "1", "2"),
            devices=1,
            cache=fresh_cache,
        )
        for number in range(2)
    ]
    try:
        first, second = (result(process) for process in both)
    finally:
        for process in both:
            process.kill()
    assert first == second
    assert np.linalg.norm(np.subtract(first, alone)) < 1e-3 * np.linalg.norm(alone)
    same_training(tmp_path / "together", tmp_path / "alone")


def same_training(folder: Path, other: Path) -> None:
    """The same loss and the same gradient before every update, to rounding."""
    for name, tolerance in (("loss", 1e-4), ("gradient_norm", 1e-3)):
        np.testing.assert_allclose(metrics(folder, name), metrics(other, name), rtol=tolerance, err_msg=f"{folder.name} {name}")


def metrics(folder: Path, name: str) -> list[float]:
    """One number before every update."""
    entries = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [entry[name] for entry in entries if name in entry]
