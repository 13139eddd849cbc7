"""Support: which alarms of drift leave a promise without the rows that it rests on, and what to do then.

A promise says what held when its calibration rows were drawn. It is about prompts like theirs, and about models that answer as
they did then; an alarm says that one of the two has changed, but for its own error probability.
"""

from __future__ import annotations

from collections.abc import Iterable

from jaxroute.guarantees.drift import PROMPTS, Alarm
from jaxroute.guarantees.promise import Promise


def against(promise: Promise, alarms: Iterable[Alarm]) -> list[Alarm]:
    """Those alarms after which the promise is no longer supported.

    Prompts of another kind always; a model that is routed to and answers worse, where a quality is promised; and a model that
    quality is compared with and answers better.
    """
    return [alarm for alarm in alarms if alarm.name == PROMPTS or _changes(promise, alarm)]


def support_words(promise: Promise, alarms: Iterable[Alarm]) -> str:
    """For people, why the promise is no longer supported and what to do; empty where no alarm speaks against it."""
    named = against(promise, alarms)
    if not named:
        return ""
    why = "; ".join(str(alarm) for alarm in named)
    return f"the promise is no longer supported: {why}. Then promise it again with `jaxroute guarantee` and outcomes of now"


def _changes(promise: Promise, alarm: Alarm) -> bool:
    asked = promise.asked
    if alarm.direction == "worse":
        return asked.of_quality and alarm.name in promise.models
    return asked.within is not None and asked.reference in (None, alarm.name)
