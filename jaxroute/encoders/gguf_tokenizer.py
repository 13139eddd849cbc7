"""The tokenizer inside a GGUF file, as Hugging Face's tokenizers compute it: byte-level BPE behind the right pre-tokenizer.

llama.cpp (src/llama-vocab.cpp) names the pre-tokenizer and keeps its expressions; the same ones stand in the models' own
tokenizer.json. `smollm` splits every digit from its neighbours before GPT-2's words, as SmolLM2's own file does;
transformers' conversion of GGUF knows no pre-tokenizers and gives "2024" as fewer tokens than the model was trained on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from jaxroute.errors import EncoderError

CONTROL, USER_DEFINED = 3, 4  # gguf's tokenizer.ggml.token_type of special tokens, and of others that are never split
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"


def gguf_tokenizer(path: Path, facts: dict[str, Any]) -> Tokenizer:
    """Vocabulary, merges and special tokens of the file. Raises `EncoderError` for a tokenizer that is not known here."""
    model, kind = facts.get("tokenizer.ggml.model"), facts.get("tokenizer.ggml.pre")
    known = {
        "gpt-2": _byte_level(),
        "smollm": _byte_level(pre_tokenizers.Digits(individual_digits=True)),
        "llama-bpe": _words("{1,3}"),
        "qwen2": _words(""),
    }
    if model != "gpt2" or kind not in known:
        raise EncoderError(
            f"{path} has tokenizer {model!r} with pre-tokenizer {kind!r}; only 'gpt2' with {', '.join(map(repr, known))} "
            "can be converted: use the model's Hugging Face folder instead"
        )
    tokens = facts["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in facts["tokenizer.ggml.merges"]]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # Llama 3 takes a word that is a token as it is, whatever the merges would make of it.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind == "llama-bpe"))
    tokenizer.pre_tokenizer = known[kind]
    tokenizer.decoder = decoders.ByteLevel()
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        chosen = [token for token, one in zip(tokens, facts["tokenizer.ggml.token_type"], strict=True) if one == wanted]
        tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in chosen])
    if facts.get("tokenizer.ggml.add_bos_token", kind == "llama-bpe"):
        begin = int(facts["tokenizer.ggml.bos_token_id"])
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{tokens[begin]} $A", special_tokens=[(tokens[begin], begin)]
        )
    return tokenizer


def _byte_level(*before: Any) -> Any:
    """GPT-2's words, written as bytes."""
    return pre_tokenizers.Sequence([*before, pre_tokenizers.ByteLevel(add_prefix_space=False)])


def _words(digits: str) -> Any:
    """Words of Llama 3 and Qwen2, which differ in how many digits stay together."""
    split = pre_tokenizers.Split(Regex(WORDS % digits), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
