"""Tokenizers from GGUF files cut texts as the models' own do."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, pre_tokenizers

from jaxroute import EncoderError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.weights.gguf_tokenizer import SPACE, WORDS, gguf_tokenizer

TEXTS = st.text(st.sampled_from("aZé日'sTr 019²½\t\n\r.,!-_\u00a0\u0301"), max_size=20)


@cache
def packaged() -> Tokenizer:
    return load_encoder("smollm2").tokenizer


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_words_are_split_as_the_models_own_tokenizers_split_them(text: str) -> None:
    """Against transformers' Llama 3 and Qwen2 expressions, which are those of the published tokenizer.json."""
    from transformers.convert_slow_tokenizer import TikTokenConverter
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    for expression, digits in ((TikTokenConverter().pattern, "{1,3}"), (PRETOKENIZE_REGEX, "")):
        reference = pre_tokenizers.Split(Regex(expression), behavior="isolated")
        ours = pre_tokenizers.Split(Regex(WORDS % digits), behavior="isolated")
        assert ours.pre_tokenize_str(text) == reference.pre_tokenize_str(text)


def test_the_packaged_tokenizer_splits_digits_and_loses_nothing() -> None:
    tokenizer = packaged()
    text = "Über 2024 prompts:\n\tA) naïve  B) 日本"
    encoded = tokenizer.encode(text)
    assert [token for token in encoded.tokens if token.isdigit()] == ["2", "0", "2", "4"]
    assert tokenizer.decode(encoded.ids) == text
    assert tokenizer.encode("<|im_start|>").ids == [1]


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_smollm_is_llama_cpps_smollm(text: str) -> None:
    """Its two expressions one after the other (src/llama-vocab.cpp), the second with the last alternative that
    unicode_regex_split_custom_gpt2 adds: what one leaves between its matches the next one cuts."""
    regex = pytest.importorskip("regex", reason="regex, which knows \\p, is not installed")
    pieces = [text] if text else []
    for expression in (r"\p{N}", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"):
        pieces = [cut for piece in pieces for cut in regex.split(f"({expression})", piece) if cut]
    ours = packaged().pre_tokenizer.pre_tokenize_str(text)
    assert [text[start:end] for _, (start, end) in ours] == pieces


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("abc é "), max_size=12), st.integers(0, 5))
def test_scores_join_the_pairs_that_sentencepiece_joins(text: str, seed: int) -> None:
    """Best score first, the leftmost of equals (llama.cpp, llm_tokenizer_spm); what is no token becomes its bytes."""
    facts = sentencepiece_facts(seed)
    tokens, scores = facts["tokenizer.ggml.tokens"], facts["tokenizer.ggml.scores"]
    symbols = list(SPACE + text.replace(" ", SPACE)) if text else []
    while pairs := [
        (-scores[tokens.index(joined)], at)
        for at in range(len(symbols) - 1)
        if (joined := symbols[at] + symbols[at + 1]) in tokens
    ]:
        at = min(pairs)[1]
        symbols[at : at + 2] = [symbols[at] + symbols[at + 1]]
    expected = [1]
    for symbol in symbols:
        expected += [tokens.index(symbol)] if symbol in tokens else [3 + byte for byte in symbol.encode()]
    tokenizer = gguf_tokenizer(Path("x.gguf"), facts, len(tokens))
    assert tokenizer.encode(text).ids == expected
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def sentencepiece_facts(seed: int) -> dict:
    """Three special tokens, all bytes, a few letters, and pieces with random, different scores."""
    letters = [SPACE, "a", "b", "c"]
    pieces = [SPACE + "a", "ab", "bc", "abc", SPACE + "abc", SPACE * 2, "ca", "aa", "aab"]
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *pieces, *letters]
    order = np.random.default_rng(seed).permutation(len(pieces))
    scores = [0.0] * 259 + [-float(rank) for rank in order] + [-100.0 - rank for rank in range(len(letters))]
    return {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.scores": scores,
        "tokenizer.ggml.token_type": [2, 3, 3, *([6] * 256), *([1] * (len(pieces) + len(letters)))],
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
    }


def test_first_and_last_tokens_are_those_that_the_file_states() -> None:
    facts = sentencepiece_facts(0)
    for begins, ends in ((True, True), (False, False), (False, True)):
        stated = facts | {"tokenizer.ggml.add_bos_token": begins, "tokenizer.ggml.add_eos_token": ends}
        ids = gguf_tokenizer(Path("x.gguf"), stated, 300).encode("abc").ids
        assert (ids[0] == 1, ids[-1] == 2) == (begins, ends)
    assert gguf_tokenizer(Path("x.gguf"), facts, 300).encode("a</s>").ids[-1] == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokenizer.ggml.pre": "default", "tokenizer.ggml.model": "gpt2"},
            "with pre-tokenizer 'default'.*Hugging Face folder",
        ),
        ({"tokenizer.ggml.model": "t5"}, "tokenizer 't5'"),
        ({"tokenizer.ggml.scores": None}, "scores is missing or no list"),
        ({"tokenizer.ggml.token_type": [1]}, "1 types and 300 rows"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "IndexError"),
        ({"tokenizer.ggml.tokens": [1] * 272}, "cannot be converted"),
    ],
)
def test_a_tokenizer_that_cannot_be_had_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(EncoderError, match=message):
        gguf_tokenizer(Path("x.gguf"), sentencepiece_facts(0) | changes, 300)
