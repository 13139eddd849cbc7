"""The proxy watches its stream: alarms are logged once, shown, shared and kept; trouble with their file harms no request."""

from __future__ import annotations

import logging
import math
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.promise import Part, Promise
from jaxroute.serve.drift import Drifting
from jaxroute.serve.finished import Finished
from jaxroute.serve.promised import Promised
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
    return SimpleNamespace(config=config, chooser=SimpleNamespace(estimator=estimator), promise=None, checkpoint_digest="first")


def promised(state: Any, text: str) -> Any:
    """The same, and what was promised of it."""
    part = Part(None, 1.0, 100, 0.8, "a", 0.8, 1e-4, math.nan, 0.01)
    promise = Promise(asked=Asked(within=0.02), models=["a", "b"], parts=[part], calibration="mine.csv", rows=100)
    return SimpleNamespace(
        config=state.config, chooser=SimpleNamespace(chooser=state.chooser), promise=promise, checkpoint_digest=f"first-{text}"
    )


def request(checkpoint_digest: str = "first") -> Finished:
    fields = {"model": "a", "quality": 0.8, "p_value": 0.5, "checkpoint_digest": checkpoint_digest}
    return Finished(id="jr-1", kind="chat", routed=True, **fields)


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
    state.checkpoint_digest = "second"
    state.chooser = SimpleNamespace(chooser=SimpleNamespace(estimator=state.chooser.estimator))
    watching.follow(state)
    assert not watching.alarms
    # What the first one estimated says nothing of the second one, whenever it ends or is rated.
    for _ in range(60):
        watching.rated(request(), 0.0)
        watching(request())
    watching.flush()
    assert watching.watch is not None and watching.watch.prompts is not None
    assert watching.watch.models["a"].worse.seen == watching.watch.prompts.wealth.seen == 0
    watching.rated(request("second"), 0.0)
    assert watching.watch.models["a"].worse.seen == 1


def test_an_alarm_takes_the_support_of_a_promise_until_it_is_made_again(state: Any, caplog: pytest.LogCaptureFixture) -> None:
    kept = promised(state, "1")
    watching = Drifting(kept, LOG)
    assert watching.unsupported == ""
    with caplog.at_level(logging.WARNING, "jaxroute.serve"):
        for _ in range(60):
            watching.rated(request("first-1"), 0.0)
        watching.close()
        # A restart says it again: whoever reads the promise at the start must know.
        assert "jaxroute probes" in Drifting(kept, LOG).unsupported
    assert [record.message.count("no longer supported: a answers worse") for record in caplog.records] == [0, 1, 1]
    again = Drifting(promised(state, "2"), LOG)
    assert again.unsupported == "" and not again.alarms and again.rated_answers == 0


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
    watching.rated(Finished(id="jr-1", kind="chat", model="a", quality=0.8, checkpoint_digest="first"), 0.0)
    watching.rated(Finished(id="jr-1", kind="chat", routed=True, model="a", checkpoint_digest="first"), 0.0)
    watching(Finished(id="jr-1", kind="chat", routed=True, model="a", checkpoint_digest="first"))
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
        finished.quality, finished.model, finished.checkpoint_digest = 0.9, "a", "first"
        for _ in range(2):
            assert one.post({"id": number, "quality": 0.0}, path="/v1/feedback").status == 200
        assert service.drift.watch is not None and service.drift.watch.models["a"].worse.seen == 1
        for _ in range(60):
            service.drift.rated(finished, 0.0)
        page, metrics = (one.request("GET", path).body.decode() for path in ("/", "/metrics"))
        assert "Promise" not in page and "jaxroute_promise" not in metrics
        kept = promised(state, "1")
        endpoints: Any = dict.fromkeys("ab")
        service.state = replace(service.state, chooser=Promised(kept.chooser, kept.promise, endpoints))
        kept.chooser = SimpleNamespace(estimator=state.chooser.estimator)
        service.drift.follow(kept)
        finished.checkpoint_digest = "first-1"
        before = [one.request("GET", path).body.decode() for path in ("/", "/metrics")]
        for _ in range(60):
            service.drift.rated(finished, 0.0)
        after = [one.request("GET", path).body.decode() for path in ("/", "/metrics")]
    assert "of 0 rated answers: until some are" in before[0] and "jaxroute_promise_supported 1.0" in before[1]
    assert "at most 2 points below the best single model" in before[0] and "calibration rows of mine.csv" in before[0]
    assert "<p class='warn'>No longer supported" in after[0] and "Drift: a answers worse" in after[0]
    assert "jaxroute_promise_supported 0.0" in after[1]
    assert "Drift: a answers worse than estimated" in page
    assert 'jaxroute_drift_alarm{direction="worse",of="a"} 1.0' in metrics
    assert "jaxroute_unknown_prompts_total 0.0" in metrics
