"""What a training of the head found, and what was tried on held-out queries on the way."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from jaxroute.data.table import RoutingTable
from jaxroute.errors import listed
from jaxroute.predictor.new_models import NewRow
from jaxroute.predictor.pool_questions import PoolQuestions

MEANS = 1e9
"""A penalty that leaves nothing of the features: every model's estimates are its shrunken mean. It is always tried first."""


@dataclass(frozen=True)
class TrainingReport:
    """What was tried on held-out queries; losses are log-losses in nats per observed cell."""

    difference_losses: dict[float, float]
    """Held-out loss of the difference head by penalty; at `MEANS` that of the models' means."""
    difference_penalty: float
    """The chosen one; `MEANS` where prompts do not lower the loss."""
    corrections: dict[str, float]
    """Per model, how far its correction may move a logit; 0 = no correction."""
    correction_penalties: dict[str, float]
    """The same as a ridge penalty, per mean number of outcomes of a model; infinity = no correction."""
    held_out_loss: float
    """Of the head as trained, each query predicted by a fit that did not see it."""
    held_out_estimates: Float[np.ndarray, "queries models"]
    held_out_shared: Float[np.ndarray, "queries levels"]
    """What all models' logits have in common, by the fit that did not see the query."""
    domains: list[str] = field(default_factory=list)
    """The domains that have effects, in the head's order; none where they do not lower the held-out loss."""
    domain_spread: float = 0.0
    """How far a domain's effect may move a logit."""
    leaning: dict[str, NewRow] = field(default_factory=dict)
    """The models that have far fewer outcomes than the others: rows that lean on these."""
    cut: int = 0
    """Prompts that were longer than the encoder reads."""

    def pool_questions(self, table: RoutingTable) -> PoolQuestions | None:
        """What the models that were fitted together say of the questions of `table`, on which they were trained."""
        columns = np.array([column for column, model in enumerate(table.models) if model not in self.leaning])
        known = table.select(models=[table.models[column] for column in columns]) if self.leaning else table
        rows = np.flatnonzero((~np.isnan(known.quality)).any(axis=1))
        if len(rows) < len(table):
            known = known.select(rows)
        return PoolQuestions.of(known, self.held_out_shared[rows], self.held_out_estimates[np.ix_(rows, columns)])

    def __str__(self) -> str:
        path = "  ".join(
            f"{'means alone' if penalty == MEANS else f'{penalty:g}'}: {loss:.4f}"
            for penalty, loss in self.difference_losses.items()
        )
        chosen = f"chosen penalty {self.difference_penalty:g}"
        if self.difference_penalty == MEANS:
            chosen = "what models share: the means alone, since the prompts do not lower the loss"
        freed = [f"{model} ({spread:g})" for model, spread in self.corrections.items() if spread]
        domains = f"; effects of {len(self.domains)} domains ({self.domain_spread:g})" if self.domains else ""
        rare = f"; few outcomes, so leaning on the other models: {listed(list(self.leaning))}" if self.leaning else ""
        cut = f"{self.cut} prompts were longer than the encoder reads and were cut\n" if self.cut else ""
        return (
            f"{cut}held-out log-loss of the difference head by penalty  {path}\n"
            f"{chosen}; models with a correction of their own, and how far it may move a "
            f"logit: {', '.join(freed) or 'none'}{rare}{domains}\nheld-out log-loss {self.held_out_loss:.4f}"
        )
