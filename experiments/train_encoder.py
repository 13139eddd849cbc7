"""Does training the encoder predict better than a frozen one, and which recipe should be shipped?

    JAXROUTE_DATA=... uv run python -m experiments.train_encoder

The nine-model MMLU pool. Every recipe is judged by log-loss on training questions that it did not see, and all are then
measured on the test questions. A run that is stopped resumes with the same command. About 50 minutes on 2 cores: encoding 10,
LoRA 30 (100 updates of 32 questions, 20 layers, rank 16), its test questions 4; 8 once these are on disk.

Seen: LoRA ends where the frozen encoder is (held-out log-loss 0.5812 and 0.5813 on the same questions, AIQ +2.4 and +2.3 points
over the zero router, difference +0.0, 0.0 to 0.1), so the frozen one is shipped: it needs seconds and no held-out questions. It
beats the paper's recipe by 1.2 points (0.7 to 1.6). RouterDC's grades as auxiliary tasks lower the test log-loss by 0.0012
(0.0006 to 0.0018); 7,798 more questions, answered by Mixtral and GPT-4 alone, by 0.0022 (0.0004 to 0.0040), and bring AIQ to
+2.7 (2.3 to 3.1) and APGR to 0.702 (0.668 to 0.742).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.real_data import GPT4, MIXTRAL, MmluPool, data_folder, load_mmlu_pool, with_other_questions
from experiments.reporting import intervals_figure
from jaxroute import Checkpoint, JaxrouteError, RoutingTable, TrainConfig, load_source, save_checkpoint, train
from jaxroute.data.prices import ROUTOO_TABLE_1
from jaxroute.data.table import text_key
from jaxroute.encoders import load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features, prompt_features_of_all
from jaxroute.evaluation import (
    Curve,
    Interval,
    aiq_gain,
    apgr_measure,
    bootstrap_weights,
    cost_quality_curve,
    log_loss,
    mean_difference,
    paired_interval,
    shuffled_gains,
    single_models,
)
from jaxroute.predictor.checkpoint import is_estimator
from jaxroute.predictor.fitting import train_head
from jaxroute.predictor.predictor import head_estimates
from jaxroute.predictor.pricing import table_pricing
from jaxroute.predictor.tuning import TuneConfig, TuningReport
from jaxroute.storage.files import check_folder, write_json


@dataclass(frozen=True)
class Config:
    """Frozen encoder, frozen with graded outcomes, LoRA, and the paper's recipe."""

    output: Path = Path("runs/train_encoder")
    """Folder for result.json, the figure, LoRA's state and its checkpoint."""
    frozen: TrainConfig = field(default_factory=TrainConfig)
    """The recipe with a frozen encoder."""
    paper: TrainConfig = field(
        default_factory=lambda: TrainConfig(features=FeatureConfig(layers=(30,), pooling="last"), head="difference")
    )
    """Last token of the last layer, difference head."""
    tune: TuneConfig = field(
        default_factory=lambda: TuneConfig(
            mode="lora", epochs=2, encoder_learning_rate=1e-4, head_learning_rate=1e-5, evaluate_every=25
        )
    )
    """Training of the encoder, from the frozen recipe's head."""
    resamples: int = 1000
    """Bootstrap resamples of the test questions."""
    shuffles: int = 20
    """Shuffles of the estimates across queries, for the null beside AIQ."""
    seed: int = 0
    """Of bootstrap and shuffles."""


@dataclass(frozen=True)
class Recipe:
    """One way to train; estimates are of the test questions."""

    questions: int
    """Trained on."""
    held_out_loss: float
    """On training questions that it did not see: all, out of fold, or those that LoRA's run held out."""
    estimates: Float[np.ndarray, "queries models"]


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    check_folder("output/checkpoint", config.output / "checkpoint", ours=is_estimator)
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    print("\n".join(pool.notes))
    recipes = {**frozen_recipes(config, pool), **tuned_recipes(config, pool)}
    weights = bootstrap_weights(len(pool.test), resamples=config.resamples, seed=config.seed)
    result = compare(config, pool.test, recipes, weights)
    write_json(config.output / "result.json", result)
    print(f"written to {config.output}/: result.json, recipes.png, checkpoint/ (LoRA's)")
    return result


def frozen_recipes(config: Config, pool: MmluPool) -> dict[str, Recipe]:
    """The paper's and ours; ours also with RouterDC's grades as auxiliary tasks, and with more questions."""
    encoder, train, test, count = load_encoder(config.frozen.encoder), pool.train, pool.test, len(pool.train)
    configs = [config.frozen.features, config.paper.features]
    ours, papers = (one.values for one in prompt_features_of_all(encoder, train.prompts + test.prompts, configs))
    more = with_other_questions(train, test)
    others = prompt_features(encoder, more.prompts[count:], config.frozen.features).values
    many = np.concatenate([ours[:count], others])
    grades = graded_outcomes(train)
    wide = np.concatenate([grades, np.full((len(others), grades.shape[1]), np.nan)])
    recipes = {}
    for name, features, table, recipe, auxiliary in (
        ("paper", papers, train, config.paper, None),
        ("frozen", ours, train, config.frozen, None),
        ("frozen, graded", ours, train, config.frozen, grades),
        ("frozen, more questions", many, more, config.frozen, None),
        ("frozen, graded, more questions", many, more, config.frozen, wide),
    ):
        head, report = train_head(features[: len(table)], table, recipe, auxiliary=auxiliary)
        # On the same questions for all.
        held_out = log_loss(train.quality, report.held_out_estimates[:count])
        unseen = (papers if features is papers else ours)[count:]
        recipes[name] = Recipe(len(table), held_out, head_estimates(head, unseen))
    return recipes


def tuned_recipes(config: Config, pool: MmluPool) -> dict[str, Recipe]:
    """LoRA, and the frozen recipe on the same training questions, judged on the ones that both did not see."""
    predictor, report = train(pool.train, replace(config.frozen, tune=config.tune), state=config.output / "lora-state")
    print(report)
    assert isinstance(report, TuningReport)
    about = {"trained_on": pool.train.name, "held_out_log_loss": report.held_out_loss}
    pricing = table_pricing(pool.train, ROUTOO_TABLE_1)
    save_checkpoint(config.output / "checkpoint", Checkpoint(predictor=predictor, pricing=pricing, about=about))
    seen = np.setdiff1d(np.arange(len(pool.train)), report.held_out)
    part, rest = pool.train.select(seen), pool.train.select(report.held_out)
    encoder = load_encoder(config.frozen.encoder)
    features = prompt_features(encoder, part.prompts + rest.prompts + pool.test.prompts, config.frozen.features).values
    head, _ = train_head(features[: len(part)], part, config.frozen)
    unseen = features[len(part) :]
    alone = head_estimates(head, unseen)
    return {
        "frozen, LoRA's questions": Recipe(len(part), log_loss(rest.quality, alone[: len(rest)]), alone[len(rest) :]),
        "LoRA": Recipe(len(part), report.held_out_loss, predictor.estimate(pool.test.queries).quality),
    }


def graded_outcomes(train: RoutingTable) -> Float[np.ndarray, "queries tasks"]:
    """RouterDC's grades of the small models: how sure each was of the right choice, where that was its answer."""
    graded = load_source("routerdc", data_folder() / "routerdc" / "mmlu_train.json", binary=False)
    rows = {text_key(prompt): row for row, prompt in reversed(list(enumerate(graded.prompts)))}
    return graded.quality[[rows[text_key(prompt)] for prompt in train.prompts]]


def compare(
    config: Config, test: RoutingTable, recipes: dict[str, Recipe], weights: Float[np.ndarray, "resamples queries"]
) -> dict[str, float | str]:
    """Every recipe on the test questions, with paired intervals."""
    singles = single_models(test)
    cost = singles.means()[0]
    low, high = cost.min(), cost.max()
    weak, strong = test.models.index(MIXTRAL), test.models.index(GPT4)
    curves = {name: cost_quality_curve(test, one.estimates, progress=name) for name, one in recipes.items()}

    def gain(curve: Curve, base: Curve) -> Interval:
        return aiq_gain(curve, base, weights, low=low, high=high)

    def less_loss(estimates: np.ndarray, base: np.ndarray) -> Interval:
        losses = cell_losses(test.quality, base), cell_losses(test.quality, estimates)
        return paired_interval(mean_difference(*losses), weights)

    print(f"\n{'':<31} {'questions':>9} {'held-out':>9} {'test':>8}  AIQ over the zero router  over the paper's recipe  APGR")
    result: dict[str, float | str] = {"test_questions": len(test)}
    intervals = {}
    for name, one in recipes.items():
        zero, paper = gain(curves[name], singles), gain(curves[name], curves["paper"])
        score = one.estimates[:, strong] - one.estimates[:, weak]
        reached = paired_interval(apgr_measure(test.quality[:, weak], test.quality[:, strong], score), weights)
        intervals[name] = zero
        loss = log_loss(test.quality, one.estimates)
        print(
            f"{name:<31} {one.questions:>9,} {one.held_out_loss:>9.4f} {loss:>8.4f}  {zero!s:<25} {paper!s:<24} "
            f"{reached.value:.3f} ({reached.low:.3f} to {reached.high:.3f})"
        )
        key = name.replace(",", "").replace("'s", "").replace(" ", "_").lower()
        result |= {f"{key}_held_out_log_loss": one.held_out_loss, f"{key}_log_loss": loss}
        for measure, interval in (("aiq_gain", zero), ("aiq_gain_over_paper", paper), ("apgr", reached)):
            names = (f"{key}_{measure}", f"{key}_{measure}_low", f"{key}_{measure}_high")
            result |= dict(zip(names, (interval.value, interval.low, interval.high), strict=True))
    for name, base in (
        ("LoRA", "frozen, LoRA's questions"),
        ("LoRA", "frozen"),
        ("frozen, graded", "frozen"),
        ("frozen, more questions", "frozen"),
        ("frozen, graded, more questions", "frozen"),
    ):
        quality, loss = gain(curves[name], curves[base]), less_loss(recipes[name].estimates, recipes[base].estimates)
        print(f"{name} against {base}: AIQ {quality}; log-loss lower by {loss.value:.4f} ({loss.low:.4f} to {loss.high:.4f})")
        key = f"{name} against {base}".replace(",", "").replace("'s", "").replace(" ", "_").lower()
        result |= {f"{key}_aiq": quality.value, f"{key}_aiq_low": quality.low, f"{key}_aiq_high": quality.high}
        result |= {f"{key}_log_loss": loss.value, f"{key}_log_loss_low": loss.low, f"{key}_log_loss_high": loss.high}
    null = shuffled_gains(test, curves["LoRA"], low=low, high=high, seed=config.seed, shuffles=config.shuffles)
    print(f"LoRA's estimates shuffled: {100 * null.mean():+.1f} mean, {100 * np.quantile(null, 0.95):+.1f} 95th percentile")
    result |= {"shuffled_aiq_gain": float(null.mean()), "shuffled_aiq_gain_95": float(np.quantile(null, 0.95))}
    label = "AIQ over the zero router on MMLU, nine models, percent points (95% paired bootstrap)"
    intervals_figure(config.output / "recipes.png", intervals, label)
    return result


def cell_losses(
    quality: Float[np.ndarray, "queries models"], estimates: Float[np.ndarray, "queries models"]
) -> Float[np.ndarray, " queries"]:
    """Each query's mean cross-entropy over its models, in nats."""
    p = np.clip(estimates, 1e-7, 1 - 1e-7)
    return np.nanmean(-quality * np.log(p) - (1 - quality) * np.log1p(-p), axis=1)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
