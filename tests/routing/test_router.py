"""From a trained predictor through a checkpoint to a routed batch, and every way it can be refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from jaxroute import (
    Checkpoint,
    CheckpointError,
    JaxrouteError,
    PromptError,
    Router,
    TableError,
    TrainConfig,
    load_source,
    train,
)
from jaxroute.data.prices import Price
from jaxroute.data.sources.simulated import simulated_prices
from jaxroute.encoders.batching import _run
from jaxroute.encoders.features import FeatureConfig
from jaxroute.errors import OutputError
from jaxroute.predictor.checkpoint import load_checkpoint, save_checkpoint
from jaxroute.predictor.predictor import _estimates
from jaxroute.predictor.pricing import table_pricing
from solvers import InfeasibleBudget, InfeasibleProblem, ProblemError

PROMPTS = ["What is 2 plus 2?", "Write a Rust function that reverses a list of coins.", "Translate 'hello' into Finnish."] * 4


@pytest.fixture(scope="module")
def checkpoint_folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A predictor of the simulated pool on the tiny encoder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXROUTE_CACHE", str(tmp_path_factory.mktemp("cache")))
        table = load_source("simulated", queries=300)
        features = FeatureConfig(layers=(1,))
        config = TrainConfig(encoder=str(tiny_encoder), features=features, head="difference", penalties=(0.3, 0.1))
        predictor, report = train(table, config)
        folder = tmp_path_factory.mktemp("trained") / "checkpoint"
        about = {"held_out_log_loss": report.held_out_loss}
        save_checkpoint(folder, Checkpoint(predictor, table_pricing(table, simulated_prices()), about))
    return folder


@pytest.fixture
def copied(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to be spoiled."""
    return Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))


def change(folder: Path, **fields: object) -> None:
    config = json.loads((folder / "estimator.json").read_text())
    (folder / "estimator.json").write_text(json.dumps(config | fields))


def test_a_restored_checkpoint_holds_what_was_saved(checkpoint_folder: Path, tmp_path: Path, fresh_cache: Path) -> None:
    first = load_checkpoint(checkpoint_folder)
    save_checkpoint(tmp_path / "again", first)
    second = load_checkpoint(tmp_path / "again")
    states = [nnx.to_pure_dict(nnx.state(one.predictor.head)) for one in (first, second)]
    jax.tree.map(np.testing.assert_array_equal, *states)
    assert first.pricing == second.pricing
    assert first.predictor.features == second.predictor.features
    np.testing.assert_array_equal(first.predictor.estimate(PROMPTS).quality, second.predictor.estimate(PROMPTS).quality)


def test_a_checkpoint_is_replaced_whole(checkpoint_folder: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(checkpoint_folder)
    save_checkpoint(tmp_path / "place", checkpoint)
    (tmp_path / "place" / "adapter").mkdir()
    (tmp_path / "place" / "adapter" / "left-over").write_text("from before")
    save_checkpoint(tmp_path / "place", checkpoint)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["place"]
    assert sorted(path.name for path in (tmp_path / "place").iterdir()) == ["arrays.npz", "estimator.json"]


def test_a_folder_with_anything_else_in_it_is_not_replaced(checkpoint_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outcomes.csv").write_text("mine")
    with pytest.raises(OutputError, match="holds other files"):
        save_checkpoint(tmp_path, load_checkpoint(checkpoint_folder))
    assert [path.name for path in tmp_path.iterdir()] == ["outcomes.csv"]


def test_checkpoints_can_be_read_by_whom_the_umask_allows(checkpoint_folder: Path) -> None:
    before = os.umask(0o022)
    os.umask(before)
    assert checkpoint_folder.stat().st_mode & 0o777 == 0o777 & ~before


def test_a_batch_is_routed_within_its_budget_and_order_does_not_matter(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    estimates = router.estimate(PROMPTS)
    assert estimates.shape == (12, len(router.models))
    assert ((estimates > 0) & (estimates < 1)).all()
    for solver in ("greedy_ratio", "lagrangian", "exact"):
        assignment = router.route(PROMPTS, budget_usd=0.01, solver=solver)
        assert assignment.cost_usd <= 0.01 * (1 + 1e-12)
        assert assignment.value <= assignment.bound
        assert (assignment.choice >= 0).all()
    order = np.random.default_rng(0).permutation(len(PROMPTS))
    shuffled = router.route([PROMPTS[row] for row in order], budget_usd=0.01, solver="exact")
    assert shuffled.value == pytest.approx(router.route(PROMPTS, budget_usd=0.01, solver="exact").value)


def test_a_fixed_multiplier_routes_a_prompt_as_it_routes_it_in_a_batch(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    multiplier = router.route(PROMPTS, budget_usd=0.01).multiplier
    batch = router.route(PROMPTS, multiplier=multiplier)
    assert batch.status == "optimal" and batch.relative_gap < 1e-9
    for prompt, choice in zip(PROMPTS[:3], batch.choice[:3]):
        assert router.route([prompt], multiplier=multiplier).choice.tolist() == [choice]


def test_some_models_and_other_prices(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    chosen = ["sim-large", "sim-nano"]
    free = {model: Price(0.0, 0.0) for model in chosen}
    routed = router.route_in_full(PROMPTS, budget_usd=0.0, models=chosen, prices=free)
    assert routed.models == chosen
    assert routed.assignment.cost_usd == 0
    columns = [router.models.index(model) for model in chosen]
    expected = router.estimate(PROMPTS)[:, columns]
    np.testing.assert_array_equal(routed.assignment.choice, expected.argmax(axis=1))


def test_costs_are_tokens_times_prices(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    routed = router.route_in_full(PROMPTS[:1], budget_usd=1.0, output_tokens=100)
    tokens = len(router.estimator.encoder.tokenizer.encode(PROMPTS[0]).ids)
    price = simulated_prices()["sim-large"]
    expected = (tokens * price.input + 100 * price.output) / 1e6
    assert routed.cost_usd[0, router.models.index("sim-large")] == pytest.approx(expected, rel=1e-12)
    assert "100 tokens" in routed.assumption


def test_a_budget_below_the_cheapest_says_how_much_is_needed(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    with pytest.raises(InfeasibleBudget) as caught:
        router.route(PROMPTS, budget_usd=1e-6)
    assert not list(fresh_cache.rglob("*.sqlite"))  # nothing was encoded
    least = caught.value.least_budget_usd
    assert repr(least) in str(caught.value)
    assert router.route(PROMPTS, budget_usd=least).cost_usd <= least * (1 + 1e-12)


def test_a_long_prompt_is_paid_for_whole_though_the_encoder_reads_a_part(checkpoint_folder: Path, fresh_cache: Path) -> None:
    """The tiny encoder reads 64 tokens; the model that answers reads all of them."""
    router = Router.load(checkpoint_folder)
    long = "one two three four five " * 200
    routed = router.route_in_full([long], budget_usd=1.0, output_tokens=0)
    tokens = len(router.estimator.encoder.tokenizer.encode(long).ids)
    assert routed.cut == 1 and tokens > router.estimator.encoder.config.context_length
    price = simulated_prices()["sim-large"].input
    assert routed.cost_usd[0, router.models.index("sim-large")] == pytest.approx(tokens * price / 1e6, rel=1e-12)


def test_single_prompts_are_not_compiled_again(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    router.route(["What is 1 plus 1?"], multiplier=1.0)
    compiled = _estimates._cache_size(), _run._cache_size()
    router.route(["What is 3 plus 4?"], multiplier=1.0)
    assert (_estimates._cache_size(), _run._cache_size()) == compiled


def test_bad_requests_are_named(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    with pytest.raises(PromptError, match="prompts is empty"):
        router.route([], budget_usd=1.0)
    with pytest.raises(PromptError, match="at position 1"):
        router.route(["fine", ""], budget_usd=1.0)
    with pytest.raises(TableError, match="unknown sim-huge"):
        router.route(PROMPTS, budget_usd=1.0, models=["sim-huge"])
    with pytest.raises(TableError, match="give exactly one of them"):
        router.route(PROMPTS, budget_usd=1.0, multiplier=2.0)
    with pytest.raises(ProblemError, match="budget_usd=nan"):
        router.route(PROMPTS, budget_usd=float("nan"))
    with pytest.raises(ProblemError, match="solver='magic'"):
        router.route(PROMPTS, budget_usd=1.0, solver="magic")
    with pytest.raises(TableError, match=r"minimum_quality=1\.5 must be in"):
        router.route(PROMPTS, minimum_quality=1.5)
    with pytest.raises(TableError, match="capacity of unknown models: sim-huge=3"):
        router.route(PROMPTS, budget_usd=1.0, capacity={"sim-huge": 3})
    with pytest.raises(TableError, match="knows no capacity"):
        router.route(PROMPTS, multiplier=1.0, capacity={"sim-nano": 3})
    with pytest.raises(ProblemError, match="greedy_ratio knows no capacity"):
        router.route(PROMPTS, budget_usd=1.0, capacity={"sim-nano": 3}, solver="greedy_ratio")
    with pytest.raises(InfeasibleProblem, match="leaves 2 of 12 queries without a place"):
        router.route(PROMPTS, budget_usd=1.0, capacity={model: 1 for model in router.models})
    assert not list(fresh_cache.rglob("*.sqlite"))  # all that was refused before anything was encoded


def test_a_capacity_a_minimum_quality_and_prompts_left_out(checkpoint_folder: Path, fresh_cache: Path) -> None:
    router = Router.load(checkpoint_folder)
    free = router.route(PROMPTS, budget_usd=0.01, solver="exact")
    favourite = router.models[int(np.bincount(free.choice).argmax())]
    within = router.route(PROMPTS, budget_usd=0.01, solver="exact", capacity={favourite: 2})
    assert (within.choice == router.models.index(favourite)).sum() == 2
    assert within.value <= free.value + 1e-12
    cheapest = router.route(PROMPTS, minimum_quality=free.value / len(PROMPTS), solver="exact")
    assert cheapest.objective == "cost_usd"
    assert cheapest.cost_usd <= free.cost_usd + 1e-12
    assert cheapest.value >= free.value * (1 - 1e-11)
    with pytest.raises(InfeasibleProblem, match=r"minimum_quality=1\.0 is above .* give at most 0\.") as caught:
        router.route(PROMPTS, minimum_quality=1.0)
    most = float(str(caught.value).rsplit(" ", 1)[1])
    assert router.route(PROMPTS, minimum_quality=most).value == pytest.approx(most * len(PROMPTS), rel=1e-12)
    least = free.cost_usd / 100
    some = router.route(PROMPTS, budget_usd=least, allow_unanswered=True)
    assert some.cost_usd <= least and some.unanswered > 0


def test_a_long_prompt_is_cut_and_counted(checkpoint_folder: Path, fresh_cache: Path) -> None:
    routed = Router.load(checkpoint_folder).route_in_full(["short", "word " * 500], budget_usd=1.0)
    assert routed.cut == 1


def test_damaged_checkpoints_are_refused(copied: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        Router.load(tmp_path / "nowhere")
    config = json.loads((copied / "estimator.json").read_text())
    del config["levels"]
    (copied / "estimator.json").write_text(json.dumps(config | {"colour": "red"}))
    with pytest.raises(CheckpointError, match="levels is missing; colour is unknown"):
        Router.load(copied)
    (copied / "estimator.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Router.load(copied)


def test_a_checkpoint_of_another_model_list_is_refused(copied: Path) -> None:
    change(copied, models=["sim-nano", "sim-small"])
    with pytest.raises(CheckpointError, match="mean_cost_usd must be a list with a number for each of the 2 models"):
        Router.load(copied)


def test_a_head_that_does_not_fit_its_configuration_is_refused(copied: Path) -> None:
    change(copied, levels=5)
    with pytest.raises(CheckpointError, match="not as saved"):
        Router.load(copied)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"models": "abc"}, "is not a list"),
        ({"levels": "2"}, "is not a int"),
        ({"encoder": {"name": "x", "sha256": 5, "dtype": "float32"}}, "must hold the texts"),
        ({"pricing": {"mean_cost_usd": None}}, "mean_cost_usd must be a list"),
        ({"format": 99}, "its format is 99"),
    ],
)
def test_a_damaged_configuration_is_refused_by_field(copied: Path, fields: dict, message: str) -> None:
    change(copied, **fields)
    with pytest.raises(CheckpointError, match=message):
        Router.load(copied)


@pytest.mark.parametrize("content", [b"null", b"3", b"[]", b"{", b"\xff\xfe", b"[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(copied: Path, content: bytes) -> None:
    (copied / "estimator.json").write_bytes(content)
    with pytest.raises(CheckpointError, match="is not a checkpoint"):
        Router.load(copied)


def test_features_of_another_layer_are_refused(copied: Path) -> None:
    features = json.loads((copied / "estimator.json").read_text())["features"]
    change(copied, features=features | {"pooling": "last"})
    with pytest.raises(CheckpointError, match="not as saved"):
        Router.load(copied)


def test_a_price_list_must_name_every_model(checkpoint_folder: Path) -> None:
    router = Router.load(checkpoint_folder)
    with pytest.raises(JaxrouteError, match="no price for"):
        router.route(PROMPTS, budget_usd=1.0, prices={router.models[0]: Price(1.0, 1.0)})


@pytest.mark.parametrize(
    ("prompts", "message"), [("hello", "one text"), (["fine", "half \ud800"], "surrogate"), ([], "empty"), (["", "x"], "empty")]
)
def test_what_is_no_list_of_texts_is_refused(checkpoint_folder: Path, prompts: list[str], message: str) -> None:
    with pytest.raises(PromptError, match=message):
        Router.load(checkpoint_folder).estimate(prompts)


def test_another_encoder_is_refused_and_the_same_one_elsewhere_is_taken(
    checkpoint_folder: Path, tiny_encoder: Path, tmp_path: Path, fresh_cache: Path
) -> None:
    moved = Path(shutil.copytree(tiny_encoder, tmp_path / "moved"))
    here, there = Router.load(checkpoint_folder), Router.load(checkpoint_folder, encoder=str(moved))
    np.testing.assert_array_equal(here.estimate(PROMPTS), there.estimate(PROMPTS))
    (moved / "config.json").write_text((moved / "config.json").read_text() + " ")
    with pytest.raises(CheckpointError, match="was trained with encoder"):
        Router.load(checkpoint_folder, encoder=str(moved))
