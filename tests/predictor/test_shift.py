"""Levels move to new prompts together as far as they can, and apart as far as the outcomes say."""

from __future__ import annotations

import numpy as np

from jaxroute.predictor.shift import moves_of


def drawn(moves: np.ndarray, prompts: int, seed: int, levels: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Outcomes of models whose logits are these moves away from what was estimated, and the estimates' logits."""
    generator = np.random.default_rng(seed)
    text = generator.normal(size=(prompts, len(moves)))
    places = np.arange(levels) / (levels - 1) - 0.5
    raised = np.exp((text + moves)[..., None] * places)
    chance = raised / raised.sum(axis=-1, keepdims=True)
    level = (generator.random((prompts, len(moves), 1)) > chance.cumsum(axis=-1)).sum(axis=-1)
    return level / (levels - 1), text[..., None] * places


def test_what_is_harder_for_all_leaves_the_order_as_it_was() -> None:
    apart, together = [], []
    for seed in range(8):
        found = moves_of(*drawn(np.full(9, -1.0), 10, seed))
        apart.append(found.std())
        together.append(found.mean())
    # Each model's own ten outcomes would say 0.7 apart.
    assert np.mean(apart) < 0.2 and abs(np.mean(together) + 1.0) < 0.2


def test_models_that_move_apart_are_found() -> None:
    truth = np.linspace(-2.0, 1.0, 9)
    few, many = (np.mean([np.abs(moves_of(*drawn(truth, n, seed)) - truth).mean() for seed in range(3)]) for n in (10, 200))
    assert many < 0.25 and many < few < 0.8
    graded = moves_of(*drawn(truth, 300, 0, levels=5))
    assert np.abs(graded - truth).mean() < 0.3


def test_a_model_that_was_not_asked_moves_with_the_others() -> None:
    quality, logits = drawn(np.full(5, -1.5), 60, 3)
    quality[:, 2] = np.nan
    found = moves_of(quality, logits)
    others = found[[0, 1, 3, 4]]
    assert others.min() - 0.1 < found[2] < others.max() + 0.1
    always = moves_of(np.ones((3, 4)), np.zeros((3, 4, 2)))
    assert np.isfinite(always).all() and (always > 0.1).all() and (always < 3).all()
