"""jaxroute's own predictor: a frozen encoder's states and a head over all models (Routoo, arXiv:2401.13979, section 3.2).

`predictor:head=difference:layers=30:pooling=last:kind=argmax` is Routoo as published, and with a table of two models RouteLLM's
causal-LM classifier (arXiv:2406.18665, section 4.2): a decoder reads the prompt, its last token's state says who wins. Training
the encoder as well needs gradients and a checkpoint: see `jaxroute train`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from jaxroute.data.prices import PriceList
from jaxroute.data.table import RoutingTable
from jaxroute.encoders.features import FeatureConfig
from jaxroute.predictor.config import TrainConfig
from jaxroute.predictor.costs import CostConfig
from jaxroute.predictor.predictor import Predictor
from jaxroute.predictor.training import train_estimator

DEFAULT = TrainConfig()


@dataclass(frozen=True)
class Config:
    """The encoder, what is read of it, the head, and how its strengths are chosen: `TrainConfig` without gradients."""

    encoder: str = DEFAULT.encoder
    """`smollm2`, `minilm`, the path of a .gguf file, or a Hugging Face folder."""
    layers: tuple[int, ...] | None = DEFAULT.features.layers
    """After which layers to read, from 1; None = what suits the encoder."""
    pooling: str = DEFAULT.features.pooling
    """`mean` over the tokens, or `last` token."""
    max_tokens: int | None = DEFAULT.features.max_tokens
    """Cut longer prompts; None = the encoder's context length."""
    truncation_side: str = DEFAULT.features.truncation_side
    """Which end of a too long prompt is cut."""
    head: str = DEFAULT.head
    """`difference` as published, or `interaction`: with a correction per model where it helps."""
    levels: int = DEFAULT.levels
    """Quality levels K; 2 = right or wrong."""
    kind: str = "expected"
    """`expected` quality, or `argmax`: the likeliest level, as published."""
    folds: int = DEFAULT.folds
    """Parts for choosing the penalties."""
    seed: int = DEFAULT.seed
    """Decides the folds."""
    penalties: tuple[float, ...] = DEFAULT.penalties
    """Ridge penalties to try, from strong to weak."""
    corrections: tuple[float, ...] = DEFAULT.corrections
    """How far a model's correction may move a logit, to try."""
    clear: float = DEFAULT.clear
    """How clearly a model's correction must lower its held-out log-loss, in standard errors."""
    domains: bool = DEFAULT.domains
    """Whether the domains of the table, where it has some, have effects of their own."""
    predict_costs: bool = DEFAULT.costs.predict
    """Whether lengths, or dollars, of answers are learnt by prompt."""


def estimator(train: RoutingTable, config: Config, prices: PriceList | None) -> Predictor:
    features = FeatureConfig(config.layers, config.pooling, config.max_tokens, config.truncation_side)
    same = ("encoder", "head", "levels", "folds", "seed", "penalties", "corrections", "clear", "domains")
    wanted = TrainConfig(
        features=features, costs=CostConfig(predict=config.predict_costs), **{name: getattr(config, name) for name in same}
    )
    predictor, _ = train_estimator(train, wanted, prices=prices)
    return replace(predictor, kind=config.kind)
