"""A run learns what the frozen encoder hides, keeps its best step, and resumes where it was killed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import CheckpointError, EncoderError, Router, RoutingTable, TableError, TrainConfig, load_checkpoint, train
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.networks.lora import LoraConfig
from jaxroute.encoders.weights.peft import load_adapters, save_adapters
from jaxroute.encoders.weights.trained import TrainedAdapters, TrainedWeights
from jaxroute.predictor.checkpoint import Checkpoint, save_checkpoint
from jaxroute.predictor.pricing import table_pricing
from jaxroute.predictor.tuning import MeshConfig, TuneConfig

pytestmark = pytest.mark.slow

WORDS = ("red", "blue", "cold", "warm", "old", "new", "big", "small")


def outcomes(queries: int = 60) -> RoutingTable:
    """Short prompts; whether a model is right turns on the order of two words, which pooled random states hardly show."""
    generator = np.random.default_rng(0)
    drawn = np.array([generator.permutation(len(WORDS)) for _ in range(queries)])
    prompts = [" ".join(WORDS[number] for number in row[:4]) + f" {position}" for position, row in enumerate(drawn)]
    right = (drawn[:, 0] < drawn[:, 1])[:, None]
    quality = np.where(generator.random((queries, 3)) < 0.1, ~right, right).astype(float)
    quality[generator.random((queries, 3)) < 0.1] = np.nan
    return RoutingTable(prompts=prompts, models=["a", "b", "c"], quality=quality, cost_usd=np.array([1.0, 2.0, 3.0]))


def configuration(folder: Path, **tune) -> TrainConfig:
    standard = {"mode": "lora", "epochs": 2, "batch_size": 16, "lora": LoraConfig(rank=4)}
    return TrainConfig(
        encoder=str(folder),
        features=FeatureConfig(layers=(2,)),
        penalties=(0.3,),
        folds=2,
        tune=TuneConfig(**(standard | tune)),
    )


def test_training_the_encoder_learns_what_its_frozen_states_do_not_tell(tiny_encoder: Path, fresh_cache: Path) -> None:
    table = outcomes()
    config = configuration(tiny_encoder, epochs=12, encoder_learning_rate=0.02, head_learning_rate=0.02, patience=12)
    predictor, report = train(table, config)
    assert report.held_out_loss < report.first_loss - 0.03
    assert len(report.held_out) == 12 and report.held_out_estimates.shape == (12, 3)
    estimates = predictor.estimate([table.prompts[row] for row in report.held_out]).quality
    np.testing.assert_allclose(estimates, report.held_out_estimates, atol=1e-3)


@pytest.mark.parametrize("mode", ["lora", "full"])
def test_a_checkpoint_brings_the_trained_encoder_back(mode: str, tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    table = outcomes()
    predictor, _ = train(table, configuration(tiny_encoder, mode=mode, epochs=1, encoder_learning_rate=0.01))
    save_checkpoint(tmp_path / "checkpoint", Checkpoint(predictor, table_pricing(table, None), {}))
    loaded = load_checkpoint(tmp_path / "checkpoint").predictor
    assert isinstance(loaded.encoder.trained, TrainedAdapters if mode == "lora" else TrainedWeights)
    assert loaded.encoder.trained.digest == predictor.encoder.trained.digest
    prompts = table.prompts[:5]
    np.testing.assert_array_equal(Router.load(tmp_path / "checkpoint").estimate(prompts), predictor.estimate(prompts).quality)
    if mode == "lora":
        adapters, lora = load_adapters(tmp_path / "checkpoint" / "adapter", loaded.encoder.config)
        adapters["query"]["up"][0, 0, 0] += 1.0
        save_adapters(tmp_path / "checkpoint" / "adapter", adapters, lora, base="other", network=read_config(tiny_encoder))
        with pytest.raises(CheckpointError, match="the trained encoder is not as saved"):
            load_checkpoint(tmp_path / "checkpoint")


def test_rates_of_zero_change_nothing(tiny_encoder: Path, fresh_cache: Path) -> None:
    table = outcomes()
    tuned, report = train(table, configuration(tiny_encoder, encoder_learning_rate=0.0, head_learning_rate=0.0))
    assert report.best_step == 0 and report.held_out_loss == report.first_loss
    kept = table.select(np.setdiff1d(np.arange(len(table)), report.held_out))
    frozen, _ = train(kept, replace(configuration(tiny_encoder), tune=TuneConfig()))
    np.testing.assert_allclose(tuned.estimate(kept.prompts).quality, frozen.estimate(kept.prompts).quality, atol=1e-4)


def test_a_run_without_progress_stops_early_and_one_without_held_out_queries_goes_to_its_end(
    tiny_encoder: Path, fresh_cache: Path, tmp_path: Path
) -> None:
    still = configuration(tiny_encoder, epochs=9, patience=2, encoder_learning_rate=0.0, head_learning_rate=0.0)
    train(outcomes(), still, state=tmp_path / "still")
    assert steps(tmp_path / "still")[-1] == 2 * 3
    _, report = train(outcomes(), configuration(tiny_encoder, held_out=0.0), state=tmp_path / "whole")
    assert steps(tmp_path / "whole")[-1] == report.best_step == report.updates == 2 * 4
    assert not len(report.held_out)


def test_another_configuration_is_refused_with_the_difference(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    train(outcomes(), configuration(tiny_encoder, epochs=1), state=tmp_path / "state")
    with pytest.raises(CheckpointError) as caught:
        train(outcomes(), configuration(tiny_encoder, epochs=2, clip=0.5), state=tmp_path / "state")
    for part in ("tune.epochs was 1, is 2", "tune.clip was 1.0, is 0.5"):
        assert part in str(caught.value)
    with pytest.raises(CheckpointError, match="table was "):
        train(outcomes(59), configuration(tiny_encoder, epochs=1), state=tmp_path / "state")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("important")
    with pytest.raises(CheckpointError, match="holds other files"):
        train(outcomes(), configuration(tiny_encoder), state=tmp_path / "other")


def test_a_run_can_begin_with_an_adapter(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    table = outcomes()
    first, _ = train(table, configuration(tiny_encoder, epochs=1, encoder_learning_rate=0.01))
    assert isinstance(first.encoder.trained, TrainedAdapters)
    save_adapters(
        tmp_path / "adapter",
        first.encoder.trained.arrays,
        first.encoder.trained.lora,
        base="tiny",
        network=read_config(tiny_encoder),
    )
    still = {"encoder_learning_rate": 0.0, "head_learning_rate": 0.0, "epochs": 1, "adapter": tmp_path / "adapter"}
    second, _ = train(table, configuration(tiny_encoder, **still))
    assert isinstance(second.encoder.trained, TrainedAdapters)
    for name, pair in first.encoder.trained.arrays.items():
        np.testing.assert_array_equal(second.encoder.trained.arrays[name]["up"], pair["up"])
    with pytest.raises(EncoderError, match=r"has \(rank, alpha, projections\) = \(4, "):
        train(table, configuration(tiny_encoder, **(still | {"lora": LoraConfig(rank=5)})))


def test_what_cannot_run_is_refused_before_any_work(tiny_encoder: Path, fresh_cache: Path) -> None:
    with pytest.raises(TableError) as caught:
        TuneConfig(mode="qlora", epochs=0, warmup=1.0, clip=0.0, dtype="int8", tokens_per_batch=0, adapter=Path("a"))
    for part in ("mode='qlora'", "epochs=0", "warmup=1.0", "clip=0.0", "dtype='int8'", "tokens_per_batch=0", "adapter='a'"):
        assert part in str(caught.value)
    with pytest.raises(TableError, match=r"epochs=7 goes with mode='lora' or 'full', not 'frozen'"):
        TuneConfig(epochs=7)
    with pytest.raises(TableError, match="state=None: several processes"):
        train(outcomes(), configuration(tiny_encoder, mesh=MeshConfig(coordinator="localhost:1", processes=2, process=0)))
    with pytest.raises(TableError, match=r"data=0 .* fsdp=0 .* needs processes and process"):
        MeshConfig(data=0, fsdp=0, coordinator="localhost:1234")
    with pytest.raises(TableError, match=r"data=8 x fsdp=2 needs 16 devices, there are"):
        train(outcomes(), configuration(tiny_encoder, mesh=MeshConfig(data=8, fsdp=2)))
    assert not list(fresh_cache.rglob("*.sqlite"))


@pytest.mark.slow
def test_a_killed_run_ends_with_the_parameters_of_an_unbroken_one(
    tiny_encoder: Path, fresh_cache: Path, tmp_path: Path
) -> None:
    """Killed twice, in the middle of an epoch, between two checkpoints; bit for bit the same on a CPU."""
    table = outcomes()
    with (tmp_path / "outcomes.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", *(f"{model}|{column}" for model in table.models for column in ("quality", "cost_usd"))])
        for prompt, row in zip(table.prompts, table.quality):
            writer.writerow([prompt, *(cell for value in row for cell in ("" if np.isnan(value) else value, 0.1))])
    options = {"features.layers": 2, "penalties": 0.3, "folds": 2, "tune.mode": "lora", "tune.lora.rank": 4, "tune.epochs": 6}
    options |= {"tune.batch-size": 16, "tune.tokens-per-batch": 128, "tune.save-every": 2, "tune.encoder-learning-rate": 0.01}

    def start(name: str) -> subprocess.Popen:
        program = [sys.executable, "-c", "from jaxroute.cli import run; run()", "train"]
        files = ["--table", str(tmp_path / "outcomes.csv"), "--output", str(tmp_path / name), "--encoder", str(tiny_encoder)]
        environment = os.environ | {"JAXROUTE_CACHE": str(fresh_cache)}
        given = [text for name, value in options.items() for text in (f"--{name}", str(value))]
        return subprocess.Popen([*program, *files, *given], env=environment, stderr=subprocess.PIPE, text=True)

    unbroken = start("unbroken")
    assert unbroken.wait(timeout=300) == 0, unbroken.stderr.read() if unbroken.stderr else ""
    for limit in (5, 11):
        process = start("broken")
        deadline = time.monotonic() + 240
        while not (steps(tmp_path / "broken-state") or [0])[-1] >= limit:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read() if process.stderr else ""
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert not (tmp_path / "broken").exists()
    last = start("broken")
    assert last.wait(timeout=300) == 0
    whole, resumed = (load_checkpoint(tmp_path / name).predictor for name in ("unbroken", "broken"))
    assert whole.encoder.trained.digest == resumed.encoder.trained.digest
    first, second = ((tmp_path / name / "estimator.json").read_text() for name in ("unbroken", "broken"))
    assert json.loads(first) == json.loads(second)
    updates = steps(tmp_path / "unbroken-state")
    assert steps(tmp_path / "broken-state") == updates == list(range(1, updates[-1] + 1))


def steps(folder: Path) -> list[int]:
    """Updates in the metrics, each once."""
    path = folder / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith("}")]
    return [entry["step"] for entry in entries if "loss" in entry]
