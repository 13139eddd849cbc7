"""Does a router know prompts that are unlike its training, what does the safe choice cost, and does it notice a change?

    JAXROUTE_DATA=... uv run python -m experiments.unknown_prompts

About 6 minutes of one core once the prompts are encoded. Seen at p < 0.01: flagged are 1.0 percent of MMLU's test questions,
and all one-word prompts, code, instructions, other languages and MBPP prompts. The safe choice costs 0.02 points on MMLU and
gains 1.9 where a router of ARC is asked MBPP. Of 1,000 streams of 1,000 rated answers without a change, at alpha 0.05, 0.3
percent raise a false alarm (true outcomes of the test part: 0.3 percent). A model that gets 5 points worse after 10,000 of
its rated answers is noticed after 3,033 more at a tolerance of 1 point (2,027 at 0, 5,647 at 2); a tenth of prompts of a new
kind after 103 prompts (medians).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.real_data import load_mmlu_pool, routerbench_parts
from jaxroute import JaxrouteError, TrainConfig
from jaxroute.data.estimates import Estimates
from jaxroute.data.table import RoutingTable
from jaxroute.guarantees.drift import ALPHA, DriftWatch
from jaxroute.guarantees.safe_choice import UNKNOWN_BELOW, unknown, with_safe_choice
from jaxroute.predictor.familiarity import Familiarity
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.training import train_estimator
from jaxroute.storage.files import write_json
from solvers import Problem, lagrangian

ODD = {
    "words": [
        "hi",
        "hello",
        "test",
        "Why?",
        "ok",
        "banana",
        "Paris",
        "dog",
        "yes",
        "no",
        "asdf",
        "42",
        "thanks",
        "help",
        "Python",
        "stop",
        "music",
        "lorem",
        "?",
        "water",
    ],
    "code": [
        "def f(x):\n    return x + 1",
        "SELECT name FROM users WHERE age > 30;",
        "for (int i = 0; i < n; i++) { sum += a[i]; }",
        "import numpy as np\nprint(np.zeros(3))",
        'fn main() { println!("hi"); }',
        "class A: pass",
        "<html><body>Hello</body></html>",
        "git commit -m 'fix tests' && git push",
        "const total = items.reduce((a, b) => a + b.price, 0);",
        "x <- c(1, 2, 3)\nmean(x)",
    ],
    "instructions": [
        "Write a poem about the sea.",
        "Summarize the following article in three bullet points.",
        "Translate to French: I love you.",
        "Give me ten names for a coffee shop.",
        "Make this e-mail more polite: send me the file now",
    ],
    "languages": [
        "Schreibe mir bitte einen Brief an meine Bank.",
        "¿Cuál es la capital de Francia?",
        "请写一首关于春天的诗。",
        "Напиши письмо моему другу.",
        "日本の首都はどこですか",
        "Quelle heure est-il à Tokyo ?",
    ],
}


@dataclass(frozen=True)
class Config:
    """Train on the MMLU pool's training part; ask its test part and other prompts."""

    output: Path = Path("runs/unknown_prompts")
    """Folder for result.json."""
    below: float = UNKNOWN_BELOW
    """The p-value under which a prompt is unknown."""
    task_encoder: str = "minilm"
    """Reads ARC's and MBPP's prompts, which are long."""
    streams: int = 1_000
    """Without a change."""
    stream: int = 1_000
    """Prompts of each."""
    changed: int = 100
    """Streams with a change in their middle."""
    changed_stream: int = 20_000
    """Rated answers of each."""
    points: float = 5.0
    """By which a model gets worse."""
    seed: int = 0
    """Of the streams."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    pool = load_mmlu_pool()
    predictor, _ = train_estimator(pool.train, TrainConfig())
    assert predictor.familiarity is not None
    tested = predictor.estimate(pool.test.queries)
    result: dict[str, float | str] = {"flagged_mmlu_test": _share(tested, config)}
    for name, prompts in ODD.items():
        result[f"flagged_{name}"] = _share(predictor.estimate(prompts), config)
    _, mbpp = routerbench_parts("mbpp")
    strange = predictor.estimate(mbpp.prompts)
    result["flagged_mbpp"] = _share(strange, config)
    result |= _fallback("mmlu", pool.test, tested, config) | _arc_to_mbpp(config)
    chosen = _chosen(pool.test, tested)
    rows = np.arange(len(chosen))
    result["chosen_quality_less_estimate"] = 100 * float(
        (pool.test.quality[rows, chosen] - tested.quality[rows, chosen]).mean()
    )
    result |= _false_alarms(predictor, predictor.familiarity, pool.test, tested, chosen, config)
    result |= _delays(tested, chosen, config) | _strange_prompts(predictor.familiarity, tested, strange, config)
    for name, value in result.items():
        print(f"{name:<44} {value:.4g}")
    write_json(config.output / "result.json", result)
    print(f"\nwritten to {config.output}/result.json")
    return result


def _share(estimates: Estimates, config: Config) -> float:
    return float(unknown(estimates, config.below).mean())


def _fallback(name: str, test: RoutingTable, estimates: Estimates, config: Config) -> dict[str, float | str]:
    """Points of quality that the safe choice gains or costs, mean over nine budgets, at equal expected cost."""
    safe, _ = with_safe_choice(estimates, config.below)
    differences = []
    lowest, highest = estimates.cost_usd.min(axis=1).sum(), estimates.cost_usd.max(axis=1).sum()
    for share in np.linspace(0.1, 0.9, 9):
        budget = lowest + share * (highest - lowest)
        two = [_quality(test, one, float(budget)) for one in (estimates, safe)]
        differences.append(two[1] - two[0])
    return {f"safe_choice_points_{name}": 100 * float(np.mean(differences))}


def _quality(test: RoutingTable, estimates: Estimates, budget: float) -> float:
    choice = lagrangian(Problem(estimates.quality, estimates.cost_usd, budget)).choice
    return float(test.quality[np.arange(len(choice)), choice].mean())


def _arc_to_mbpp(config: Config) -> dict[str, float | str]:
    """A router of one task asked another."""
    train, _ = routerbench_parts("arc_challenge")
    _, test = routerbench_parts("mbpp")
    predictor, _ = train_estimator(train, TrainConfig(encoder=config.task_encoder))
    estimates = predictor.estimate(test.queries)
    return {"flagged_arc_to_mbpp": _share(estimates, config)} | _fallback("arc_to_mbpp", test, estimates, config)


def _chosen(test: RoutingTable, estimates: Estimates) -> np.ndarray:
    """At half of the most expensive model's cost."""
    return lagrangian(Problem(estimates.quality, estimates.cost_usd, estimates.cost_usd.max(axis=1).sum() / 2)).choice


def _false_alarms(
    predictor: Predictor, known: Familiarity, test: RoutingTable, estimates: Estimates, chosen: np.ndarray, config: Config
) -> dict[str, float | str]:
    """Shares of streams with any alarm, where outcomes are drawn from the estimates, and where they are the true ones.

    Calibration and stream are drawn anew from all prompts that were not in the reference, so that the prompts' null holds.
    """
    generator = np.random.default_rng(config.seed)
    assert estimates.features is not None
    distances = np.concatenate([known.distances, known.distance(estimates.features)])
    alarms = {"drawn": 0, "true": 0, "prompts": 0}
    for _ in range(config.streams):
        order = generator.permutation(len(distances))
        calibration = np.sort(distances[order[: len(known.distances)]])
        drawn = DriftWatch(predictor.models, len(calibration))
        true = DriftWatch(predictor.models)
        stream = distances[order[len(calibration) : len(calibration) + config.stream]]
        p_values = (1 + len(calibration) - np.searchsorted(calibration, stream)) / (len(calibration) + 1)
        rows = generator.permutation(len(chosen))[: config.stream]
        for row, p_value in zip(rows, p_values, strict=True):
            column, model = chosen[row], predictor.models[chosen[row]]
            estimate = float(estimates.quality[row, column])
            drawn.outcome(model, float(generator.uniform() < estimate), estimate)
            drawn.prompt(float(p_value))
            true.outcome(model, float(test.quality[row, column]), estimate)
        alarms["drawn"] += bool(drawn.alarms)
        alarms["prompts"] += "prompts" in drawn.alarms
        alarms["true"] += bool(true.alarms)
    names = {"drawn": "false_alarms", "prompts": "false_alarms_prompts", "true": "alarms_mmlu_test"}
    return {"alpha": ALPHA, **{names[name]: count / config.streams for name, count in alarms.items()}}


def _delays(estimates: Estimates, chosen: np.ndarray, config: Config) -> dict[str, float | str]:
    """Rated answers of a model from its change to the alarm; the model is the one that is chosen most."""
    column = int(np.bincount(chosen).argmax())
    model, quality = estimates.models[column], estimates.quality[chosen == column, column]
    result: dict[str, float | str] = {}
    for tolerance in (0.0, 0.01, 0.02):
        generator = np.random.default_rng(config.seed)
        delays, early = [], 0
        for _ in range(config.changed):
            watch = DriftWatch(estimates.models, 1_000, tolerance=tolerance)
            middle, noticed = config.changed_stream // 2, np.inf
            for step in range(config.changed_stream):
                estimate = float(generator.choice(quality))
                truth = estimate - config.points / 100 * (step >= middle)
                if watch.outcome(model, float(generator.uniform() < truth), estimate):
                    noticed = step + 1 - middle
                    break
            early += noticed <= 0
            delays.append(noticed)
        name = f"tolerance_{100 * tolerance:g}"
        result |= {
            f"median_delay_{name}": float(np.median(delays)),
            f"noticed_{name}": float(np.isfinite(delays).mean()) - early / config.changed,
        }
    return result


def _strange_prompts(known: Familiarity, tested: Estimates, strange: Estimates, config: Config) -> dict[str, float | str]:
    """Prompts from the moment on when a tenth of them are MBPP's, until the alarm."""
    assert tested.p_value is not None and strange.p_value is not None
    generator, delays = np.random.default_rng(config.seed), []
    for _ in range(config.changed):
        watch = DriftWatch(tested.models, len(known.distances))
        usual: Float[np.ndarray, " prompts"] = generator.permutation(tested.p_value)[:3_000]
        noticed = np.inf
        for step, p_value in enumerate(usual):
            if step >= 1_500 and generator.uniform() < 0.1:
                p_value = generator.choice(strange.p_value)
            if watch.prompt(float(p_value)):
                noticed = step + 1 - 1_500
                break
        delays.append(noticed)
    return {"median_delay_prompts": float(np.median(delays))}


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
