"""Chat messages as text for an encoder: one rendering, for tables, prompt files and batch files alike.

Messages have OpenAI's form: a list of `{"role": ..., "content": ...}`, where content is a text or a list of parts.

- One user message of text alone is that text, so that it equals the plain prompt.
- Otherwise every message is `role: text`, and a blank line separates two of them.
- Parts of one message follow each other, a line each.
- What is no text is numbered and named, and not read: `[image 1: cat.png]`, `[image 2: image/png]` for one that is sent inside
  the message, `[audio 1: wav]`, `[file 1: report.pdf]`.
- An assistant's calls of tools are `[calls name(arguments)]`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from jaxroute.errors import PromptError, listed, shortened

PROMPT_FIELDS = ("prompt", "messages", "body")
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
OTHER_PARTS = {"image_url": "image", "input_image": "image", "image": "image", "input_audio": "audio", "file": "file"}
OTHER_PARTS |= {"audio": "audio", "input_file": "file", "video_url": "video", "input_video": "video", "video": "video"}


def render(messages: Sequence[Any]) -> str:
    """The messages as one text. Raises `PromptError` naming the message that is not in OpenAI's form."""
    if not isinstance(messages, list | tuple) or not messages:
        raise PromptError(f"has messages={shortened(messages)}, not a list of at least one message")
    counts: Counter[str] = Counter()
    turns = []
    for number, message in enumerate(messages, start=1):
        try:
            turns.append(_turn(message, counts))
        except PromptError as error:
            raise PromptError(f"has a wrong message {number}: {error}") from error
    if len(turns) == 1 and turns[0][0] == "user":
        text = turns[0][1]
    else:
        text = "\n\n".join(f"{role}: {text}" if text else f"{role}:" for role, text in turns)
    if not any(text.strip() for _, text in turns):
        raise PromptError("has messages without any text")
    return text


def prompt_field(cells: Mapping[str, Any]) -> str:
    """Which field holds a row's prompt: `prompt`, else `messages`, else `body`, the request of a batch file's line."""
    filled = (name for name in PROMPT_FIELDS if not _is_blank(cells.get(name)))
    return next(filled, next((name for name in PROMPT_FIELDS if name in cells), PROMPT_FIELDS[0]))


def row_prompt(cells: Mapping[str, Any], field: str) -> str:
    """The prompt in `field` of a row, as `prompt_text` has it; messages and bodies may be JSON text. Raises `PromptError`."""
    value = cells.get(field)
    if field != "prompt" and isinstance(value, str | bytes) and value.strip():
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise PromptError(f"is not JSON: {shortened(value)}") from error
    if field == "body" and value is not None:
        if not isinstance(value, Mapping):
            raise PromptError(f"is no request with messages: {shortened(value)}")
        # Of chat completions, of responses, of completions.
        value = next((value[name] for name in ("messages", "input", "prompt") if not _is_blank(value.get(name))), None)
    return prompt_text(value)


def prompt_text(prompt: Any) -> str:
    """A prompt as a text: a text as it is, UTF-8 bytes decoded, chat messages (also as `{"messages": [...]}`) rendered.

    Raises `PromptError` for anything else, for an empty one, and for half a surrogate pair.
    """
    if isinstance(prompt, bytes):
        try:
            prompt = prompt.decode()
        except UnicodeDecodeError as error:
            raise PromptError(f"is not UTF-8: {shortened(prompt)}") from error
    if isinstance(prompt, Mapping) and isinstance(prompt.get("messages"), list):
        prompt = prompt["messages"]
    if _is_blank(prompt):
        raise PromptError("is empty")
    text = render(prompt) if isinstance(prompt, list) else prompt
    if not isinstance(text, str):
        raise PromptError(f"is neither a text nor a list of chat messages: {shortened(text)}")
    if not is_text(text):
        raise PromptError(f"holds half of a surrogate pair: {shortened(text)}")
    return text


def is_text(prompt: str) -> bool:
    """Whether it can be written as UTF-8; half of a surrogate pair, as from a cut emoji, cannot."""
    try:
        prompt.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_blank(value: Any) -> bool:
    return value is None or (isinstance(value, str | bytes) and not value.strip())


def _turn(message: Any, counts: Counter[str]) -> tuple[str, str]:
    """Who speaks, and the text; `counts` are the images, files and so on before it."""
    if not isinstance(message, Mapping):
        raise PromptError(f"{shortened(message)} is not an object with role and content")
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in ROLES:
        raise PromptError(f"role={shortened(role)} is none of {', '.join(ROLES)}")
    if content is None or isinstance(content, str):
        pieces = [content or ""]
    elif isinstance(content, list):
        pieces = [_part(part, counts) for part in content]
    else:
        raise PromptError(f"content={shortened(content)} is neither a text nor a list of parts")
    calls = message.get("tool_calls") or []
    pieces += [_call(call) for call in (calls if isinstance(calls, list) else [calls])]
    return role, "\n".join(piece for piece in pieces if piece)


def _part(part: Any, counts: Counter[str]) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, Mapping):
        raise PromptError(f"the part {shortened(part)} is not an object")
    kind = part.get("type")
    if isinstance(kind, str) and kind in TEXT_PARTS:
        text = part.get(TEXT_PARTS[kind])
        if not isinstance(text, str):
            raise PromptError(f"the part of type {kind!r} has {TEXT_PARTS[kind]}={shortened(text)}, which is not a text")
        return text
    if not isinstance(kind, str) or kind not in OTHER_PARTS:
        raise PromptError(f"type={shortened(kind)} of a part is unknown; known are {listed([*TEXT_PARTS, *OTHER_PARTS], 20)}")
    what = OTHER_PARTS[kind]
    counts[what] += 1
    name = _name(part, kind)
    return f"[{what} {counts[what]}: {name}]" if name else f"[{what} {counts[what]}]"


def _name(part: Mapping[str, Any], kind: str) -> str:
    """What it is called: the file's name, the last part of its address, or its media type where it is sent inside."""
    inner = part.get(kind) or part.get(kind.removeprefix("input_")) or part
    given = inner if isinstance(inner, Mapping) else {"url": inner}
    for field in ("filename", "url", "image_url", "file_url", "format", "file_id"):
        value = given.get(field) or part.get(field)
        if isinstance(value, str) and value:
            if value.startswith("data:"):
                return shortened(value[5:60].split(",")[0].split(";")[0], quoted=False)
            try:
                path = urlsplit(value).path
            except ValueError:
                path = value
            return shortened(PurePosixPath(path).name or value, quoted=False)
    return ""


def _call(call: Any) -> str:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping):
        return ""
    arguments = function.get("arguments")
    given = arguments if isinstance(arguments, str) else json.dumps(arguments or {}, ensure_ascii=False)
    return f"[calls {function.get('name')}({given})]"
