"""What can be found wrong with the files before a checkpoint is loaded and a process is started: all of it, in one message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxroute.errors import EndpointError, JaxrouteError
from jaxroute.guarantees.promise_files import read_promise
from jaxroute.predictor.checkpoint import description_of
from jaxroute.serve.accounts import account_files
from jaxroute.serve.drift import connected
from jaxroute.serve.promised import check_served
from jaxroute.serve.records import Records
from jaxroute.serve.state import ServeConfig, read_files
from jaxroute.serve.traces import check_installed, wanted


class Problems(list[str]):
    """Messages of what is wrong, to be raised as one."""

    def tried(self, work: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What it returns; None where it raises for bad input, which is noted."""
        try:
            return work(*given, **named)
        except JaxrouteError as error:
            self.append(str(error))
            return None

    def raise_any(self) -> None:
        """Raise `EndpointError` with all of them, each once."""
        if self:
            raise EndpointError("; ".join(dict.fromkeys(self)))


def check_files(config: ServeConfig, workers: int = 1) -> None:
    """Read what is read quickly, then open what is written. Raises `EndpointError`; nothing is written where reading fails."""
    problems = Problems()
    found = problems.tried(read_files, config, workers)
    if config.checkpoint is not None:
        problems.tried(description_of, config.checkpoint)
        if config.guarantee and not problems:
            promise = problems.tried(read_promise, config.checkpoint)
            if promise is not None and found is not None:
                problems.tried(check_served, promise, found[0])
    if wanted(config.traces):
        problems.tried(check_installed)
    problems.raise_any()
    assert found is not None
    _, _, clients = found
    for path, budget in account_files(config.ledger, config.budget, clients):
        if (ledger := problems.tried(budget.ledger, path)) is not None:
            ledger.close()
    for path, opened in _written(config):
        if (one := problems.tried(opened, path)) is not None:
            one.close()
    problems.raise_any()


def _written(config: ServeConfig) -> list[tuple[Path, Callable[[Path], Any]]]:
    """Files beside the ledgers, and what opens them."""
    found: list[tuple[Path, Callable[[Path], Any]]] = []
    if config.record != "none":
        found.append((config.record_file, lambda path: Records(path, config.record)))
    if config.drift_file is not None and config.drift_alpha and config.checkpoint is not None:
        found.append((config.drift_file, connected))
    return found
