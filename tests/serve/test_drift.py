"""The proxy watches its stream: alarms are logged once, shown, shared and kept; trouble with their file harms no request."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxroute.serve.drift import Drifting
from jaxroute.serve.finished import Finished
from tests.serve.proxies import MESSAGES, proxy
from tests.serve.test_reloading import wait_until

LOG = logging.getLogger("jaxroute.serve")


@pytest.fixture
def state(tmp_path: Path) -> Any:
    """Of a proxy with a checkpoint whose estimator knows 200 calibration prompts."""
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "estimator.json").write_text("{}")
    estimator = SimpleNamespace(models=["a", "b"], familiarity=SimpleNamespace(distances=np.zeros(200)))
    config = SimpleNamespace(
        checkpoint=tmp_path / "checkpoint", drift_alpha=0.05, drift_tolerance=0.02, drift_file=tmp_path / "drift.db"
    )
    return SimpleNamespace(config=config, chooser=SimpleNamespace(estimator=estimator))


def request(**fields: Any) -> Finished:
    return Finished(id="jr-1", kind="chat", routed=True, model="a", quality=0.8, p_value=0.5, **fields)


def test_an_alarm_is_logged_once_and_survives_a_restart(state: Any, caplog: pytest.LogCaptureFixture) -> None:
    first, other = Drifting(state, LOG), Drifting(state, LOG)
    with caplog.at_level(logging.WARNING, "jaxroute.serve"):
        for step in range(60):
            # Two workers share the tests.
            (first if step % 2 else other).rated(request(), 0.0)
    assert [record.message.split(" answers")[0] for record in caplog.records] == ["drift: a"]
    first.close()
    other.close()
    again = Drifting(state, LOG)
    assert [alarm.name for alarm in again.alarms] == ["a"] and again.wealth["a"] > 1 > again.wealth["b"]
    assert again.watch is not None and again.watch.models["a"].worse.seen == 60


def test_another_checkpoint_begins_anew(state: Any) -> None:
    watching = Drifting(state, LOG)
    for _ in range(60):
        watching.rated(request(), 0.0)
    assert watching.alarms
    (state.config.checkpoint / "estimator.json").write_text('{"other": 1}')
    state.chooser = SimpleNamespace(chooser=SimpleNamespace(estimator=state.chooser.estimator))
    watching.follow(state)
    assert not watching.alarms


def test_a_file_that_is_locked_costs_no_request(state: Any) -> None:
    watching = Drifting(state, LOG)
    holder = sqlite3.connect(state.config.drift_file, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    for _ in range(20):
        watching(request())
    holder.execute("ROLLBACK")
    assert watching.wealth["prompts"] > 0
    assert watching.watch is not None and watching.watch.prompts is not None and watching.watch.prompts.wealth.seen == 20


def test_a_damaged_state_begins_anew(state: Any, caplog: pytest.LogCaptureFixture) -> None:
    Drifting(state, LOG).close()
    with sqlite3.connect(state.config.drift_file) as connection:
        connection.execute("UPDATE drift SET content = '{\"models\": []}'")
    with caplog.at_level(logging.ERROR, "jaxroute.serve"):
        assert Drifting(state, LOG).alarms == []
    assert "damaged" in caplog.text


def test_what_was_named_or_not_estimated_is_no_evidence(state: Any) -> None:
    watching = Drifting(state, LOG)
    watching.rated(Finished(id="jr-1", kind="chat", model="a", quality=0.8), 0.0)
    watching.rated(Finished(id="jr-1", kind="chat", routed=True, model="a"), 0.0)
    watching(Finished(id="jr-1", kind="chat", routed=True, model="a"))
    watching.flush()
    assert watching.watch is not None and watching.watch.models["a"].worse.seen == 0


def test_the_page_and_the_metrics_show_alarms(tmp_path: Path, state: Any) -> None:
    with proxy(tmp_path) as one:
        reply = one.post({"model": "auto", "messages": MESSAGES})
        service = one.running.service
        service.drift.follow(state)
        number = reply.headers["x-jaxroute-id"]
        # The answer is remembered an instant after its last byte.
        wait_until(lambda: service.answers.get(number) is not None)
        finished = service.answers.get(number)
        assert finished is not None
        finished.quality, finished.model = 0.9, "a"
        for _ in range(2):
            assert one.post({"id": number, "quality": 0.0}, path="/v1/feedback").status == 200
        assert service.drift.watch is not None and service.drift.watch.models["a"].worse.seen == 1
        for _ in range(60):
            service.drift.rated(finished, 0.0)
        page, metrics = (one.request("GET", path).body.decode() for path in ("/", "/metrics"))
    assert "Drift: a answers worse than estimated" in page
    assert 'jaxroute_drift_alarm{direction="worse",of="a"} 1.0' in metrics
    assert "jaxroute_unknown_prompts_total 0.0" in metrics
