"""`jaxroute simulate`: the simulated pool behind OpenAI's wire format, to try everything that asks endpoints without a key."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.data.table import RoutingTable
from jaxroute.errors import EndpointError
from jaxroute.simulation import SimulationConfig, serving
from jaxroute.simulation.server import ACCEPTS, CONTEXT_TOKENS
from jaxroute.storage.files import check_file, replacing

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True)
class Simulate:
    """Serve ten invented models at http://127.0.0.1:PORT/v1 until interrupted. Nothing real is called, nothing costs money."""

    port: int = 8001
    """Where to listen; 0 takes a free port."""
    host: str = "127.0.0.1"
    """Address to listen on. Others than this machine can ask where it is not a loopback address."""
    queries: int = 1500
    """Questions of the simulated table whose outcomes are served exactly; 0: all prompts are drawn as they come."""
    seed: int = 0
    """Of the table, the answers and the faults."""
    time_scale: float = 1.0
    """What simulated seconds are multiplied with: 0 answers at once."""
    faults: tuple[str, ...] = ()
    """Shares of requests that fail, such as rate_limit=0.1 server_error=0.05; also slow_first_byte, cut, malformed,
    wrong_usage. A request may ask for one by the header x-simulated-fault."""
    retry_after_seconds: float = 1.0
    """What a rate limit asks to wait."""
    slow_seconds: float = 5.0
    """How late a slow first byte comes."""
    models: Path | None = None
    """Write a models.yaml with these endpoints to that file."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise EndpointError(f"port={self.port} must be from 0 to 65535")
        if self.queries < 0:
            raise EndpointError(f"queries={self.queries} must be at least 0")


def main(config: Annotated[Simulate, tyro.conf.arg(name="")]) -> None:
    """Serve until interrupted, then print what was served."""
    if config.models is not None:
        check_file("models", config.models)
    behaviour = SimulationConfig(
        seed=config.seed,
        time_scale=config.time_scale,
        faults=config.faults,
        retry_after_seconds=config.retry_after_seconds,
        slow_seconds=config.slow_seconds,
    )
    table = load_simulated(queries=config.queries, seed=config.seed) if config.queries else None
    try:
        asyncio.run(_serve(config, behaviour, table))
    except KeyboardInterrupt:
        return


async def _serve(config: Simulate, behaviour: SimulationConfig, table: RoutingTable | None) -> None:
    async with serving(behaviour, table, host=config.host, port=config.port) as simulation:
        address = simulation.base_url
        if config.models is not None:
            with replacing(config.models) as partial:
                partial.write_text(models_yaml(address))
            print(f"{config.models} names these endpoints")
        if config.host not in LOOPBACK:
            print(f"warning: {config.host} is not a loopback address, so other machines may ask")
        counted_at = f"{address.removesuffix('/v1')}/simulation/counts"
        print(f"ten simulated models at {address}; counts at {counted_at}; Ctrl-C ends", flush=True)
        try:
            await asyncio.Event().wait()
        finally:
            counts = simulation.counts.as_json()
            dollars = f"{counts['answered_usd']:.6f} simulated dollars"
            print(f"\nserved {counts['requests']} requests and {counts['answers']} answers for {dollars}")


def models_yaml(base_url: str) -> str:
    """A models.yaml of the simulated endpoints."""
    lines = ["# The simulated pool: jaxroute simulate", "models:"]
    for name, price in simulated_prices().items():
        lines += [f"  {name}:", f"    base_url: {base_url}", f"    price: {{input: {price.input:g}, output: {price.output:g}}}"]
        lines += [f"    context_tokens: {CONTEXT_TOKENS}", f"    accepts: [{', '.join(ACCEPTS)}]"]
    return "\n".join(lines) + "\n"
