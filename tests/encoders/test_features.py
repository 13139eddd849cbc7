"""Features are computed once, in any order, and survive being interrupted."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

import jaxroute.encoders.features
from jaxroute import EncoderError, PromptError, estimate_stream
from jaxroute.encoders import BertConfig, load_encoder
from jaxroute.encoders.features import FeatureCache, FeatureConfig, layers_for, prompt_features, prompt_features_of_all
from jaxroute.encoders.scoring_config import ScoringConfig
from tests.batch.scored import random_predictor

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

    def counted(decoder, token_ids, *, taps, config, stop_after=None):
        for number, (positions, pooled) in enumerate(real(decoder, token_ids, taps=taps, config=config)):
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


def test_layers_that_suit_the_encoder_are_read_where_none_are_named(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    read = FeatureConfig().of(encoder)
    assert read.layers == (1,)
    found = prompt_features(encoder, PROMPTS, FeatureConfig())
    np.testing.assert_array_equal(found.values, prompt_features(encoder, PROMPTS, FeatureConfig(layers=(1,))).values)


@pytest.mark.parametrize(("depth", "layers"), [(1, (1,)), (2, (1,)), (6, (3, 5)), (12, (6, 10))])
def test_a_bert_is_read_in_its_middle(depth: int, layers: tuple[int, ...]) -> None:
    assert layers_for(BertConfig(99, 8, 8, depth, 2, 64)) == layers


def test_packaged_encoders_need_no_layers_named() -> None:
    assert FeatureConfig().of(load_encoder("smollm2")).layers == (20,)
    assert FeatureConfig().of(load_encoder("minilm")).layers == (3, 5)


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_a_weight_that_is_no_number_is_found_before_anything_is_fitted(
    wrong: float, tiny_parts, tiny_encoder: Path, fresh_cache: Path, tmp_path: Path
) -> None:
    """One NaN in layer 2 leaves layer 1 as it is."""
    _, weights = tiny_parts
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = wrong
    folder = shutil.copytree(tiny_encoder, tmp_path / "spoiled")
    save_file(weights, folder / "model.safetensors")
    encoder = load_encoder(str(folder))
    assert np.isfinite(prompt_features(encoder, PROMPTS, FeatureConfig(layers=(1,))).values).all()
    message = r"spoiled' gives non-finite states after layer 2, first on the prompt '(What|Translate|Write)"
    for _ in range(2):  # Nothing of it was kept.
        with pytest.raises(EncoderError, match=message):
            prompt_features(encoder, PROMPTS, CONFIG)
    with pytest.raises(EncoderError, match=message):
        next(estimate_stream(random_predictor(folder), PROMPTS))


def test_states_that_are_no_numbers_are_not_read_from_an_old_cache(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    with closing(FeatureCache(encoder, CONFIG)) as cache:
        cache.add({PROMPTS[0]: np.full(96, np.nan, np.float32)})
        assert cache.read(PROMPTS[:1]) == {}


def test_cut_prompts_are_counted_with_their_repeats(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder = load_encoder(str(tiny_encoder))
    long = "one two three four five six seven eight nine ten"
    found = prompt_features(encoder, [long, "short", long], FeatureConfig(layers=(1,), max_tokens=6))
    assert found.cut.sum() == 2


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


def test_narrow_features_are_near_and_never_taken_for_wide_ones(tiny_encoder: Path, fresh_cache: Path) -> None:
    encoder, narrow = load_encoder(str(tiny_encoder)), ScoringConfig(dtype="bfloat16")
    wide = prompt_features(encoder, PROMPTS, CONFIG).values
    found = prompt_features(encoder, PROMPTS, CONFIG, scoring=narrow).values
    assert 0 < np.linalg.norm(found - wide) < 0.02 * np.linalg.norm(wide)
    encoder.__dict__.pop("_networks")
    np.testing.assert_array_equal(prompt_features(encoder, PROMPTS, CONFIG).values, wide)
    np.testing.assert_array_equal(prompt_features(encoder, PROMPTS, CONFIG, scoring=narrow).values, found)
    assert "_networks" not in encoder.__dict__, "both came from the cache"
