"""Training: a table of outcomes in, a predictor and what its models' answers cost out."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from jaxroute.data.prices import PriceList
from jaxroute.data.table import RoutingTable
from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.embedding import sentence_features
from jaxroute.encoders.encoder import MINILM
from jaxroute.encoders.features import FeatureConfig, prompt_features
from jaxroute.errors import EncoderError, TableError
from jaxroute.predictor.config import TrainConfig, described
from jaxroute.predictor.costs import CostReport, fit_cost_head
from jaxroute.predictor.extending import ADDED, added_models
from jaxroute.predictor.familiarity import Familiarity, learn_familiarity, sampled
from jaxroute.predictor.fitting import TrainingReport, check_trainable, fold_numbers, train_head
from jaxroute.predictor.heads import Head
from jaxroute.predictor.predictor import Predictor, head_estimates
from jaxroute.predictor.pricing import CostModel, Pricing, counted_ratio, table_pricing
from jaxroute.predictor.training_sample import MOST_PROMPTS, TrainingSample
from jaxroute.predictor.tuning import FittedHead, TuningReport, connect, tune


def train(
    table: RoutingTable, config: TrainConfig | None = None, *, state: Path | str | None = None
) -> tuple[Predictor, TrainingReport | TuningReport]:
    """Fit the head to the frozen encoder and, where `config.tune` says so, train the encoder's adapters or weights with it.

    `state` is the folder in which a run of gradient training keeps its state and metrics; started again with the same
    configuration it resumes from there. Raises `TableError` for a table that cannot train a predictor, before any prompt is
    encoded, and `CheckpointError` if `state` holds another run.
    """
    config = config or TrainConfig()
    check_trainable(table, config)
    encoder = load_encoder(config.encoder, dtype=config.tune.dtype)
    config = replace(config, features=config.features.of(encoder))
    if config.tune.mode == "frozen":
        head, report = _fit_frozen(table, encoder, config)
        return _predictor(table, encoder, head, config, report), report
    if config.tune.mesh.coordinator is not None and state is None:
        raise TableError("state=None: several processes need a folder that all of them can write to")
    connect(config.tune.mesh)
    # Gradients train all models together, and what all queries have; a query's domain is known for some only.
    config = replace(config, domains=False)

    def fit(part: RoutingTable, features: Float[np.ndarray, "queries features"] | None) -> FittedHead:
        head, report = (
            _fit_frozen(part, encoder, config, leaning=False)
            if features is None
            else train_head(features, part, config, leaning=False)
        )
        penalties = np.array([report.correction_penalties[model] for model in part.models])
        # A head that reads nothing yet could learn nothing under the penalty that made it so.
        return FittedHead(head, min(report.difference_penalty, max(config.penalties)), penalties, str(report))

    with ExitStack() as stack:
        folder = Path(state or stack.enter_context(tempfile.TemporaryDirectory()))
        tuned = tune(
            table,
            encoder,
            config.tune,
            feature_config=config.features,
            levels=config.levels,
            seed=config.seed,
            fit=fit,
            described=described(config),
            folder=folder,
        )
    trained = replace(encoder, trained=tuned.trained)
    return _predictor(table, trained, tuned.head, config, tuned.report), tuned.report


def train_costs(
    table: RoutingTable, prices: PriceList | None, predictor: Predictor, config: TrainConfig | None = None
) -> tuple[Pricing, list[CostReport]]:
    """What answers will cost, learnt from the outcomes of `table` on the features that `predictor` reads.

    Lengths are learnt where the table counts output tokens, dollars where there are no prices; means, which take over where
    nothing is learnt, are those of `table_pricing`.
    """
    return fit_costs(table, prices, predictor.encoder, predictor.features, config)


def train_estimator(
    table: RoutingTable,
    config: TrainConfig | None = None,
    *,
    prices: PriceList | None = None,
    state: Path | str | None = None,
) -> tuple[Predictor, list[TrainingReport | TuningReport | CostReport]]:
    """`train` and `train_costs` together: a predictor that knows what answers cost, and what was tried on held-out queries."""
    config = config or TrainConfig()
    predictor, report = train(table, config, state=state)
    pricing, learned = train_costs(table, prices, predictor, config)
    return with_training_sample(replace(predictor, pricing=pricing), table, report), [report, *learned]


def with_training_sample(predictor: Predictor, table: RoutingTable, report: TrainingReport | TuningReport) -> Predictor:
    """The predictor, which knows what answers cost, with what it expects on some of the prompts that `train` held out."""
    assert predictor.pricing is not None
    held_out = report.held_out if isinstance(report, TuningReport) else np.arange(len(table))
    _, first = np.unique(table.prompt_numbers[held_out], return_index=True)
    if not len(first):
        return predictor
    rows = np.random.default_rng(0).permutation(first)[:MOST_PROMPTS]
    prompts = [table.prompts[row] for row in held_out[rows]]
    features = predictor.read(predictor.encoder, prompts, predictor.features).values
    tokens = predictor.encoder.count_tokens(prompts)
    sample = TrainingSample.of(predictor.pricing, report.held_out_estimates[rows], tokens, features)
    return replace(predictor, sample=sample)


def learn_costs(table: RoutingTable, prices: PriceList | None = None, *, encoder: str | None = None) -> CostModel:
    """What answers will cost, for a router that is no predictor: learnt on sentence embeddings by `encoder`, by default minilm.

    Nothing is encoded where every answer of a model costs the same. Where the default encoder is not installed and no prices
    are given, every answer of a model is expected to cost its mean.
    """
    if prices is None and table.has_constant_costs:
        return CostModel(table_pricing(table, None))
    try:
        found = load_encoder(encoder or MINILM)
    except EncoderError:
        if encoder is not None or prices is not None:
            raise
        return CostModel(table_pricing(table, None))
    features = sentence_features(found)
    pricing, _ = fit_costs(table, prices, found, features)
    return CostModel(pricing, found, features)


def fit_costs(
    table: RoutingTable,
    prices: PriceList | None,
    encoder: Encoder,
    feature_config: FeatureConfig,
    config: TrainConfig | None = None,
) -> tuple[Pricing, list[CostReport]]:
    """The pricing of a table's models, with what was learnt of the lengths, or the dollars, of answers from their prompts."""
    config = config or TrainConfig()
    pricing = table_pricing(table, prices)
    if prices is None and table.has_constant_costs:
        return pricing, []
    prompt_tokens = encoder.count_tokens(table.prompts)
    pricing = replace(pricing, input_ratio=counted_ratio(table, prompt_tokens))
    if not config.costs.predict or len(set(table.prompts)) < 2 * config.folds:
        return pricing, []
    amounts: dict[str, tuple[np.ndarray, str]] = {}
    if pricing.output_tokens is not None and table.output_tokens is not None:
        amounts["length_head"] = (table.output_tokens, "tokens")
    if prices is None:
        amounts["cost_head"] = (table.cost_usd, "dollars")
    reports = []
    features = prompt_features(encoder, table.prompts, feature_config).values if amounts else np.empty((0, 0))
    for name, (amount, unit) in amounts.items():
        head, report = fit_cost_head(
            features,
            prompt_tokens,
            np.where(np.isnan(table.quality), np.nan, amount),
            models=table.models,
            fold=fold_numbers(table, config.folds, seed=config.seed),
            config=config.costs,
            unit=unit,
        )
        reports.append(report)
        if head.learned.any():
            pricing = replace(pricing, **{name: head})
    return pricing, reports


def _fit_frozen(
    table: RoutingTable, encoder: Encoder, config: TrainConfig, *, leaning: bool = True
) -> tuple[Head, TrainingReport]:
    features = prompt_features(encoder, table.prompts, config.features)
    head, report = train_head(features.values, table, config, leaning=leaning)
    return head, replace(report, cut=int(features.cut.sum()))


def _predictor(
    table: RoutingTable, encoder: Encoder, head: Head, config: TrainConfig, report: TrainingReport | TuningReport
) -> Predictor:
    """With the mean costs of the table, which `train_costs` betters."""
    about = {"trained_on": table.name, "queries": len(table), "held_out_log_loss": report.held_out_loss}
    about["training"] = described(config)
    pricing = table_pricing(table, None)
    domains, pool = [], None
    if isinstance(report, TrainingReport):
        domains, pool = report.domains, report.pool_questions(table)
        if report.leaning:
            about[ADDED] = added_models(table, report.leaning)
    return Predictor(
        encoder,
        config.features,
        head,
        table.models,
        config.levels,
        pricing,
        about=about,
        domains=domains,
        seen=np.unique(table.prompt_numbers),
        pool=pool,
        familiarity=_familiarity(table, encoder, head, config),
    )


def _familiarity(table: RoutingTable, encoder: Encoder, head: Head, config: TrainConfig) -> Familiarity | None:
    """Of the features that the head reads, which a trained encoder makes anew."""
    prompts = sampled(table.prompts, seed=config.seed)
    if not prompts:
        return None
    features = prompt_features(encoder, prompts, config.features).values
    return learn_familiarity(features, head_estimates(head, features), seed=config.seed)
