"""Stored answers are graded: by functions in a thread as answers come in, by a judge over its endpoint after them."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxroute.collect.database import Collection, Ungraded
from jaxroute.collect.graders import Grade, Grader
from jaxroute.endpoints import CallFailed, Client, StoredAnswer
from jaxroute.errors import EndpointError, shortened
from jaxroute.storage.digests import text_digest

PAUSE_SECONDS = 0.25
"""Between two rounds of grading: what comes in meanwhile is graded and stored together."""
MOST_AT_ONCE = 512
JUDGE = "judge"


class Grading:
    """Grades what is stored in a collection and has no grade."""

    def __init__(self, collection: Collection, grader: Grader) -> None:
        self.collection, self.grader = collection, grader
        self._waiting: list[Ungraded] = []
        self._more = asyncio.Event()

    def add(self, stored: StoredAnswer) -> None:
        """An answer that has come in; `run` grades it."""
        if stored.answered:
            self._waiting.append(Ungraded(stored.query_id, stored.model, stored.text))
            self._more.set()

    async def run(self) -> None:
        """Grade what is added, until it is cancelled."""
        while True:
            await self._more.wait()
            await asyncio.sleep(PAUSE_SECONDS)
            self._more.clear()
            await self._grade_waiting()

    async def stored(self) -> None:
        """Grade everything that is stored and has no grade."""
        self._waiting.clear()
        for pieces in self.collection.ungraded(MOST_AT_ONCE):
            self._waiting = pieces
            await self._grade_waiting()

    async def _grade_waiting(self) -> None:
        while self._waiting:
            # They are only taken away once they are stored, so that a cancelled round is repeated by `stored`.
            some = self._waiting[:MOST_AT_ONCE]
            questions = [self.collection.question(one.query_id) for one in some]
            grades = await asyncio.to_thread(
                self.grader.grade_many,
                [one.text for one in some],
                [question.reference for question in questions],
                [question.for_grader for question in questions],
            )
            self.collection.put_grades(zip(some, grades, strict=True))
            del self._waiting[: len(some)]


class Judging:
    """Grades with a grader that asks a model: each answer in turn, at the pace of the judge's endpoint."""

    def __init__(
        self,
        collection: Collection,
        grader: Grader,
        client: Client,
        *,
        again: bool,
        progress: Callable[[list[Ungraded]], Iterable[Ungraded]],
    ) -> None:
        self.collection, self.grader, self.client, self.again, self.progress = collection, grader, client, again, progress
        self.stopped = False
        self.left_out = ""
        """Why no further answer is judged in this run; empty where they are."""
        self._short: list[Ungraded] = []
        """What lacked money."""

    async def stored(self) -> None:
        """Grade everything that is stored and has no grade; what cannot be graded now is missing with its reason."""
        places = max(1, sum(self.client.endpoints[name].concurrent_requests for name in self.grader.asked_models))
        waiting = [one for some in self.collection.ungraded() for one in some]
        self._short.clear()
        queue = iter(self.progress(waiting))
        tasks = [asyncio.create_task(self._work(queue)) for _ in range(min(places, len(waiting)))]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        # What they have left of their worst cases may pay for some more, one by one.
        for one in list(self._short):
            self._short.clear()
            await self._work(iter([one]))
            if self._short:
                break

    async def _work(self, queue: Iterator[Ungraded]) -> None:
        for one in queue:
            if self.stopped or self.left_out:
                return
            self.collection.put_grades([(one, await self._grade(one))])

    async def _grade(self, one: Ungraded) -> Grade:
        question = self.collection.question(one.query_id)
        others = {}
        for model in self.grader.needed_answers:
            stored = self.collection.store.get(one.query_id, model)
            others[model] = stored.text if stored is not None and stored.answered else None
        asker = StoringAsker(self.collection, self.client, one.query_id, again=self.again)
        try:
            return await self.grader.grade_asking(
                one.text, question.reference, question.for_grader, model=one.model, asker=asker, others=others
            )
        except CallFailed as failed:
            if failed.reason == "unauthorized":
                self.left_out = str(failed)
            if failed.reason == "budget":
                self._short.append(one)
            return Grade(math.nan, f"{failed.reason}: {shortened(failed.detail, quoted=False)}")


class StoringAsker:
    """A judge's requests about one question, paid from the collection's budget; replies are stored and found again."""

    def __init__(self, collection: Collection, client: Client, query_id: str, *, again: bool) -> None:
        self.collection, self.client, self.query_id, self.again = collection, client, query_id, again

    def accepts(self, model: str) -> Sequence[str]:
        """What the model accepts beside text."""
        if model not in self.client.endpoints:
            raise EndpointError(f"model={shortened(model)} is none of the endpoints")
        return self.client.endpoints[model].accepts

    async def ask(
        self, model: str, messages: list[dict[str, str]], *, output_tokens: int, options: Mapping[str, Any]
    ) -> StoredAnswer:
        """The reply. Raises `CallFailed` where there is none."""
        what = text_digest(json.dumps([messages, output_tokens, dict(options)], sort_keys=True))
        stored = await self.collection.store.ask(
            self.client,
            self.query_id,
            model,
            messages,
            purpose=f"{JUDGE} {what}",
            again=self.again,
            output_tokens=output_tokens,
            options=options,
        )
        if not stored.answered:
            raise CallFailed(model, stored.reason, stored.detail)
        return stored
