"""What all tests share: real data where it is at hand, a cache of their own, a tiny encoder on disk."""

from __future__ import annotations

import json
import os
import pkgutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parents[1]
COMPILED = tempfile.TemporaryDirectory(prefix="jaxroute-tests-")
# Programs that several tests, or the processes that they start, have in common are compiled once. JAX reads this when imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", COMPILED.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
# So is Python's bytecode: where none may be written, each of these processes would compile all that it imports, for seconds.
if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
    os.environ["PYTHONPYCACHEPREFIX"] = str(Path(COMPILED.name) / "bytecode")

CHECK_SHAPES = "JAXROUTE_CHECK_SHAPES"
"""Set to 1, tests check the annotations of arrays at run time, shapes and dtypes among them; it takes half as long again, so CI
does it for the rooms of numbers."""
HOT = ("choices", "grid", "sums")
"""Of the solvers: not checked, since their tests call them so often."""


def checked(function: Any) -> Any:
    """The function with its annotations checked, where it takes or returns arrays.

    Dataclasses are built unchecked: JAX builds them while it traces, and those that users build check themselves.
    """
    from beartype import BeartypeConf, FrozenDict, beartype

    arrays = any("jaxtyping." in str(hint) for hint in function.__annotations__.values())
    if not arrays or function.__name__ == "__init__":
        return function
    # An int is a float as in PEP 484, and numpy's whole numbers are ints.
    conf = BeartypeConf(is_pep484_tower=True, hint_overrides=FrozenDict({int: int | np.integer}))
    return beartype(conf=conf)(function)


if os.environ.get(CHECK_SHAPES) == "1":
    # The pytest option --jaxtyping-packages allows for none of what `checked` says.
    from jaxtyping import install_import_hook

    cold = [f"solvers.{module.name}" for module in pkgutil.iter_modules([str(ROOT / "solvers")]) if module.name not in HOT]
    install_import_hook(["jaxroute", *cold], f"sys.modules[{__name__!r}].checked")

from jaxroute import load_source  # noqa: E402

TINY = {
    "vocab_size": 600,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 64,
}


@pytest.fixture
def data() -> Path:
    """The folder of published outcomes; the test is skipped where JAXROUTE_DATA does not name it."""
    folder = os.environ.get("JAXROUTE_DATA")
    if not folder:
        pytest.skip("JAXROUTE_DATA is not set: it names the folder with the published outcomes (see the README)")
    return Path(folder)


@pytest.fixture
def fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, so that features are computed and not remembered."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXROUTE_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny_parts() -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Configuration and weights of the tiny Llama, to be spoiled."""
    return dict(TINY), tiny_weights()


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face folder with a random two-layer Llama and a byte-level tokenizer: small, seeded, whole."""
    folder = tmp_path_factory.mktemp("tiny-llama")
    config = TINY | {"model_type": "llama", "hidden_act": "silu", "rms_norm_eps": 1e-5, "rope_theta": 10000.0}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tiny_weights(), folder / "model.safetensors")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=TINY["vocab_size"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(load_source("simulated", queries=300).prompts, trainer)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def tiny_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of the tiny Llama under Hugging Face's names, matrices as (outputs, inputs)."""
    generator = np.random.default_rng(seed)
    hidden, middle, size = TINY["hidden_size"], TINY["intermediate_size"], TINY["head_dim"]
    queries, keys = TINY["num_attention_heads"] * size, TINY["num_key_value_heads"] * size

    def matrix(outputs: int, inputs: int) -> np.ndarray:
        return generator.normal(0, inputs**-0.5, (outputs, inputs)).astype(np.float32)

    weights = {
        "model.embed_tokens.weight": generator.normal(0, 1, (TINY["vocab_size"], hidden)).astype(np.float32),
        "model.norm.weight": generator.uniform(0.5, 1.5, hidden).astype(np.float32),
    }
    for layer in range(TINY["num_hidden_layers"]):
        weights |= {
            f"model.layers.{layer}.{name}.weight": value
            for name, value in {
                "input_layernorm": generator.uniform(0.5, 1.5, hidden).astype(np.float32),
                "self_attn.q_proj": matrix(queries, hidden),
                "self_attn.k_proj": matrix(keys, hidden),
                "self_attn.v_proj": matrix(keys, hidden),
                "self_attn.o_proj": matrix(hidden, queries),
                "post_attention_layernorm": generator.uniform(0.5, 1.5, hidden).astype(np.float32),
                "mlp.gate_proj": matrix(middle, hidden),
                "mlp.up_proj": matrix(middle, hidden),
                "mlp.down_proj": matrix(hidden, middle),
            }.items()
        }
    return weights
