"""Features are computed once, in any order, and survive being interrupted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import jaxroute.encoders.features
from jaxroute import EncoderError, PromptError
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features, prompt_features_of_all

PROMPTS = ["What is 2 plus 2?", "Translate 'hello' into Finnish.", "What is 2 plus 2?", "Write a villanelle. " * 6]
CONFIG = FeatureConfig(layers=(1, 2))


def test_equal_prompts_are_encoded_once_and_the_order_is_kept(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    together = prompt_features(encoder, PROMPTS, CONFIG).values
    assert together.shape == (4, 2 * 48)
    np.testing.assert_array_equal(together[0], together[2])
    for row in (3, 1, 0):
        alone = prompt_features(encoder, [PROMPTS[row]], CONFIG).values[0]
        np.testing.assert_array_equal(alone, together[row])


def test_the_second_time_nothing_is_encoded(tiny_encoder: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prompt_features(load_encoder(str(tiny_encoder)), PROMPTS, CONFIG)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("the encoder ran for prompts that are in the cache")

    monkeypatch.setattr(jaxroute.encoders.features, "encode", never)
    again = prompt_features(load_encoder(str(tiny_encoder)), PROMPTS[::-1], CONFIG)
    np.testing.assert_array_equal(again.values, first.values[::-1])


def test_an_interrupted_run_goes_on_where_it_stopped(
    tiny_encoder: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(tiny_encoder))
    prompts = [f"{'word ' * (3 * number)}{number}" for number in range(1, 100)]
    real = jaxroute.encoders.features.encode
    encoded: list[int] = []

    def counted(decoder, token_ids, *, taps, stop_after=None):
        for number, (positions, pooled) in enumerate(real(decoder, token_ids, taps=taps)):
            if number == stop_after:
                raise KeyboardInterrupt
            encoded.extend(positions)
            yield positions, pooled

    monkeypatch.setattr(jaxroute.encoders.features, "encode", lambda *args, **kw: counted(*args, **kw, stop_after=2))
    with pytest.raises(KeyboardInterrupt):
        prompt_features(encoder, prompts, CONFIG)
    before = len(encoded)
    assert 0 < before < len(prompts)
    monkeypatch.setattr(jaxroute.encoders.features, "encode", counted)
    resumed = prompt_features(encoder, prompts, CONFIG).values
    assert len(encoded) == len(prompts)
    monkeypatch.setenv("JAXROUTE_CACHE", str(fresh_cache / "other"))
    np.testing.assert_allclose(resumed, prompt_features(encoder, prompts, CONFIG).values, rtol=1e-5, atol=1e-6)


def test_one_pass_for_several_configurations_gives_what_each_gives_alone(
    tiny_encoder: Path, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = load_encoder(str(tiny_encoder))
    configs = [CONFIG, FeatureConfig(layers=(2,), pooling="last"), FeatureConfig(layers=(1,))]
    together = prompt_features_of_all(encoder, PROMPTS, configs)
    monkeypatch.setenv("JAXROUTE_CACHE", str(fresh_cache / "other"))
    for config, found in zip(configs, together):
        np.testing.assert_allclose(found.values, prompt_features(encoder, PROMPTS, config).values, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(together[0].values[:, :48], together[2].values)


def test_cut_prompts_are_counted_with_their_repeats(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    long = "one two three four five six seven eight nine ten"
    found = prompt_features(encoder, [long, "short", long], FeatureConfig(layers=(1,), max_tokens=6))
    assert found.cut == 2


def test_bad_input_is_named(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    with pytest.raises(EncoderError, match=r"layer 9 was asked for; encoder .* has 2 layers"):
        prompt_features(encoder, PROMPTS, FeatureConfig(layers=(9,)))
    with pytest.raises(PromptError, match="at position 1"):
        prompt_features(encoder, ["fine", "  "], CONFIG)
    with pytest.raises(EncoderError) as caught:
        FeatureConfig(layers=(0,), pooling="max", max_tokens=0, truncation_side="middle")
    for part in ("layers=(0,)", "pooling='max'", "max_tokens=0", "truncation_side='middle'"):
        assert part in str(caught.value)
