"""What a new model's answers cost, from a few of them: means, and the shape over prompts that other models' answers have.

    log(offset + amount_j) = alpha + beta g_j,      g_j = mean over the models with a learned head of their estimate's logarithm

with beta ~ Normal(0, 1) in closed form. The shape is kept where it lowers the held-out loss of the mean by two standard
errors, as in `costs`; else every answer is expected to cost, or to be as long as, the model's mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Float, Int

from jaxroute.data.prices import TOKENS_PER_PRICE, Price, PriceList, priced
from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError, listed
from jaxroute.predictor.cost_head import PER_MODEL, CostHead, inputs_of
from jaxroute.predictor.costs import TIE, held_out_losses
from jaxroute.predictor.pricing import Pricing, counted_ratio

FOLDS = 5
LEAST = 20
"""Fewer answers say nothing of a shape."""
CLEAR = 2.0


def added_pricing(
    pricing: Pricing,
    table: RoutingTable,
    features: Float[np.ndarray, "queries features"],
    prompt_tokens: Int[np.ndarray, " queries"],
    prices: PriceList | None,
) -> tuple[Pricing, dict[str, str]]:
    """The pricing with the models of `table` added or replaced, and in words how the costs of each are estimated.

    Raises `TableError` where the pricing has prices per token and a model of `table` has none.
    """
    names = table.models
    merged = _merged_prices(pricing, table, prices)
    means = dict(zip(names, table.mean_cost_usd().tolist(), strict=True))
    models = [*pricing.models, *(name for name in names if name not in pricing.models)]
    words = {name: "every answer is expected to cost this mean" for name in names}
    output = ratio = None
    if pricing.output_tokens is not None:
        output = {name: _output_tokens(table, name, merged, prompt_tokens) for name in names}
        words = {name: f"answers of {output[name]:.0f} tokens on average" for name in names}
    if pricing.input_ratio is not None:
        ratio = {name: _ratio(table.select(models=[name]), prompt_tokens, pricing.input_ratio) for name in names}
    heads = {}
    for kind, amounts in (("length_head", table.output_tokens), ("cost_head", table.cost_usd)):
        if (head := getattr(pricing, kind)) is None:
            continue
        columns = {}
        for column, name in enumerate(names):
            amount = np.full(len(table), np.nan) if amounts is None else amounts[:, column]
            amount = np.where(np.isnan(table.quality[:, column]), np.nan, amount)
            columns[name], shaped = _column(head, amount, features, prompt_tokens, means[name], pricing.models)
            if shaped and head is pricing.head:
                words[name] += ", and by prompt as those of the other models vary"
        heads[kind] = _with_columns(head, columns, pricing.models, models)
    return replace(
        pricing,
        models=models,
        mean_cost_usd=_with(pricing.models, pricing.mean_cost_usd, means, models),
        prices=merged,
        output_tokens=None if output is None else _with(pricing.models, pricing.output_tokens or [], output, models),
        input_ratio=None if ratio is None else _with(pricing.models, pricing.input_ratio or [], ratio, models),
        **heads,
    ), words


def _merged_prices(pricing: Pricing, table: RoutingTable, prices: PriceList | None) -> PriceList | None:
    """The pricing's prices with those of the new models; None where it has whole costs alone, which are the table's."""
    if pricing.prices is None:
        return None
    missing = [name for name in table.models if name not in {**pricing.prices, **(prices or {})}]
    if missing:
        raise TableError(
            f"prices: the checkpoint prices tokens, and there is no price for {listed(missing)}; give --prices with a file "
            f'such as {{"{missing[0]}": {{"input": 0.2, "output": 0.6}}}}, in dollars per million tokens'
        )
    given = {name: prices[name] for name in table.models if prices is not None and name in prices}
    table.check_prices({**pricing.prices, **given})
    return {**pricing.prices, **{name: Price(one.input, one.output) for name, one in given.items()}}


def _output_tokens(table: RoutingTable, name: str, prices: PriceList | None, prompt_tokens: np.ndarray) -> float:
    """The mean length of a model's answers: as counted, else what is left of their dollars at its price."""
    column = table.models.index(name)
    run = ~np.isnan(table.quality[:, column])
    if table.output_tokens is not None and np.isfinite(table.output_tokens[run, column]).any():
        return float(np.nanmean(table.output_tokens[run, column]))
    price = None if prices is None else priced(prices, [name])[0]
    if price is None or price.output == 0:
        raise TableError(f"{table.name}: {name} has no output_tokens, which the checkpoint's costs need; add that column")
    spent = table.cost_usd[run, column].mean() * TOKENS_PER_PRICE - price.input * prompt_tokens[run].mean()
    return float(max(spent / price.output, 0.0))


def _ratio(table: RoutingTable, prompt_tokens: np.ndarray, others: list[float]) -> float:
    """Input tokens per token of the encoder; where they were not counted, the median of the other models'."""
    found = counted_ratio(table, prompt_tokens)
    return float(np.median(others)) if found is None else found[0]


def _column(
    head: CostHead, amount: np.ndarray, features: np.ndarray, prompt_tokens: np.ndarray, mean: float, models: list[str]
) -> tuple[dict[str, np.ndarray | float], bool]:
    """A model's numbers in a cost head, and whether they depend on the prompt."""
    known = np.isfinite(amount)
    seen = amount[known]
    if not len(seen):
        return {
            "weight": np.zeros(len(head.mean)),
            "intercept": np.log1p(mean),
            "offset": 1.0,
            "low": mean,
            "high": mean,
        }, False
    offset = 1.0 if bool((head.offset == 1.0).all()) else (seen.mean() / 1000 if seen.mean() > 0 else 1.0)
    plain = {"weight": np.zeros(len(head.mean)), "intercept": float(np.log(seen.mean() + offset)), "offset": offset}
    plain |= {"low": float(seen.min()), "high": float(seen.max())}
    if len(seen) < LEAST or not head.learned.any() or np.ptp(seen) <= 1e-9 * np.abs(seen).max():
        return plain, False
    weight = head.weight[:, head.learned].mean(axis=1)
    shape = ((inputs_of(features, prompt_tokens) - head.mean) / head.scale @ weight)[known]
    target, fold = np.log(seen + offset), np.arange(len(seen)) % FOLDS
    held_out = np.empty(len(seen))
    for number in range(FOLDS):
        beta, alpha = _line(shape[fold != number], target[fold != number])
        held_out[fold == number] = alpha + beta * shape[fold == number]
    gain = held_out_losses(seen + offset, np.zeros(len(seen)), fold) - held_out_losses(seen + offset, held_out, fold)
    if not gain.mean() > max(TIE, CLEAR * gain.std(ddof=1) / np.sqrt(len(gain))):
        return plain, False
    beta, _ = _line(shape, target)
    intercept = float(np.log((seen + offset).sum() / np.exp(beta * shape).sum()))
    return plain | {"weight": beta * weight, "intercept": intercept}, True


def _line(shape: np.ndarray, target: np.ndarray) -> tuple[float, float]:
    """Slope, with its prior, and intercept of least squares."""
    centred = shape - shape.mean()
    left = target - target.mean()
    noise = max(float((left - centred * (centred @ left) / max(centred @ centred, 1e-12)).var()), 1e-6)
    beta = float(centred @ left / (centred @ centred + noise))
    return beta, float(target.mean() - beta * shape.mean())


def _with(known: list[str], before: list[float], new: Mapping[str, float], models: list[str]) -> list[float]:
    values = {**dict(zip(known, before, strict=True)), **new}
    return [values[model] for model in models]


def _with_columns(
    head: CostHead, columns: Mapping[str, Mapping[str, np.ndarray | float]], known: list[str], models: list[str]
) -> CostHead:
    parts = {}
    for name in PER_MODEL:
        before = getattr(head, name)
        values = [columns[model][name] if model in columns else before[..., known.index(model)] for model in models]
        parts[name] = np.stack(values, axis=-1)
    return CostHead(mean=head.mean, scale=head.scale, **parts)
