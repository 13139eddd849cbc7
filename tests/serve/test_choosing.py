"""Models are ranked by estimates, and nothing but that is heard of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from jaxroute.progress import progress_bar
from jaxroute.serve.choosing import EstimatorChooser


class LoudEstimator:
    models = ("small", "large")

    def priced(self, prices: object) -> LoudEstimator:
        return self

    def estimate(self, queries: Any) -> SimpleNamespace:
        for _ in progress_bar(range(3), desc="encoding prompts"):
            pass
        return SimpleNamespace(quality=np.array([[0.5, 0.9]]), cost_usd=np.array([[0.1, 0.2]]), p_value=None)


def test_an_estimate_draws_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    estimator = LoudEstimator()
    estimator.estimate(None)
    assert "encoding prompts" in capsys.readouterr().err
    router: Any = SimpleNamespace(models=estimator.models, estimator=estimator)
    EstimatorChooser(router, {}).warm()
    assert not capsys.readouterr().err
