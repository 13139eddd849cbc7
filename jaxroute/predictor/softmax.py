"""Softmax on the host in float64, and the fit of a few directions that its logits may move in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

STEPS = 100
CLOSE = 1e-10


def softmax(logits: Float[np.ndarray, "*cells levels"]) -> Float[np.ndarray, "*cells levels"]:
    """Chances of the levels."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return raised / raised.sum(axis=-1, keepdims=True)


def expected_quality(logits: Float[np.ndarray, "*cells levels"]) -> Float[np.ndarray, "*cells"]:
    """sum_k softmax(logits)_k * k / (K - 1), as `heads.expected_level` has it."""
    levels = logits.shape[-1]
    return softmax(logits) @ (np.arange(levels) / (levels - 1))


def centred_places(levels: int) -> Float[np.ndarray, " levels"]:
    """k / (K - 1) less its mean: adding x times this moves all log-odds of a level over the one below by x / (K - 1)."""
    place = np.arange(levels) / (levels - 1)
    return place - place.mean()


def fit_directions(
    target: Float[np.ndarray, "rows levels"],
    directions: Float[np.ndarray, "rows levels directions"],
    ridge: Float[np.ndarray, " directions"],
    start: Float[np.ndarray, " directions"],
    offset: Float[np.ndarray, "rows levels"] | float = 0.0,
) -> Float[np.ndarray, " directions"]:
    """Least - sum target log softmax(offset + directions x) + sum ridge / 2 (x - start)^2, by Newton's method; convex.

    A step that would raise the loss is halved. Raises `ArithmeticError` where it does not come to an end.
    """
    found = np.array(start, np.float64)

    def loss(at: np.ndarray) -> float:
        logits = offset + directions @ at
        top = logits.max(axis=-1)
        all_of_it = (np.log(np.exp(logits - top[:, None]).sum(axis=-1)) + top) * target.sum(axis=-1) - (target * logits).sum(-1)
        return float(all_of_it.sum() + (ridge * (at - start) ** 2).sum() / 2)

    now = loss(found)
    for _ in range(STEPS):
        chance = softmax(offset + directions @ found)
        gradient = np.einsum("rk,rkd->d", chance * target.sum(axis=-1, keepdims=True) - target, directions)
        gradient += ridge * (found - start)
        centred = directions - np.einsum("rk,rkd->rd", chance, directions)[:, None]
        weight = chance * target.sum(axis=-1, keepdims=True)
        hessian = np.einsum("rkd,rk,rke->de", centred, weight, centred, optimize=True) + np.diag(ridge)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while (after := loss(found - size * step)) > now + 1e-12 * abs(now) and size > CLOSE:
            size /= 2
        found, now = found - size * step, after
        if np.abs(size * step).max() < CLOSE:
            return found
    raise ArithmeticError(f"a fit of {len(found)} numbers has not ended after {STEPS} steps of Newton's method")
