"""config.json of a BERT as a BertConfig; what is not computed here is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jaxroute.encoders.networks.bert import ACTIVATIONS, BertConfig
from jaxroute.encoders.networks.config_fields import misshapen, missing, refusal, short, unsupported

NEEDED = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "max_position_embeddings",
)
COUNTS = (*NEEDED, "type_vocab_size")
NUMBERS = ("layer_norm_eps",)
# What a file means where it says nothing, as transformers reads it.
DEFAULTS = {"type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_act": "gelu"}
# Fields that would change the arithmetic -> the only value that does not.
FIXED = {
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
}


def bert_config(fields: dict[str, Any], path: Path) -> BertConfig:
    """Raises `EncoderError`, naming `path`, with everything that this BERT would compute differently."""
    problems = missing(fields, NEEDED) + unsupported(fields, FIXED)
    problems += misshapen(fields, counts=COUNTS, numbers=NUMBERS, truths=())
    stated = DEFAULTS | {name: value for name, value in fields.items() if value is not None}
    activation = stated["hidden_act"]
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        problems.append(f"hidden_act={short(activation)} is not supported (only {', '.join(ACTIVATIONS)})")
    if problems:
        raise refusal(path, problems)
    sizes = {name: int(stated[name]) for name in COUNTS}
    try:
        return BertConfig(
            vocabulary_size=sizes["vocab_size"],
            hidden_size=sizes["hidden_size"],
            intermediate_size=sizes["intermediate_size"],
            layers=sizes["num_hidden_layers"],
            heads=sizes["num_attention_heads"],
            context_length=sizes["max_position_embeddings"],
            token_types=sizes["type_vocab_size"],
            norm_epsilon=float(stated["layer_norm_eps"]),
            activation=activation,
        )
    except ValueError as error:
        raise refusal(path, [str(error)]) from error
