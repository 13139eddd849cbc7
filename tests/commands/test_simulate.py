"""`jaxroute simulate` as a user runs it: it writes models.yaml, answers, and counts until it is interrupted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from jaxroute.cli import main
from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.endpoints import load_models
from jaxroute.errors import JaxrouteError
from jaxroute.simulation import SimulatedPool

LINE = "from jaxroute.cli import run; run()"


def test_it_serves_the_simulated_table_until_interrupted(tmp_path: Path) -> None:
    models = tmp_path / "models.yaml"
    command = [sys.executable, "-c", LINE, "simulate", "--port", "0", "--queries", "50", "--time-scale", "0"]
    with subprocess.Popen([*command, "--models", str(models)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert str(models) in process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+/v1", process.stdout.readline())
        assert found
        endpoints = load_models(models)
        assert {one.base_url for one in endpoints.values()} == {found.group()}
        assert list(endpoints) == list(simulated_prices())
        table = load_simulated(queries=50, seed=0)
        body = {"model": "sim-large", "messages": [{"role": "user", "content": table.prompts[3]}]}
        asked = urllib.request.Request(f"{found.group()}/chat/completions", json.dumps(body).encode())
        with urllib.request.urlopen(asked, timeout=30) as response:
            answer = json.load(response)
        assert table.output_tokens is not None
        assert answer["usage"]["completion_tokens"] == table.output_tokens[3, table.models.index("sim-large")]
        said = SimulatedPool(table).answer("sim-large", table.prompts[3])
        assert answer["choices"][0]["message"]["content"].endswith(f"The answer is {said}.")
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
    assert process.returncode == 0
    assert "served 1 requests and 1 answers for 0.00" in rest


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("--port 70000", "port=70000 must be from 0 to 65535"),
        ("--queries -1", "queries=-1 must be at least 0"),
        ("--faults fire=1", "faults='fire=1' is unknown"),
        ("--time-scale -1", "time_scale=-1"),
        ("--models /", "models='/' is a folder"),
    ],
)
def test_wrong_options_are_named(options: str, says: str) -> None:
    with pytest.raises(JaxrouteError) as raised:
        main(["simulate", *options.split()])
    assert says in str(raised.value)
