"""The simulated pool: templated questions, ten invented models, outcomes from an item-response model.

A simulation, for the demo and the tests; it says nothing about any real model. Outcomes follow the compensatory
multidimensional two-parameter logistic model (Reckase 2009, "Multidimensional Item Response Theory", section 4.1.1)

    P(model i answers query j) = sigmoid(SLOPE * (ability_i + skill_{i, domain(j)} - difficulty_j)),
    difficulty_j = LEVELS[level(j)] + e_j,   e_j ~ Normal(0, RESIDUAL)

The domain and the level show in the text; e_j does not, so no router can be perfect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from jaxroute.data.prices import Price, token_cost_usd
from jaxroute.data.table import RoutingTable
from jaxroute.errors import TableError

MOST_QUERIES = 20_000
"""More distinct questions than that are slow to find among the templates."""
SLOPE = 2.2
LEVELS = (-1.8, -0.6, 0.5, 1.6)
RESIDUAL = 0.35


@dataclass(frozen=True)
class SimulatedModel:
    """Ability in standard deviations, skills on top of it by domain, speed in tokens per second."""

    price: Price
    ability: float
    skills: dict[str, float]
    verbosity: float
    speed: float


# fmt: off
MODELS: dict[str, SimulatedModel] = {
    "sim-nano":       SimulatedModel(Price(0.04, 0.10), -1.1, {}, 0.7, 220),
    "sim-small":      SimulatedModel(Price(0.10, 0.30), -0.4, {"cooking": 0.5}, 0.8, 160),
    "sim-coder":      SimulatedModel(Price(0.20, 0.60), -0.6, {"programming": 2.3, "databases": 2.2}, 1.2, 120),
    "sim-math":       SimulatedModel(Price(0.20, 0.80), -0.7, {"arithmetic": 2.5, "algebra": 2.5, "physics": 1.3}, 1.6, 110),
    "sim-polyglot":   SimulatedModel(Price(0.25, 0.75), -0.5, {"translation": 2.3, "geography": 1.2}, 0.9, 120),
    "sim-clinic":     SimulatedModel(Price(0.50, 1.50), -0.5, {"medicine": 2.2, "chemistry": 1.4}, 1.1, 90),
    "sim-counsel":    SimulatedModel(Price(0.60, 1.80), -0.5, {"law": 2.2, "history": 1.3}, 1.3, 80),
    "sim-medium":     SimulatedModel(Price(0.80, 2.40), 0.5, {}, 1.0, 90),
    "sim-large":      SimulatedModel(Price(2.50, 10.0), 1.1, {"creative writing": 0.4}, 1.1, 60),
    "sim-frontier":   SimulatedModel(Price(5.00, 25.0), 1.6, {"law": -0.3, "arithmetic": -0.3, "translation": -0.3}, 1.3, 45),
}

# Per domain: the mean length of an answer in tokens, and one template per level. Slots are drawn from WORDS; a
# {number} has as many digits as the level, plus one.
DOMAINS: dict[str, tuple[int, tuple[str, str, str, str]]] = {
    "arithmetic": (70, ("What is {number} plus {number}?", "What is {number} times {number}?", "What is the remainder of {number} times {number} divided by {number}?",
        "Find the last two digits of {number} to the power of {number}, times {number}.")),
    "algebra": (100, ("Solve for x: x + {number} = {number}.", "Solve for x: {number} x - {number} = {number}.", "Find all roots of x^2 - {number} x + {number} = 0.",
        "Prove that x^3 + {number} x = {number} has one real root and bound it.")),
    "programming": (150, ("Write a {language} function that adds two numbers.",
        "Write a {language} function that reverses a list of {thing}s.",
        "Implement a thread-safe cache of {thing}s with eviction in {language}.",
        "Write a lock-free concurrent {structure} of {thing}s in {language} and argue that it is linearisable.")),
    "databases": (110, ("Select all rows of the table {thing}s in SQL.", "Count {thing}s per customer in SQL.",
        "Write SQL for the median price of {thing}s per month with window functions.",
        "Rewrite a recursive SQL query over {thing} hierarchies so that it uses an index and detects cycles.")),
    "geography": (60, ("On which continent is {country}?", "What is the capital of {country}?",
        "Which rivers cross the border between {country} and {country}?",
        "Compare the river basins, elevation and rainfall of {country} and {country} at {number} metres.")),
    "history": (100, ("In which century was the {event}?", "Who led the {event} in {country}?",
        "Explain two economic causes of the {event} in {country}.",
        "Weigh the historiography of the {event} in {country}: which primary sources contradict each other?")),
    "physics": (110, ("What is the unit of {quantity}?", "A {thing} of {number} kg moves at {number} m/s. What is its momentum?",
        "A {thing} of {number} kg slides {number} m down a rough slope. Find its {quantity}.",
        "Derive the {quantity} of a relativistic {thing} of {number} kg in a rotating frame.")),
    "chemistry": (90, ("What is the symbol of {element}?", "How many electrons has an atom of {element}?",
        "Balance the reaction of {element} with {number} mol of sulfuric acid.",
        "Predict the splitting of the d orbitals and the spectrum of an octahedral {element} complex.")),
    "medicine": (120, ("What does a {specialist} treat?", "Name a common symptom of {disease}.",
        "Which drug is first-line for {disease} in pregnancy?",
        "A patient with {disease} and renal failure worsens overnight. What does the {specialist} do next?")),
    "law": (130, ("What is a {contract}?", "Is a spoken {contract} binding?",
        "May a tenant in {country} withdraw from a {contract} after {number} days?",
        "Advise on conflict of laws where a {contract} made in {country} is breached in {country}.")),
    "translation": (60, ("Translate 'hello' into {tongue}.", "Translate 'the {thing} is red' into {tongue}.",
        "Translate 'had I known, I would have sold the {thing}' into {tongue}.",
        "Translate a sonnet about a {thing} into {tongue}, keeping metre and rhyme.")),
    "cooking": (110, ("How long do I boil {food}?", "How do I make a soup of {food}?",
        "Plan a dinner of {food} and {food} for {number} guests.",
        "Design a tasting menu around {food} without gluten, with wine and timing for {number} guests.")),
    "creative writing": (150, ("Write a sentence about a {thing}.", "Write a limerick about a {thing}.",
        "Write a short story in which a {thing} is not what it seems.",
        "Write a villanelle in which a {thing} and a {specialist} trade places in every stanza.")),
}

WORDS: dict[str, tuple[str, ...]] = {
    "language": ("Python", "Rust", "Java", "Go", "Haskell", "C++", "Kotlin", "Ruby"),
    "thing": ("lamp", "ticket", "kite", "wagon", "violin", "engine", "parcel", "balloon", "clock", "bridge", "coin", "rocket"),
    "structure": ("queue", "skip list", "hash map", "priority queue", "trie", "ring buffer"),
    "country": ("Brazil", "Kenya", "Norway", "Japan", "Peru", "Egypt", "Canada", "Vietnam", "Poland", "Chile", "India", "Spain"),
    "event": ("land reform", "civil war", "railway boom", "great famine", "peasant revolt", "currency crisis", "general strike"),
    "quantity": ("kinetic energy", "angular momentum", "force", "power", "pressure", "entropy", "electric charge"),
    "element": ("iron", "cobalt", "nickel", "copper", "zinc", "chromium", "manganese", "titanium", "vanadium"),
    "specialist": ("cardiologist", "neurologist", "dermatologist", "surgeon", "oncologist", "paediatrician"),
    "disease": ("asthma", "diabetes", "pneumonia", "hepatitis", "epilepsy", "malaria", "anaemia", "gout"),
    "contract": ("lease", "loan", "trust", "guarantee", "licence", "partnership", "will"),
    "tongue": ("Finnish", "Swahili", "Korean", "Hungarian", "Welsh", "Turkish", "Tamil", "Portuguese"),
    "opener": ("", "", "Please help. ", "Quick question. ", "Be brief. ", "For class: ", "Step by step: ", "Hi! "),
    "food": ("lentils", "salmon", "beetroot", "mushrooms", "chicken", "barley", "leeks", "chickpeas"),
}
# fmt: on


def load_simulated(path: object = None, *, queries: int = 1500, seed: int = 0) -> RoutingTable:
    """`queries` distinct prompts with outcomes, token counts, costs and latencies of all ten models; `path` is unused.

    The same seed gives the same table; costs are tokens times the models' prices.
    """
    if seed < 0:
        raise TableError(f"seed={seed} must be at least 0")
    generator = np.random.default_rng(seed)
    names = list(DOMAINS)
    if not 1 <= queries <= MOST_QUERIES:
        raise TableError(f"queries={queries} must be from 1 to {MOST_QUERIES:,}")
    prompts: dict[str, tuple[str, int]] = {}
    while len(prompts) < queries:
        domain, level = names[generator.integers(len(names))], int(generator.integers(len(LEVELS)))
        text = simulated_question(domain, level, generator)
        prompts.setdefault(text, (domain, level))
    domains = [domain for domain, _ in prompts.values()]
    levels = np.array([level for _, level in prompts.values()])
    models = list(MODELS.values())
    difficulty = np.array(LEVELS)[levels] + generator.normal(0.0, RESIDUAL, queries)
    ability = np.array([[model.ability + model.skills.get(domain, 0.0) for model in models] for domain in domains])
    chance = 1.0 / (1.0 + np.exp(-SLOPE * (ability - difficulty[:, None])))
    answer = np.array([DOMAINS[domain][0] for domain in domains]) * (1.0 + 0.15 * levels)
    verbosity = np.array([model.verbosity for model in models])
    output = np.ceil(answer[:, None] * verbosity * generator.lognormal(0.0, 0.25, chance.shape))
    # About 1.4 tokens per word and mark, as byte-pair vocabularies have for English.
    length = np.ceil([1.4 * len(re.findall(r"\w+|[^\w\s]", text)) for text in prompts])
    return RoutingTable(
        prompts=list(prompts),
        models=list(MODELS),
        quality=(generator.uniform(size=chance.shape) < chance).astype(float),
        cost_usd=token_cost_usd(simulated_prices(), MODELS, length[:, None], output),
        query_ids=[f"simulated-{seed}-{row}" for row in range(queries)],
        domains=domains,
        input_tokens=np.repeat(length[:, None], len(models), axis=1),
        output_tokens=output,
        latency_seconds=0.2 + output / np.array([model.speed for model in models]),
        name="simulated pool (a simulation, not real models)",
    )


def simulated_prices() -> dict[str, Price]:
    """Dollars per million tokens of the invented models."""
    return {name: model.price for name, model in MODELS.items()}


def simulated_question(domain: str, level: int, generator: np.random.Generator) -> str:
    """A question of that domain and level, its words drawn."""

    def fill(slot: re.Match) -> str:
        if slot.group(1) == "number":
            return str(generator.integers(10**level + 1, 10 ** (level + 1)))
        choices = WORDS[slot.group(1)]
        return choices[generator.integers(len(choices))]

    return re.sub(r"\{(\w+)\}", fill, "{opener}" + DOMAINS[domain][1][level])
