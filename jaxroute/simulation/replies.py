"""Requests and answers of the simulated endpoints in OpenAI's form: whole, or as the chunks of a stream."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from jaxroute.data.messages import prompt_text
from jaxroute.simulation.faults import Fault
from jaxroute.simulation.pool import Outcome, SimulatedPool, Written
from jaxroute.simulation.roles import special_reply

LOG_PROBABILITY = -0.01
"""Of every token but the last."""
Kind = Literal["chat", "completion", "response", "embedding"]
LIMITS = ("max_completion_tokens", "max_tokens", "max_output_tokens")
WRONG_USAGE: tuple[dict[str, int] | None, ...] = (
    None,
    {"prompt_tokens": -1, "completion_tokens": -5, "total_tokens": -6},
    {"prompt_tokens": 1, "completion_tokens": 10**12, "total_tokens": 10**12 + 1},
)


@dataclass(frozen=True)
class Asked:
    """What a request asks for."""

    model: str
    prompt: str
    most_tokens: int | None
    stream: bool
    with_usage: bool
    log_probabilities: bool
    as_json: bool
    function: str | None = None
    """The tool that is called in place of an answer: the first of those that are offered, until one has answered."""
    as_base64: bool = False
    """Of embeddings."""

    @staticmethod
    def read(body: Any, kind: Kind = "chat") -> Asked:
        """From the request's JSON. Raises `ValueError` or `PromptError` for what is not in OpenAI's form."""
        if not isinstance(body, dict) or not isinstance(body.get("model"), str):
            raise ValueError("you must provide a model parameter")
        if body.get("n") not in (None, 1):
            raise ValueError("n must be 1")
        most = next((body[name] for name in LIMITS if body.get(name) is not None), None)
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ValueError("max_tokens must be a whole number of at least 1")
        text = body.get("text")
        form = text.get("format") if isinstance(text, dict) else body.get("response_format")
        options = body.get("stream_options")
        return Asked(
            model=body["model"],
            prompt=prompt_text(_prompt(body, kind)),
            most_tokens=most,
            stream=body.get("stream") is True,
            with_usage=isinstance(options, dict) and options.get("include_usage") is True,
            log_probabilities=body.get("logprobs") is True,
            as_json=isinstance(form, dict) and form.get("type") in ("json_object", "json_schema"),
            function=_function(body),
            as_base64=body.get("encoding_format") == "base64",
        )


class Reply:
    """One answer in OpenAI's form."""

    def __init__(self, asked: Asked, pool: SimulatedPool, fault: Fault | None, tried: int) -> None:
        self.asked, self.tried = asked, tried
        self.fault_kind = "" if fault is None else fault.kind
        self.outcome: Outcome = pool.outcome(asked.model, asked.prompt)
        given = (asked.model, asked.prompt, asked.most_tokens)
        special = special_reply(pool, *given, as_json=asked.as_json)
        self.written: Written = special or pool.write(*given, as_json=asked.as_json)
        self.share = self.written.completion_tokens / self.outcome.completion_tokens
        """How much of the answer is written: a cut one takes less time."""
        self.identity = {"id": f"chatcmpl-{tried}", "created": 0, "model": asked.model}

    def usage(self) -> dict[str, Any] | None:
        """Tokens; wrong ones where that is the fault."""
        if self.fault_kind == "wrong_usage":
            return WRONG_USAGE[self.tried % len(WRONG_USAGE)]
        prompt, completion = self.outcome.prompt_tokens, self.written.completion_tokens
        usage: dict[str, Any] = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
        usage["prompt_tokens_details"] = {"cached_tokens": 0}
        if self.written.reasoning_tokens is not None:
            usage["completion_tokens_details"] = {"reasoning_tokens": self.written.reasoning_tokens}
        return usage

    def completion(self) -> dict[str, Any]:
        """The whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": " ".join(self.written.words), "refusal": None}
        choice = {"index": 0, "message": message, "finish_reason": self.finish_reason}
        if self.asked.function is not None:
            message |= {"content": None, "tool_calls": [self._call()]}
        choice["logprobs"] = self._log_probabilities(0, len(self.written.words))
        return {**self.identity, "object": "chat.completion", "choices": [choice], "usage": self.usage()}

    def chunks(self, size: int) -> list[dict[str, Any]]:
        """The answer in pieces of so many words; the usage comes last, where it was asked for."""
        words = self.written.words
        chunks = [self._chunk({"role": "assistant", "content": ""})]
        if self.asked.function is not None:
            words = ()
            chunks.append(self._chunk({"tool_calls": [{"index": 0, **self._call()}]}))
        for start in range(0, len(words), size):
            text = (" " if start else "") + " ".join(words[start : start + size])
            chunks.append(self._chunk({"content": text}, self._log_probabilities(start, start + size)))
        chunks.append(self._chunk({}, finish_reason=self.finish_reason))
        if self.asked.with_usage:
            chunks.append({**self.identity, "object": "chat.completion.chunk", "choices": [], "usage": self.usage()})
        return chunks

    @property
    def finish_reason(self) -> str:
        return self.written.finish_reason if self.asked.function is None else "tool_calls"

    def _call(self) -> dict[str, Any]:
        arguments = json.dumps({"question": self.asked.prompt})
        return {"id": "call_0", "type": "function", "function": {"name": self.asked.function, "arguments": arguments}}

    def _chunk(self, delta: dict[str, Any], logprobs: Any = None, finish_reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish_reason}
        return {**self.identity, "object": "chat.completion.chunk", "choices": [choice]}

    def _log_probabilities(self, start: int, stop: int) -> dict[str, Any] | None:
        """A word's is nearly 0, the last one's the logarithm of the chance to be right."""
        if not self.asked.log_probabilities:
            return None
        content, words = [], self.written.words
        for place in range(start, min(stop, len(words))):
            last = place == len(words) - 1 and self.written.finish_reason == "stop"
            value = math.log(max(self.outcome.chance, 1e-9)) if last else LOG_PROBABILITY
            content.append({"token": words[place], "logprob": value, "bytes": None, "top_logprobs": []})
        return {"content": content, "refusal": None}


def _prompt(body: dict[str, Any], kind: Kind) -> Any:
    """What is asked, as `prompt_text` takes it."""
    if kind == "chat":
        return body.get("messages")
    given = body.get("prompt" if kind == "completion" else "input")
    if kind == "embedding" and isinstance(given, list):
        return "\n".join(map(str, given))
    if kind == "response" and isinstance(given, list):
        return [one for one in given if isinstance(one, dict) and "role" in one]
    return given


def _function(body: dict[str, Any]) -> str | None:
    """Functions of chat completions alone are called."""
    tools, messages = body.get("tools"), body.get("messages")
    if not isinstance(tools, list) or not tools or not isinstance(messages, list) or body.get("tool_choice") == "none":
        return None
    if any(isinstance(one, dict) and one.get("role") == "tool" for one in messages):
        return None
    function = tools[0].get("function") if isinstance(tools[0], dict) else None
    return function.get("name") if isinstance(function, dict) else None
