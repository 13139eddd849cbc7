"""Models that come and go, and a new kind of prompt: the safe choice follows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jaxroute import RoutingTable, TrainConfig, load_source
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.extending import extend, without
from jaxroute.predictor.shift import shift
from jaxroute.predictor.training import train_estimator


def test_means_follow_the_models_and_shifted_prompts_are_known(tiny_encoder: Path, fresh_cache: Path):
    table = load_source("simulated", queries=120)
    models = table.models[:5]
    config = TrainConfig(encoder=str(tiny_encoder), features=FeatureConfig(layers=(1,)), head="difference", penalties=(0.3,))
    predictor, _ = train_estimator(table.select(models=models[:4]), config)
    assert predictor.familiarity is not None
    means = predictor.familiarity.mean_quality
    fewer = without(predictor, [models[1]])
    assert fewer.familiarity is not None
    np.testing.assert_array_equal(fewer.familiarity.mean_quality, means[[0, 2, 3]])
    more, reports = extend(predictor, table.select(models=models))
    assert more.familiarity is not None
    np.testing.assert_allclose(more.familiarity.mean_quality, [*means, reports[0].quality])
    strange = [f"{{;}}<>{{;}}<>~~ {number} ~~" for number in range(12)]
    answers = RoutingTable(prompts=strange, models=models[:4], quality=np.zeros((12, 4)), cost_usd=np.full(4, 0.1))
    moved, _ = shift(predictor, answers)
    asked = ["{;}<>{;}<>~~ 77 ~~"]
    before, after = (one.estimate(asked) for one in (predictor, moved))
    assert before.p_value is not None and after.p_value is not None and after.mean_quality is not None
    assert before.p_value[0] < 0.05 < after.p_value[0]
    assert (after.mean_quality < before.mean_quality).all()
