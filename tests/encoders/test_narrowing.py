"""Narrowing: the layers' matrices and nothing else, and what `auto` is."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import pytest

from jaxroute.encoders import load_encoder, narrowing
from jaxroute.encoders.narrowing import computes_in_bfloat16, stated_dtype


def test_matrices_are_narrowed_and_embeddings_and_norms_are_not(tiny_encoder: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    network, wide = encoder.network(dtype="bfloat16"), encoder.network()
    assert network.layers.output[...].dtype == jnp.bfloat16
    assert network.embedding[...].dtype == network.layers.attention_norm[...].dtype == jnp.float32
    assert wide.layers.output[...].dtype == jnp.float32
    assert encoder.network(dtype="bfloat16") is network


@pytest.mark.parametrize(("flags", "expected"), [("sse avx512_bf16", "bfloat16"), ("sse avx512f", "float32"), ("", "float32")])
def test_auto_is_what_the_processor_computes_in(
    flags: str, expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags : {flags}\n" if flags else "")
    monkeypatch.setattr(narrowing, "CPUINFO", tmp_path / "cpuinfo")
    assert stated_dtype("auto") == expected
    assert stated_dtype("float32") == "float32" and stated_dtype("bfloat16") == "bfloat16"
    monkeypatch.setattr(narrowing, "CPUINFO", tmp_path / "absent")
    assert not computes_in_bfloat16()
