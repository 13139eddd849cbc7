"""What a new model's row of a head leans on in the models that were trained together, and the head with further rows.

The prior of a new model's level lies at the pool's median, moved by what the model costs:

    middle = median of b + g (log cost - median of log cost),     g ~ Normal(0.23, 0.1^2) before the pool's own levels and costs

since models that cost more are better ones. 0.23 logits per factor of e is what RouterBench's ARC and MBPP and ParetoBandit say
(`python -m experiments.new_model` prints it); the pool's own models correct it, by least squares with that prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float, Int, UInt64

from jaxroute.predictor.heads import Head, level_targets
from jaxroute.predictor.new_models import LEVEL_SPREAD, NewRow, Probes, fit_row, scalar_of
from jaxroute.predictor.pool_questions import PoolQuestions
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.softmax import centred_places

ALIKE = 2.0
"""Models whose mean costs differ by no more than this factor cost about the same."""
COST_SLOPE = 0.23
"""By how many logits a model is better that costs e times as much, before anything is known of the pool."""
COST_SLOPE_SPREAD = 0.1
PER_MODEL = ("model_embedding", "correction", "correction_bias")
MOSTLY = 0.5
"""The share of the pool that must have answered a new question for its residual to be known."""


@dataclass(frozen=True, eq=False)
class Questions:
    """Everything about some questions that does not depend on the new model."""

    shared: Float[np.ndarray, "queries levels"]
    """s: held out of training questions, the head's own of others."""
    residual: Float[np.ndarray, " queries"]
    """u; NaN where nothing is known of it."""
    hidden: Float[np.ndarray, "queries features"]
    """Standardised features."""


@dataclass(frozen=True, eq=False)
class Base:
    """The models of a head that were trained together: new ones lean on them alone."""

    head: Head
    state: dict[str, np.ndarray]
    """The head's numbers in float64."""
    columns: Int[np.ndarray, " base"]
    cost_usd: Float[np.ndarray, " base"]
    """Mean dollars of an answer; NaN where nothing is known."""
    pool: PoolQuestions | None

    @staticmethod
    def of(head: Head, columns: Sequence[int], cost_usd: Float[np.ndarray, " base"] | None, pool: PoolQuestions | None) -> Base:
        """`columns` are the models' places in the head."""
        known = np.full(len(columns), np.nan) if cost_usd is None else np.asarray(cost_usd, np.float64)
        state = {name: np.asarray(array, np.float64) for name, array in nnx.to_pure_dict(nnx.state(head)).items()}
        return Base(head, state, np.array(columns, int), known, pool)

    @property
    def levels(self) -> int:
        return len(self.state["bias"])

    def questions(
        self,
        features: Float[np.ndarray, "queries features"],
        domain: Int[np.ndarray, " queries"],
        numbers: UInt64[np.ndarray, " queries"],
        quality: Float[np.ndarray, "queries base"],
    ) -> Questions:
        """`numbers` are `RoutingTable.prompt_numbers`, `quality` the base's own outcomes on them, NaN where there are none."""
        state = self.state
        hidden = (np.clip(features, state["low"], state["high"]) - state["mean"]) / state["scale"]
        shared = hidden @ state["weight"] + self._mean_effect()[domain]
        residual = np.full(len(features), np.nan)
        if self.pool is not None:
            row, known = self.pool.rows(numbers)
            if not known.all() and not np.isnan(quality).all():
                residual = self._residual_of_new(features, domain, quality)
            shared = np.where(known[:, None], self.pool.shared[row], shared)
            residual = np.where(known, self.pool.residual[row], residual)
        return Questions(shared, residual, hidden)

    def fitted(
        self, questions: Questions, quality: Float[np.ndarray, " queries"], cost_usd: float, *, corrected: bool = True
    ) -> NewRow:
        """The row of a model with these outcomes, NaN where it was not asked, whose answers cost `cost_usd` on average.

        `corrected` off leaves it without a correction; so does a model of the base that costs about as much.
        """
        run = np.flatnonzero(~np.isnan(quality))
        places = centred_places(self.levels)
        own = self.state["correction"][self.columns] @ places / (places @ places)
        probes = Probes(
            target=level_targets(quality[run, None], self.levels)[:, 0].astype(np.float64),
            shared=questions.shared[run],
            residual=questions.residual[run],
            hidden=questions.hidden[run],
            others=own[(own != 0).any(axis=1)].T,
        )
        return fit_row(probes, self.middle(cost_usd), self.pool, corrected=corrected and not len(self.alike(cost_usd)))

    def alike(self, cost_usd: float) -> Int[np.ndarray, " alike"]:
        """Places in the base of the models whose answers cost about as much."""
        least, most = np.minimum(self.cost_usd, cost_usd), np.maximum(self.cost_usd, cost_usd)
        return np.flatnonzero(most <= ALIKE * least)

    def middle(self, cost_usd: float) -> Float[np.ndarray, " levels"]:
        """Where the level of a model that costs `cost_usd` is expected, before it is asked anything."""
        state = self.state
        level = (state["bias"] - state["model_embedding"] @ state["weight"] + state["correction_bias"])[self.columns]
        level = level - level.mean(axis=1, keepdims=True)
        middle = np.median(level, axis=0)
        middle = middle - middle.mean()
        # What costs nothing, or nobody knows what, says nothing.
        priced = self.cost_usd > 0
        if not cost_usd > 0 or not priced.any():
            return middle
        log_cost = np.log(self.cost_usd[priced])
        centre = np.median(log_cost)
        height = scalar_of(level)
        x, y = log_cost - centre, height[priced] - np.median(height[priced])
        known = (LEVEL_SPREAD / COST_SLOPE_SPREAD) ** 2
        slope = (known * COST_SLOPE + x @ y) / (known + x @ x)
        return middle + slope * (np.log(cost_usd) - centre) * centred_places(self.levels)

    def logits(self, questions: Questions, row: NewRow) -> Float[np.ndarray, "queries levels"]:
        """A row's logits at `questions`, from what is held of s; what `head_with` makes of it, where s is the head's own."""
        tilt = scalar_of(questions.shared)[:, None] * row.tilt
        return row.slope * questions.shared + tilt + row.level + questions.hidden @ row.correction

    def head_with(self, rows: Sequence[NewRow | int]) -> Head:
        """A head with these rows, in this order: new ones, and old ones by their place in the head."""
        old, wide = nnx.to_pure_dict(nnx.state(self.head)), self.state
        places = centred_places(self.levels)
        new = {name: np.zeros((len(rows), *old[name].shape[1:]), np.float32) for name in PER_MODEL}
        effects = np.zeros((0, 0, 0))
        if "domain_effect" in old:
            effects = np.zeros((len(old["domain_effect"]), len(rows), self.levels), np.float32)
        for place, row in enumerate(rows):
            if isinstance(row, NewRow):
                scalar = wide["weight"] @ places / (places @ places)
                # W stands for all models: what is not 1 of its slope is a part of the correction.
                new["correction"][place] = row.correction + (row.slope - 1) * wide["weight"] + np.outer(scalar, row.tilt)
                new["correction_bias"][place] = row.level - wide["bias"]
                if len(effects):
                    mean = self._mean_effect()[:-1]
                    effects[:, place] = row.slope * mean + np.outer(scalar_of(mean), row.tilt)
            else:
                for name in PER_MODEL:
                    new[name][place] = old[name][row]
                if len(effects):
                    effects[:, place] = old["domain_effect"][:, row]
        return rebuilt_head(old | new | ({"domain_effect": effects} if len(effects) else {}))

    def _residual_of_new(self, features: np.ndarray, domain: np.ndarray, quality: np.ndarray) -> Float[np.ndarray, " queries"]:
        """u of questions that were not in training, where most of the base answered them."""
        error = quality - head_estimates(self.head, features, domain=domain)[:, self.columns]
        count = (~np.isnan(error)).sum(axis=1)
        return np.where(count >= MOSTLY * len(self.columns), np.nansum(error, axis=1) / (count + 1), np.nan)

    def _mean_effect(self) -> Float[np.ndarray, "domains levels"]:
        """The mean over the base of every domain's effect, and nothing of an unknown one, the last."""
        none = np.zeros((1, self.levels))
        state = self.state
        if "domain_effect" not in state:
            return none
        return np.concatenate([state["domain_effect"][:, self.columns].mean(axis=1), none])


def rebuilt_head(state: Mapping[str, Any]) -> Head:
    """A head with these numbers, of a shape that fits them."""
    features, levels = state["weight"].shape
    head = Head(features, len(state["model_embedding"]), levels, len(state.get("domain_effect", [])))
    nnx.update(head, {name: jnp.asarray(array) for name, array in state.items()})
    return head
