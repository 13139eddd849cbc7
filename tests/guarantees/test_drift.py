"""Alarms come after a change and, but for their error probability, not before; their state survives a restart."""

from __future__ import annotations

import json

import numpy as np
import pytest

from jaxroute.errors import OutputError
from jaxroute.guarantees.drift import EDGES, HIGH, LOW, SHARES, DriftWatch, ModelWatch, PromptWatch, Wealth


def p_values(generator: np.random.Generator, calibration: int, new: np.ndarray) -> np.ndarray:
    """Conformal p-values of a stream against a fresh calibration set; where `new`, of prompts farther away."""
    known = np.sort(generator.normal(size=calibration))
    distance = generator.normal(size=len(new)) + 3 * new
    return (1 + calibration - np.searchsorted(known, distance)) / (calibration + 1)


def test_the_wealth_is_expected_to_stay_one():
    """Of a fair coin, over all sequences of six throws: exactly."""
    total = 0.0
    for throws in range(64):
        wealth = Wealth(2)
        for place in range(6):
            sign = 1 if throws >> place & 1 else -1
            wealth.bet(np.array([1 + 0.7 * sign, 1 - 0.3 * sign]))
        total += wealth.value / 64
    assert total == pytest.approx(1.0)


@pytest.mark.slow
def test_prompts_like_calibration_make_nobody_rich_on_average():
    """The urn is exact, however few the calibration prompts: stakes on small shares, whose mean is soon seen, keep it."""
    generator = np.random.default_rng(0)
    small = np.tile(np.array(SHARES) <= 0.03, len(LOW) + len(HIGH))
    values = []
    for _ in range(400):
        watch = PromptWatch(60)
        for value in p_values(generator, 60, np.zeros(40)):
            watch.see(value)
        values.append(np.exp(watch.wealth.log_stakes[small]).mean())
    entered = 1 - 1 / np.log2(42)
    assert abs(np.mean(values) - entered) < 4 * np.std(values) / 20


def test_a_new_kind_of_prompt_is_noticed():
    generator = np.random.default_rng(1)
    watch = DriftWatch(["a"], 500)
    alarms = [watch.prompt(value) for value in p_values(generator, 500, np.arange(1_000) >= 600)]
    raised = [row for row, alarm in enumerate(alarms) if alarm]
    assert len(raised) == 1 and 600 <= raised[0] < 700
    alarm = watch.alarms["prompts"]
    assert alarm.direction == "unfamiliar" and "--shift" in str(alarm)


def test_prompts_that_are_all_alike_are_noticed():
    watch = DriftWatch(["a"], 500)
    alarms = [watch.prompt(value) for value in np.random.default_rng(2).uniform(0.9, 1, 300)]
    assert any(alarms) and watch.alarms["prompts"].direction == "narrow"


@pytest.mark.parametrize(("change", "direction"), [(-0.25, "worse"), (0.25, "better")])
def test_a_model_that_changes_is_named(change: float, direction: str):
    generator = np.random.default_rng(3)
    watch = DriftWatch(["a", "b"])
    for step in range(1_200):
        for model in ("a", "b"):
            estimate = generator.uniform(0.4, 0.7)
            truth = estimate + change * (step > 300 and model == "b")
            watch.outcome(model, float(generator.uniform() < truth), estimate)
    assert list(watch.alarms) == ["b"] and watch.alarms["b"].direction == direction
    assert "jaxroute extend" in str(watch.alarms["b"])


def test_within_the_tolerance_the_wealth_is_expected_to_fall():
    watch = ModelWatch(tolerance=0.05)
    for _ in range(3_000):
        watch.see(0.55, 0.6)
    assert watch.value < 1


def test_it_resumes_where_it_was():
    generator = np.random.default_rng(4)
    first, again = DriftWatch(["a"], 100), DriftWatch(["a"], 100)
    for step in range(60):
        watch = first if step < 30 else again
        if step == 30:
            again.restore(json.loads(json.dumps(first.as_json())))
        for one in {first, watch}:
            one.outcome("a", float(step % 2), 0.99)
            one.prompt(0.002 + 0.01 * (step % 3))
        generator.uniform()
    assert again.models["a"].value == pytest.approx(first.models["a"].value)
    assert again.prompts is not None and first.prompts is not None
    assert again.prompts.value == pytest.approx(first.prompts.value)
    assert again.alarms == first.alarms and "prompts" in again.alarms


@pytest.mark.parametrize(
    "spoiled", [{}, {"models": 3}, {"models": {"a": [[1, [0.0]], [1, []]]}, "prompts": None, "alarms": {}}]
)
def test_a_damaged_state_is_refused(spoiled: dict):
    with pytest.raises(ValueError, match="no state of alarms"):
        DriftWatch(["a"]).restore(spoiled)


def test_what_nobody_can_use_is_passed_over():
    watch = DriftWatch(["a"])
    assert watch.outcome("other", 1.0, 0.5) is None and watch.outcome("a", float("nan"), 0.5) is None
    assert watch.prompt(0.5) is None and watch.models["a"].worse.seen == 0
    PromptWatch(10).see(1e-9)
    assert EDGES[-1] == 1.0


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": float("nan")}, {"tolerance": -0.1}])
def test_wrong_settings_are_named(wrong: dict):
    with pytest.raises(OutputError, match=next(iter(wrong))):
        DriftWatch(["a"], **wrong)
