"""`jaxroute prepare` as a user runs it: files in, files out, and what is wrong is said before anything is written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxroute.cli import main
from jaxroute.commands.simulate import models_yaml
from jaxroute.data.prompts import read_prompts
from jaxroute.data.sources.simulated import load_simulated
from jaxroute.data.table import RoutingTable
from jaxroute.endpoints import Ledger
from jaxroute.errors import JaxrouteError
from jaxroute.simulation import SimulationConfig, serving_in_thread

LINE = "from jaxroute.cli import run; run()"


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def questions(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("job", ["filter", "generate", "decontaminate"])
def test_each_job_explains_itself(job: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["prepare", job, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0 and f"jaxroute prepare {job}" in said and "--output" in said


def test_a_column_or_a_table_says_what_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": f"q{n}", "prompt": f"Question {n}?", "reference": n, "grade": n % 4 / 4} for n in range(40)]
    prompts, output = questions(tmp_path / "all.jsonl", rows), tmp_path / "kept.jsonl"
    main([*f"prepare filter --prompts {prompts} --quality-column grade --output {output} --count 5".split()])
    assert "kept 25 of 40 questions: 20 that the reference model fails, and 5 of the 20 others" in capsys.readouterr().out
    kept = lines(output)
    assert all(row["reference"] == int(row["id"][1:]) for row in kept) and len(read_prompts(output).texts) == 25
    quality = np.array([[row["grade"], 1.0] for row in rows])
    table = RoutingTable([row["prompt"] for row in rows], ["a", "b"], quality, np.ones(2), [row["id"] for row in rows])
    table.save(tmp_path / "table.csv")
    again = tmp_path / "again.jsonl"
    given = f"--table {tmp_path / 'table.csv'} --reference-model a --prompts {prompts} --count 5"
    main([*f"prepare filter {given} --output {again}".split()])
    assert lines(again) == kept


def test_overlaps_are_dropped_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = load_simulated(queries=30).prompts
    chat = [{"role": "user", "content": texts[2].upper()}]
    rows = [{"prompt": texts[0]}, {"messages": chat, "mine": 1}, {"prompt": texts[1]}]
    prompts = questions(tmp_path / "train.jsonl", rows)
    tests = questions(tmp_path / "test.jsonl", [{"prompt": text} for text in texts[2:]])
    output = tmp_path / "clean.jsonl"
    main(["prepare", "decontaminate", "--prompts", str(prompts), "--against", str(tests), "--output", str(output)])
    said = capsys.readouterr().out
    assert "1 of 3 prompts overlap with the 28 test texts: 1 same text" in said
    assert lines(output) == [rows[0], rows[2]]
    (match,) = lines(tmp_path / "clean.overlap.jsonl")
    assert match["prompt_place"] == "line 2" and match["test_place"] == f"{tests}: line 1"
    assert match["how"] == "same text" and match["similarity"] == 1.0


def test_questions_are_written_with_models_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = questions(tmp_path / "seeds.jsonl", [{"prompt": text} for text in load_simulated(queries=20).prompts])
    output = tmp_path / "new.jsonl"
    with serving_in_thread(SimulationConfig(time_scale=0.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        given = f"--seeds {seeds} --models {tmp_path / 'models.yaml'} --model sim-small --budget-usd 0.1 --count 15"
        main([*f"prepare generate {given} --output {output}".split()])
    assert "15 new questions; stopped: as many as asked for" in capsys.readouterr().out
    assert len(read_prompts(output).texts) == 15 and (tmp_path / "new.db").exists()


def test_the_demo_needs_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "questions.jsonl"
    main(["prepare", "generate", "--demo", "--count", "10", "--output", str(output)])
    first = output.read_text()
    main(["prepare", "generate", "--demo", "--count", "10", "--output", str(output)])
    assert "a simulation" in capsys.readouterr().out and output.read_text() == first and len(lines(output)) == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("filter --output OUT", "give either --prompts FILE with --quality-column"),
        ("filter --output OUT --prompts FILE --quality-column q --table FILE", "give either"),
        ("filter --output OUT --quality-column q", "goes with --prompts"),
        ("filter --output OUT --table FILE", "--table and --reference-model go together"),
        ("filter --output FILE --prompts FILE --quality-column q", "output='FILE' is another file of this command"),
        ("filter --output OUT --prompts FILE --quality-column q", "has no column 'q'; it has prompt"),
        ("filter --output OUT --prompts FILE --quality-column prompt", "must hold qualities from 0 to 1"),
        ("generate --output OUT", "--seeds, --models, --model, --budget-usd: give them, or --demo"),
        ("generate --demo --seeds FILE", "--demo brings its own seeds"),
        ("generate --output OUT --seeds FILE --models nowhere.yaml --model m --budget-usd 1", "nowhere.yaml"),
        ("decontaminate --prompts FILE --against FILE --output OUT", "is the file that is cleaned"),
        ("decontaminate --prompts FILE --against nowhere.txt --output OUT", "there is no such file"),
        ("decontaminate --prompts FILE --against FILE --output FILE", "output='FILE' is another file"),
        ("decontaminate --prompts FILE --against FILE --output OUT --words 1", "words=1 must be"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    options: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = questions(tmp_path / "file.jsonl", [{"prompt": "a b"}]), tmp_path / "out.jsonl"
    before = file.read_bytes()
    given = ["prepare", *(str(file) if one == "FILE" else str(out) if one == "OUT" else one for one in options.split())]
    try:
        main(given)
    except JaxrouteError as error:
        message = str(error)
    except SystemExit:
        message = " ".join(capsys.readouterr().err.replace("│", " ").split())
    else:
        message = ""
    assert said.replace("FILE'", f"{file}'") in message if "='FILE'" in said else said in message
    assert not out.exists() and file.read_bytes() == before and sorted(tmp_path.iterdir()) == [file]


@pytest.mark.slow
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_waits_for_what_is_under_way_and_the_second_one_does_not(tmp_path: Path, times: int) -> None:
    seeds = questions(tmp_path / "seeds.jsonl", [{"prompt": text} for text in load_simulated(queries=20).prompts])
    with serving_in_thread(SimulationConfig(time_scale=0.3 if times == 1 else 3.0)) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))
        given = f"--seeds {seeds} --models {tmp_path / 'models.yaml'} --model sim-small --budget-usd 1 --count 400 --batch 3"
        command = [sys.executable, "-c", LINE, "prepare", "generate", *given.split(), "--output", str(tmp_path / "new.jsonl")]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        while simulation.counts.requests.total() < (20 if times == 1 else 10):
            time.sleep(0.01)
            assert process.poll() is None
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.1)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130 and "under way; Ctrl-C again gives them up" in said and "resumes" in said
        assert "Traceback" not in said and not (tmp_path / "new.jsonl").exists()
        counts = simulation.counts
        with Ledger(tmp_path / "new.db") as ledger:
            totals = ledger.totals()
            assert totals.reserved_usd == 0 and not ledger.open()
        # What was paid for has arrived, or is given up at its worst case.
        answered = counts.answered_pico / 1e12
        assert totals.settled_usd == pytest.approx(answered, abs=1e-12) if times == 1 else totals.settled_usd > answered
        simulation.config = SimulationConfig(time_scale=0.0)
        done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert done.returncode == 0 and len(lines(tmp_path / "new.jsonl")) == 400
        assert times == 2 or max(counts.answers.values()) == 1


@pytest.mark.slow
def test_killed_again_and_again_it_writes_the_same_and_pays_once(tmp_path: Path) -> None:
    seeds = questions(tmp_path / "seeds.jsonl", [{"prompt": text} for text in load_simulated(queries=20).prompts])
    with serving_in_thread(SimulationConfig(time_scale=0.2, faults=("server_error=0.2",))) as simulation:
        (tmp_path / "models.yaml").write_text(models_yaml(simulation.base_url))

        def command(name: str) -> list[str]:
            given = f"--seeds {seeds} --models {tmp_path / 'models.yaml'} --model sim-small --budget-usd 1 --count 400"
            given += f" --output {tmp_path / name} --backoff-seconds 0.01 --batch 3"
            return [sys.executable, "-c", LINE, "prepare", "generate", *given.split()]

        kills = 0
        while kills < 5:
            process = subprocess.Popen(command("new.jsonl"), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
            asked = simulation.counts.requests.total()
            while process.poll() is None and simulation.counts.requests.total() < asked + 5 + 10 * kills:
                time.sleep(0.01)
            if process.poll() is not None:
                break
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        subprocess.run(command("new.jsonl"), check=True, stdout=subprocess.DEVNULL)
        assert kills >= 2
        counts = simulation.counts
        # Only what was under way at a kill, at most 16 requests, is asked once more, and counts as spent.
        assert sum(count - 1 for count in counts.answers.values()) <= 16 * kills
        with Ledger(tmp_path / "new.db") as ledger:
            assert counts.answered_pico / 1e12 - 1e-15 <= ledger.totals().settled_usd <= 1
            assert not ledger.open()
        subprocess.run(command("alone.jsonl"), check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "new.jsonl").read_text() == (tmp_path / "alone.jsonl").read_text()
