"""One update: the gradient is torch's, parts of a batch add up to the whole, and what is missing counts for nothing."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxroute.encoders import load_encoder
from jaxroute.encoders.networks.configuration import read_config
from jaxroute.encoders.networks.lora import LoraConfig, new_adapters
from jaxroute.encoders.weights.peft import save_adapters
from jaxroute.predictor.heads import Head
from jaxroute.predictor.tuning import MeshConfig, TuneConfig
from jaxroute.predictor.tuning.batches import Examples, MicroBatch, batch_rows, micro_batches, updates_per_epoch
from jaxroute.predictor.tuning.mesh import devices
from jaxroute.predictor.tuning.steps import Network, Tree, accumulate, no_sums, optimizer, ridge, update

MODELS, LEVELS = 3, 2

pytestmark = pytest.mark.slow


def network(folder: Path, **changes) -> tuple[Network, Tree, Tree]:
    """A tiny decoder read at layer 2, with adapters and a head that are not zero."""
    tune = TuneConfig(**({"mode": "lora", "lora": LoraConfig(rank=4, alpha=8.0, dropout=0.0)} | changes))
    decoder = load_encoder(str(folder)).network()
    graph, weights = nnx.split(decoder)
    head_graph, parameters, rest = nnx.split(Head(decoder.config.hidden_size, MODELS, LEVELS), nnx.Param, ...)
    generator = np.random.default_rng(0)

    def random(leaf):
        return jnp.asarray(generator.normal(0, 0.2, leaf.shape), jnp.float32)

    encoder = nnx.to_pure_dict(weights)
    if tune.mode == "lora":
        encoder = jax.tree.map(random, new_adapters(tune.lora, decoder.config, jax.random.key(0)))
    trainable = {"encoder": encoder, "head": jax.tree.map(random, nnx.to_pure_dict(parameters))}
    frozen = {
        "encoder": nnx.to_pure_dict(weights) if tune.mode == "lora" else {},
        "head": nnx.to_pure_dict(rest),
        "penalty": jnp.float32(0.1),
        "penalties": jnp.array([np.inf, 0.5, np.inf], jnp.float32),
    }
    return Network(graph, head_graph, ((2, "mean"),), tune, 10, devices(MeshConfig())), trainable, frozen


def examples(queries: int = 12, *, longest: int = 16, seed: int = 0) -> Examples:
    generator = np.random.default_rng(seed)
    token_ids = [generator.integers(0, 600, generator.integers(3, longest + 1)).astype(np.int32) for _ in range(queries)]
    chance = generator.random((queries, MODELS)).astype(np.float32)
    observed = (generator.random((queries, MODELS)) < 0.7).astype(np.float32)
    return Examples(token_ids, np.stack([1 - chance, chance], axis=-1), observed)


def summed(given: tuple[Network, Tree, Tree], data: Examples, *, tokens: int = 1024) -> Tree:
    net, trainable, frozen = given
    sums = no_sums(net, trainable)
    for part, (_, batch) in enumerate(micro_batches(data, np.arange(len(data.token_ids)), tokens=tokens, devices=1)):
        sums = accumulate(net, trainable, frozen, sums, batch, np.array([0, 0, part], np.uint32))
    return sums


def assert_close(found: Tree, expected: Tree, tolerance: float = 1e-5) -> None:
    for (path, leaf), wanted in zip(jax.tree_util.tree_leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        error = np.linalg.norm(np.asarray(leaf) - np.asarray(wanted))
        assert error <= tolerance * (1e-3 + np.linalg.norm(np.asarray(wanted))), jax.tree_util.keystr(path)


def test_the_gradient_of_adapters_and_head_is_torchs(tiny_encoder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="torch, the reference, is not installed")
    peft = pytest.importorskip("peft", reason="PEFT, the reference, is not installed")
    from transformers import AutoModelForCausalLM

    net, trainable, frozen = network(tiny_encoder)
    data = examples()
    sums = summed((net, trainable, frozen), data)
    save_adapters(tmp_path / "adapter", trainable["encoder"], net.tune.lora, base="base", network=read_config(tiny_encoder))
    base = AutoModelForCausalLM.from_pretrained(tiny_encoder, dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, str(tmp_path / "adapter"), is_trainable=True)
    head = {name: torch.tensor(np.asarray(leaf), requires_grad=True) for name, leaf in trainable["head"].items()}
    loss = torch.zeros(())
    for ids, target, observed in zip(*data):
        states = model(torch.tensor(ids[None].astype(np.int64)), output_hidden_states=True).hidden_states
        hidden = states[2][0].mean(dim=0)
        logits = (hidden - head["model_embedding"]) @ head["weight"] + head["bias"]
        logits = logits + torch.einsum("d,mdk->mk", hidden, head["correction"]) + head["correction_bias"]
        cells = -(torch.tensor(target) * torch.log_softmax(logits, dim=-1)).sum(dim=-1)
        loss = loss + (cells * torch.tensor(observed)).sum()
    loss.backward()
    assert abs(float(loss) - float(sums["loss"])) < 1e-4 * float(loss)
    assert_close(sums["gradient"]["head"], {name: leaf.grad.numpy() for name, leaf in head.items()}, 1e-4)
    parameters = dict(model.named_parameters())
    for name, module in (("query", "q_proj"), ("value", "v_proj")):
        for part, stored in (("down", "lora_A"), ("up", "lora_B")):
            key = f"base_model.model.model.layers.1.self_attn.{module}.{stored}.default.weight"
            expected = parameters[key].grad.numpy().T
            assert_close(sums["gradient"]["encoder"][name][part][1], expected, 1e-4)


def test_parts_of_a_batch_add_up_to_the_whole(tiny_encoder: Path) -> None:
    given, data = network(tiny_encoder), examples(longest=24)
    assert len({len(batch.tokens[0]) for _, batch in micro_batches(data, np.arange(12), tokens=48, devices=1)}) > 1
    assert_close(summed(given, data, tokens=48), summed(given, data))


def test_missing_outcomes_and_fillers_count_for_nothing(tiny_encoder: Path) -> None:
    given, data = network(tiny_encoder), examples()
    spoiled = data._replace(target=np.where(data.observed[..., None] > 0, data.target, 0.9).astype(np.float32))
    assert_close(summed(given, spoiled), summed(given, data))
    nothing = data._replace(observed=np.zeros_like(data.observed))
    sums = summed(given, nothing)
    assert float(sums["cells"]) == 0 and all(not np.asarray(leaf).any() for leaf in jax.tree.leaves(sums["gradient"]))


def test_recomputing_layers_changes_no_gradient(tiny_encoder: Path) -> None:
    data = examples()
    plain = summed(network(tiny_encoder), data)
    assert_close(summed(network(tiny_encoder, remat=True), data), plain)


def test_half_precision_computes_about_the_same(tiny_encoder: Path) -> None:
    data = examples()
    plain = summed(network(tiny_encoder, mode="full"), data)
    half = summed(network(tiny_encoder, mode="full", dtype="bfloat16"), data)
    assert abs(float(half["loss"]) / float(plain["loss"]) - 1) < 0.05
    assert {leaf.dtype for leaf in jax.tree.leaves(half["gradient"])} == {jnp.dtype("float32")}


def test_dropout_follows_its_draw_and_leaves_the_mean(tiny_encoder: Path) -> None:
    net, trainable, frozen = network(tiny_encoder, lora=LoraConfig(rank=4, alpha=0.4, dropout=0.3))
    (_, batch), *_ = micro_batches(examples(), np.arange(12), tokens=1024, devices=1)

    def loss(draw: int, given=net) -> float:
        numbers = np.array([0, draw, 0], np.uint32)
        return float(accumulate(given, trainable, frozen, no_sums(given, trainable), batch, numbers)["loss"])

    assert loss(1) == loss(1) != loss(2)
    without = network(tiny_encoder, lora=LoraConfig(rank=4, alpha=0.4, dropout=0.0))[0]
    drawn = [loss(draw) for draw in range(20)]
    assert abs(np.mean(drawn) - loss(0, without)) < 4 * np.std(drawn) / np.sqrt(20) + 0.02 * loss(0, without)


def test_smoothed_targets_are_mixed_with_even_ones(tiny_encoder: Path) -> None:
    data = examples()
    smoothed = summed(network(tiny_encoder, label_smoothing=0.2), data)
    mixed = data._replace(target=(0.8 * data.target + 0.1).astype(np.float32))
    assert_close(smoothed, summed(network(tiny_encoder), mixed))


def test_a_model_without_a_correction_keeps_none(tiny_encoder: Path) -> None:
    net, trainable, frozen = network(tiny_encoder, encoder_learning_rate=0.1, head_learning_rate=0.1, warmup=0.0)
    trainable["head"]["correction"] = trainable["head"]["correction"].at[0].set(0.0)
    before = jax.tree.map(np.asarray, trainable)
    sums = summed((net, trainable, frozen), examples())
    after, _, seen = update(net, trainable, frozen, optimizer(net).init(trainable), sums)
    np.testing.assert_array_equal(after["head"]["correction"][0], before["head"]["correction"][0])
    assert np.abs(after["head"]["correction"][1] - before["head"]["correction"][1]).min() > 0
    assert float(seen["gradient_norm"]) > 0


def test_the_penalty_is_that_of_the_fit() -> None:
    head = {"weight": jnp.full((2, 2), 2.0), "correction": jnp.ones((3, 2, 2))}
    frozen = {"penalty": 0.5, "penalties": jnp.array([np.inf, 0.6, 0.3])}
    assert float(ridge(frozen, head)) == pytest.approx(0.25 * 16 + 0.5 * (0.6 * 4 + 0.3 * 4) / 3)


def test_every_epoch_visits_every_query_once_in_another_order() -> None:
    count = updates_per_epoch(23, 5)
    epochs = [np.concatenate([batch_rows(23, 5, epoch * count + step, seed=1) for step in range(count)]) for epoch in range(2)]
    for order in epochs:
        assert sorted(order) == list(range(23))
    assert not np.array_equal(*epochs)


def test_micro_batches_hold_every_query_and_fit_the_devices() -> None:
    data = examples(11)
    seen: list[int] = []
    for rows, batch in micro_batches(data, np.arange(11)[::-1], tokens=40, devices=4):
        assert isinstance(batch, MicroBatch) and len(batch.tokens) == 4
        for place, row in enumerate(rows):
            np.testing.assert_array_equal(batch.tokens[place, : batch.lengths[place]], data.token_ids[row])
            np.testing.assert_array_equal(batch.observed[place], data.observed[row])
        assert not batch.observed[len(rows) :].any()
        seen += rows.tolist()
    assert sorted(seen) == list(range(11))
