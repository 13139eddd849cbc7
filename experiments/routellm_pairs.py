"""Which of RouteLLM's routers finds the questions that need GPT-4, also on another test, and also when trained on other models?

    JAXROUTE_DATA=... uv run python -m experiments.routellm_pairs

RouteLLM's measures (arXiv:2406.18665, section 2.2) for Mixtral / GPT-4: the average performance gap recovered, and the share
of GPT-4 calls that recovers half and four fifths of the gap. Four settings, in none of which a question is both learnt from
and judged on: MMLU; MMLU by routers that learnt from the weakest and the strongest of seven small models and are not trained
again; GSM8K by the MMLU routers; GSM8K, each half by routers of the other half.

20 minutes on 2 cores with cached features, of which BERT takes 12 with a tenth of its published training; 35 without.

Seen: whole files give the published numbers, 68.09 and 80.59 percent right on MMLU, 63.73 and 85.77 on GSM8K, and APGR 0.584
and 0.599 by prompt length. On MMLU the predictor has 0.680 (0.650 to 0.711) and needs 25 percent of the calls for half of the
gap, where chance needs 51; 40 neighbours (0.677) and the mean per subject (0.678), with 9,794 questions to learn from, tie
with it; Bradley-Terry 0.643, matrix factorisation 0.616, BERT 0.609, the causal classifier 0.596 and prompt length 0.586 stay
behind. What is learnt from two 7B models moves to Mixtral / GPT-4 only in part: predictor 0.610, no more than prompt length
(tie), the others 0.444 to 0.568. What is learnt from MMLU says little of GSM8K: predictor 0.569, prompt length 0.599 (tie),
nobody else above 0.53. Nor do 650 of its own questions help: prompt length 0.597, Bradley-Terry 0.587 and neighbours 0.586 are
ahead of the predictor (0.521, intervals without 0).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float
from tqdm.auto import tqdm

from experiments.encoding import encode_once
from experiments.real_data import GPT4, MIXTRAL, data_folder, load_mmlu_pool, with_other_questions
from experiments.reporting import check_names, named
from jaxroute import JaxrouteError, RoutingTable, load_source
from jaxroute.data.estimates import Estimator
from jaxroute.evaluation import (
    Interval,
    apgr,
    apgr_measure,
    bootstrap_weights,
    call_curve,
    cpt_measure,
    paired_interval,
)
from jaxroute.evaluation.plots import COLOURS, STYLES, save_figure
from jaxroute.routers.base import RouterKind, find_router
from jaxroute.routers.learning.preferences import strong_score
from jaxroute.storage.files import write_json

PAIR = [MIXTRAL, GPT4]
CAUSAL = "predictor:head=difference:layers=30:pooling=last"
"""RouteLLM's causal-LM classifier: the last token's state of the last layer says who wins."""
ROUTERS = (
    "predictor",
    CAUSAL,
    "bradley_terry",
    "matrix_factorization",
    "routellm_bert:steps=300:learning_rate=5e-5:max_tokens=128",
    "knn",
    "mlp",
    "svm",
    "tensoropera_mlp",
    "domain_mean",
    "prompt_length",
    "random",
)
SHOWN = 5
"""Routers per panel of the figure, the best ones."""


@dataclass(frozen=True)
class Config:
    """Routers, bootstrap, output."""

    output: Path = Path("runs/routellm_pairs")
    """Folder for result.json and the figure."""
    router: tuple[str, ...] = ROUTERS
    """As in `jaxroute evaluate`; the others are compared with the first. BERT as published has 2,000 steps of 512 tokens."""
    resamples: int = 1000
    """Bootstrap resamples of the questions that are judged on."""
    seed: int = 0
    """Of the bootstrap, the random router and the halves."""

    def __post_init__(self) -> None:
        check_names("router", self.router)


@dataclass(frozen=True)
class Setting:
    """Questions to judge on, and every router's score of them: how much better the strong model would answer."""

    name: str
    key: str
    test: RoutingTable
    scores: dict[str, Float[np.ndarray, " queries"]]


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    kinds = [find_router(spec) for spec in config.router]
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    gsm8k = decontaminated("gsm8k")
    mmlu = pool.test.select(models=PAIR)
    many = with_other_questions(pool.train, pool.test).select(models=PAIR)
    small = small_pair(pool.train)
    result = print_rules({"mmlu": decontaminated("mmlu"), "gsm8k": gsm8k}, config.seed)
    settings = [
        Setting(f"MMLU, {len(mmlu):,} questions; learnt from {len(many):,} others", "mmlu", mmlu, {}),
        Setting(f"MMLU; learnt from {' / '.join(one.split('/')[-1] for one in small.models)}", "transfer", mmlu, {}),
        Setting(f"GSM8K, {len(gsm8k):,} questions; learnt from MMLU", "gsm8k_from_mmlu", gsm8k, {}),
        Setting("GSM8K; each half learnt from the other", "gsm8k", gsm8k, {}),
    ]
    encode_once(kinds, [*many.prompts, *mmlu.prompts, *gsm8k.prompts])
    for kind in tqdm(kinds, desc="routers", unit=" routers"):
        trained = kind.fit(many)
        found = (
            _score(trained, mmlu),
            _score(kind.fit(small).transferred(PAIR), mmlu),
            _score(trained, gsm8k),
            by_halves(kind, gsm8k, config.seed),
        )
        for setting, score in zip(settings, found, strict=True):
            setting.scores[kind.spec] = score
    for setting in settings:
        result |= print_setting(setting, config)
    _figure(config.output / "calls.png", settings)
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/: result.json, calls.png")
    return result


def decontaminated(name: str) -> RoutingTable:
    """RouteLLM's `mmlu` or `gsm8k` without the questions that its authors found in their training data."""
    return load_source(f"routellm-{name}", data_folder() / "routellm" / name, decontaminate=True).select(models=PAIR)


def small_pair(train: RoutingTable) -> RoutingTable:
    """The weakest and the strongest of the small models, by training outcomes."""
    quality = dict(zip(train.models, np.nanmean(train.quality, axis=0), strict=True))
    others = sorted((model for model in train.models if model not in PAIR), key=quality.__getitem__)
    return train.select(models=[others[0], others[-1]])


def by_halves(kind: RouterKind, table: RoutingTable, seed: int) -> Float[np.ndarray, " queries"]:
    """Every question scored by a router that learnt from the other half."""
    first = np.random.default_rng(seed).permutation(len(table)) % 2 == 0
    score = np.empty(len(table))
    for half in (first, ~first):
        score[half] = _score(kind.fit(table.select(~half)), table.select(half))
    return score


def print_rules(tables: Mapping[str, RoutingTable], seed: int) -> dict[str, float | str]:
    """What RouteLLM's own rules give on whole files, to compare with its paper and its code."""
    result: dict[str, float | str] = {}
    print(f"\n{'after decontamination':<24} {'Mixtral':>8} {'GPT-4':>6}  APGR of prompt length  APGR of chance")
    for key, table in tables.items():
        weak, strong = table.quality.T
        characters = np.array([len(prompt) for prompt in table.prompts], float)
        length = apgr(weak, strong, characters)
        chance = apgr(weak, strong, np.random.default_rng(seed).uniform(size=len(table)))
        caption = f"{key.upper()}, {len(table):,} questions"
        print(f"{caption:<24} {100 * weak.mean():>8.2f} {100 * strong.mean():>6.2f}  {length:>21.4f}  {chance:>14.3f}")
        result |= {
            f"{key}_mixtral": float(weak.mean()),
            f"{key}_gpt4": float(strong.mean()),
            f"{key}_apgr_prompt_length": length,
            f"{key}_apgr_random": chance,
        }
    return result


def print_setting(setting: Setting, config: Config) -> dict[str, float | str]:
    """APGR and CPT of every router with intervals, and the first router's APGR over each other one's."""
    weak, strong = setting.test.quality.T
    weights = bootstrap_weights(len(weak), resamples=config.resamples, seed=config.seed)
    first = next(iter(setting.scores))
    print(f"\n{setting.name}")
    print(f"{'':<58} {'APGR':<20} {'calls for 50%':<20} {'calls for 80%':<20} {first} over it")
    result: dict[str, float | str] = {}
    base = apgr_measure(weak, strong, setting.scores[first])
    base_resampled = base(weights)
    for name, score in setting.scores.items():
        measure = apgr_measure(weak, strong, score)
        resampled = measure(weights)
        area = paired_interval(lambda w, m=measure, r=resampled: m(None) if w is None else r, weights)
        over = paired_interval(
            lambda w, m=measure, r=resampled: base(None) - m(None) if w is None else base_resampled - r, weights
        )
        calls = [paired_interval(cpt_measure(weak, strong, score, share), weights) for share in (0.5, 0.8)]
        compared = "" if name == first else _told(over) + (", tie" if over.tie else "")
        print(f"{name:<58} {_told(area):<20} {_told(calls[0]):<20} {_told(calls[1]):<20} {compared}")
        key = f"{setting.key} {name}"
        result |= named(f"{key} apgr", area) | named(f"{key} cpt_50", calls[0]) | named(f"{key} cpt_80", calls[1])
        result |= {} if name == first else named(f"{key} apgr_below_first", over)
    return result


def _score(trained: Estimator, table: RoutingTable) -> Float[np.ndarray, " queries"]:
    weak, strong = trained.models
    return strong_score(trained.estimate(table.queries).quality, trained.models, weak=weak, strong=strong)


def _told(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _short(name: str) -> str:
    return name.split(":steps")[0]


def _figure(path: Path, settings: Sequence[Setting]) -> None:
    from matplotlib import pyplot

    figure, grid = pyplot.subplots(2, 2, figsize=(11, 9), layout="constrained")
    for axes, setting in zip(grid.flat, settings, strict=True):
        weak, strong = setting.test.quality.T
        axes.plot([0, 100], 100 * np.array([weak.mean(), strong.mean()]), color="#888888", linewidth=1.5, label="chance")
        best = sorted(setting.scores, key=lambda name: -apgr(weak, strong, setting.scores[name]))
        for place, name in enumerate(best[:SHOWN]):
            curve = call_curve(weak, strong, setting.scores[name], thresholds=None)
            # One colour per router in all panels.
            number = list(setting.scores).index(name)
            colour, style = COLOURS[number % len(COLOURS)], STYLES[number // len(COLOURS) % len(STYLES)]
            axes.plot(100 * curve.share, 100 * curve.quality, style, color=colour, label=_short(name), zorder=9 - place)
        axes.set(title=setting.name, xlabel="share of GPT-4 calls, percent", ylabel="right answers, percent")
        axes.title.set_fontsize(9)
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(fontsize=8, loc="lower right")
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
