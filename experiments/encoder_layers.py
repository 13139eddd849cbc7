"""Which layer of the encoder, and which pooling, predicts best? Held-out log-loss on the training part alone.

    JAXROUTE_DATA=... uv run python -m experiments.encoder_layers

4 minutes on 2 cores for all 30 layers of 1,996 questions, once, then 2 and a half. Seen: the mean over the tokens beats the
last token at every layer; least are mean-pooled layers 19 to 22 (0.5814 to 0.5819), the paper's last token of layer 30 has
0.5885; several layers side by side are no better (15 + 20: 0.5817). All figures are in experiments/LOG.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from tqdm.auto import tqdm

from experiments.real_data import load_mmlu_pool
from jaxroute import JaxrouteError, TrainConfig
from jaxroute.encoders import Encoder, load_encoder
from jaxroute.encoders.features import FeatureConfig, prompt_features_of_all
from jaxroute.evaluation.plots import save_figure
from jaxroute.predictor.fitting import train_head
from jaxroute.storage.files import write_json


@dataclass(frozen=True)
class Config:
    """Train the difference head on every layer's states; the test part is never looked at."""

    output: Path = Path("runs/encoder_layers")
    """Folder for result.json and the figure."""
    train: TrainConfig = field(default_factory=lambda: TrainConfig(head="difference"))
    """Everything but the layer and the pooling."""
    combinations: tuple[str, ...] = ("10,20", "15,20", "16,18,20", "4,8,12,16,20")
    """Sets of layers to put side by side, mean-pooled."""


def main(config: Config) -> dict[str, float | str]:
    """Run it; returns what is also written to result.json."""
    print(f"results go to {config.output}/")
    train = load_mmlu_pool().train
    encoder = load_encoder(config.train.encoder)
    depth = encoder.config.layers
    configs = [
        FeatureConfig(layers=(layer,), pooling=name) for name in encoder.config.poolings for layer in range(1, depth + 1)
    ]
    features = dict(zip(configs, prompt_features_of_all(encoder, train.prompts, configs)))
    losses: dict[str, float] = {}
    for one in tqdm(configs, desc="training on each layer", unit=" layers"):
        _, report = train_head(features[one].values, train, config.train)
        losses[f"{one.pooling}_{one.stated[0]}"] = report.held_out_loss
    for layers in config.combinations:
        parts = [features[FeatureConfig(layers=(int(layer),))].values for layer in layers.split(",")]
        _, report = train_head(np.concatenate(parts, axis=1), train, config.train)
        losses[f"mean_{layers}"] = report.held_out_loss
    print(f"{'layer':<16} " + "  ".join(f"{name:>8}" for name in encoder.config.poolings))
    for layer in range(1, depth + 1):
        print(f"{layer:<16} " + "  ".join(f"{losses[f'{name}_{layer}']:>8.4f}" for name in encoder.config.poolings))
    for layers in config.combinations:
        print(f"{layers:<16} {losses[f'mean_{layers}']:>8.4f}")
    best = min(losses, key=losses.__getitem__)
    print(f"least held-out log-loss: {best}, {losses[best]:.4f}")
    result: dict[str, float | str] = {"best": best} | {f"log_loss_{name}": loss for name, loss in losses.items()}
    _figure(config.output / "layers.png", losses, encoder)
    write_json(config.output / "result.json", result)
    print(f"written to {config.output}/: result.json, layers.png")
    return result


def _figure(path: Path, losses: dict[str, float], encoder: Encoder) -> None:
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    depth = encoder.config.layers
    for name, style in zip(encoder.config.poolings, ("o-", "s--", "^:")):
        axes.plot(range(1, depth + 1), [losses[f"{name}_{layer}"] for layer in range(1, depth + 1)], style, label=name)
    axes.set_xlabel("layer of the encoder (after which states are read)")
    axes.set_ylabel("held-out log-loss, nats")
    axes.set_title(f"Difference head on frozen {encoder.name}, MMLU training part")
    axes.grid(alpha=0.3)
    axes.legend(title="pooling")
    save_figure(figure, path)


if __name__ == "__main__":
    try:
        main(tyro.cli(Config))
    except JaxrouteError as error:
        sys.exit(f"error: {error}")
