"""`jaxroute route`: prompts in, a model for each within a budget out."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from jaxroute.errors import PromptError
from jaxroute.routing.assignment_files import write_routed
from jaxroute.routing.request import RouteRequest
from jaxroute.routing.router import Router
from jaxroute.storage.files import check_file


@dataclass(frozen=True)
class Route:
    """Assign every prompt of a file to a model within a budget, with a proof of how near to the best."""

    checkpoint: Path
    """Folder that `jaxroute train` or `jaxroute demo` wrote."""
    prompts: Path
    """JSON lines with a "prompt" each, or plain text with a prompt per line (.txt). Further fields are kept, but for model,
    estimate and cost_usd, which are set."""
    request: Annotated[RouteRequest, tyro.conf.arg(name="")]
    output: Path = Path("assignment.jsonl")
    """One JSON line per prompt: model, estimated quality, expected cost."""
    encoder: str | None = None
    """Where the encoder lies now, if it has moved."""


def main(config: Annotated[Route, tyro.conf.arg(name="")]) -> None:
    """Assign every prompt of a file to a model within a budget."""
    check_file("output", config.output)
    rows = read_prompts(config.prompts)
    router = Router.load(config.checkpoint, encoder=config.encoder)
    routed = router.route_in_full([row["prompt"] for row in rows], config.request)
    write_routed(config.output, rows, routed.assignment, routed.estimates)
    if routed.cut:
        print(f"{routed.cut} prompts were longer than the encoder reads and were cut for the estimate")
    print(f"expected cost: {routed.assumption}")
    print(routed.assignment)
    for column, model in enumerate(routed.models):
        print(f"  {model:<46} {(routed.assignment.choice == column).sum():>7,} prompts")
    print(f"written to {config.output}")


def read_prompts(path: Path) -> list[dict]:
    """Rows with at least a prompt; raises `PromptError` listing every line that has none."""
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PromptError(f"prompts={str(path)!r} cannot be read: {error}") from error
    if path.suffix == ".txt":
        rows = [{"prompt": line} for line in lines if line.strip()]
    else:
        rows, wrong = [], []
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if isinstance(row, dict) and isinstance(row.get("prompt"), str) and row["prompt"].strip():
                rows.append(row)
            else:
                wrong.append(str(number))
        if wrong:
            shown = ", ".join(wrong[:20]) + (", ..." if len(wrong) > 20 else "")
            raise PromptError(
                f'prompts={str(path)!r}: every line must be a JSON object whose "prompt" is a text and not empty (or name '
                f"the file .txt and give a prompt per line); wrong: line {shown}"
            )
    if not rows:
        raise PromptError(f"prompts={str(path)!r} holds no prompt")
    return rows
