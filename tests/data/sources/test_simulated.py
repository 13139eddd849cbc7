"""The simulated pool: honest about what it is, the same for the same seed, and worth routing."""

from __future__ import annotations

import numpy as np
import pytest

from jaxroute import RoutingTable, load_source
from jaxroute.data.prices import token_cost_usd
from jaxroute.data.sources.simulated import DOMAINS, MODELS, simulated_prices

SPECIALTIES = [
    ("sim-coder", "programming"),
    ("sim-coder", "databases"),
    ("sim-math", "arithmetic"),
    ("sim-math", "algebra"),
    ("sim-polyglot", "translation"),
    ("sim-clinic", "medicine"),
    ("sim-counsel", "law"),
]


@pytest.fixture(scope="module")
def pool() -> RoutingTable:
    return load_source("simulated", queries=4_000, seed=7)


def test_it_says_that_it_is_a_simulation(pool: RoutingTable):
    """In its name, which every report prints, and in the names of the models."""
    assert "simulation" in pool.name
    assert "simulation" in str(pool)
    assert all(model.startswith("sim-") for model in pool.models)


def test_the_same_seed_gives_the_same_table():
    one, other = (load_source("simulated", queries=300, seed=5) for _ in range(2))
    assert (one.prompts, one.domains, one.query_ids) == (other.prompts, other.domains, other.query_ids)
    for name in ("quality", "cost_usd", "input_tokens", "output_tokens", "latency_seconds"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


def test_another_seed_gives_other_prompts_and_other_outcomes():
    one, other = (load_source("simulated", queries=300, seed=seed) for seed in (5, 6))
    assert one.prompts != other.prompts
    assert not set(one.query_ids) & set(other.query_ids)
    assert (one.quality != other.quality).any()


def test_it_has_the_size_that_was_asked_for(pool: RoutingTable):
    """Distinct prompts, ten models, every domain, every cell run."""
    assert len(pool) == len(set(pool.prompts)) == 4_000
    assert pool.models == list(MODELS) and len(pool.models) == 10
    assert set(pool.domains) == set(DOMAINS) and len(DOMAINS) == 13
    assert set(np.unique(pool.quality)) == {0.0, 1.0}
    assert not any("{" in prompt for prompt in pool.prompts)


def test_costs_are_tokens_times_prices(pool: RoutingTable):
    """So that a demo with the same price list prices a prompt as the table does."""
    assert pool.input_tokens is not None and pool.output_tokens is not None
    expected = token_cost_usd(simulated_prices(), pool.models, pool.input_tokens, pool.output_tokens)
    np.testing.assert_allclose(pool.cost_usd, expected, rtol=1e-12)
    assert (pool.cost_usd > 0).all()
    mean = dict(zip(pool.models, pool.cost_usd.mean(axis=0), strict=True))
    assert min(mean, key=mean.__getitem__) == "sim-nano" and max(mean, key=mean.__getitem__) == "sim-frontier"


@pytest.mark.parametrize(("specialist", "domain"), SPECIALTIES)
def test_a_specialist_beats_every_model_below_the_frontier_in_its_domain(pool: RoutingTable, specialist: str, domain: str):
    """What a cheap model is good at, no general one below the frontier does better."""
    rows = [row for row, name in enumerate(pool.domains) if name == domain]
    quality = dict(zip(pool.models, pool.quality[rows].mean(axis=0), strict=True))
    others = [model for model in pool.models if model not in (specialist, "sim-frontier")]
    assert quality[specialist] > max(quality[model] for model in others)


def test_no_model_is_best_everywhere(pool: RoutingTable):
    """The winner changes from domain to domain, and the frontier model wins some of them."""
    winners = set()
    for domain in DOMAINS:
        rows = [row for row, name in enumerate(pool.domains) if name == domain]
        winners.add(pool.models[int(pool.quality[rows].mean(axis=0).argmax())])
    assert "sim-frontier" in winners
    assert len(winners) >= 3


def test_there_is_something_to_gain_by_routing(pool: RoutingTable):
    """The best model of each query is well above the best single model, and one that is right is often far cheaper."""
    best_single = pool.quality.mean(axis=0).max()
    oracle = pool.quality.max(axis=1).mean()
    assert oracle - best_single > 0.05
    right = np.where(pool.quality == 1, pool.cost_usd, np.inf).min(axis=1)
    solved = np.isfinite(right)
    assert right[solved].mean() < 0.5 * pool.cost_usd[solved, pool.models.index("sim-frontier")].mean()


def test_harder_templates_are_answered_less_often(pool: RoutingTable):
    """The level shows in the text, so a router can learn it."""
    easy = [row for row, prompt in enumerate(pool.prompts) if " plus " in prompt and "What is" in prompt]
    hard = [row for row, prompt in enumerate(pool.prompts) if "last two digits" in prompt]
    assert pool.quality[easy].mean() > pool.quality[hard].mean() + 0.3
