"""A thread that reads prompts for an estimate: what has come while it computed is read together, conversations piece by piece.

Nothing is waited for on purpose: a prompt that finds the thread idle is read at once, and those that come meanwhile are its
next batch. A long text is read in chunks, between which the others have their turn. When nobody waits, conversations that were
too long to be read at once are read for their next turn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from time import perf_counter

import numpy as np
from jaxtyping import Float, Int

from jaxroute.encoders.live import LiveEncoder
from jaxroute.encoders.live_turns import Conversations, Turn
from jaxroute.errors import JaxrouteError
from jaxroute.serve.asking import ends

BYTES_PER_TOKEN = 4
"""About; only how long others will wait is reckoned with it."""
MOST_CHARACTERS_PER_TOKEN = 64
"""On average, of the tokens at a text's ends: finding those of 32 MiB would take half a minute, in which all others wait."""
IDLE_SECONDS = 10.0
MOST_LATER = 8
"""Conversations that are read when nobody waits."""

Finish = Callable[[Float[np.ndarray, "prompts features"], Int[np.ndarray, " prompts"]], Sequence[object]]
"""What becomes of features and of the numbers of tokens: one result per prompt."""


@dataclass(eq=False)
class Job:
    """One prompt that waits for its features."""

    prompt: str
    keeps: bool
    """Whether it is a conversation, which may go on."""
    done: Future = field(default_factory=Future)
    ids: Int[np.ndarray, " tokens"] | None = None
    count: int = 0
    """Its tokens, before any are cut; of a very long text about."""
    turn: Turn | None = None


class LiveReader:
    """`submit` prompts from any thread; `close` it at the end."""

    def __init__(self, live: LiveEncoder, finish: Finish) -> None:
        self.live, self.finish = live, finish
        remembers = live.is_causal and live.config.memory_mb > 0
        self.conversations = Conversations(live) if remembers else None
        self.seconds_per_token = 1e-3
        self.batches = self.prompts = 0
        """Of single prompts: how many were read, and in how many batches."""
        self._ready = threading.Condition()
        self._arrived: deque[Job] = deque()
        self._waiting: deque[Job] = deque()
        self._later: deque[np.ndarray] = deque(maxlen=MOST_LATER)
        self._behind: Turn | None = None
        self._tokens = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def warm(self) -> float:
        """Compile everything and measure the speed; returns the seconds that it took."""
        begun = perf_counter()
        self.live.warm()
        if self.conversations is not None:
            self.conversations.warm()
        length = self.live.row_length(min(64, self.live.config.longest))
        ids = np.zeros(length, np.int32)
        started = perf_counter()
        self.live.read([ids])
        self.seconds_per_token = (perf_counter() - started) / length
        return perf_counter() - begun

    @property
    def wait_seconds(self) -> float:
        """About how long a prompt that comes now would wait for those before it."""
        return self._tokens * self.seconds_per_token

    def submit(self, prompt: str, *, keeps: bool = False) -> Future:
        """What `finish` makes of it; cancel it where nobody waits any more."""
        job = Job(prompt, keeps)
        with self._ready:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="estimates", daemon=True)
                self._thread.start()
            self._arrived.append(job)
            self._tokens += self._about(job)
            self._ready.notify()
        return job.done

    def close(self) -> None:
        """Let the thread end; what waits is cancelled."""
        with self._ready:
            self._closed = True
            self._ready.notify()

    def _about(self, job: Job) -> int:
        return min(len(job.prompt) // BYTES_PER_TOKEN + 1, self.live.config.longest)

    @property
    def _most_characters(self) -> int:
        """Of a text whose tokens are found; of a longer one the ends are all that is read."""
        config = self.live.config
        return MOST_CHARACTERS_PER_TOKEN * max(config.longest, config.slots[-1] if self.conversations is not None else 0)

    def _work(self) -> None:
        while True:
            with self._ready:
                idle = not self._waiting and not self._later and self._behind is None
                while idle and not self._arrived and not self._closed:
                    if not self._ready.wait(IDLE_SECONDS):
                        # Another prompt starts another thread; without one, nothing holds the encoder any more.
                        self._thread = None
                        return
                arrived = list(self._arrived)
                self._arrived.clear()
                if self._closed:
                    for job in (*arrived, *self._waiting):
                        job.done.cancel()
                    return
            for job in arrived:
                self._guarded([job], lambda job=job: self._prepare(job))
            if self._waiting:
                self._next()
            else:
                self._read_behind()

    def _prepare(self, job: Job) -> None:
        """Find its tokens, and how they are to be read."""
        if not job.done.set_running_or_notify_cancel():
            self._release(job)
            return
        text = ends(job.prompt, self._most_characters)
        (ids,), (count,), _ = self.live.token_ids([text])
        job.count = round(count * len(job.prompt) / len(text))
        longest, conversations = self.live.config.longest, self.conversations
        if job.keeps and conversations is not None:
            if len(ids) <= longest or conversations.new_tokens(ids) <= longest:
                job.turn = conversations.begin(ids)
            else:
                self._later.append(ids)
        job.ids = ids if job.turn is not None else self.live.head_and_tail(ids)
        self._waiting.append(job)

    def _next(self) -> None:
        """Read a batch of single prompts, or a chunk of a conversation, which then waits for its next turn."""
        job = self._waiting[0]
        if job.turn is not None:
            self._waiting.popleft()
            self._guarded([job], lambda: self._step(job))
            return
        batch = self._batch()
        self._guarded(batch, lambda: self._read(batch))

    def _batch(self) -> list[Job]:
        """The first that waits, and those whose rows are as long."""
        live = self.live
        length = live.row_length(len(self._ids(self._waiting[0])))
        most = live.config.rows_of(length)[-1]
        batch: list[Job] = []
        for job in list(self._waiting):
            if len(batch) < most and job.turn is None and live.row_length(len(self._ids(job))) == length:
                batch.append(job)
                self._waiting.remove(job)
        return batch

    def _read(self, batch: list[Job]) -> None:
        begun = perf_counter()
        features = self.live.read([self._ids(job) for job in batch])
        self._timed(begun, sum(len(self._ids(job)) for job in batch))
        self.batches += 1
        self.prompts += len(batch)
        self._finish(batch, features)

    def _step(self, job: Job) -> None:
        assert job.turn is not None
        begun = perf_counter()
        features = job.turn.step()
        self._timed(begun, max(job.turn.read_tokens, 1))
        if features is None:
            self._waiting.append(job)
            return
        self._finish([job], features[None])

    def _finish(self, jobs: list[Job], features: np.ndarray) -> None:
        results = self.finish(features, np.array([job.count for job in jobs]))
        for job, result in zip(jobs, results, strict=True):
            self._release(job)
            job.done.set_result(result)

    def _read_behind(self) -> None:
        """A chunk of a conversation that nobody waits for."""
        if self._behind is None and self._later and self.conversations is not None:
            ids = self._later.popleft()
            # A later turn of it may have come by itself.
            if self.conversations.new_tokens(ids) > self.live.config.longest:
                self._behind = self.conversations.begin(ids)
        if self._behind is not None:
            try:
                if self._behind.step() is not None:
                    self._behind = None
            except JaxrouteError:
                self._behind = None

    def _guarded(self, jobs: list[Job], work: Callable[[], None]) -> None:
        """What goes wrong is the jobs' result, and the thread lives on."""
        try:
            work()
        except Exception as error:  # noqa: BLE001
            for job in jobs:
                if not job.done.done():
                    self._release(job)
                    job.done.set_exception(error)

    def _release(self, job: Job) -> None:
        with self._ready:
            self._tokens -= self._about(job)

    def _timed(self, begun: float, tokens: int) -> None:
        self.seconds_per_token += 0.1 * ((perf_counter() - begun) / tokens - self.seconds_per_token)

    @staticmethod
    def _ids(job: Job) -> np.ndarray:
        assert job.ids is not None
        return job.ids
