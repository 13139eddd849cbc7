"""The simulated answers to completions, to responses, and to embeddings, in OpenAI's form for each."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np

from jaxroute.simulation.faults import Fault
from jaxroute.simulation.pool import SimulatedPool, Written
from jaxroute.simulation.replies import Asked, Reply

DIMENSIONS = 16


class CompletionReply(Reply):
    """Of `/v1/completions`: the text alone."""

    def completion(self) -> dict[str, Any]:
        return {**self.identity, "object": "text_completion", "choices": [self._choice(" ".join(self.written.words), True)]} | {
            "usage": self.usage()
        }

    def chunks(self, size: int) -> list[dict[str, Any]]:
        words = self.written.words
        texts = [(" " if start else "") + " ".join(words[start : start + size]) for start in range(0, len(words), size)]
        choices = [self._choice(text, False) for text in texts] + [self._choice("", True)]
        chunks = [{**self.identity, "object": "text_completion", "choices": [choice]} for choice in choices]
        if self.asked.with_usage:
            chunks.append({**self.identity, "object": "text_completion", "choices": [], "usage": self.usage()})
        return chunks

    def _choice(self, text: str, last: bool) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": self.written.finish_reason if last else None}


class ResponseReply(Reply):
    """Of `/v1/responses`: one message; a stream has an event for every step."""

    def completion(self) -> dict[str, Any]:
        return self._response("completed", [self._item(" ".join(self.written.words))], self._usage())

    def chunks(self, size: int) -> list[dict[str, Any]]:
        words, text = self.written.words, " ".join(self.written.words)
        place = {"item_id": "msg_0", "output_index": 0, "content_index": 0}
        empty, whole = self._item("")["content"][0], self._item(text)["content"][0]
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": self._response("in_progress", [], None)},
            {"type": "response.output_item.added", "output_index": 0, "item": {**self._item(""), "content": []}},
            {"type": "response.content_part.added", **place, "part": empty},
        ]
        for start in range(0, len(words), size):
            delta = (" " if start else "") + " ".join(words[start : start + size])
            events.append({"type": "response.output_text.delta", **place, "delta": delta, "logprobs": []})
        events += [
            {"type": "response.output_text.done", **place, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **place, "part": whole},
            {"type": "response.output_item.done", "output_index": 0, "item": self._item(text)},
            {"type": "response.completed", "response": self.completion()},
        ]
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]

    def _item(self, text: str) -> dict[str, Any]:
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        return {"type": "message", "id": "msg_0", "role": "assistant", "status": "completed", "content": [part]}

    def _response(self, status: str, output: list[Any], usage: Any) -> dict[str, Any]:
        number = hashlib.sha256(f"{self.asked.model}\0{self.asked.prompt}\0{self.tried}".encode(errors="replace")).hexdigest()[
            :24
        ]
        return {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 0,
            "status": status,
            "model": self.asked.model,
            "output": output,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage,
        }

    def _usage(self) -> dict[str, Any] | None:
        usage = self.usage()
        if usage is None:
            return None
        return {
            "input_tokens": usage["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": usage["completion_tokens"],
            "output_tokens_details": {
                "reasoning_tokens": usage.get("completion_tokens_details", {}).get("reasoning_tokens", 0)
            },
            "total_tokens": usage["total_tokens"],
        }


class EmbeddingReply(Reply):
    """Of `/v1/embeddings`: numbers drawn from the text; there is no output to pay for."""

    def __init__(self, asked: Asked, pool: SimulatedPool, fault: Fault | None, tried: int) -> None:
        super().__init__(asked, pool, fault, tried)
        self.written, self.share = Written((), 0, None, "stop"), 0.0

    def usage(self) -> dict[str, Any] | None:
        usage = super().usage()
        return usage and {name: usage[name] for name in ("prompt_tokens", "total_tokens")}

    def completion(self) -> dict[str, Any]:
        data = [self._one(number, text) for number, text in enumerate(self.asked.prompt.split("\n"))]
        return {"object": "list", "model": self.asked.model, "data": data, "usage": self.usage()}

    def _one(self, number: int, text: str) -> dict[str, Any]:
        seed = int.from_bytes(hashlib.blake2b(text.encode(errors="replace"), digest_size=8).digest())
        vector = np.random.default_rng(seed).normal(size=DIMENSIONS).astype(np.float32)
        value: Any = base64.b64encode(vector.tobytes()).decode() if self.asked.as_base64 else [float(one) for one in vector]
        return {"object": "embedding", "index": number, "embedding": value}
