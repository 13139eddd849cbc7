"""promise.json beside an estimator: what was promised of it. It is void for any other estimator, as the digest shows."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from jaxroute.errors import GuaranteeError
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.promise import Part, Promise
from jaxroute.predictor.checkpoint import PROMISE, description_of
from jaxroute.storage.digests import file_digest
from jaxroute.storage.files import write_json

FORMAT = 1


def write_promise(folder: Path, promise: Promise) -> Path:
    """Write it into the checkpoint's folder, in place of an earlier one; returns the file."""
    path = folder / PROMISE
    content = {"format": FORMAT, "estimator_sha256": file_digest(description_of(folder)), **asdict(promise)}
    write_json(path, _without_nan(content))
    return path


def read_promise(folder: Path | str) -> Promise:
    """Raises `GuaranteeError` where there is none, it is damaged, or it was made for another estimator."""
    path = Path(folder) / PROMISE
    if not path.is_file():
        raise GuaranteeError(
            f"checkpoint={str(folder)!r} holds no promise: make one with `jaxroute guarantee --checkpoint {folder} --table ...`"
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.pop("format") != FORMAT:
            raise ValueError("its format is of another version")
        digest = content.pop("estimator_sha256")
        asked = Asked(**_known(Asked, content.pop("asked")))
        parts = [Part(**_known(Part, _with_nan(part))) for part in content.pop("parts")]
        promise = Promise(asked=asked, parts=parts, **_known(Promise, content))
        if not parts or not all(0 <= part.multiplier < math.inf for part in parts):
            raise ValueError("it has no price")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise GuaranteeError(f"{path} cannot be read ({error}): make the promise again with `jaxroute guarantee`") from error
    if digest != file_digest(description_of(Path(folder))):
        raise GuaranteeError(
            f"{path} was made for another estimator than lies beside it: make the promise again with `jaxroute guarantee`"
        )
    return promise


def _known(kind: type, content: dict[str, Any]) -> dict[str, Any]:
    names = {one.name for one in fields(kind)}
    if unknown := sorted(set(content) - names):
        raise ValueError(f"unknown {', '.join(unknown)}"[:200])
    return content


def _without_nan(value: Any) -> Any:
    """JSON has no NaN."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(one) for name, one in value.items()}
    return [_without_nan(one) for one in value] if isinstance(value, list) else value


def _with_nan(part: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if one is None and name == "reference_cost_usd" else one for name, one in part.items()}
