"""The state of a run on disk: parameters, optimizer and position, written by orbax while training continues.

FOLDER/run.json       what decides the run: configuration, table, encoder
FOLDER/steps/N/       state after update N; the latest few and the best are kept
FOLDER/metrics.jsonl  one object per update and evaluation
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jax

from jaxroute.errors import CheckpointError
from jaxroute.storage.files import LOCK, alone_in, replacing, write_json


class RunState:
    """Checkpoints of one run; a context manager, which waits for what is still being written."""

    def __init__(self, folder: Path, described: Mapping[str, Any], *, keep: int):
        """`described` is what decides the run. Raises `CheckpointError` if `folder` holds another one."""
        import orbax.checkpoint as orbax  # A second, which only runs of gradient training need.
        from orbax.checkpoint import checkpoint_managers

        self.folder = folder
        check_same_run(folder, described)
        self.alone = ExitStack()
        if jax.process_index() == 0:
            self.alone.enter_context(alone_in(folder))
        if jax.process_index() == 0 and not (folder / "run.json").exists():
            write_json(folder / "run.json", described)
        policies = [
            checkpoint_managers.LatestN(keep),
            checkpoint_managers.BestN(get_metric_fn=_goodness, n=1),
        ]
        options = orbax.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
            cleanup_tmp_directories=True,
            # Without it orbax writes no metrics, and a later process would not know which step was best.
            best_fn=_goodness,
        )
        self.manager = orbax.CheckpointManager((folder / "steps").resolve(), options=options)

    def __enter__(self) -> RunState:
        return self

    def __exit__(self, *_: object) -> None:
        with self.alone:
            self.manager.close()

    def save(self, step: int, tree: Any, progress: Mapping[str, Any], held_out_loss: float | None) -> None:
        """Begin to write the state after `step` updates; returns once the arrays are copied."""
        from orbax.checkpoint import args

        metrics = {"held_out_loss": held_out_loss, "step": step}
        items = args.Composite(state=args.StandardSave(tree), progress=args.JsonSave(dict(progress)))
        self.manager.save(step, args=items, metrics=metrics)

    def latest(self) -> int | None:
        return self.manager.latest_step()

    def restore(self, step: int, abstract: Any) -> tuple[Any, dict[str, Any]]:
        """The state after `step` updates, on the devices that `abstract` names, whatever devices wrote it."""
        from orbax.checkpoint import args

        items = args.Composite(state=args.StandardRestore(abstract), progress=args.JsonRestore())
        found = self.manager.restore(step, args=items)
        return found["state"], found["progress"]

    def wait(self) -> None:
        self.manager.wait_until_finished()


def _goodness(metrics: Any) -> Any:
    """Higher is better; ties go to the earlier step, as in the loop. Where nothing was evaluated, to the latest."""
    if metrics["held_out_loss"] is None:
        return -math.inf, metrics["step"]
    return -metrics["held_out_loss"], -metrics["step"]


def check_same_run(folder: Path, described: Mapping[str, Any]) -> None:
    """Raise `CheckpointError`, showing every difference, where `folder` holds the state of another run."""
    path = folder / "run.json"
    if not path.exists():
        if folder.is_dir() and any(not path.name.startswith((LOCK, ".partial-")) for path in folder.iterdir()):
            raise CheckpointError(f"{folder} holds other files: give the state of the run a folder of its own")
        return
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete {folder} to begin again") from error
    before, now = _flat(stored), _flat(json.loads(json.dumps(described)))
    changed = [
        f"{name} was {before.get(name, 'absent')!r}, is {now.get(name, 'absent')!r}"
        for name in sorted(before.keys() | now.keys())
        if before.get(name, _ABSENT) != now.get(name, _ABSENT)
    ]
    if changed:
        raise CheckpointError(
            f"{folder} holds the state of another run: {'; '.join(changed)}. Start with the former configuration to go on, or "
            "delete the folder, or name another output"
        )


_ABSENT = object()


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        name: value for key, part in tree.items() for name, value in _flat(part, f"{prefix}.{key}" if prefix else key).items()
    }


class Metrics:
    """metrics.jsonl: appended line by line; lines after the step that a run resumes from are taken back."""

    def __init__(self, folder: Path, step: int):
        self.path = folder / "metrics.jsonl"
        self.writes = jax.process_index() == 0
        if self.writes and self.path.exists():
            kept = [line for line in self.path.read_text().split("\n") if _step_of(line) <= step]
            with replacing(self.path) as partial:
                partial.write_text("".join(line + "\n" for line in kept))

    def add(self, **values: float | int | str) -> None:
        if self.writes:
            with self.path.open("a") as file:
                file.write(json.dumps(values) + "\n")


def _step_of(line: str) -> float:
    """Infinite for half a line, as a kill may leave it."""
    try:
        return json.loads(line)["step"]
    except (ValueError, KeyError, TypeError):
        return float("inf")
