"""Logs of inspect, `.eval` and `.json`: one scorer's values, epochs averaged, failed samples missing, tokens and dollars."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.prices import PriceList
from jaxroute.data.reading import Problems
from jaxroute.data.rows import Unreadable
from jaxroute.data.sources.logs import (
    Log,
    Record,
    entries,
    found_files,
    gathered,
    keys_of,
    log_problems,
    mapping,
    number,
    under,
)
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import PromptError, counted, listed, shortened

GRADES = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "YES": 1.0, "NO": 0.0, "TRUE": 1.0, "FALSE": 0.0}
"""Values that are words, as inspect's own `value_to_float` counts them."""
ATTACHED = "attachment://"
UNREAD = ("reasoning", "tool_use", "data")
"""Parts of a message that are not for the model to read."""
ZSTANDARD = 93
"""What a zip calls Zstandard, which versions from 2026 on write and Python before 3.14 does not read."""
LOCAL_HEADER = struct.Struct("<26xHH")


def load_inspect(
    path: Path | Sequence[Path],
    *,
    task: str = "",
    scorer: str = "",
    scale: float = 1.0,
    clip: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is a folder of logs of several models, a log, or a list of those.

    - `task` chooses one task; the task is the domain.
    - `scorer` names the scorer that counts, by default the log's first; `NAME/PART` one part of a score that has several.
    - A query is a sample's id and input; the prompt is its input, with the choices as lettered lines.
    - Epochs are averaged. A sample that ended in an error, or has no score, is missing. A tool's error inside a sample that was
      scored is part of the answer, and counted in the note.
    - Tokens are those of the answer where it took one call, else of all calls of the model in the sample.

    Raises `SourceError`.
    """
    options = TableOptions(scale=scale, clip=clip, repeats="mean", paid=paid, prices=prices)
    problems = log_problems(path, "logs of inspect")
    records: list[Record] = []
    notes: dict[str, None] = {}
    tasks: dict[str, None] = {}
    seen: set[str] = set()
    tool_errors, unfinished = 0, []
    for header, samples in _logs(path, problems):
        tasks[header.task] = None
        if task not in ("", header.task):
            continue
        if header.status != "success":
            unfinished.append(f"{header.name} ({header.status})")
        used, part = scorer, ""
        for sample, where in samples:
            # What an evaluation that was retried had finished is in its second log too.
            if isinstance(sample.get("uuid"), str) and (sample["uuid"] in seen or seen.add(sample["uuid"])):
                continue
            scores = _scores(sample)
            if scorer not in scores and scorer.rpartition("/")[0] in scores:
                used, _, part = scorer.rpartition("/")
            used = used or next(iter(scores), "")
            if len(scores) > 1:
                notes[f"{header.task}: scorer {used} of {listed(scores, 6)}"] = None
            record, failed_tools = _record(header, sample, where, used, part, problems)
            records += [record] if record else []
            tool_errors += failed_tools
    if task and task not in tasks and tasks:
        problems.add(f"task={task!r} is none of its tasks, which are {listed(tasks)}")
    notes |= {f"unfinished: {listed(unfinished, 3)}": None} if unfinished else {}
    notes |= {f"in {counted(tool_errors, 'scored sample')} a tool failed": None} if tool_errors else {}
    return gathered(Log(records, list(notes), prompts_identify=True), problems, options, "inspect")


@dataclass(frozen=True)
class _Header:
    """What a log says of all its samples."""

    name: str
    model: str
    task: str
    status: str


def _logs(path: Path | Sequence[Path], problems: Problems) -> Iterator[tuple[_Header, Iterator[tuple[Mapping[str, Any], str]]]]:
    """Every log with its samples, each with its place. A .json file beside the logs that is none is passed over."""
    try:
        files = found_files(path, ("*.eval", "*.json"))
    except Unreadable as error:
        problems.add(str(error))
        return
    others, count = [], 0
    for file in files:
        name = under(path, file)
        try:
            if file.suffix == ".eval":
                archive = _Archive(file)
                content, samples = archive.header(), archive.samples(name, problems)
            else:
                content = json.loads(file.read_text(encoding="utf-8"))
                samples = _listed_samples(content, name)
        except (OSError, ValueError, RecursionError, zipfile.BadZipFile, KeyError) as error:
            problems.add(f"{name} cannot be read: {shortened(str(error), 200, quoted=False)}; is it cut off?")
            continue
        described = mapping(mapping(content).get("eval"))
        if not isinstance(described.get("model"), str) or not described["model"].strip():
            others.append(
                f"{name} is no log: {keys_of(content, 'inspect') if isinstance(content, dict) else 'it is no object'}"
            )
            continue
        count += 1
        yield _Header(name, described["model"], str(described.get("task", "")), str(content.get("status", ""))), samples
    if not count and not problems.found:
        problems.add(others[0] if others else "it holds no .eval and no .json")


def _listed_samples(content: Any, name: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    for place, sample in enumerate(entries(mapping(content).get("samples"))):
        if isinstance(sample, dict):
            yield sample, f"{name}, samples[{place}]"


class _Archive:
    """A log that is a zip: a header, and a file per sample and epoch."""

    def __init__(self, file: Path):
        self.file = file
        with zipfile.ZipFile(file) as archive:
            self.infos = {info.filename: info for info in archive.infolist()}

    def header(self) -> Any:
        """What the log says of itself at its end; at its beginning where it was broken off."""
        return self._read("header.json" if "header.json" in self.infos else "_journal/start.json")

    def samples(self, name: str, problems: Problems) -> Iterator[tuple[Mapping[str, Any], str]]:
        for inner in self.infos:
            if inner.startswith("samples/") and inner.endswith(".json"):
                try:
                    sample = self._read(inner)
                except (OSError, ValueError, RecursionError, zipfile.BadZipFile) as error:
                    problems.add(f"{name}, {inner} cannot be read: {shortened(str(error), 200, quoted=False)}")
                    continue
                if isinstance(sample, dict):
                    yield sample, f"{name}, {inner}"

    def _read(self, name: str) -> Any:
        info = self.infos[name]
        with self.file.open("rb") as file, zipfile.ZipFile(file) as archive:
            if info.compress_type != ZSTANDARD:
                return json.loads(archive.read(name))
            import pyarrow

            file.seek(info.header_offset)
            file.seek(sum(LOCAL_HEADER.unpack(file.read(LOCAL_HEADER.size))), 1)
            packed = file.read(info.compress_size)
            return json.loads(bytes(pyarrow.decompress(packed, info.file_size, codec="zstd", asbytes=True)))


def _scores(sample: Mapping[str, Any]) -> Mapping[str, Any]:
    """By scorer; the first versions had one score without a name."""
    scores = sample.get("scores")
    if isinstance(scores, dict):
        return scores
    return {"score": sample["score"]} if isinstance(sample.get("score"), dict) else {}


def _record(
    header: _Header, sample: Mapping[str, Any], where: str, scorer: str, part: str, problems: Problems
) -> tuple[Record | None, int]:
    """The sample's outcome, and 1 where a tool failed in one that was scored."""
    try:
        prompt = _prompt(sample)
    except PromptError as error:
        problems.add(f"{where}: the input {error}")
        return None, 0
    score, missing = np.nan, ""
    error = sample.get("error")
    if error:
        said = str(error.get("message", "")) if isinstance(error, dict) else str(error)
        missing = f"failed: {shortened(said.split('(')[0] or 'error', 40, quoted=False)}"
    elif not isinstance(given := _scores(sample).get(scorer), dict):
        others = _scores(sample)
        missing = f"not scored by {scorer}, but by {listed(others, 3)}" if scorer and others else "not scored"
    else:
        try:
            score = _value(given.get("value"), scorer, part)
        except ValueError as wrong:
            problems.add(f"{where}: {wrong}")
    messages = [mapping(one) for one in entries(sample.get("messages"))]
    failed_tools = any(one.get("role") == "tool" and (one.get("error") or one.get("tool_error")) for one in messages)
    output = mapping(sample.get("output"))
    single = sum(one.get("source") == "generate" for one in messages) == 1 and isinstance(output.get("usage"), dict)
    usage = output["usage"] if single else mapping(mapping(sample.get("model_usage")).get(header.model))
    return Record(
        model=header.model,
        query=f"{header.task}/{sample.get('id')}",
        prompt=prompt,
        score=score,
        where=where,
        domain=header.task,
        missing=missing,
        cost_usd=number(usage.get("total_cost")),
        input_tokens=_input_tokens(usage),
        output_tokens=number(usage.get("output_tokens")),
        latency_seconds=number(output.get("time") if single else sample.get("working_time")),
        response=_response(output),
    ), int(failed_tools and not np.isnan(score))


def _value(value: Any, scorer: str, part: str) -> float:
    """A score's value as a number. Raises `ValueError` saying what it is in place of one."""
    if isinstance(value, dict):
        if part not in value and len(value) > 1:
            raise ValueError(f"the score {scorer!r} has the parts {listed(value, 6)}: choose one with scorer={scorer}/PART")
        value = value.get(part, next(iter(value.values()), None))
    if isinstance(value, str) and value.strip().upper() in GRADES:
        return GRADES[value.strip().upper()]
    if value is None or isinstance(value, bool | int | float):
        return number(value)
    try:
        return float(value)
    except (TypeError, ValueError):
        raise ValueError(f"the score {scorer!r} is {shortened(value)}, neither a number nor one of {listed(GRADES)}") from None


def _input_tokens(usage: Mapping[str, Any]) -> float:
    """All tokens in, cached ones too: some versions count these in `input_tokens` and some do not, `total_tokens` always."""
    counts = [number(usage.get(name)) for name in ("input_tokens", "input_tokens_cache_read", "input_tokens_cache_write")]
    without_output = number(usage.get("total_tokens")) - number(usage.get("output_tokens"))
    return without_output if without_output >= counts[0] else counts[0] + np.nansum(counts[1:])


def _response(output: Mapping[str, Any]) -> str:
    message = mapping(mapping(next(iter(entries(output.get("choices"))), None)).get("message"))
    content = message.get("content", output.get("completion"))
    parts = content if isinstance(content, list) else [content]
    texts = [one.get("text") if isinstance(one, dict) else one for one in parts]
    return "\n".join(text for text in texts if isinstance(text, str))


def _prompt(sample: Mapping[str, Any]) -> str:
    """The input, with attachments in their places, and its choices. Raises `PromptError`."""
    given = _attached(sample.get("input"), mapping(sample.get("attachments")))
    text = prompt_text([_message(one) for one in given] if isinstance(given, list) else given)
    choices = entries(sample.get("choices"))
    if not choices:
        return text
    return "\n".join([text, "", *(f"{chr(ord('A') + place)}) {choice}" for place, choice in enumerate(choices))])


def _attached(value: Any, attached: Mapping[str, Any]) -> Any:
    if isinstance(value, str) and value.startswith(ATTACHED):
        return attached.get(value.removeprefix(ATTACHED), value)
    if isinstance(value, list):
        return [_attached(one, attached) for one in value]
    return {name: _attached(one, attached) for name, one in value.items()} if isinstance(value, dict) else value


def _message(message: Any) -> Any:
    """In OpenAI's form, which differs in documents and in calls of tools."""
    if not isinstance(message, dict):
        return message
    found = {name: message.get(name) for name in ("role", "content")}
    if isinstance(found["content"], list):
        kept = [one for one in found["content"] if not isinstance(one, dict) or str(one.get("type")) not in UNREAD]
        found["content"] = [
            one | {"type": "file"} if isinstance(one, dict) and one.get("type") == "document" else one for one in kept
        ]
    calls = [one for one in entries(message.get("tool_calls")) if isinstance(one, dict)]
    if calls:
        found["tool_calls"] = [{"function": {"name": one.get("function"), "arguments": one.get("arguments")}} for one in calls]
    return found
