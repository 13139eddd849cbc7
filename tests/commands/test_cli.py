"""The command line as a user types it: a table of one's own to a routed batch, the demo, and bad input."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import jaxroute.cli
from jaxroute import JaxrouteError, load_source
from jaxroute.cli import main
from jaxroute.commands.demo import DemoConfig
from jaxroute.commands.demo import main as run_demo
from solvers import ProblemError


def write_own_table(path: Path) -> Path:
    """A wide CSV as the README shows it: prompt, and per model a quality and a cost."""
    table = load_source("simulated", queries=120).select(models=["sim-nano", "sim-large"])
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["prompt", "small|quality", "small|cost_usd", "large|quality", "large|cost_usd"])
        for row, prompt in enumerate(table.prompts):
            small, large = table.quality[row]
            writer.writerow([prompt, small, 0.0001, large, 0.002])
    return path


def run(*arguments: str, cache: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user would run it."""
    program = [sys.executable, "-c", "from jaxroute.cli import run; run()", *arguments]
    environment = os.environ | {"JAXROUTE_CACHE": str(cache)}
    # A user has not told JAX where to keep what it compiles.
    environment = {
        name: value for name, value in environment.items() if not name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT"))
    }
    return subprocess.run(program, capture_output=True, text=True, env=environment, timeout=300, check=False)


def test_from_ones_own_csv_to_a_routed_batch(tmp_path: Path, tiny_encoder: Path, fresh_cache: Path) -> None:
    table = write_own_table(tmp_path / "outcomes.csv")
    checkpoint = tmp_path / "checkpoint"
    main(
        f"train --table {table} --output {checkpoint} --encoder {tiny_encoder} "
        "--features.layers 1 --head difference --penalties 0.3 0.1".split()
    )
    prompts = tmp_path / "prompts.jsonl"
    rows = [{"prompt": "What is 3 plus 4?", "id": 7}, {"prompt": "Prove that x^3 + 2 x = 1 has one real root."}]
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    output = tmp_path / "assignment.jsonl"
    # A new process: nothing but the checkpoint and its encoder is at hand.
    done = run(
        *("route", "--checkpoint", str(checkpoint), "--prompts", str(prompts)),
        *("--budget-usd", "0.0025", "--output", str(output)),
        cache=fresh_cache,
    )
    assert done.returncode == 0, done.stderr
    assert "every answer of a model costs that model's mean" in done.stdout
    # What was compiled is kept for the next start.
    assert any((fresh_cache / "compiled").rglob("*-cache"))
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["prompt"] for line in lines] == [row["prompt"] for row in rows]
    assert lines[0]["id"] == 7
    assert {line["model"] for line in lines} <= {"small", "large"}
    assert sum(line["cost_usd"] for line in lines) <= 0.0025
    assert all(0 <= line["estimate"] <= 1 for line in lines)

    refused = run(
        *("route", "--checkpoint", str(checkpoint), "--prompts", str(prompts)),
        *("--budget-usd", "0.0001", "--output", str(tmp_path / "never.jsonl")),
        cache=fresh_cache,
    )
    assert refused.returncode == 2
    assert "budget_usd=0.0002" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "never.jsonl").exists()


def test_the_demo_runs_the_whole_line_and_its_solvers_agree(
    tmp_path: Path, tiny_encoder: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("jaxroute.commands.demo.TrainConfig", lambda **fields: TINY_TRAINING(str(tiny_encoder), **fields))
    result = run_demo(DemoConfig(output=tmp_path / "demo", queries=200, layer=1))
    for name in ("cost_quality.png", "assignment.jsonl", "estimates.csv", "costs.csv", "result.json"):
        assert (tmp_path / "demo" / name).stat().st_size > 0
    assert (tmp_path / "demo" / "checkpoint" / "estimator.json").exists()
    assert json.loads((tmp_path / "demo" / "result.json").read_text()) == result
    assert all(result[f"status_exact_{share:g}"] == "optimal" for share in DemoConfig().budgets)
    assert result["aiq_zero_router"] < result["aiq_oracle"]
    files = [f"--{name}={tmp_path}/demo/{name}.csv" for name in ("estimates", "costs")]
    main(["assign", *files, "--budget-usd", "0.05", "--output", str(tmp_path / "assigned")])
    printed = capsys.readouterr().out
    assert printed.count("simulation") >= 2
    for name in ("always sim-frontier", "random", "prompt length", "zero router", "oracle", "exact"):
        assert name in printed


def TINY_TRAINING(encoder: str, **fields: object):
    from jaxroute import TrainConfig

    return TrainConfig(encoder=encoder, head="difference", penalties=(0.3, 0.1), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [[], ["demo"], ["train"], ["score"], ["route"], ["assign"], ["universe"], ["sources"]])
def test_every_command_explains_itself(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--help"])
    assert stopped.value.code == 0
    assert "usage: jaxroute" in capsys.readouterr().out


def test_sources_lists_every_source_and_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sources"])
    printed = capsys.readouterr().out
    for name in ("routellm-mmlu", "routellm-gsm8k", "routerdc", "routerbench", "simulated", "table", "MODEL|quality"):
        assert name in printed


def test_bad_input_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaxroute.commands.train.train", None)  # calling it would be a TypeError
    table = write_own_table(tmp_path / "outcomes.csv")
    text = table.read_text()
    output = ["--output", str(tmp_path / "never")]
    cases = {
        "missing columns: small|cost_usd": text.replace("small|cost_usd", "small|price"),
        "unknown columns: small|price": text.replace("small|cost_usd", "small|price"),
        "must be at least 0.0": text.replace("0.0001", "-1"),
        "is not a number": text.replace("0.0001", "cheap"),
        "must be at most 1.0": text.replace(",1.0,", ",1.5,"),
        "is empty": text.replace(text.splitlines()[1].split(",")[0], " ", 1),
        "it has no rows": text.splitlines()[0] + "\n",
    }
    for message, content in cases.items():
        table.write_text(content)
        with pytest.raises(JaxrouteError, match=message.replace("|", r"\|")):
            main(["train", "--table", str(table), *output])
    with pytest.raises(JaxrouteError, match="give either --table FILE"):
        main(["train", *output])
    with pytest.raises(JaxrouteError, match="source='nonsense' is unknown"):
        main(["train", "--source", "nonsense", "--path", str(tmp_path), *output])
    with pytest.raises(JaxrouteError, match="is not a checkpoint"):
        prompts = tmp_path / "prompts.txt"
        prompts.write_text("one prompt\n")
        main(["route", "--checkpoint", str(tmp_path), "--prompts", str(prompts), "--budget-usd", "1"])
    assert not (tmp_path / "never").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "holds no prompt"),
        (
            '{"prompt": "fine"}\n{"text": "no"}\nnot json\n{"prompt": ""}\n',
            "3 of 4 rows [^$]*line 2: has no prompt[^$]*line 3: is not JSON[^$]*line 4: prompt is empty",
        ),
    ],
)
def test_prompt_files_that_are_wrong_name_their_lines(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(content)
    with pytest.raises(JaxrouteError, match=message):
        main(["route", "--checkpoint", str(tmp_path), "--prompts", str(path), "--budget-usd", "1"])


def test_errors_of_both_floors_end_with_status_two(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for error in (ProblemError("value is wrong"), JaxrouteError("table is wrong")):

        def fail(problem: Exception = error) -> None:
            raise problem

        monkeypatch.setattr(jaxroute.cli, "main", fail)
        with pytest.raises(SystemExit) as stopped:
            jaxroute.cli.run()
        assert stopped.value.code == 2
        assert "is wrong" in capsys.readouterr().err
