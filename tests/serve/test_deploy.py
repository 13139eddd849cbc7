"""What is deployed beside the proxy fits it: the dashboard's metrics are served, the unit's and the image's options exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from jaxroute.cli import main
from jaxroute.serve.live import LiveChooser
from tests.serve.proxies import MESSAGES, FixedChooser, proxy

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy/jaxroute.service"
IMAGE = ROOT / "deploy/Containerfile"
CHAT = {"model": "auto", "messages": MESSAGES}
TYPES = {"timeseries", "stat", "gauge"}


class Conversations(SimpleNamespace):
    def __len__(self) -> int:
        return 1


class LiveFigures(FixedChooser):
    """With a predictor's figures, whose names are those of the code."""

    def figures(self) -> dict[str, float]:
        reader = SimpleNamespace(prompts=1, batches=1, wait_seconds=1.0, conversations=Conversations(bytes_used=1, hits=1))
        live: Any = SimpleNamespace(reader=reader, without_estimates=0)
        return LiveChooser.figures(live)


def served(folder: Path) -> dict[str, set[str]]:
    """The labels of every sample of /metrics, after an answer, a failed try, an error and a reload."""
    chooser = LiveFigures({"sim-medium": 0.6, "sim-large": 0.9}, {"sim-medium": 1e-5, "sim-large": 1e-3})
    with proxy(folder, chooser=chooser) as one:
        one.simulation.next_faults.append("rate_limit:0")
        one.post(CHAT)
        one.post({**CHAT, "model": "nothing"})
        one.running.service.metrics.reloads.labels("read").inc()
        text = one.request("GET", "/metrics").body.decode()
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples if not sample.name.endswith("_created")}


def expressions() -> list[str]:
    panels = json.loads((ROOT / "docs/grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert {panel["type"] for panel in panels} == TYPES | {"row"}
    return [target["expr"] for panel in panels if panel["type"] in TYPES for target in panel["targets"]]


def test_the_dashboard_shows_what_is_served_by_its_labels_and_nothing_else(tmp_path: Path) -> None:
    known, shown = served(tmp_path), set()
    for expression in expressions():
        names = re.findall(r"\bjaxroute_\w+", expression)
        assert names and set(names) <= set(known), expression
        shown |= set(names)
        labels = {one.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for one in group.split(",")}
        labels |= set(re.findall(r"(\w+)=", " ".join(re.findall(r"\{([^}]*)\}", expression))))
        for name in names:
            assert labels <= known[name], expression
        assert expression.count("(") == expression.count(")")
    # A histogram is shown by its buckets or by its mean.
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in known}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}


def test_legends_name_labels_that_the_panel_keeps() -> None:
    for panel in json.loads((ROOT / "docs/grafana.json").read_text())["panels"]:
        for target in panel.get("targets", ()):
            kept = {one.strip() for group in re.findall(r"by \(([^)]*)\)", target["expr"]) for one in group.split(",")}
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) == kept - {"le"}, target


def commands() -> dict[str, list[str]]:
    """What the unit and the image run."""
    unit = UNIT.read_text().replace("\\\n", " ")
    line = re.search(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    parts = re.findall(r"^(?:ENTRYPOINT|CMD) (\[.*\])$", IMAGE.read_text(), re.MULTILINE)
    assert line is not None and len(parts) == 2
    return {"unit": shlex.split(line[1]), "image": [word for part in parts for word in json.loads(part)]}


@pytest.mark.parametrize("which", ["unit", "image"])
def test_its_command_has_options_that_exist(which: str, capsys: pytest.CaptureFixture[str]) -> None:
    program, command, *rest = commands()[which]
    assert (Path(program).name, command) == ("jaxroute", "serve")
    named = {word for word in rest if word.startswith("--")}
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    assert named and named <= set(re.findall(r"--[a-z][a-z.-]*", capsys.readouterr().out))
    # What listens for other machines asks for keys.
    assert rest[rest.index("--host") + 1] == "127.0.0.1" or "--clients" in named


def test_the_unit_stops_later_than_the_proxy() -> None:
    unit, command = UNIT.read_text(), commands()["unit"]
    stop = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop is not None and int(stop[1]) > float(command[command.index("--stop-seconds") + 1])
    assert re.search(r"^ExecReload=.*-HUP \$MAINPID$", unit, re.MULTILINE)
