"""A proxy before simulated endpoints, and requests as bytes."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from jaxroute.commands.simulate import models_yaml
from jaxroute.endpoints.ledger import Ledger
from jaxroute.serve.accounts import Budget
from jaxroute.serve.asking import Asked
from jaxroute.serve.choosing import Candidate, FixedPace, Ranked, ranked
from jaxroute.serve.server import Listening, Running, serving_in_thread
from jaxroute.serve.state import ServeConfig, read_state
from jaxroute.simulation import Simulation, SimulationConfig
from jaxroute.simulation import serving_in_thread as simulated

QUESTION = "What is 12 plus 30?"
MESSAGES = [{"role": "user", "content": QUESTION}]


@dataclass
class FixedChooser:
    """Estimates that a test gives, and what it was asked."""

    quality: Mapping[str, float]
    cost_usd: Mapping[str, float]
    asked: list[tuple[str, list[str]]] = field(default_factory=list)

    @property
    def models(self) -> Sequence[str]:
        return list(self.quality)

    async def rank(
        self, asked: Asked, candidates: Sequence[Candidate], multiplier: float, minimum_quality: float | None
    ) -> list[Ranked]:
        names = [one.model for one in candidates]
        self.asked.append((asked.prompt, names))
        quality, cost = (np.array([values[name] for name in names]) for values in (self.quality, self.cost_usd))
        return ranked(candidates, quality, cost, multiplier, minimum_quality)


def three_models() -> FixedChooser:
    return FixedChooser(
        {"sim-nano": 0.3, "sim-medium": 0.6, "sim-large": 0.9}, {"sim-nano": 1e-6, "sim-medium": 1e-5, "sim-large": 1e-3}
    )


@dataclass
class Proxy:
    running: Running
    simulation: Simulation
    folder: Path
    chooser: FixedChooser

    @property
    def base_url(self) -> str:
        return self.running.base_url

    @property
    def ledger(self) -> Ledger:
        ledger = self.running.service.state.accounts.everyone
        assert ledger is not None
        return ledger

    def read_again(self) -> None:
        """What the files say now."""
        state = self.running.service.state
        self.running.service.state = read_state(state.config, state, chooser=state.chooser)

    def post(self, content: Any, path: str = "/v1/chat/completions", headers: Mapping[str, str] | None = None) -> Reply:
        """Bytes are sent as they are."""
        return self.request("POST", path, content if isinstance(content, bytes) else json.dumps(content).encode(), headers)

    def request(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Reply:
        place = urlsplit(self.base_url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=20)
        try:
            connection.request(method, path, body, {"content-type": "application/json", **(headers or {})})
            response = connection.getresponse()
            return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
        finally:
            connection.close()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def content(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of an error in OpenAI's shape."""
        error = self.content["error"]
        assert set(error) == {"message", "type", "param", "code"} and error["message"]
        return error["code"]


@contextmanager
def proxy(
    folder: Path,
    simulation: SimulationConfig | None = None,
    *,
    budget: Budget | None = None,
    chooser: FixedChooser | None = None,
    paced: bool = False,
    stop_seconds: float = 5,
    **config: Any,
) -> Iterator[Proxy]:
    """At the price of `multiplier`, by default 0, unless it is `paced` by its budget."""
    with simulated(simulation or SimulationConfig(time_scale=0)) as endpoints:
        models = folder / "models.yaml"
        if not models.exists():
            models.write_text(models_yaml(endpoints.base_url))
        chooser = chooser or three_models()
        settings = ServeConfig(models, budget=budget or Budget(1.0, "day"), ledger=folder / "ledger.db", **config)
        state = read_state(settings, chooser=chooser)
        state = state if paced else replace(state, pace=FixedPace(settings.multiplier), chooser=chooser)
        with serving_in_thread(state, Listening(port=0, stop_seconds=stop_seconds)) as running:
            yield Proxy(running, endpoints, folder, chooser)
