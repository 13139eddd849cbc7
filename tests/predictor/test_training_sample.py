"""A sample of the training prompts stays in the checkpoint, and costs what the prices say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jaxroute import TrainConfig, load, load_source
from jaxroute.data.prices import Price
from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.encoders.features import FeatureConfig
from jaxroute.encoders.live import LiveConfig
from jaxroute.endpoints.models import Endpoint
from jaxroute.endpoints.prices import TokenPrice
from jaxroute.predictor.pricing import Pricing
from jaxroute.predictor.shift import shift
from jaxroute.predictor.training import train_estimator
from jaxroute.predictor.training_sample import TrainingSample, restored_sample
from jaxroute.serve.live import LiveChooser


def test_costs_are_restated_at_other_prices() -> None:
    prices = {"a": Price(1.0, 2.0), "b": Price(3.0, 6.0)}
    pricing = Pricing(["a", "b"], [0.1, 0.2], prices, output_tokens=[100.0, 50.0], input_ratio=[1.0, 2.0])
    quality, features = np.array([[0.1, 0.9], [0.4, 0.5]]), np.zeros((2, 1), np.float32)
    sample = TrainingSample.of(pricing, quality, np.array([10, 1_000]), features)
    kept = restored_sample(sample.arrays())
    assert kept is not None and kept.models == ["a", "b"] and restored_sample({}) is None
    np.testing.assert_allclose(kept.quality, quality, rtol=1e-6)
    np.testing.assert_allclose(1e6 * kept.cost_usd_at(prices), [[210, 360], [1_200, 6_300]], rtol=1e-6)
    np.testing.assert_array_equal(kept.cost_usd_at(None), kept.cost_usd)
    np.testing.assert_allclose(kept.cost_usd, kept.cost_usd_at(prices), rtol=1e-6)
    np.testing.assert_allclose(1e6 * kept.cost_usd_at({"b": Price(0.0, 1.0)}), [[np.nan, 50], [np.nan, 50]], rtol=1e-6)
    # Whole dollars stay what they are.
    whole = TrainingSample.of(replace(pricing, prices=None), quality, np.array([10, 1_000]), features)
    np.testing.assert_allclose(whole.cost_usd_at(None), [[0.1, 0.2]] * 2, rtol=1e-6)


@pytest.mark.slow
def test_a_sample_outlives_saving_and_costs_what_the_prices_say(tiny_encoder: Path, fresh_cache: Path, tmp_path: Path) -> None:
    table = load_source("simulated", queries=60)
    table = table.select(models=table.models[:3])
    config = TrainConfig(encoder=str(tiny_encoder), features=FeatureConfig(layers=(1,)), head="difference", penalties=(0.3,))
    prices = {model: simulated_prices()[model] for model in table.models}
    predictor, reports = train_estimator(table, config, prices=prices)
    predictor.save(tmp_path / "saved")
    sample, kept = predictor.sample, load(tmp_path / "saved").sample
    assert sample is not None and kept is not None and kept.models == table.models and len(kept.quality) == 60
    np.testing.assert_array_equal(kept.quality, sample.quality)
    # Held out, in another order.
    held_out = np.sort(reports[0].held_out_estimates, axis=0)
    np.testing.assert_allclose(np.sort(sample.quality, axis=0), held_out, rtol=1e-5)
    # The prices of training give its dollars, twice as high ones twice as many, and a model without one none.
    np.testing.assert_allclose(kept.cost_usd_at(prices), kept.cost_usd, rtol=1e-5)
    expected = np.sort(predictor.estimate(table.queries).cost_usd, axis=0)
    np.testing.assert_allclose(np.sort(kept.cost_usd, axis=0), expected, rtol=1e-5)
    twice = {model: Price(2 * price.input, 2 * price.output) for model, price in prices.items() if model != table.models[1]}
    restated = kept.cost_usd_at(twice)
    np.testing.assert_allclose(restated[:, [0, 2]], 2 * kept.cost_usd[:, [0, 2]], rtol=1e-5)
    assert np.isnan(restated[:, 1]).all()
    # Moved levels are no longer those of the sample, and the proxy begins with the models that it serves.
    assert shift(predictor, table)[0].sample is None
    served = {name: Endpoint(name, "http://127.0.0.1", name, TokenPrice(1.0, 2.0)) for name in table.models[:2]}
    small = LiveConfig(longest=64, lengths=(16,), rows=(1,), tokens_at_once=32, dtype="float32")
    chooser = LiveChooser(predictor, served, small)
    begun = chooser.training_sample()
    older = LiveChooser(replace(predictor, sample=None), served, small)
    assert len(begun) == 60 and set(begun[0]) == set(served) and older.training_sample() == []
    tokens = kept.input_tokens[0, 0] * 1.0 + kept.output_tokens[0, 0] * 2.0
    np.testing.assert_allclose(begun[0][table.models[0]][1], tokens / 1e6, rtol=1e-5)
    chooser.close()
    older.close()
