"""What the files say at one moment: models and keys, clients, money, and who chooses; read whole, then exchanged whole."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import get_args

from yarl import URL

from jaxroute.encoders.live import LiveConfig
from jaxroute.endpoints.client import ClientConfig
from jaxroute.endpoints.ledger import Ledger
from jaxroute.endpoints.limits import Limits
from jaxroute.endpoints.models import Endpoint, load_models, read_keys
from jaxroute.errors import EndpointError, listed, shortened
from jaxroute.guarantees.promise import Promise
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW
from jaxroute.predictor.checkpoint import PROMISE, description_of
from jaxroute.routing.router import Router
from jaxroute.serve.accounts import Accounts, Budget, client_file
from jaxroute.serve.asking import AUTO
from jaxroute.serve.choosing import Chooser, FixedPace, Pace
from jaxroute.serve.clients import ServedClient, load_clients
from jaxroute.serve.live import LiveChooser, live_chooser
from jaxroute.serve.observed import SAMPLE_ROWS
from jaxroute.serve.pacing import LedgerPace, PaceOfBoth
from jaxroute.serve.promised import Promised
from jaxroute.serve.records import Kept
from jaxroute.serve.shared import Worker
from jaxroute.serve.shared_price import Estimates, SharedPrice
from jaxroute.serve.traces import check_address
from jaxroute.storage.digests import file_digest

BURST = 0.1
"""Of the requests that a model may be asked in a minute, how many may begin at once: nobody waits for an even spacing."""
PATHS = {
    "chat": "/chat/completions",
    "completion": "/completions",
    "response": "/responses",
    "embedding": "/embeddings",
}


@dataclass(frozen=True)
class ServeConfig:
    """Where the files are, and how requests are treated."""

    models: Path
    """models.yaml: the endpoints."""
    checkpoint: Path | None = None
    """Folder that `jaxroute train` or `jaxroute demo` wrote; without it nothing is routed, and models answer to their names."""
    clients: Path | None = None
    """clients.yaml: who may ask; without it anybody on this machine may."""
    budget: Budget | None = None
    """Of all requests together."""
    ledger: Path = Path("serve-ledger.db")
    """The account of the money; clients with a budget have their own beside it."""
    multiplier: float = 0.0
    """Quality per dollar at which requests are routed; 0 buys the best that the budget holds."""
    guarantee: bool = False
    """Route as the checkpoint's promise says, at its price, which no budget then moves."""
    expected_requests: int | None = None
    """How many are to come within a window of the budget: without an end, none is paced unless it is known."""
    live: LiveConfig = field(default_factory=LiveConfig)
    """How prompts are read for an estimate."""
    patience_seconds: float = 0.25
    """How long a request may have to wait for the estimates of others; else it is routed by its length."""
    unknown_below: float = UNKNOWN_BELOW
    """The p-value under which a prompt is unlike the training prompts, and takes the safe choice; 0: none does."""
    tries: int = 3
    """Models that are tried for one routed request, until one answers."""
    timeouts: ClientConfig = field(default_factory=lambda: ClientConfig(deadline_seconds=600.0))
    """Seconds of connecting, of the first byte, between bytes, and of all tries together (`deadline_seconds`)."""
    queue_seconds: float = 10.0
    """How long a request to a model by its name waits while that model is at its limits."""
    drain_seconds: float = 20.0
    """How long an answer is read on whose client has gone, to know what it cost; then it counts at its worst case."""
    drift_alpha: float = 0.05
    """The chance of any false alarm that models or prompts have changed; 0 watches neither."""
    drift_tolerance: float = 0.01
    """How far a model's rated answers may differ from their estimates on average, in quality, without an alarm."""
    drift_file: Path | None = None
    """Where the tests are kept over a restart, and shared by workers; None: in memory."""
    record: Kept = "none"
    """What is kept of prompts: nothing, their hashes, or all."""
    record_file: Path = Path("serve-record.db")
    """Where it is kept."""
    most_body_bytes: int = 32 * 2**20
    """Of a request."""
    body_seconds: float = 30.0
    """How long a client may take to send a request."""
    watch_seconds: float = 2.0
    """How often it is looked whether the files have changed; 0: never, and SIGHUP reads them again."""
    traces: str | None = None
    """Where OpenTelemetry's spans are sent, by OTLP over HTTP; None: where the environment says, if it does."""
    worker: Worker | None = None
    """Which of several processes this is; None: there is no other."""

    def __post_init__(self) -> None:
        problems: list[str] = []
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith("_seconds") and not (0 <= value < math.inf):
                problems.append(f"{one.name}={shortened(value)} must be a number of seconds")
        for name in ("deadline_seconds", "first_byte_seconds"):
            value = getattr(self.timeouts, name)
            if not 0 < value < math.inf:
                problems.append(f"{name}={shortened(value)} must be a number of seconds above 0")
        if not 0 <= self.multiplier < math.inf:
            problems.append(f"multiplier={self.multiplier} must be finite and >= 0, quality per dollar")
        if self.guarantee and self.checkpoint is None:
            problems.append("guarantee needs a checkpoint, in which `jaxroute guarantee` has written a promise")
        if self.guarantee and (self.multiplier > 0 or self.expected_requests is not None):
            problems.append("guarantee routes at the promised price: leave multiplier and expected_requests out")
        if self.expected_requests is not None and not 1 <= self.expected_requests <= 10**12:
            problems.append(f"expected_requests={self.expected_requests} must be at least 1")
        if self.expected_requests is not None and self.budget is None:
            problems.append("expected_requests needs budget_usd, which is spread over them")
        if not 0 <= self.unknown_below < 1:
            problems.append(f"unknown_below={self.unknown_below} must be from 0 (off) to below 1")
        for name in ("drift_alpha", "drift_tolerance"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name}={getattr(self, name)} must be from 0 to below 1")
        if not 1 <= self.tries <= 100:
            problems.append(f"tries={self.tries} must be from 1 to 100")
        if self.record not in get_args(Kept):
            problems.append(f"record={shortened(self.record)} must be one of {', '.join(get_args(Kept))}")
        if self.most_body_bytes < 1:
            problems.append(f"most_body_bytes={self.most_body_bytes} must be at least 1")
        try:
            check_address(self.traces)
        except EndpointError as error:
            problems.append(str(error))
        if problems:
            raise EndpointError("; ".join(problems))


@dataclass(frozen=True, eq=False)
class Upstream:
    """One model's endpoint, ready to be asked."""

    endpoint: Endpoint
    key: str | None = field(repr=False)
    urls: Mapping[str, URL]
    """By kind of request."""
    limits: Limits

    @staticmethod
    def of(endpoint: Endpoint, key: str | None, worker: Worker | None = None) -> Upstream:
        """With places for its requests, of several workers a share of them; needs a running event loop only once these are
        taken."""
        urls = {kind: URL(endpoint.base_url + path, encoded=True) for kind, path in PATHS.items()}
        return Upstream(endpoint, key, urls, _limits(endpoint, worker))


@dataclass(frozen=True, eq=False)
class State:
    """All that a request is answered with."""

    config: ServeConfig
    upstreams: Mapping[str, Upstream]
    clients: tuple[ServedClient, ...] | None
    """None: no keys are asked for."""
    accounts: Accounts
    chooser: Chooser | None
    pace: Pace
    stamps: dict[str, object]
    """How the files looked before they were read."""
    own_paces: Mapping[str, Pace] = field(default_factory=dict)
    """Of clients with a budget of their own."""
    checkpoint_digest: str = ""
    """Of the checkpoint that the chooser was read from, and of the promise that it keeps; empty where there is none."""

    def pace_of(self, client: str | None) -> Pace:
        """At whose price a client's requests are routed."""
        return self.pace if client is None else self.own_paces.get(client, self.pace)

    @property
    def promise(self) -> Promise | None:
        """What is promised of requests for `auto`, where it is kept to."""
        return self.chooser.promise if isinstance(self.chooser, Promised) else None

    @property
    def routed(self) -> list[str]:
        """The models among which `auto` chooses."""
        known = () if self.chooser is None else self.chooser.models
        return [model for model in known if model in self.upstreams]


def read_state(config: ServeConfig, before: State | None = None, *, chooser: Chooser | None = None) -> State:
    """From the files. Raises an error of its own kind for what is wrong, and changes nothing then.

    Endpoints that are as they were in `before` keep their places and pauses. `chooser` stands in for the checkpoint's.
    """
    looked, digest = stamps(config), ""
    endpoints, keys, clients = read_files(config, 1 if config.worker is None else config.worker.count)
    if chooser is None and before is not None and _same_estimates(before, endpoints, looked):
        chooser, digest = before.chooser, before.checkpoint_digest
    elif chooser is None and config.checkpoint is not None:
        router = Router.load(config.checkpoint)
        made = live_chooser(
            router,
            endpoints,
            config.live,
            patience_seconds=config.patience_seconds,
            own_costs=config.guarantee,
            # A promise says who answers prompts of all kinds.
            unknown_below=0.0 if config.guarantee else config.unknown_below,
        )
        if not made.models:
            raise EndpointError(
                f"{config.checkpoint} knows {listed(router.models)}, and {config.models} has {listed(endpoints)}: name at "
                "least one of its models there, as it is called in the checkpoint"
            )
        # What is wrong with a promise is found before anything is compiled.
        chooser = Promised(made, router.promise, endpoints) if config.guarantee else made
        made.warm()
        digest = _checkpoint_digest(config.checkpoint, promised=config.guarantee)
    upstreams = {}
    for name, endpoint in endpoints.items():
        made = Upstream.of(endpoint, keys.get(name), config.worker)
        old = None if before is None else before.upstreams.get(name)
        same = old is not None and (old.endpoint, old.key) == (made.endpoint, made.key)
        upstreams[name] = old if same and old is not None else made
    accounts = _accounts(config, clients, before)
    sample = chooser.training_sample() if isinstance(chooser, LiveChooser) else []
    pace = _pace(config, accounts.everyone, config.expected_requests, sample) if before is None else before.pace
    own = _own_paces(config, accounts, pace, before, sample)
    if isinstance(chooser, Promised):
        # A promise holds at its own price alone.
        pace, own = FixedPace(chooser.multiplier), {}
    return State(config, upstreams, clients, accounts, chooser, pace, looked, own, digest)


def read_files(
    config: ServeConfig, workers: int = 1
) -> tuple[dict[str, Endpoint], dict[str, str], tuple[ServedClient, ...] | None]:
    """The endpoints, their keys, and the clients. Raises `EndpointError`; reads neither a checkpoint nor a ledger."""
    endpoints = load_models(config.models)
    if AUTO in endpoints:
        raise EndpointError(f"{config.models}: a model cannot have the name {AUTO!r}, which asks for any of them")
    _check_places(config, endpoints, workers)
    keys = read_keys(endpoints.values())
    clients = None if config.clients is None else tuple(load_clients(config.clients, endpoints))
    return endpoints, keys, clients


def stamps(config: ServeConfig) -> dict[str, object]:
    """When the files were last written, and how long they are; the checkpoint's is its folder's."""
    found: dict[str, object] = {}
    for path in (config.models, config.clients, config.checkpoint):
        if path is not None:
            inner = sorted(path.iterdir()) if path.is_dir() else [path]
            found[str(path)] = [(one.name, one.stat().st_mtime_ns, one.stat().st_size) for one in inner if one.exists()]
    return found


def _checkpoint_digest(checkpoint: Path, *, promised: bool) -> str:
    """Of its estimator's description, which names all that it holds, and of its promise."""
    files = [description_of(checkpoint), *([checkpoint / PROMISE] if promised else [])]
    return "-".join(file_digest(path) for path in files)


def _check_places(config: ServeConfig, endpoints: Mapping[str, Endpoint], workers: int) -> None:
    """Every worker needs a place of its own at every model."""
    few = [name for name, one in endpoints.items() if one.concurrent_requests < workers]
    if few:
        raise EndpointError(
            f"{config.models}: {workers} workers share out the concurrent_requests of every model, and {listed(few)} has "
            "fewer: allow it more, or start fewer workers"
        )


def _limits(endpoint: Endpoint, worker: Worker | None) -> Limits:
    """Of several workers, the part that this one may use."""
    if worker is not None:
        rate = endpoint.requests_per_minute
        own = worker.share(endpoint.concurrent_requests)
        rate = None if rate is None else rate / worker.count
        endpoint = replace(endpoint, concurrent_requests=own, requests_per_minute=rate)
    return Limits(endpoint, burst=BURST)


def _same_estimates(before: State, endpoints: Mapping[str, Endpoint], looked: Mapping[str, object]) -> bool:
    """Whether the checkpoint and the prices are as they were, so that it need not be loaded again."""
    place = str(before.config.checkpoint)
    same = {name: one.endpoint.price for name, one in before.upstreams.items()} == {
        name: one.price for name, one in endpoints.items()
    }
    return before.config.checkpoint is None or (same and before.stamps.get(place) == looked.get(place))


def _pace(config: ServeConfig, ledger: Ledger | None, expected: int | None, sample: Sequence[Estimates]) -> Pace:
    """By the ledger, where it is known how many requests its window is for; at a fixed price elsewhere."""
    if ledger is None or (ledger.window is None and expected is None):
        return FixedPace(config.multiplier)
    worker, shared = config.worker, None
    if worker is not None:
        shared = SharedPrice(ledger, worker.number, worker.count, SAMPLE_ROWS)
    return LedgerPace(ledger, floor=config.multiplier, expected_requests=expected, shared=shared, before=sample)


def _own_paces(
    config: ServeConfig, accounts: Accounts, everyone: Pace, before: State | None, sample: Sequence[Estimates]
) -> dict[str, Pace]:
    """Of the clients whose own budget has windows; they stay as they are where the ledger has stayed open."""
    found: dict[str, Pace] = {}
    for name, ledger in accounts.clients.items():
        if before is not None and before.accounts.clients.get(name) is ledger and name in before.own_paces:
            found[name] = before.own_paces[name]
        elif ledger.window is not None:
            found[name] = PaceOfBoth(everyone, _pace(config, ledger, None, sample))
    return found


def _accounts(config: ServeConfig, clients: tuple[ServedClient, ...] | None, before: State | None) -> Accounts:
    """Ledgers stay open where their limits are as they were."""
    if before is None:
        everyone = None if config.budget is None else config.budget.ledger(config.ledger)
        old: dict[str, Budget | None] = {}
    else:
        everyone = before.accounts.everyone
        old = {one.name: one.budget for one in before.clients or ()}
    of_clients = {}
    for one in clients or ():
        if one.budget is not None:
            same = before is not None and old.get(one.name) == one.budget
            own = client_file(config.ledger, one.name)
            of_clients[one.name] = before.accounts.clients[one.name] if same and before else one.budget.ledger(own)
    return Accounts(everyone, of_clients)
