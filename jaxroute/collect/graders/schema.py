"""The answer is valid JSON with the keys and types that are asked for."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaxroute.collect.graders.grade import Grade
from jaxroute.errors import listed, shortened

NEEDS_REFERENCE = False
FENCE = re.compile(r"```(?:json)?\s*\n(.*?)```", re.DOTALL | re.IGNORECASE)
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
CHECKED = ("type", "required", "properties", "items", "enum", "additionalProperties")
"""The rules of JSON Schema that are checked."""
SILENT = ("$schema", "$id", "title", "description", "default", "examples", "$comment")
"""Those that ask for nothing."""


@dataclass(frozen=True)
class Config:
    """Where the JSON may be."""

    fenced: bool = True
    """Whether it may be in a block between ```; else the whole answer must be JSON."""


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where the answer is JSON that keeps the reference: none, a list of keys, or a JSON Schema (also as text); else 0."""
    blocks = FENCE.findall(answer) if config.fenced else []
    try:
        value = json.loads(blocks[-1] if blocks else answer, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        return Grade(0.0, f"it is not JSON: {shortened(str(error), quoted=False)}")
    wrong = _wrong(value, _schema(reference), "")
    return Grade(float(not wrong), wrong or "it is as asked for")


def problem(reference: Any, question: Any, config: Config) -> str:
    """A schema must be one, and use only rules that are checked."""
    try:
        return _unchecked(_schema(reference), "")
    except ValueError as error:
        return str(error)


def _schema(reference: Any) -> Mapping[str, Any]:
    """The reference as a schema. Raises `ValueError` where it is none."""
    if isinstance(reference, str) and reference.strip():
        try:
            reference = json.loads(reference)
        except ValueError as error:
            raise ValueError(f"the reference {shortened(reference)} is no JSON: {error}") from None
    if reference is None or reference == "":
        return {}
    if isinstance(reference, list) and all(isinstance(key, str) for key in reference):
        return {"type": "object", "required": reference}
    if isinstance(reference, Mapping):
        return reference
    raise ValueError(f"the reference {shortened(reference)} is neither a list of keys nor a JSON Schema")


def _unchecked(schema: Any, place: str) -> str:
    """What of a schema is wrong or cannot be checked."""
    where = f" of {place}" if place else ""
    if not isinstance(schema, Mapping):
        return f"the schema{where} is {shortened(schema)}, not an object"
    if unknown := [rule for rule in schema if rule not in CHECKED and rule not in SILENT]:
        return f"the schema{where} has {listed(unknown)}, which is not checked; checked are {', '.join(CHECKED)}"
    if wrong := [name for name in _types(schema) if name not in TYPES]:
        return f"the schema{where} has the type {listed(map(shortened, wrong))}; types are {', '.join(TYPES)}"
    if not isinstance(schema.get("additionalProperties", True), bool):
        return f"the schema{where} has additionalProperties={shortened(schema['additionalProperties'])}, which is not checked"
    inner = {f"{place}.{name}".strip("."): one for name, one in dict(schema.get("properties") or {}).items()}
    inner |= {f"{place}[]": schema["items"]} if "items" in schema else {}
    return next((said for name, one in inner.items() if (said := _unchecked(one, name))), "")


def _wrong(value: Any, schema: Mapping[str, Any], place: str) -> str:
    """The first rule that the value breaks, in words; empty where it keeps all."""
    name = place or "the JSON"
    types = _types(schema)
    if types and not any(_is(value, one) for one in types):
        return f"{name} is {shortened(value)}, not of type {' or '.join(types)}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{name} is {shortened(value)}, none of {listed(map(shortened, schema['enum']))}"
    if isinstance(value, dict):
        properties = schema.get("properties") or {}
        if missing := [key for key in schema.get("required") or [] if key not in value]:
            return f"{name} lacks {listed(missing)}"
        if schema.get("additionalProperties") is False and (more := [key for key in value if key not in properties]):
            return f"{name} has {listed(more)}, which is not asked for"
        inner = ((f"{place}.{key}".strip("."), value[key], one) for key, one in properties.items() if key in value)
        return next((said for at, one, rule in inner if (said := _wrong(one, rule, at))), "")
    if isinstance(value, list) and "items" in schema:
        return next((said for at, one in enumerate(value) if (said := _wrong(one, schema["items"], f"{place}[{at}]"))), "")
    return ""


def _types(schema: Mapping[str, Any]) -> list[str]:
    given = schema.get("type", [])
    return [given] if isinstance(given, str) else list(given)


def _is(value: Any, name: str) -> bool:
    """True is no number, and 2.0 is an integer, as JSON Schema has it."""
    if isinstance(value, bool):
        return name == "boolean"
    return isinstance(value, TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")
