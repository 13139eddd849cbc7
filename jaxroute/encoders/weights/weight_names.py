"""What the weights of a decoder and of a BERT are called in Hugging Face's safetensors files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from jaxroute.encoders.networks.bert import BertConfig
from jaxroute.encoders.networks.build import EncoderConfig

Stored = tuple[str, bool]
"""Name in the file, and whether the file stores it as (outputs, inputs)."""


@dataclass(frozen=True)
class WeightNames:
    """Of one kind of network: name here -> name in the file."""

    prefix: str
    """Stands before every name, or before none: it depends on which of transformers' classes wrote the file."""
    whole: dict[str, str]
    """Weights that there are once."""
    layer: str
    """Before the names of a layer's weights, with its number in place of {}."""
    layers: dict[str, Stored]
    unused: re.Pattern[str]
    """Present in checkpoints, not needed for hidden states."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Endings that older files have -> as they are called now."""

    def places(self, shapes: dict[str, tuple[int, ...]]) -> dict[str, tuple[str, int | None, bool]]:
        """Name in the file -> name here, layer, and whether it is transposed, for the weights that `shapes` has."""
        found: dict[str, tuple[str, int | None, bool]] = {
            stored: (name, None, False) for name, stored in self.whole.items() if name in shapes
        }
        for name, (stored, transposed) in self.layers.items():
            for layer in range(shapes.get(f"layers/{name}", (0,))[0]):
                found[self.layer.format(layer) + stored] = f"layers/{name}", layer, transposed
        return found

    def plain(self, key: str) -> str:
        """A key of a file without its prefix, as it is called now."""
        key = key.removeprefix(self.prefix)
        for old, new in self.renamed.items():
            key = key.removesuffix(old) + new if key.endswith(old) else key
        return key

    def layer_number(self, stored: str) -> int | None:
        """Of a layer's weight, which layer's."""
        found = re.match(re.escape(self.layer).replace(r"\{\}", r"(\d+)"), stored)
        return int(found[1]) if found else None


def weight_names(config: EncoderConfig) -> WeightNames:
    return BERT if isinstance(config, BertConfig) else DECODER


DECODER = WeightNames(
    prefix="model.",
    whole={"embedding": "embed_tokens.weight", "norm": "norm.weight"},
    layer="layers.{}.",
    layers={
        "attention_norm": ("input_layernorm.weight", False),
        "query": ("self_attn.q_proj.weight", True),
        "query_bias": ("self_attn.q_proj.bias", False),
        "query_norm": ("self_attn.q_norm.weight", False),
        "key": ("self_attn.k_proj.weight", True),
        "key_bias": ("self_attn.k_proj.bias", False),
        "key_norm": ("self_attn.k_norm.weight", False),
        "value": ("self_attn.v_proj.weight", True),
        "value_bias": ("self_attn.v_proj.bias", False),
        "output": ("self_attn.o_proj.weight", True),
        "output_bias": ("self_attn.o_proj.bias", False),
        "mlp_norm": ("post_attention_layernorm.weight", False),
        "gate": ("mlp.gate_proj.weight", True),
        "up": ("mlp.up_proj.weight", True),
        "down": ("mlp.down_proj.weight", True),
    },
    unused=re.compile(r"(.*\.)?(lm_head\.weight|rotary_emb\.inv_freq)$"),
)

BERT = WeightNames(
    prefix="bert.",
    whole={
        "embedding": "embeddings.word_embeddings.weight",
        "position": "embeddings.position_embeddings.weight",
        "token_type": "embeddings.token_type_embeddings.weight",
        "embedding_norm": "embeddings.LayerNorm.weight",
        "embedding_norm_bias": "embeddings.LayerNorm.bias",
    },
    layer="encoder.layer.{}.",
    layers={
        "query": ("attention.self.query.weight", True),
        "query_bias": ("attention.self.query.bias", False),
        "key": ("attention.self.key.weight", True),
        "key_bias": ("attention.self.key.bias", False),
        "value": ("attention.self.value.weight", True),
        "value_bias": ("attention.self.value.bias", False),
        "output": ("attention.output.dense.weight", True),
        "output_bias": ("attention.output.dense.bias", False),
        "attention_norm": ("attention.output.LayerNorm.weight", False),
        "attention_norm_bias": ("attention.output.LayerNorm.bias", False),
        "up": ("intermediate.dense.weight", True),
        "up_bias": ("intermediate.dense.bias", False),
        "down": ("output.dense.weight", True),
        "down_bias": ("output.dense.bias", False),
        "mlp_norm": ("output.LayerNorm.weight", False),
        "mlp_norm_bias": ("output.LayerNorm.bias", False),
    },
    # The pooler and the heads of pretraining, classification and question answering; two buffers of old versions.
    unused=re.compile(r"(pooler|cls|classifier|qa_outputs)\.|embeddings\.(position_ids|token_type_ids)$"),
    # Files that were converted from TensorFlow, bert-base-uncased among them.
    renamed={"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"},
)
