"""jaxroute run: a batch answered by simulated endpoints, with faults, resumed, in OpenAI's form, and wrong input."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from jaxroute.batch.answering import row_name
from jaxroute.batch.prepare import prepare
from jaxroute.batch.run_config import RunConfig, RunOptions
from jaxroute.batch.runs import RunReport, run
from jaxroute.data.table import RoutingTable
from jaxroute.endpoints import ClientConfig, Ledger
from jaxroute.errors import JaxrouteError, JaxrouteWarning
from jaxroute.simulation import Simulation, SimulationConfig, serving_in_thread
from tests.batch.running import make_checkpoint, read_lines, write_models, write_prompts

SOON = ClientConfig(backoff_seconds=0.0, retries=2, jitter_seed=0)
FAULTS = ("rate_limit=0.1", "server_error=0.05", "cut=0.05", "malformed=0.02")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RoutingTable]:
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    return folder, make_checkpoint(folder)


@contextmanager
def batch(
    folder: Path, checkpoint: tuple[Path, RoutingTable], *, budget_usd: float = 0.05, prompts: int = 60, **behaviour
) -> Iterator[tuple[RunConfig, Simulation]]:
    """The configuration of a run, and the endpoints that it asks."""
    table = checkpoint[1].select(list(range(prompts)))
    write_prompts(folder / "prompts.jsonl", table)
    settings = SimulationConfig(**({"time_scale": 0.0, "retry_after_seconds": 0.0} | behaviour))
    with serving_in_thread(settings, checkpoint[1]) as simulation:
        write_models(folder / "models.yaml", simulation.base_url)
        files = {name: folder / name for name in ("prompts.jsonl", "models.yaml", "new/answers.jsonl")}
        yield RunConfig(checkpoint[0], *list(files.values())[:2], budget_usd, files["new/answers.jsonl"]), simulation


def answer(config: RunConfig) -> tuple[RunReport, list[dict]]:
    report = run(prepare(config), SOON)
    return report, read_lines(config.output)


def test_every_prompt_has_one_line_in_order_and_dollars_are_what_the_endpoints_counted(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint) as (config, simulation):
        report, lines = answer(config)
        table = checkpoint[1]
        assert [line["id"] for line in lines] == list(range(60))
        assert [line["prompt"] for line in lines] == table.prompts[:60]
        for row, line in enumerate(lines):
            column = table.models.index(line["model"])
            assert line["answer"].endswith(f"The answer is {simulation.pool.answer(line['model'], line['prompt'])}.")
            assert line["completion_tokens"] == table.output_tokens[row, column]
            assert line["tries"] == 1 and line["error"] is None and 0 <= line["estimate"] <= 1
            assert line["cost_usd"] == line["spent_usd"] == pytest.approx(table.cost_usd[row, column])
        assert report.spent_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-12)
        assert 0.8 * 0.05 < report.spent_usd <= 0.05
        assert report.answered == 60 and sum(one.prompts for one in report.models) == 60


def test_faults_fall_to_other_models_and_nothing_is_asked_again_when_it_is_resumed(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, faults=FAULTS, budget_usd=0.4) as (config, simulation):
        report, lines = answer(config)
        assert report.answered == 60 and [line["id"] for line in lines] == list(range(60))
        assert sum(line["spent_usd"] for line in lines) == pytest.approx(report.spent_usd, abs=1e-12)
        # What was cut is charged at its worst case, which is more than what was generated.
        assert simulation.counts.answered_pico / 1e12 < report.spent_usd <= 0.4
        assert max(line["tries"] for line in lines) > 1
        asked = sum(simulation.counts.requests.values())
        config.output.unlink()
        again, same = answer(config)
        assert sum(simulation.counts.requests.values()) == asked
        assert same == lines and again.spent_usd == report.spent_usd and again.already == 60


def test_more_money_answers_what_had_to_stay_without_an_answer(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, budget_usd=0.0004) as (config, simulation):
        report, lines = answer(config)
        lost = [line for line in lines if line["model"] is None]
        assert 0 < len(lost) == report.prompts - report.answered and report.spent_usd <= 0.0004
        assert all(line["answer"] is None and line["error"].startswith("budget: no worst case fits") for line in lost)
        assert report.unanswered == {"no worst case fits into the rest of the budget": len(lost)}
        more, lines = answer(replace(config, budget_usd=0.05))
        assert more.answered == 60 and more.already == report.answered
        assert max(simulation.counts.answers.values()) == 1


def test_models_take_what_they_accept_and_only_so_many(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=20) as (config, _):
        text = config.models.read_text().replace("accepts: [json_schema]", "accepts: []")
        head, marked, tail = text.partition("  sim-large:")
        config.models.write_text(head + marked + tail.replace("accepts: []", "accepts: [json_schema]", 1))
        rows = [json.loads(line) for line in config.prompts.read_text().splitlines()]
        rows[3]["response_format"] = {"type": "json_object"}
        rows[5]["tools"] = [{"type": "function", "function": {"name": "f"}}]
        config.prompts.write_text("\n".join(map(json.dumps, rows)))
        options = RunOptions(capacity={"sim-nano": 2, "sim-small": 3})
        prepared = prepare(replace(config, options=options))
        assert any("no model can answer 1 prompt, the first of them row 6" in note for note in prepared.notes)
        report, lines = run(prepared, SOON), read_lines(config.output)
        assert lines[3]["model"] == "sim-large" and json.loads(lines[3]["answer"])["answer"]
        assert lines[5]["model"] is None and "does not accept tools" in lines[5]["error"]
        counts = {one.model: one.prompts for one in report.models}
        assert counts["sim-nano"] <= 2 and counts["sim-small"] <= 3 and report.answered == 19


def test_an_openai_batch_goes_in_and_comes_out(checkpoint, tmp_path: Path) -> None:
    from openai.types.chat import ChatCompletion

    with batch(tmp_path, checkpoint, prompts=6) as (config, simulation):
        texts = checkpoint[1].prompts[:6]
        lines = [
            {
                "custom_id": f"request-{5 - row}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "any", "messages": [{"role": "user", "content": text}], "max_tokens": 7 if row == 2 else 600},
            }
            for row, text in enumerate(texts)
        ]
        lines[4]["body"]["tools"] = [{"type": "function", "function": {"name": "f"}}]
        config.prompts.write_text("\n".join(map(json.dumps, lines)))
        config = replace(config, options=RunOptions(format="openai-batch"))
        _, found = answer(config)
        assert [line["custom_id"] for line in found] == [f"request-{5 - row}" for row in range(6)]
        assert [set(line) for line in found] == [{"id", "custom_id", "response", "error"}] * 6
        assert found[4]["response"] is None and found[4]["error"]["code"] == "no_model"
        for row in (0, 1, 2, 3, 5):
            response = found[row]["response"]
            body = ChatCompletion.model_validate(response["body"])
            assert response["status_code"] == 200 and response["request_id"] and found[row]["error"] is None
            assert body.choices[0].finish_reason == ("length" if row == 2 else "stop")
            written = simulation.pool.write(body.model, texts[row], 7 if row == 2 else 600)
            assert body.choices[0].message.content == " ".join(written.words)
            assert body.usage is not None and body.usage.completion_tokens == written.completion_tokens
            assert response["body"]["jaxroute"]["cost_usd"] > 0


def test_a_model_with_a_wrong_key_is_left_out_after_its_first_call(
    checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with batch(tmp_path, checkpoint, prompts=20, api_key="right") as (config, simulation):
        monkeypatch.setenv("RIGHT", "right")
        monkeypatch.setenv("WRONG", "wrong")
        text = config.models.read_text().replace(
            "    accepts", "    concurrent_requests: 1\n    api_key_env: RIGHT\n    accepts"
        )
        head, marked, tail = text.partition("  sim-frontier:")
        config.models.write_text(head + marked + tail.replace("RIGHT", "WRONG", 1))
        with pytest.warns(JaxrouteWarning, match="sim-frontier is asked nothing more: unauthorized") as warned:
            report, lines = answer(replace(config, budget_usd=1.0))
        assert report.answered == 20 and "sim-frontier" not in {line["model"] for line in lines} and len(warned) == 1
        assert report.spent_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-12)


def test_the_deadline_is_that_of_a_prompt_over_all_models(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=4, faults=("slow_first_byte=1.0",), slow_seconds=5.0) as (config, _):
        started = time.perf_counter()
        report, lines = answer(replace(config, options=RunOptions(deadline_seconds=0.3)))
        assert time.perf_counter() - started < 3
        assert report.unanswered == {"the deadline has passed": 4}
        assert all(line["error"].startswith("deadline: sim-") for line in lines)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"budget_usd": 1e-9}, r"budget_usd=1e-09 is below the worst case of any call: give at least 0\.\d+"),
        ({"options": RunOptions(only=("sim-huge",))}, "only=sim-huge: not among the models"),
        ({"options": RunOptions(capacity={"sim-huge": 3})}, "capacity of unknown models: sim-huge=3"),
        ({"options": RunOptions(format="openai-batch")}, "row 1 has custom_id=None, not a text"),
        ({"output": Path("/proc/answers.jsonl")}, "cannot be made"),
        ({"prompts": Path("nowhere.jsonl")}, "there is no such file"),
        ({"checkpoint": Path("nowhere")}, "is not a checkpoint"),
    ],
)
def test_wrong_input_is_rejected_before_anything_is_asked(checkpoint, tmp_path: Path, change: dict, message: str) -> None:
    with batch(tmp_path, checkpoint, prompts=3) as (config, simulation):
        with pytest.raises(JaxrouteError, match=message):
            answer(replace(config, **change))
        assert not simulation.counts.requests and not config.state.exists() and not config.output.exists()


def test_no_file_that_is_read_is_replaced(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=3) as (config, _):
        for source in (config.prompts, config.models):
            with pytest.raises(JaxrouteError, match="is the file that is read: give another name"):
                prepare(replace(config, output=source))
        config.output.parent.mkdir()
        config.output.touch()
        with pytest.raises(JaxrouteError, match=r"missing\.jsonl"):
            prepare(replace(config, prompts=tmp_path / "missing.jsonl"))


def test_names_that_nobody_knows_and_keys_that_are_missing_are_rejected(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=3) as (config, _):
        text = config.models.read_text()
        config.models.write_text(text.replace("  sim-nano:", "  judge:"))
        notes = " ".join(prepare(config).notes)
        assert "so not asked: sim-nano" in notes and "unknown to the checkpoint, so not asked: judge" in notes
        config.models.write_text(text.replace("accepts", "api_key_env: NO_SUCH_KEY\n    accepts"))
        with pytest.raises(JaxrouteError, match="NO_SUCH_KEY"):
            prepare(config)
        config.models.write_text(text.replace("sim-", "my-"))
        with pytest.raises(JaxrouteError, match="names none of the checkpoint's models: it has my-nano"):
            prepare(config)


def test_the_state_of_another_run_is_rejected_and_kept(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=4) as (config, simulation):
        _, lines = answer(config)
        asked = sum(simulation.counts.requests.values())
        with pytest.raises(JaxrouteError, match="output_tokens was null and is 50"):
            answer(replace(config, options=RunOptions(output_tokens=50)))
        rows = config.prompts.read_text()
        config.prompts.write_text(rows.replace('"prompt": "', '"prompt": "Now: ', 1))
        with pytest.raises(JaxrouteError, match="had other prompts under the same ids"):
            answer(config)
        config.prompts.write_text(rows)
        assert answer(config)[1] == lines and sum(simulation.counts.requests.values()) == asked


@pytest.mark.slow
def test_killed_at_any_moment_nothing_that_is_stored_is_asked_or_paid_again(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, budget_usd=1.0, time_scale=0.5, faults=FAULTS) as (config, simulation):
        command = [sys.executable, "-c", "from jaxroute.cli import run; run()", "run", "--budget-usd", "1.0"]
        for name in ("checkpoint", "prompts", "models", "output"):
            command += [f"--{name}", str(getattr(config, name))]
        command += ["--concurrent-calls", "6"]
        kills = 0
        while True:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            before, until = sum(simulation.counts.answers.values()), time.monotonic() + 120
            while process.poll() is None and time.monotonic() < until:
                # Killed a few answers after it has begun to ask, and then less and less often.
                if sum(simulation.counts.answers.values()) >= before + 6 * (kills + 1):
                    process.send_signal(signal.SIGKILL)
                time.sleep(0.02)
            said = process.communicate()[0]
            if process.returncode == 0:
                break
            assert process.returncode == -signal.SIGKILL
            kills += 1
        assert kills >= 3 and "60 of 60 prompts answered" in said
        lines = read_lines(config.output)
        assert [line["id"] for line in lines] == list(range(60)) and all(line["model"] for line in lines)
        report = run(prepare(config))
        assert sum(line["spent_usd"] for line in lines) == pytest.approx(report.spent_usd, abs=1e-12)
        # An answer that arrived in the moment of a kill may come twice; each of them was one of at most six calls.
        twice = sum(count - 1 for count in simulation.counts.answers.values())
        assert twice <= 6 * kills
        assert report.spent_usd >= simulation.counts.answered_pico / 1e12


def test_what_a_kill_has_taken_is_said_in_dollars_with_the_budget_that_makes_up(
    checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with batch(tmp_path, checkpoint, prompts=4, budget_usd=0.1) as (config, _):
        config.state.parent.mkdir()
        with Ledger(config.state, 0.1) as ledger, monkeypatch.context() as dead:
            dead.setattr("jaxroute.endpoints.ledger.this_process", lambda: ledger._process.rsplit("/", 1)[0] + "/0")
            ledger._number_of_process = 0
            assert ledger.reserve(0.025, json.dumps([row_name(0), "sim-large", ""]))
        taken = "1 call was under way when a run was killed: 0.025000 dollars (25% of the budget) count as spent"
        with pytest.warns(JaxrouteWarning, match=re.escape(taken) + ".*--budget-usd 0.125 leaves as much"):
            report, lines = answer(config)
        assert taken in str(report) and len(lines) == 4
        # In every summary, but a warning only of the run that finds it: a budget that was raised need not be raised again.
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "0.025000 dollars (20% of the budget)" in str(answer(replace(config, budget_usd=0.125))[0])


def test_rows_of_an_earlier_run_get_lines_of_this_one_alone(checkpoint, tmp_path: Path) -> None:
    stale = {
        "model": "old",
        "answer": "old",
        "estimate": 9,
        "finish_reason": "old",
        "cost_usd": 5,
        "error": "old",
        "refusal": "no",
    }
    with batch(tmp_path, checkpoint, prompts=3) as (config, _):
        rows = [json.loads(line) | stale | {"mine": 1} for line in config.prompts.read_text().splitlines()]
        rows[2]["tools"] = [{"type": "function", "function": {"name": "f"}}]
        config.models.write_text(re.sub("accepts: .*", "accepts: []", config.models.read_text()))
        config.prompts.write_text("\n".join(map(json.dumps, rows)))
        assert any("answer, cost_usd, error" in note and "rename" in note for note in prepare(config).notes)
        _, lines = answer(config)
        assert [line["mine"] for line in lines] == [1, 1, 1]
        assert lines[0]["answer"] != "old" and lines[0]["error"] is None and "refusal" not in lines[0]
        assert lines[2]["error"].startswith("no_model")
        assert [name for name in stale if lines[2].get(name) is not None] == ["error"]


def test_a_budget_below_what_is_spent_is_called_as_it_was_given(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, prompts=3) as (config, _):
        answer(config)
        with pytest.raises(JaxrouteError, match=r"^budget_usd=0.0005 is below the .* dollars that"):
            answer(replace(config, budget_usd=0.0005))


@pytest.mark.slow
def test_ctrl_c_waits_for_the_answers_that_are_under_way(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, time_scale=0.2) as (config, simulation):
        command = ["run", "--checkpoint", config.checkpoint, "--prompts", config.prompts, "--models", config.models]
        command += ["--budget-usd", config.budget_usd, "--output", config.output]
        call = [sys.executable, "-c", "from jaxroute.cli import run; run()", *map(str, command)]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while not simulation.counts.answers:
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode == 130 and "under way; Ctrl-C again gives them up" in said and "Traceback" not in said
        assert 0 < len(simulation.counts.answers) < 60 and not simulation.counts.lost_pico
        report, lines = answer(config)
        assert len(lines) == 60 and max(simulation.counts.answers.values()) == 1
        assert report.spent_usd == pytest.approx(simulation.counts.answered_pico / 1e12, abs=1e-12)


@pytest.mark.slow
def test_a_full_disk_ends_in_one_message(checkpoint, tmp_path: Path) -> None:
    with batch(tmp_path, checkpoint, time_scale=0.05) as (config, _):
        command = ["run", "--checkpoint", config.checkpoint, "--prompts", config.prompts, "--models", config.models]
        command += ["--budget-usd", config.budget_usd, "--output", config.output]
        call = [sys.executable, "-c", "from jaxroute.cli import run; run()", *map(str, command)]
        shell = ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", *call]
        ended = subprocess.run(shell, capture_output=True, text=True, timeout=60)
        assert ended.returncode == 2 and "Traceback" not in ended.stderr and "never retrieved" not in ended.stderr
        assert "disk" in ended.stderr and "the same command resumes from it" in ended.stderr
        assert answer(config)[0].answered == 60
