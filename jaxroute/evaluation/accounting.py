"""Who answered how many queries, how fast, at what cost, how well: TensorOpera's table and Routoo's shares of queries.

TensorOpera's router (Stripelis et al. 2024, arXiv:2408.12320), Table 1 and Figure 6; Routoo (arXiv:2401.13979), Figures 3
and 4. What a table of outcomes has no columns for stays None, and is left out of what is printed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import PriceList, token_cost_usd
from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError
from jaxroute.evaluation.outcomes import checked_choice, outcome
from solvers import Assignment


@dataclass(frozen=True)
class Account:
    """One router, or one model, on one batch of queries."""

    queries: dict[str, int]
    """Count of queries by model that answered at least one (Figure 6); unanswered ones are not in it."""
    quality: float
    """Mean over the queries."""
    total_cost_usd: float
    throughput: float | None = None
    """Output tokens per second, of each answer, then the mean over the answers."""
    bert_similarity: float | None = None
    """BERTSim: mean similarity of the answers with the reference answers."""
    negative_log_likelihood: float | None = None
    """Mean of minus the log-likelihood that the table gives for the answers."""

    def columns(self) -> dict[str, float]:
        """What there is, by name, for a row of a table."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "queries"}
        return {name: value for name, value in values.items() if value is not None}


def account(
    table: RoutingTable,
    choice: Int[np.ndarray, " queries"] | Assignment,
    *,
    prices: PriceList | None = None,
    similarity: Float[np.ndarray, "queries models"] | None = None,
) -> Account:
    """What one choice of models adds up to.

    Cost is input tokens x input price + output tokens x output price where `prices` are given, which needs token counts, else
    the table's own. A chosen model of which a column knows nothing on its query leaves that measure out, since a mean over the
    rest would be of other queries for every router.
    """
    chosen = checked_choice(table, choice)
    rows = np.flatnonzero(chosen >= 0)
    cells = rows, chosen[rows]
    found = outcome(table, chosen)
    if prices is None:
        total = found.cost_usd.sum()
    elif table.input_tokens is None or table.output_tokens is None:
        raise TableError("prices need the table's input_tokens and output_tokens, which it has not: leave prices out")
    else:
        total = token_cost_usd(prices, table.models, table.input_tokens, table.output_tokens)[cells].sum()
        if np.isnan(total):
            raise TableError("prices need the tokens of every chosen answer; some are unknown: leave prices out")
    log_likelihood = table.log_likelihood
    return Account(
        queries={model: int((chosen == column).sum()) for column, model in enumerate(table.models) if (chosen == column).any()},
        quality=found.mean_quality,
        total_cost_usd=float(total),
        throughput=_mean(throughput(table), cells),
        bert_similarity=_mean(similarity, cells),
        negative_log_likelihood=_mean(None if log_likelihood is None else -log_likelihood, cells),
    )


def accounts_of_models(
    table: RoutingTable, *, prices: PriceList | None = None, similarity: Float[np.ndarray, "queries models"] | None = None
) -> dict[str, Account]:
    """The same for every model alone."""
    everywhere = np.ones(len(table), int)
    return {
        model: account(table, column * everywhere, prices=prices, similarity=similarity)
        for column, model in enumerate(table.models)
    }


def throughput(table: RoutingTable) -> Float[np.ndarray, "queries models"] | None:
    """Output tokens per second of every answer; None where the table lacks lengths or latencies, NaN where a cell does."""
    if table.output_tokens is None or table.latency_seconds is None:
        return None
    tokens, seconds = table.output_tokens, table.latency_seconds
    return np.divide(tokens, seconds, out=np.full(tokens.shape, np.nan), where=seconds > 0)


def bert_similarity(
    answers: Float[np.ndarray, "queries models features"], references: Float[np.ndarray, "queries features"]
) -> Float[np.ndarray, "queries models"]:
    """BERTSim of every answer: the cosine of its embedding with the reference answer's.

    The paper scores answers by BERT's similarity with the ground truth; the cosine of sentence embeddings is our reading of
    it, unverified. Name the encoder that made the embeddings beside every such number.
    """
    lengths = np.linalg.norm(answers, axis=-1) * np.linalg.norm(references, axis=-1)[:, None]
    return np.einsum("nmf,nf->nm", answers, references) / np.maximum(lengths, 1e-12)


def model_shares(choice: Int[np.ndarray, "*points queries"], models: Sequence[str]) -> Float[np.ndarray, "*points models"]:
    """The share of queries that every model answers, at every point; what is missing to 1 is unanswered."""
    return np.stack([(choice == column).mean(axis=-1) for column in range(len(models))], axis=-1)


def tier_shares(
    shares: Float[np.ndarray, "*points models"], tiers: Sequence[str] | Float[np.ndarray, " models"]
) -> Mapping[str, Float[np.ndarray, "*points"] | float]:
    """The same by price tier, in the order of the tiers: `tiers` names each model's, by a word or by its price."""
    names = np.asarray(tiers)
    if names.shape != shares.shape[-1:]:
        raise TableError(f"tiers has shape {names.shape}, there are {shares.shape[-1]} models")
    words = np.array([str(name) if names.dtype.kind in "US" else f"{name:g}" for name in names])
    order = list(dict.fromkeys(words[np.argsort(names, kind="stable")]))
    return {str(word): shares[..., words == word].sum(axis=-1) for word in order}


def _mean(values: Float[np.ndarray, "queries models"] | None, cells: tuple[np.ndarray, np.ndarray]) -> float | None:
    if values is None or not len(cells[0]) or np.isnan(values[cells]).any():
        return None
    return float(values[cells].mean())
