"""How far do estimates move when prompts are read in bfloat16?

    JAXROUTE_DATA=... uv run python -m experiments.narrow_estimates [--encoder minilm]

A predictor is trained on the MMLU pool's training part, on features in float32, and estimates test questions twice: from
features in float32 and in bfloat16. Compared are the estimates, and the models chosen at prices from 0 up.
Seen, on an AMD EPYC, in under 5 minutes with float32 features cached: 1,996 questions to train on, 400 estimated, nine
models. SmolLM2's estimates move by 0.0004 on average and 0.0026 at most, and 99.9 percent of the choices are the same; MiniLM's
by 0.0002 and 0.0017, and 99.98 percent.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tyro
from jaxtyping import Float

from experiments.real_data import load_mmlu_pool
from jaxroute.encoders.features import prompt_features
from jaxroute.encoders.scoring_config import ScoringConfig
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.training import train
from jaxroute.storage.files import write_json

Result = dict[str, float | str]


@dataclass(frozen=True)
class Config:
    """Estimates in bfloat16 against those in float32."""

    output: Path = Path("runs/narrow_estimates")
    """Folder for result.json."""
    encoder: str = "smollm2"
    """`smollm2`, `minilm`, a .gguf file, or a Hugging Face folder."""
    training: int = 2000
    """Training questions."""
    questions: int = 400
    """Test questions that are estimated."""
    prices: int = 30
    """At how many prices models are chosen."""
    seed: int = 0
    """Of the samples."""


def main(config: Config) -> Result:
    """Train, estimate twice, compare; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    pool, generator = load_mmlu_pool(), np.random.default_rng(config.seed)
    parts = [
        table.select(np.sort(generator.permutation(len(table))[:count]))
        for table, count in ((pool.train, config.training), (pool.test, config.questions))
    ]
    predictor, _ = train(parts[0], TrainConfig(encoder=config.encoder))
    wide, narrow = (
        predictor.reading(partial(prompt_features, scoring=ScoringConfig(dtype=dtype))).estimate(parts[1].queries)
        for dtype in ("float32", "bfloat16")
    )
    assert wide.features is not None and narrow.features is not None
    moved = np.abs(narrow.quality - wide.quality)
    features = np.linalg.norm(narrow.features - wide.features, axis=1) / np.linalg.norm(wide.features, axis=1)
    same = [
        np.mean(np.argmax(wide.quality - price, axis=1) == np.argmax(narrow.quality - price, axis=1))
        for price in _prices(parts[1].cost_usd.mean(axis=0), config.prices)
    ]
    result: Result = {
        "encoder": config.encoder,
        "training_questions": float(len(parts[0])),
        "questions": float(len(parts[1])),
        "models": float(len(parts[1].models)),
        "features_moved_percent_of_norm": 100 * float(features.mean()),
        "estimates_moved_mean": float(moved.mean()),
        "estimates_moved_most": float(moved.max()),
        "estimates_vary_between_questions": float(wide.quality.std(axis=0).mean()),
        "same_choice_percent": 100 * float(np.mean(same)),
        "same_choice_percent_at_worst_price": 100 * float(np.min(same)),
    }
    for name, value in result.items():
        print(f"{name:<40} {value if isinstance(value, str) else f'{value:.4g}'}")
    write_json(config.output / "result.json", result)
    return result


def _prices(cost_usd: Float[np.ndarray, " models"], count: int) -> list[Float[np.ndarray, " models"]]:
    """What every model's value is lowered by, from nothing to a whole unit between the cheapest and the most expensive."""
    spread = float(np.ptp(cost_usd)) or 1.0
    return [price * cost_usd for price in np.linspace(0.0, 1.0 / spread, count)]


if __name__ == "__main__":
    main(tyro.cli(Config))
