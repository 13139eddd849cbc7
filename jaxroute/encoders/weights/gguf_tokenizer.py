"""The tokenizer inside a GGUF file, as the model's own tokenizer.json would have it.

Byte-level BPE needs the expression that cuts a text into words before the merges; the file only names it. Those known here
are what the published tokenizer.json files hold and what llama.cpp keeps beside the names (src/llama-vocab.cpp,
llm_tokenizer_bpe). Other names are refused, `default` too: it says that whoever wrote the file did not know.

`smollm`: llama.cpp first takes every number character (\\p{N}) out as a word of its own and then cuts what lies between into
GPT-2's words, so "2024" is four tokens and " 5" is a space and a 5. SmolLM2's tokenizer.json says the same (Digits with
individual_digits, then ByteLevel). transformers' conversion of GGUF (integrations/gguf/gguf_tokenizer_mapping.py) does not
know the name and cuts into GPT-2's words alone, which is wrong: numbers then become tokens that training never saw there.

SentencePiece's BPE (`llama`: Llama 2, Mistral 7B) keeps scores instead of merges: of all neighbours the pair that makes the
token with the best score is joined first (llama.cpp, llm_tokenizer_spm). As merges: every way to put a token together of two,
best score first.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from jaxroute.errors import EncoderError

UNKNOWN, CONTROL, USER_DEFINED = 2, 3, 4  # gguf's tokenizer.ggml.token_type; those of control and users are never split
WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = ("llama-bpe", "llama3", "llama-v3")
BYTE_LEVEL = ("gpt-2", "smollm", *LLAMA3, "qwen2")
SPACE = "\u2581"


def gguf_tokenizer(path: Path, facts: dict[str, Any], vocabulary_size: int) -> Tokenizer:
    """Vocabulary, merges and special tokens of the file.

    Raises `EncoderError` for a tokenizer that is not known here, or that does not fit the `vocabulary_size` of the weights.
    """
    stated = {name.removeprefix("tokenizer.ggml."): fact for name, fact in facts.items() if name.startswith("tokenizer.ggml.")}
    model, kind = stated.get("model"), stated.get("pre")
    if not (model == "gpt2" and kind in BYTE_LEVEL) and not (model == "llama" and kind in (None, "default")):
        raise EncoderError(
            f"{path} has tokenizer {model!r} with pre-tokenizer {kind!r}; only 'llama', and 'gpt2' with "
            f"{', '.join(map(repr, BYTE_LEVEL))}, can be converted: use the model's Hugging Face folder instead"
        )
    needed = ("tokens", "token_type", "merges" if model == "gpt2" else "scores")
    problems = [f"tokenizer.ggml.{name} is missing or no list" for name in needed if not isinstance(stated.get(name), list)]
    if not problems and (len(stated["token_type"]) != len(stated["tokens"]) or len(stated["tokens"]) > vocabulary_size):
        problems.append(
            f"{len(stated['tokens'])} tokens, {len(stated['token_type'])} types and {vocabulary_size} rows of token_embd.weight"
        )
    if problems:
        raise EncoderError(f"the tokenizer in {path} cannot be converted: {'; '.join(problems)}")
    try:
        tokenizer = _byte_level(str(kind), stated) if model == "gpt2" else _sentencepiece(stated)
        _add_special(tokenizer, stated, begins=model == "llama" or kind in LLAMA3)
    except Exception as error:  # tokenizers raises plain ones
        raise EncoderError(f"the tokenizer in {path} cannot be converted: {error!r}") from error
    return tokenizer


def _byte_level(kind: str, stated: dict[str, Any]) -> Tokenizer:
    """Merges of bytes, within words."""
    merges = [tuple(merge.split(" ", 1)) for merge in stated["merges"]]
    vocabulary = {token: index for index, token in enumerate(stated["tokens"])}
    # Llama 3 takes a word that is a token as it is, whatever the merges would make of it.
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=kind in LLAMA3))
    tokenizer.decoder = decoders.ByteLevel()
    if kind in ("gpt-2", "smollm"):
        digits = [pre_tokenizers.Digits(individual_digits=True)] if kind == "smollm" else []
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
        return tokenizer
    # Llama 3 and Qwen2 differ in how many digits stay together; Qwen2 composes letters and accents first.
    split = pre_tokenizers.Split(Regex(WORDS % ("" if kind == "qwen2" else "{1,3}")), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    if kind == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def _sentencepiece(stated: dict[str, Any]) -> Tokenizer:
    """Merges of characters across the whole text, spaces written as SPACE, unknown characters as bytes."""
    tokens, scores = stated["tokens"], stated["scores"]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    plain = {token: index for token, index in vocabulary.items() if stated["token_type"][index] not in (UNKNOWN, CONTROL)}
    merges = [
        (scores[index], left, right)
        for token, index in plain.items()
        for left, right in ((token[:at], token[at:]) for at in range(1, len(token)))
        if left in plain and right in plain
    ]
    merges.sort(key=lambda merge: (-merge[0], vocabulary[merge[1]], vocabulary[merge[2]]))
    unknown = tokens[stated.get("unknown_token_id", 0)]
    pairs = [(left, right) for _, left, right in merges]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, unk_token=unknown, fuse_unk=True, byte_fallback=True))
    prefixed = stated.get("add_space_prefix", True)
    tokenizer.normalizer = normalizers.Sequence(
        [*([normalizers.Prepend(SPACE)] if prefixed else []), normalizers.Replace(" ", SPACE)]
    )
    strip = [decoders.Strip(" ", 1, 0)] if prefixed else []
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip])
    return tokenizer


def _add_special(tokenizer: Tokenizer, stated: dict[str, Any], *, begins: bool) -> None:
    """Tokens that are never split, and those that are put around every prompt: the first of all, unless the file denies it."""
    tokens = stated["tokens"]
    for wanted, special in ((CONTROL, True), (USER_DEFINED, False)):
        chosen = [token for token, kind in zip(tokens, stated["token_type"], strict=True) if kind == wanted]
        tokenizer.add_tokens([AddedToken(token, special=special, normalized=False) for token in chosen])
    first = [stated["bos_token_id"]] if stated.get("add_bos_token", begins) else []
    last = [stated["eos_token_id"]] if stated.get("add_eos_token", False) else []
    if first or last:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*(tokens[index] for index in first), "$A", *(tokens[index] for index in last)],
            special_tokens=[(tokens[index], index) for index in (*first, *last)],
        )
