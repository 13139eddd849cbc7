"""`jaxroute serve`: an OpenAI-compatible proxy that routes live requests within a budget."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from jaxroute.endpoints.client import ClientConfig
from jaxroute.errors import EndpointError
from jaxroute.progress import without_bars
from jaxroute.storage.files import check_file

if TYPE_CHECKING:
    from jaxroute.serve.server import Listening
    from jaxroute.serve.state import ServeConfig
    from jaxroute.serve.worker_process import Place

DEMO_QUERIES = 600
DEMO_BUDGET_USD = 1.0
FORCED = 130
"""The exit status after a second SIGTERM or Ctrl-C, as of every command that was interrupted."""
MOST_ENCODER_TOKENS = 32_768
"""Of a prompt that is read for an estimate; every shape is compiled at the start."""


@dataclass(frozen=True)
class Serve:
    """Listen as an OpenAI-compatible endpoint; a request for the model "auto" goes to the model that is worth its price."""

    models: Path | None = None
    """models.yaml: the endpoints, their keys' variables, prices and limits (docs/endpoints.md)."""
    checkpoint: Path | None = None
    """Folder that `jaxroute train` or `jaxroute demo` wrote; without it models answer to their own names only."""
    demo: bool = False
    """Serve simulated models with a router trained on the spot: no key, no download, no money."""
    budget_usd: float | None = None
    """Dollars for all requests together, per window; without it nothing is counted."""
    per: Literal["hour", "day", "month", "total"] = "total"
    """The window of --budget-usd, in UTC."""
    ledger: Path = Path("serve-ledger.db")
    """File of the account; clients with a budget of their own have theirs beside it. The demo's is gone when it ends."""
    clients: Path | None = None
    """clients.yaml: who may ask, with the hashes of their keys, their budgets and models. Needed to let other machines ask."""
    new_key: str | None = None
    """Print a new key for a client of this name, with its lines for clients.yaml, and end."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = 8080
    """Where to listen; 0 takes a free port."""
    workers: int = 1
    """Processes that answer. They share the address, the budget, the price and the limits of the models; each reads prompts
    with an encoder of its own."""
    multiplier: float = 0.0
    """Quality per dollar at which requests are routed, as `jaxroute route` prints it; 0 takes the best that is left in the
    budget."""
    guarantee: bool = False
    """Route as the checkpoint's promise says, which `jaxroute guarantee` has made; a budget then ends requests and never lowers
    their quality."""
    expected_requests: int | None = None
    """How many requests --budget-usd is for, per window: a budget "total" is spread over them, and the others begin with it."""
    encoder_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of the encoder's weights: bfloat16 reads prompts in nearly half the time on a processor that computes in it, where auto
    takes it, and moves estimates in the third digit."""
    encoder_tokens: int = 512
    """Tokens of a prompt that are read for its estimate; of a longer one, the first and the last half of as many."""
    conversations_mb: float = 512.0
    """Mebibytes in which a decoder remembers conversations, so that a turn is read from where the last one ended."""
    unknown_below: float = 0.01
    """A prompt unlike all training prompts goes to the model that is best on the whole at the price: one whose p-value is under
    this, which holds for at most this share of prompts like the training prompts. 0: none does."""
    tries: int = 3
    """Models that are tried for one routed request until one answers."""
    deadline_seconds: float = 600.0
    """For all tries of a request together."""
    drift_alpha: float = 0.05
    """Warn when a model's rated answers (POST /v1/feedback) differ from their estimates, or when prompts are no longer like
    those of training, with at most this chance of any false alarm, however long it serves; 0: never."""
    drift_tolerance: float = 0.01
    """How far a model's rated answers may differ from their estimates on average, in quality, without a warning."""
    drift_file: Path = Path("serve-drift.db")
    """Where the evidence is kept over a restart."""
    record: Literal["none", "hash", "full"] = "none"
    """Keep what was asked and what it cost: not at all, with the hash of every prompt, or with the prompts. Qualities come by
    POST /v1/feedback."""
    record_file: Path = Path("serve-record.db")
    """Where it is kept."""
    write_outcomes: Path | None = None
    """Write the rated answers of --record-file to that file, which `jaxroute train --table` reads, and end."""
    traces: str | None = None
    """Address to which OpenTelemetry's spans are sent, such as http://127.0.0.1:4318/v1/traces; left out, that of the variables
    OTEL_EXPORTER_OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, if one is set. Needs the extra `otel`."""
    first_byte_seconds: float = 120.0
    """Until an endpoint begins to answer; then the next one is tried."""
    drain_seconds: float = 20.0
    """How long an answer is read on whose client has gone, to know what it cost; then it counts at its worst case."""
    stop_seconds: float = 30.0
    """How long answers may go on after SIGTERM or Ctrl-C; a second one ends them at once, at their worst
    cases."""
    access_log: bool = True
    """Write a line of JSON per request to standard error; it holds no prompt, no answer and no key."""


def main(config: Annotated[Serve, tyro.conf.arg(name="")]) -> None:
    """Serve until interrupted."""
    try:
        import prometheus_client  # noqa: F401
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise EndpointError(f"{error.name} is not installed: pip install 'jaxroute[serve]'") from None
    if config.new_key is not None:
        _print_new_key(config.new_key)
        return
    if config.write_outcomes is not None:
        from jaxroute.serve.records import write_outcomes

        check_file("write_outcomes", config.write_outcomes, source=config.record_file)
        print(f"{write_outcomes(config.record_file, config.write_outcomes)} outcomes written to {config.write_outcomes}")
        return
    settings, listening = _checked(config)
    with ExitStack() as stack:
        if config.demo:
            settings = stack.enter_context(_demo(config, settings))
        from jaxroute.serve.starting import check_files

        check_files(settings, config.workers)
        served = _Served(settings, listening, config.access_log)
        if config.workers > 1:
            _serve_on_several(served, config.workers)
        else:
            with asyncio.Runner(loop_factory=_loop_factory()) as runner:
                forced = runner.run(_serve(served))
            _leave(forced)


@dataclass(frozen=True)
class _Served:
    """What a process serves, and a worker gets from its parent."""

    settings: ServeConfig
    listening: Listening
    access_log: bool


def _checked(config: Serve) -> tuple[ServeConfig, Listening]:
    """The options as the server takes them. Raises one `EndpointError` with all that is wrong, before anything is read."""
    from jaxroute.encoders.live import LiveConfig
    from jaxroute.serve.accounts import Budget
    from jaxroute.serve.server import Listening
    from jaxroute.serve.starting import Problems
    from jaxroute.serve.state import ServeConfig

    problems = Problems()
    if not config.demo and config.models is None:
        problems.append("give --models models.yaml, or --demo to try it with simulated models")
    if config.demo and config.models is not None:
        problems.append("--demo has models of its own: leave --models out")
    if config.demo and config.guarantee and config.checkpoint is None:
        problems.append("nothing is promised of the demo's router: leave --guarantee out, or give a --checkpoint")
    if not 1 <= config.workers <= 64:
        problems.append(f"workers={config.workers} must be from 1 to 64")
    if not 16 <= config.encoder_tokens <= MOST_ENCODER_TOKENS:
        problems.append(f"encoder_tokens={config.encoder_tokens} must be from 16 to {MOST_ENCODER_TOKENS:,}")
    if not 0 <= config.conversations_mb <= 1e6:
        problems.append(f"conversations_mb={config.conversations_mb:g} must be a number of mebibytes, from 0 to 1,000,000")
    budget_usd = DEMO_BUDGET_USD if config.demo and config.budget_usd is None else config.budget_usd
    if budget_usd is None and config.per != "total":
        problems.append(f"--per {config.per} needs --budget-usd")
    if budget_usd is None and config.expected_requests is not None:
        problems.append("--expected-requests needs --budget-usd")
    for field in ("ledger", "drift_file", "record_file"):
        if field != "record_file" or config.record != "none":
            problems.tried(check_file, field, getattr(config, field))
    listening = problems.tried(Listening, config.host, config.port, config.stop_seconds)
    if listening is not None:
        problems.tried(listening.check, keys=config.clients is not None)
    live, seconds = LiveConfig(), (config.deadline_seconds, config.first_byte_seconds)
    if not problems:
        live = LiveConfig(longest=config.encoder_tokens, dtype=config.encoder_dtype, memory_mb=config.conversations_mb)
    timeouts = problems.tried(ClientConfig, deadline_seconds=seconds[0], first_byte_seconds=seconds[1])
    budget = None if budget_usd is None else problems.tried(Budget, budget_usd, config.per)
    settings = problems.tried(
        ServeConfig,
        models=config.models or Path("models.yaml"),
        checkpoint=config.checkpoint,
        clients=config.clients,
        budget=budget,
        ledger=config.ledger,
        multiplier=config.multiplier,
        # Of the demo's own router it is said above.
        guarantee=config.guarantee and not (config.demo and config.checkpoint is None),
        # Without a budget it is said above.
        expected_requests=None if budget is None else config.expected_requests,
        live=live,
        unknown_below=config.unknown_below,
        tries=config.tries,
        timeouts=timeouts or ClientConfig(),
        drain_seconds=config.drain_seconds,
        drift_alpha=config.drift_alpha,
        drift_tolerance=config.drift_tolerance,
        drift_file=config.drift_file,
        record=config.record,
        record_file=config.record_file,
        traces=config.traces,
    )
    problems.raise_any()
    assert settings is not None and listening is not None
    return settings, listening


def _serve_on_several(served: _Served, count: int) -> None:
    """The parent of workers; each of them does what one process does alone."""
    from jaxroute.serve.workers import Workers

    _log_to_standard_error(served.access_log)
    workers = Workers(count, served.listening, _work, served)
    with workers.started() as greeting:
        print(greeting)
        sys.stdout.flush()
        workers.watch()
    _leave(workers.forced)


def _work(served: _Served, place: Place) -> None:
    """A worker; what it says at first is the parent's to print."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(served, place))


def _leave(forced: bool) -> None:
    if forced:
        print("ended at once: answers that had begun are cut, and count at their worst cases", file=sys.stderr)
        sys.exit(FORCED)


async def _serve(served: _Served, place: Place | None = None) -> bool:
    """Until it is asked to end; returns whether that was forced."""
    from jaxroute.serve.server import ENDING, bound_socket, serving
    from jaxroute.serve.state import read_state

    # A port that is taken is found before a checkpoint is read.
    bound = bound_socket(served.listening) if place is None else place.bound
    _log_to_standard_error(served.access_log)
    state = read_state(replace(served.settings, worker=None if place is None else place.worker))
    loop, stopped, forced = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()

    def end() -> None:
        if stopped.is_set():
            forced.set()
            # Should a thread still hold the process, such as one that reads a checkpoint, the next one kills it.
            for one in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(one)
                signal.signal(one, signal.SIG_DFL)
        stopped.set()

    # Before the first request can come: one that has begun must not be lost to a signal. A worker gets SIGTERM from its parent,
    # and where a service manager signals every process, from that too: whether it is forced the parent alone knows.
    for one in (signal.SIGTERM, signal.SIGINT) if place is None else ():
        loop.add_signal_handler(one, end)
    if place is not None:
        loop.add_signal_handler(signal.SIGTERM, stopped.set)
    async with serving(state, served.listening, bound, forced) as running:
        if hasattr(signal, "SIGHUP"):
            loop.add_signal_handler(signal.SIGHUP, running.reloading.now)
        greeting = _greeting(running.base_url, state.routed, sorted(state.upstreams), keys=state.clients is not None)
        if state.promise is not None:
            greeting = f"{state.promise}\n\n{greeting}"
        if place is not None:
            place.ready(greeting)
            await place.asked_to_end(stopped)
            return False
        print(greeting)
        sys.stdout.flush()
        await stopped.wait()
        print(ENDING, file=sys.stderr)
    return forced.is_set()


def _greeting(base_url: str, routed: list[str], models: list[str], *, keys: bool) -> str:
    model, key = ("auto" if routed else models[0]), ("YOUR-KEY" if keys else "none")
    header = f" -H 'Authorization: Bearer {key}'" if keys else ""
    body = f'{{"model": "{model}", "messages": [{{"role": "user", "content": "What is 12 plus 30?"}}]}}'
    return f"""serving {base_url}: {len(models)} models, {len(routed)} of them behind "auto"

curl{header} -H 'Content-Type: application/json' {base_url}/chat/completions -d '{body}'

from openai import OpenAI
client = OpenAI(base_url="{base_url}", api_key="{key}")
answer = client.chat.completions.create(model="{model}", messages=[{{"role": "user", "content": "What is 12 plus 30?"}}])
print(answer.choices[0].message.content)
"""


@contextmanager
def _demo(config: Serve, settings: ServeConfig) -> Iterator[ServeConfig]:
    """Simulated endpoints, and a router trained on their outcomes, in a folder that is gone afterwards."""
    from jaxroute.commands.simulate import models_yaml
    from jaxroute.data.sources.simulated import load_simulated, simulated_prices
    from jaxroute.routers.base import find_router
    from jaxroute.simulation import serving_in_thread

    with tempfile.TemporaryDirectory(prefix="jaxroute-demo-") as name, serving_in_thread() as simulation:
        folder = Path(name)
        (folder / "models.yaml").write_text(models_yaml(simulation.base_url))
        checkpoint = config.checkpoint
        if checkpoint is None:
            print(
                "A simulation: ten invented models answer, with text that is made up, and a router by the length of prompts "
                "chooses among them."
            )
            checkpoint = folder / "checkpoint"
            table = load_simulated(queries=DEMO_QUERIES, seed=0)
            print(f"Training it on {len(table)} simulated questions first.", flush=True)
            with without_bars():
                find_router("prompt_length").fit(table, prices=simulated_prices()).save(checkpoint)
        yield replace(
            settings,
            models=folder / "models.yaml",
            checkpoint=checkpoint,
            ledger=folder / "ledger.db" if config.ledger == Serve.ledger else config.ledger,
            drift_file=folder / "drift.db" if config.drift_file == Serve.drift_file else config.drift_file,
        )


def _print_new_key(name: str) -> None:
    from jaxroute.serve.clients import NAME, new_key

    if not NAME.fullmatch(name):
        raise EndpointError(f"new_key={name!r} must be a name of letters, digits, dots, dashes and underscores")
    key, lines = new_key(name)
    print(f"The key, which is shown only now:\n\n{key}\n\nFor clients.yaml:\n\n{lines}")


def _log_to_standard_error(access_log: bool) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = logging.getLogger("jaxroute.serve")
    log.addHandler(handler)
    log.setLevel(logging.INFO if access_log else logging.WARNING)
    log.propagate = False


def _loop_factory():
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
