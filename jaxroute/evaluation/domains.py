"""By domain: gains, averages over domains; and MMLU's 57 subjects in their 17 sub-categories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from jaxroute.errors import TableError
from jaxroute.evaluation.bootstrap import Interval, Measure

# Which subject belongs to which sub-category: MMLU's authors, categories.py in github.com/hendrycks/test.
MMLU_SUBCATEGORIES: dict[str, tuple[str, ...]] = {
    "biology": ("college_biology", "high_school_biology"),
    "business": ("business_ethics", "management", "marketing"),
    "chemistry": ("college_chemistry", "high_school_chemistry"),
    "computer science": (
        "college_computer_science",
        "computer_security",
        "high_school_computer_science",
        "machine_learning",
    ),
    "culture": ("human_sexuality", "sociology"),
    "economics": ("econometrics", "high_school_macroeconomics", "high_school_microeconomics"),
    "engineering": ("electrical_engineering",),
    "geography": ("high_school_geography",),
    "health": (
        "anatomy",
        "clinical_knowledge",
        "college_medicine",
        "human_aging",
        "medical_genetics",
        "nutrition",
        "professional_medicine",
        "virology",
    ),
    "history": ("high_school_european_history", "high_school_us_history", "high_school_world_history", "prehistory"),
    "law": ("international_law", "jurisprudence", "professional_law"),
    "math": (
        "abstract_algebra",
        "college_mathematics",
        "elementary_mathematics",
        "high_school_mathematics",
        "high_school_statistics",
    ),
    "other": ("global_facts", "miscellaneous", "professional_accounting"),
    "philosophy": (
        "formal_logic",
        "logical_fallacies",
        "moral_disputes",
        "moral_scenarios",
        "philosophy",
        "world_religions",
    ),
    "physics": ("astronomy", "college_physics", "conceptual_physics", "high_school_physics"),
    "politics": ("high_school_government_and_politics", "public_relations", "security_studies", "us_foreign_policy"),
    "psychology": ("high_school_psychology", "professional_psychology"),
}


def mmlu_subcategories(subjects: Sequence[str]) -> list[str]:
    """The sub-category of every query's subject; raises `TableError` naming what is no subject of MMLU."""
    known = {subject: name for name, subjects in MMLU_SUBCATEGORIES.items() for subject in subjects}
    foreign = sorted({subject for subject in subjects if subject not in known})
    if foreign:
        raise TableError(f"domains={foreign[:5]} are no subjects of MMLU, which are named as in abstract_algebra")
    return [known[subject] for subject in subjects]


def domain_rows(domains: Sequence[str]) -> dict[str, Bool[np.ndarray, " queries"]]:
    """Which queries belong to each domain, by name."""
    names = np.asarray(domains)
    return {str(name): names == name for name in np.unique(names)}


def macro_mean(quality: Float[np.ndarray, " queries"], domains: Sequence[str]) -> float:
    """The mean over domains of the mean within each, as Routoo averages MMLU's 57 subjects."""
    return float(np.mean([quality[rows].mean() for rows in domain_rows(domains).values()]))


def macro_difference(
    quality: Float[np.ndarray, " queries"], base: Float[np.ndarray, " queries"] | float, domains: Sequence[str]
) -> Measure:
    """The same of quality less that of `base`, for `paired_interval`: over the domains of which any query was drawn."""
    member = np.stack(list(domain_rows(domains).values()), axis=1).astype(float)
    gain = quality - base
    return lambda weights: macro_mean(gain, domains) if weights is None else np.nanmean(_within(gain, member, weights), axis=1)


def domain_gains(
    quality: Float[np.ndarray, " queries"],
    base: Float[np.ndarray, " queries"],
    domains: Sequence[str],
    weights: Float[np.ndarray, "resamples queries"],
    *,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Mean quality less that of `base` in every domain, paired, with intervals that hold for all domains together.

    `domains` may be MMLU's subjects, `mmlu_subcategories` of them, or tasks. Of dozens of intervals that each hold with 95
    percent, some would miss zero by chance; these are as wide, in standard errors, as the largest deviation of any domain in 95
    percent of the resamples (Romano & Wolf 2005, "Exact and approximate stepdown methods", section 4). Resamples without
    any query of a domain say nothing of it.
    """
    rows = domain_rows(domains)
    member = np.stack(list(rows.values()), axis=1).astype(float)
    gain = quality - base
    value = gain @ member / member.sum(axis=0)
    resampled = _within(gain, member, weights)
    error = np.nanstd(resampled, axis=0)
    deviation = np.divide(np.abs(resampled - value), error, out=np.zeros_like(resampled), where=error > 0)
    half = np.nanquantile(np.nanmax(deviation, axis=1), level) * error
    undefined = np.isnan(resampled).sum(axis=0)
    return {
        name: Interval(float(middle), float(low), float(high), int(out))
        for name, middle, low, high, out in zip(rows, value, value - half, value + half, undefined, strict=True)
    }


def _within(
    values: Float[np.ndarray, " queries"],
    member: Float[np.ndarray, "queries domains"],
    weights: Float[np.ndarray, "resamples queries"],
) -> Float[np.ndarray, "resamples domains"]:
    """Means within the domains under resampling; NaN where none of a domain's queries was drawn."""
    drawn = weights @ member
    return np.divide(weights @ (values[:, None] * member), drawn, out=np.full_like(drawn, np.nan), where=drawn > 0)
