"""`jaxroute probes` and `jaxroute extend` as a user types them: a checkpoint takes new models in, and lets others go."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import jaxroute
from jaxroute import CheckpointError, JaxrouteError, RoutingTable, TableError, load_source
from jaxroute.cli import main
from jaxroute.data.estimates import Estimates
from jaxroute.data.table import Queries
from jaxroute.errors import JaxrouteWarning

OLD = Path(__file__).parents[1] / "old"
ASKED = ["What is 3 plus 4?", "Prove that x^3 + 2 x = 1 has one real root.", "Plan a dinner."]


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXROUTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def outcomes() -> RoutingTable:
    return load_source("simulated", queries=90)


@pytest.fixture(scope="module")
def trained(outcomes: RoutingTable, tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    outcomes.select(models=outcomes.models[:3]).save(folder / "outcomes.csv")
    main(
        f"train --table {folder / 'outcomes.csv'} --output {folder / 'checkpoint'} --encoder {tiny_encoder} "
        "--features.layers 1 --head difference --penalties 0.3 --folds 2".split()
    )
    return folder / "checkpoint"


@pytest.fixture
def checkpoint(trained: Path, tmp_path: Path) -> Path:
    """One that a test may change."""
    return Path(shutil.copytree(trained, tmp_path / "checkpoint"))


def answered(outcomes: RoutingTable, rows: int, path: Path, model: int = 3, quality: float | None = None) -> Path:
    """A file of graded answers of one model, as measured, or all of the given quality."""
    table = outcomes.select(np.arange(rows), models=[outcomes.models[model]])
    (table if quality is None else replace(table, quality=np.full((rows, 1), quality))).save(path)
    return path


def estimated(checkpoint: Path, encoder: Path | None = None) -> Estimates:
    return jaxroute.load(checkpoint, encoder=None if encoder is None else str(encoder)).estimate(
        Queries(ASKED, [""] * len(ASKED))
    )


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_from_a_checkpoint_to_one_that_routes_to_a_new_model(
    checkpoint: Path, outcomes: RoutingTable, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, probes, table = outcomes.models[3], tmp_path / "probes.jsonl", tmp_path / "answered.csv"
    before = estimated(checkpoint)
    main(f"probes --checkpoint {checkpoint} --size 30 --output {probes}".split())
    asked = [json.loads(line) for line in probes.read_text().splitlines()]
    assert "30 questions, 30 of them from training" in capsys.readouterr().out
    assert not any(name in row for row in asked for name in ("quality", "cost_usd", f"{outcomes.models[0]}|quality"))
    rows = [outcomes.prompts.index(row["prompt"]) for row in asked]
    outcomes.select(np.array(rows), models=[new]).save(table)
    main(f"extend --checkpoint {checkpoint} --table {table}".split())
    said = capsys.readouterr().out
    assert f"{new}: quality" in said and "by 30 probes, 30 of them answered by other models too" in said
    after = estimated(checkpoint)
    assert after.models == [*before.models, new]
    np.testing.assert_array_equal(after.quality[:, :3], before.quality)
    np.testing.assert_array_equal(after.cost_usd[:, :3], before.cost_usd)
    prompts, output = tmp_path / "prompts.jsonl", tmp_path / "assignment.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in ASKED))
    main(f"route --checkpoint {checkpoint} --prompts {prompts} --budget-usd 1 --output {output}".split())
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    best = [after.models[column] for column in after.quality.argmax(axis=1)]
    assert [line["model"] for line in lines] == best


def test_the_same_folder_by_name_and_by_default_or_another_one(
    checkpoint: Path, outcomes: RoutingTable, tmp_path: Path
) -> None:
    table, before = answered(outcomes, 20, tmp_path / "answered.csv"), stored(checkpoint)
    main(f"extend --checkpoint {checkpoint} --table {table} --output {tmp_path / 'other'}".split())
    assert stored(checkpoint) == before
    main(f"extend --checkpoint {checkpoint} --table {table} --output {checkpoint}".split())
    other = estimated(tmp_path / "other")
    np.testing.assert_array_equal(estimated(checkpoint).quality, other.quality)
    main(f"extend --checkpoint {checkpoint} --remove {outcomes.models[3]} {outcomes.models[1]}".split())
    left = estimated(checkpoint)
    assert left.models == [outcomes.models[0], outcomes.models[2]]
    np.testing.assert_array_equal(left.quality, other.select(left.models).quality)
    assert not list(tmp_path.glob(".*")) and len(list(tmp_path.iterdir())) == 3


def test_two_files_of_probes_in_either_order(trained: Path, outcomes: RoutingTable, tmp_path: Path) -> None:
    files = [answered(outcomes, 20, tmp_path / f"{model}.csv", model) for model in (3, 4)]
    found, folder = [], tmp_path
    for place, order in enumerate((files, files[::-1])):
        folder = Path(shutil.copytree(trained, tmp_path / f"checkpoint{place}"))
        for file in order:
            main(f"extend --checkpoint {folder} --table {file}".split())
        found.append(estimated(folder).select(outcomes.models[:5]))
    np.testing.assert_array_equal(found[0].quality, found[1].quality)
    np.testing.assert_array_equal(found[0].cost_usd, found[1].cost_usd)
    # A second file of a model that is known by now takes the first one's place, where that is asked for.
    more = answered(outcomes, 60, tmp_path / "more.csv")
    with pytest.raises(TableError, match="knows all of its models already"):
        main(f"extend --checkpoint {folder} --table {more}".split())
    main(f"extend --checkpoint {folder} --table {more} --models {outcomes.models[3]}".split())
    alone = tmp_path / "alone"
    main(f"extend --checkpoint {trained} --table {more} --output {alone}".split())
    again = estimated(folder).select(outcomes.models[:4])
    np.testing.assert_array_equal(again.quality, estimated(alone).quality)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "answered.csv", "--models", "gpt-9"], "models=gpt-9: answered has no outcomes of it"),
        (["--remove", "gpt-9"], "remove=gpt-9: not in the checkpoint"),
        (["--table", "known.csv"], "the checkpoint knows all of its models already"),
        (["--models", "gpt-9"], "give --table with the graded answers"),
    ],
)
def test_unknown_models_change_nothing(
    arguments: list[str], message: str, trained: Path, outcomes: RoutingTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answered(outcomes, 5, tmp_path / "answered.csv")
    answered(outcomes, 5, tmp_path / "known.csv", model=0)
    before = stored(trained)
    with pytest.raises(JaxrouteError, match=message):
        main(["extend", "--checkpoint", str(trained), *arguments])
    assert stored(trained) == before


def test_all_right_and_all_wrong(trained: Path, outcomes: RoutingTable, tmp_path: Path) -> None:
    found = {}
    for count in (5, 40):
        for quality in (0.0, 1.0):
            table, output = answered(outcomes, count, tmp_path / "answered.csv", quality=quality), tmp_path / "extended"
            command = f"extend --checkpoint {trained} --table {table} --output {output}".split()
            if count < 10:
                with pytest.warns(JaxrouteWarning, match="has 5 graded answers"):
                    main(command)
            else:
                main(command)
            found[count, quality] = estimated(output).quality
    base = found[5, 1.0][:, :3]
    for estimates in found.values():
        assert ((estimates > 0) & (estimates < 1)).all()
        np.testing.assert_array_equal(estimates[:, :3], base)
    levels = [found[key][:, 3].mean() for key in ((40, 0.0), (5, 0.0), (5, 1.0), (40, 1.0))]
    assert levels == sorted(levels) and levels[0] < 0.15 and levels[3] > 0.85


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_is_extended(outcomes: RoutingTable, tmp_path: Path) -> None:
    folder, encoder, probes = Path(shutil.copytree(OLD / "predictor", tmp_path / "old")), OLD / "encoder", tmp_path / "p.jsonl"
    before, new = estimated(folder, encoder), outcomes.models[1]
    with pytest.raises(CheckpointError, match="keeps no prompts; name the questions with --prompts"):
        main(f"probes --checkpoint {folder} --encoder {encoder} --output {probes}".split())
    main(f"probes --checkpoint {folder} --encoder {encoder} --prompts {OLD / 'table.csv'} --size 3 --output {probes}".split())
    assert len(probes.read_text().splitlines()) == 3
    table, prices = answered(outcomes, 30, tmp_path / "answered.csv", model=1), tmp_path / "prices.json"
    prices.write_text(json.dumps({new: {"input": 0.1, "output": 0.4}}))
    main(f"extend --checkpoint {folder} --encoder {encoder} --table {table} --prices {prices}".split())
    after = estimated(folder, encoder)
    assert after.models == [*before.models, new]
    np.testing.assert_array_equal(after.quality[:, :-1], before.quality)
    np.testing.assert_array_equal(after.cost_usd[:, :-1], before.cost_usd)
    assert 0 < after.cost_usd[0, -1] < before.cost_usd.max()
