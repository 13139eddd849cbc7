"""Ridge-penalised softmax regressions, many side by side, each to the optimum of its convex problem, in float64 on the host.

    logits_jm = h_j W + h_j C_m + b_m + offset_jm
    minimise   mean over observed cells (j, m) of  - sum_k target_jmk log softmax(logits_jm)_k
               + penalty / 2 ||W||^2  +  sum_m own_penalty_m / 2 ||C_m||^2  +  level_penalty / 2 sum_m ||b_m - mean of b||^2

Newton's method, each step by preconditioned conjugate gradients (Nocedal & Wright 2006, "Numerical Optimization", algorithm
7.1). It ends about 1e-10 from the optimum, so that estimates are the same on every processor; a fit that stops where
float32 no longer sees an improvement stops elsewhere on another one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

MOST_GRADIENTS = 200
"""In one step of Newton's method."""
ROUNDING = 1e-13
"""Of a loss, as a share of it."""
TINY = 1e-300
"""Below every number that is divided by, save 0."""


class Linear(NamedTuple):
    """logits = features @ (weight + own) + intercept; leading axes, where there are any, are independent fits."""

    weight: Float[np.ndarray, "*fits features levels"]
    own: Float[np.ndarray, "*fits models features levels"]
    intercept: Float[np.ndarray, "*fits models levels"]

    def logits(self, features: Float[np.ndarray, "queries features"]) -> Float[np.ndarray, "*fits queries models levels"]:
        logits = (features @ self.weight)[..., :, None, :] + self.intercept[..., None, :, :]
        if self.own.any():
            logits = logits + np.moveaxis(features @ self.own, -3, -2)
        return logits


class Penalties(NamedTuple):
    """Strengths of the ridge, relative to the mean over the observed cells."""

    shared: float
    own: Float[np.ndarray, " models"]
    """Infinity leaves nothing of a model's own slopes."""
    level: float | None = 0.0
    """None leaves nothing of the intercepts."""


def fit_linear(
    features: Float[np.ndarray, "queries features"],
    target: Float[np.ndarray, "queries models levels"],
    observed: Float[np.ndarray, "fits queries models"],
    penalties: Penalties,
    curvature: Float[np.ndarray, " features"],
    *,
    offset: Float[np.ndarray, "fits queries models levels"] | None = None,
    start: Linear | None = None,
    tolerance: float = 1e-5,
    steps: int = 100,
) -> Linear:
    """Independent fits to the same targets side by side, one for each choice of observed cells, from `start` or from zero.

    `features` should be uncorrelated with mean squares `curvature` (see `rotation`): the preconditioner then is nearly the
    Hessian, and a few conjugate gradients make a step of Newton's. A fit ends with the step that begins within `tolerance`
    of the optimum, in the Hessian's norm. Raises `ArithmeticError` where `steps` of them do not do.
    """
    problem = _Problem.prepare(features, target, observed, penalties, curvature, offset)
    place, distance = problem.at(problem.begin(start)), np.array([np.inf])
    for _ in range(steps):
        step, distance = place.newton_step()
        place = place.after(step)
        # From within 1e-5 a step of Newton's ends within about its square.
        if distance.max() <= tolerance:
            return problem.unpack(place.found)
    raise ArithmeticError(f"a convex fit is {distance.max():.1e} from its optimum after {steps} steps of Newton's method")


def rotation(
    features: Float[np.ndarray, "queries features"],
) -> tuple[Float[np.ndarray, "features features"], Float[np.ndarray, " features"]]:
    """The orthogonal basis in which the features are uncorrelated, and their mean squares in it."""
    curvature, basis = np.linalg.eigh(features.T @ features / len(features))
    return basis, np.maximum(curvature, 0.0)


def cell_losses(
    logits: Float[np.ndarray, "... levels"], target: Float[np.ndarray, "... levels"], observed: Float[np.ndarray, "..."]
) -> Float[np.ndarray, "..."]:
    """- sum_k target_k log softmax(logits)_k in nats, per cell; 0 where not observed."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return (np.log(np.exp(logits).sum(axis=-1)) - (target * logits).sum(axis=-1)) * observed


def contrasts(levels: int) -> Float[np.ndarray, "levels contrasts"]:
    """An orthonormal basis of what sums to zero over the levels: a constant over them changes no softmax, and the penalty
    leaves none."""
    differences = np.eye(levels, levels - 1, -1) - np.eye(levels, levels - 1)
    return np.linalg.qr(differences)[0]


class _Vector(NamedTuple):
    """The parameters of all fits, or a direction among them."""

    shared: Float[np.ndarray, "contrasts features fits"]
    own: Float[np.ndarray, "contrasts features fits free"]
    """Of the models whose penalty is finite."""
    level: Float[np.ndarray, "contrasts fits models"]

    def plus(self, factor: Float[np.ndarray, " fits"], other: _Vector) -> _Vector:
        return _Vector(
            self.shared + factor * other.shared,
            self.own + factor[:, None] * other.own,
            self.level + factor[:, None] * other.level,
        )

    def dot(self, other: _Vector) -> Float[np.ndarray, " fits"]:
        return (
            np.einsum("kdf,kdf->f", self.shared, other.shared)
            + np.einsum("kdfm,kdfm->f", self.own, other.own)
            + np.einsum("kfm,kfm->f", self.level, other.level)
        )


@dataclass(frozen=True)
class _Problem:
    """Arrays have the levels first and the fits behind the queries: numpy adds along the first axis fast, and all fits are
    one matrix product."""

    features: Float[np.ndarray, "queries features"]
    target: Float[np.ndarray, "levels queries 1 models"]
    share: Float[np.ndarray, "queries fits models"]
    """1 / number of observed cells of the fit; 0 where not observed."""
    penalties: Penalties
    free: Int[np.ndarray, " free"]
    curvature: Float[np.ndarray, "features 1"]
    offset: Float[np.ndarray, "levels queries fits models"] | float
    basis: Float[np.ndarray, "levels contrasts"]

    @staticmethod
    def prepare(features, target, observed, penalties, curvature, offset) -> _Problem:
        share = np.ascontiguousarray(np.swapaxes(np.asarray(observed, np.float64), 0, 1))
        return _Problem(
            features=np.asarray(features, np.float64),
            target=np.ascontiguousarray(np.moveaxis(np.asarray(target, np.float64), -1, 0))[:, :, None],
            share=share / np.maximum(share.sum(axis=(0, 2)), 1.0)[:, None],
            penalties=penalties,
            free=np.flatnonzero(np.isfinite(penalties.own)),
            curvature=np.asarray(curvature, np.float64)[:, None],
            offset=0.0 if offset is None else np.ascontiguousarray(np.transpose(offset, (3, 1, 0, 2))),
            basis=contrasts(target.shape[-1]),
        )

    def begin(self, start: Linear | None) -> _Vector:
        if start is None:
            width, (_, fits, models), count = self.features.shape[1], self.share.shape, self.basis.shape[1]
            return _Vector(
                np.zeros((count, width, fits)), np.zeros((count, width, fits, len(self.free))), np.zeros((count, fits, models))
            )
        return _Vector(
            (start.weight @ self.basis).transpose(2, 1, 0),
            (start.own[:, self.free] @ self.basis).transpose(3, 2, 0, 1),
            (start.intercept @ self.basis).transpose(2, 0, 1),
        )

    def unpack(self, found: _Vector) -> Linear:
        fits, models = self.share.shape[1:]
        own = np.zeros((fits, models, self.features.shape[1], len(self.basis)))
        own[:, self.free] = found.own.transpose(2, 3, 1, 0) @ self.basis.T
        return Linear(found.shared.transpose(2, 1, 0) @ self.basis.T, own, found.level.transpose(1, 2, 0) @ self.basis.T)

    def cells(self, parameters: _Vector) -> Float[np.ndarray, "levels queries fits models"]:
        """What the parameters add to the logits of every cell."""
        cells = (self.features @ parameters.shared)[..., None] + parameters.level[:, None]
        if len(self.free):
            own = self.features @ parameters.own.reshape(*parameters.own.shape[:2], -1)
            cells[..., self.free] += own.reshape(*own.shape[:2], *parameters.own.shape[2:])
        return np.tensordot(self.basis, cells, 1)

    def transposed(self, cells: Float[np.ndarray, "levels queries fits models"]) -> _Vector:
        """The gradient of sum(cells * logits) by the parameters."""
        cells = np.tensordot(self.basis.T, cells, 1)
        own = cells[..., self.free]
        by_feature = self.features.T @ own.reshape(*own.shape[:2], -1)
        return _Vector(
            self.features.T @ (cells @ np.ones(cells.shape[-1])),
            by_feature.reshape(*by_feature.shape[:2], *own.shape[2:]),
            cells.sum(axis=1),
        )

    def penalised(self, parameters: _Vector) -> _Vector:
        """The penalties' part of the Hessian, times the parameters."""
        return _Vector(
            self.penalties.shared * parameters.shared,
            self.penalties.own[self.free] * parameters.own,
            (self.penalties.level or 0.0) * (parameters.level - parameters.level.mean(axis=-1, keepdims=True)),
        )

    def at(self, found: _Vector) -> _Place:
        logits = self.cells(found) + self.offset
        logits -= logits.max(axis=0)
        raised = np.exp(logits)
        total = raised.sum(axis=0)
        chance = raised / total
        losses = (np.log(total) - (self.target * logits).sum(axis=0)) * self.share
        penalised, ones = self.penalised(found), np.ones(self.share.shape[1])
        return _Place(
            problem=self,
            found=found,
            loss=losses.sum(axis=(0, 2)) + found.dot(penalised) / 2,
            chance=chance,
            gradient=self.transposed((chance - self.target) * self.share).plus(ones, penalised),
        )


@dataclass(frozen=True)
class _Place:
    """A point of the search."""

    problem: _Problem
    found: _Vector
    loss: Float[np.ndarray, " fits"]
    chance: Float[np.ndarray, "levels queries fits models"]
    gradient: _Vector

    def hessian(self, direction: _Vector) -> _Vector:
        change = self.problem.cells(direction)
        change -= (self.chance * change).sum(axis=0)
        change *= self.chance
        change *= self.problem.share
        return self.problem.transposed(change).plus(np.ones(change.shape[2]), self.problem.penalised(direction))

    def newton_step(self) -> tuple[_Vector, Float[np.ndarray, " fits"]]:
        """The step, the more exact the shorter it is, and about how far the optimum is in the Hessian's norm."""
        nearly = _Preconditioner.of(self)
        zero = np.zeros(len(self.loss))
        residual = self.gradient.plus(zero - 2, self.gradient)
        direction = nearly.solve(residual)
        rest = residual.dot(direction)
        distance, enough = np.sqrt(rest), rest * np.minimum(0.01, rest)
        step = direction.plus(zero - 1, direction)
        for _ in range(MOST_GRADIENTS):
            active = rest > enough
            if not active.any():
                break
            curved = self.hessian(direction)
            length = np.where(active, rest / np.maximum(direction.dot(curved), TINY), 0.0)
            step, residual = step.plus(length, direction), residual.plus(-length, curved)
            scaled = nearly.solve(residual)
            before, rest = rest, np.where(active, residual.dot(scaled), rest)
            direction = scaled.plus(np.where(active, rest / np.maximum(before, TINY), 0.0), direction)
        return step, distance

    def after(self, step: _Vector) -> _Place:
        """The whole step, or as much of it as is sure to lower the loss.

        That is log(1 + r) / r of it, with r the largest change of a difference between two logits: the third derivative of
        log-sum-exp is at most r times the second (Sun & Tran-Dinh 2019, "Generalized self-concordant functions", section 4).
        """
        whole = self.problem.at(self.found.plus(np.ones(len(self.loss)), step))
        worse = whole.loss > self.loss + ROUNDING * np.abs(self.loss)
        if not worse.any():
            return whole
        change = self.problem.cells(step)
        most = ((change.max(axis=0) - change.min(axis=0)) * (self.problem.share > 0)).max(axis=(0, 2))
        return self.problem.at(self.found.plus(np.where(worse, np.log1p(most) / np.maximum(most, TINY), 1.0), step))


@dataclass(frozen=True)
class _Preconditioner:
    """The Hessian, were an outcome's variance the same on every query: per feature an arrow matrix of W and the C_m."""

    corner: Float[np.ndarray, "features fits"]
    border: Float[np.ndarray, "features fits free"]
    diagonal: Float[np.ndarray, "features fits free"]
    level: Float[np.ndarray, "fits models"]

    @staticmethod
    def of(place: _Place) -> _Preconditioner:
        problem = place.problem
        variance = ((1.0 - (place.chance**2).sum(axis=0)) * problem.share).sum(axis=0) / problem.basis.shape[1]
        border = problem.curvature[:, :, None] * variance[:, problem.free]
        level = variance + (problem.penalties.level or 0.0)
        fixed = problem.penalties.level is None
        return _Preconditioner(
            corner=problem.curvature * variance.sum(axis=1) + problem.penalties.shared,
            border=border,
            diagonal=border + problem.penalties.own[problem.free],
            level=np.full_like(level, np.inf) if fixed else np.where(level > 0, level, 1.0),
        )

    def solve(self, residual: _Vector) -> _Vector:
        ratio = self.border / self.diagonal
        corner = self.corner - (ratio * self.border).sum(axis=-1)
        shared = (residual.shared - (ratio * residual.own).sum(axis=-1)) / corner
        own = residual.own / self.diagonal - ratio * shared[..., None]
        return _Vector(shared, own, residual.level / self.level)
