"""A promise: the price at which prompts are routed, what holds there with which confidence, and until what drift.

The claims are tested price by price in a fixed order (`sequence.py`), quality from the most expensive price to the cheapest,
cost from the cheapest to the most expensive. Where both are promised each has half of the error, and of the prices that keep
both the cheapest is taken. Domains with prices of their own share the error evenly.

It assumes that future prompts come from where the calibration rows came from, independently of each other, and nothing of the
estimator: one that knows nothing gets a promise too, at a higher cost.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import chi2

from jaxroute.data.estimates import Estimates
from jaxroute.errors import GuaranteeError, counted, listed
from jaxroute.guarantees.asked import Asked
from jaxroute.guarantees.claims import CostClaim, Outcomes, QualityClaim, chosen, least_rows, rows_needed
from jaxroute.guarantees.rows import Calibration
from jaxroute.guarantees.sequence import choices_at, last_shown, policies

TENTHS = 10
"""Parts of equal size into which the calibration rows are cut, by the estimate of the model that answers."""
UNLIKE = 0.001
"""The p-value under which a batch is called unlike the calibration rows."""
FEWEST = 50
"""Prompts under which that is not looked at."""


@dataclass(frozen=True)
class Part:
    """One price, and what was seen at it on the calibration rows."""

    domain: str | None
    """None: all prompts."""
    multiplier: float
    """Quality per dollar at which prompts are routed."""
    rows: int
    quality: float
    """The router's mean."""
    reference: str
    """The model that was best on these rows, of those that quality is compared with; empty where it is compared with none."""
    reference_quality: float
    cost_usd: float
    """The router's mean dollars per prompt."""
    reference_cost_usd: float
    """NaN where the reference is not routed to."""
    margin: float
    """How far the mean on these rows lies above what is promised: what drift may take before the promise is broken."""


@dataclass(frozen=True)
class Promise:
    """What holds, where, and on what it rests."""

    asked: Asked
    models: list[str]
    """That are routed among."""
    parts: list[Part]
    unpromised: dict[str, str] = field(default_factory=dict)
    """Domain -> why nothing is promised there."""
    calibration: str = ""
    """The name of the calibration rows."""
    notes: list[str] = field(default_factory=list)
    held_out: bool = True
    """Whether it is a theorem: the estimator was not trained on the calibration rows."""
    exact: bool = False
    """Whether outcomes are 0 or 1 and the exact tests were taken."""
    edges: list[float] = field(default_factory=list)
    """Between tenths of the calibration rows, by the estimated quality of the model that answers."""
    shares: list[float] = field(default_factory=list)
    """Of the calibration rows in each of these parts."""
    rows: int = 0

    @property
    def multiplier(self) -> float:
        """The one price. Raises `GuaranteeError` where every domain has its own."""
        if self.asked.per_domain:
            raise GuaranteeError(
                "the promise has a price for every domain, and here the prompts have none: make one without --per-domain"
            )
        return self.parts[0].multiplier

    def choices(self, estimates: Estimates, domains: list[str]) -> Int[np.ndarray, " queries"]:
        """The promised model of every prompt, a column of `estimates`, which are those of `models`."""
        return choices_at(estimates.quality, estimates.cost_usd, self.multipliers(domains))

    def multipliers(self, domains: list[str]) -> Float[np.ndarray, " queries"]:
        """The price of every prompt; 0, the best that is estimated, in domains of which nothing is promised."""
        if not self.asked.per_domain:
            return np.full(len(domains), self.multiplier)
        known = {part.domain: part.multiplier for part in self.parts}
        return np.array([known.get(domain, 0.0) for domain in domains], float)

    def uncovered(self, domains: list[str]) -> int:
        """Prompts of domains of which nothing is promised."""
        known = {part.domain for part in self.parts}
        return sum(domain not in known for domain in domains) if self.asked.per_domain else 0

    def unlike(self, estimates: Estimates, choice: Int[np.ndarray, " queries"]) -> str:
        """Why a batch does not look like the calibration rows, in words; empty where it does, or is too small to say.

        Two samples in the same tenths of estimated quality (Pearson's test of homogeneity).
        """
        if len(choice) < FEWEST or not self.edges:
            return ""
        estimated = chosen(estimates.quality, choice)
        counts = np.bincount(np.searchsorted(self.edges, estimated, side="right"), minlength=len(self.shares)).astype(float)
        before = np.array(self.shares) * self.rows
        p_value = _same_shares(before, counts)
        if p_value >= UNLIKE:
            return ""
        far = int(np.argmax(np.abs(counts / counts.sum() - self.shares)))
        return (
            f"these prompts are not like the calibration rows (p {p_value:.2g}): {counts[far] / counts.sum():.0%} of them, and "
            f"{self.shares[far]:.0%} of those, have an estimated quality {_between(self.edges, far)}. The promise does "
            "not cover them"
        )

    def __str__(self) -> str:
        lines = [f"promised with {100 * self.asked.confidence:g} percent confidence: {self.asked.in_words()}"]
        for part in self.parts:
            lines.append(f"  {_part_words(part)}")
        if self.unpromised:
            some = listed([f"{domain} ({why})" for domain, why in self.unpromised.items()], most=6)
            lines.append(f"  nothing is promised in {some}: prompts there take the best that is estimated")
        test = "exact tests of outcomes that are 0 or 1" if self.exact else "betting, for outcomes in [0, 1]"
        lines.append(f"shown on {counted(self.rows, 'calibration row')} of {self.calibration}, by {test}")
        if not self.held_out:
            lines.append(
                "no theorem: these are the training rows with estimates out of fold, by routers that are not the final one"
            )
        lines += self.notes
        least = min(self.parts, key=lambda part: part.margin)
        where = "" if least.domain is None else f" in {least.domain}"
        if self.asked.of_quality:
            lines.append(
                f"it holds for prompts like these rows: until drift takes about {100 * least.margin:.1f} points{where} from "
                "the router" + (" against the reference" if self.asked.within is not None else "")
            )
        else:
            lines.append(f"it holds for prompts like these rows: until drift adds about {least.margin:.4g} dollars per prompt")
        return "\n".join(lines)


def make_promise(rows: Calibration, asked: Asked) -> Promise:
    """The cheapest price at which the calibration rows show what is asked; the best one where only a cost is promised.

    Raises `GuaranteeError` where they do not show it: with how many more rows about would, or that they say the contrary.
    """
    if asked.bound == "exact" and not rows.outcomes.binary:
        raise GuaranteeError("bound='exact' needs outcomes of 0 and 1, and these rows have others: leave it out")
    exact = rows.outcomes.binary and asked.bound != "betting"
    parts, unpromised, notes = (
        _by_domain(rows, asked, exact) if asked.per_domain else (_whole(rows, asked, exact), {}, list[str]())
    )
    promise = Promise(
        asked=asked,
        models=list(rows.estimates.models),
        parts=parts,
        unpromised=unpromised,
        calibration=rows.name,
        notes=[*rows.notes, *notes, *_cost_notes(rows, asked)],
        held_out=rows.held_out,
        exact=exact and asked.of_quality,
        rows=len(rows),
    )
    estimated = chosen(rows.estimates.quality, promise.choices(rows.estimates, rows.domains))
    edges = np.unique(np.quantile(estimated, np.linspace(0, 1, TENTHS + 1)[1:-1]))
    counts = np.bincount(np.searchsorted(edges, estimated, side="right"), minlength=len(edges) + 1)
    return Promise(**{**vars(promise), "edges": edges.tolist(), "shares": (counts / len(rows)).tolist()})


def _whole(rows: Calibration, asked: Asked, exact: bool) -> list[Part]:
    ways = policies(rows.estimates.quality, rows.estimates.cost_usd)
    error = asked.error / (1 + (asked.of_quality and asked.spend_at_most_usd is not None))
    place = len(ways) - 1
    if asked.of_quality:
        claim = _quality_claim(asked, exact)
        found = last_shown(range(len(ways)), lambda one: claim.shown(rows.outcomes, ways.choices[one], error))
        if found is None:
            raise GuaranteeError(_too_few(claim, rows.outcomes, ways.choices[0], error, asked, rows.references))
        place = found
    if asked.spend_at_most_usd is not None:
        claim = CostClaim(asked.spend_at_most_usd, _most_usd(rows, asked))
        cheap = last_shown(range(len(ways) - 1, -1, -1), lambda one: claim.shown(rows.outcomes, ways.choices[one], error))
        if cheap is None:
            raise GuaranteeError(_too_expensive(claim, rows.outcomes, ways.choices[-1], error))
        if asked.of_quality and cheap > place:
            cost = float(chosen(rows.outcomes.cost_usd, ways.choices[place]).mean())
            raise GuaranteeError(
                f"both cannot be promised: the price that keeps the quality has a mean cost of {cost:.4g} dollars on these "
                f"rows, which is not shown to be at most spend_at_most_usd={asked.spend_at_most_usd:g}; raise it, or promise "
                "less quality"
            )
        place = place if asked.of_quality else cheap
    return [_part(rows, asked, exact, None, ways.multipliers[place], ways.choices[place])]


def _by_domain(rows: Calibration, asked: Asked, exact: bool) -> tuple[list[Part], dict[str, str], list[str]]:
    names, counts = np.unique(np.array(rows.domains, dtype=object).astype(str), return_counts=True)
    if list(names) == [""]:
        raise GuaranteeError(f"per_domain: {rows.name} has no domains; give it a column domain, or leave the option out")
    claim = _quality_claim(asked, exact)
    tested, needed = _enough_rows(claim, dict(zip(names.tolist(), counts.tolist())), asked.error)
    parts, unpromised, error = [], {}, asked.error / max(1, len(tested))
    for name, count in zip(names.tolist(), counts.tolist()):
        if name not in tested:
            unpromised[name] = f"needs at least {needed - count:,} more rows"
            continue
        part = rows.select(np.array([domain == name for domain in rows.domains]))
        ways = policies(part.estimates.quality, part.estimates.cost_usd)
        found = last_shown(range(len(ways)), lambda one, p=part, w=ways: claim.shown(p.outcomes, w.choices[one], error))
        if found is None:
            more = rows_needed(claim, part.outcomes, ways.choices[0], error)
            unpromised[name] = "its rows show the contrary" if more is None else f"needs about {more - count:,} more rows"
        else:
            parts.append(_part(part, asked, exact, name, ways.multipliers[found], ways.choices[found]))
    if not parts:
        raise GuaranteeError(
            "nothing can be promised in any domain: "
            + listed([f"{name} {why}" for name, why in unpromised.items()], most=8)
            + "; promise less, or leave --per-domain out"
        )
    return parts, unpromised, [f"the error is shared by {counted(len(tested), 'domain')}"]


def _enough_rows(claim: QualityClaim, counts: dict[str, int], error: float) -> tuple[list[str], int]:
    """The domains that are tested, by how many rows they have and not by what these say; and how many rows a further one needs.

    As many of the largest as can all be shown when they share the error evenly.
    """
    largest = sorted(counts, key=lambda name: -counts[name])
    needed = [least_rows(claim, error / (place + 1)) for place in range(len(largest))]
    enough = [place for place, name in enumerate(largest) if counts[name] >= needed[place]]
    tested = largest[: enough[-1] + 1] if enough else []
    return tested, needed[min(len(tested), len(largest) - 1)]


def _quality_claim(asked: Asked, exact: bool) -> QualityClaim:
    return QualityClaim(asked.within, asked.at_least, exact)


def _most_usd(rows: Calibration, asked: Asked) -> float:
    return rows.most_usd if asked.most_usd is None else asked.most_usd


def _cost_notes(rows: Calibration, asked: Asked) -> list[str]:
    if asked.spend_at_most_usd is None:
        return []
    seen = ", the most that one of these rows has cost; give --most-usd to set it" if asked.most_usd is None else ""
    return [f"of its cost an answer counts at most {_most_usd(rows, asked):.4g} dollars{seen}"]


def _part(
    rows: Calibration, asked: Asked, exact: bool, domain: str | None, multiplier: float, choice: Int[np.ndarray, " rows"]
) -> Part:
    outcomes = rows.outcomes
    if asked.of_quality:
        margin = _quality_claim(asked, exact).margin(outcomes, choice)
    else:
        assert asked.spend_at_most_usd is not None
        margin = CostClaim(asked.spend_at_most_usd, _most_usd(rows, asked)).margin(outcomes, choice)
    best = int(outcomes.reference.mean(axis=0).argmax())
    name, models = rows.references[best], rows.estimates.models
    return Part(
        domain=domain,
        multiplier=float(multiplier),
        rows=len(outcomes),
        quality=float(chosen(outcomes.quality, choice).mean()),
        reference=name,
        reference_quality=float(outcomes.reference[:, best].mean()),
        cost_usd=float(chosen(outcomes.cost_usd, choice).mean()),
        reference_cost_usd=float(outcomes.cost_usd[:, models.index(name)].mean()) if name in models else float("nan"),
        margin=float(margin),
    )


def _part_words(part: Part) -> str:
    where = "" if part.domain is None else f"{part.domain or 'no domain'}, {part.rows:,} rows: "
    instead = "" if np.isnan(part.reference_cost_usd) else f" in place of {part.reference_cost_usd:.4g}"
    return (
        f"{where}at {part.multiplier:.6g} quality per dollar; on the rows the router has {100 * part.quality:.1f} points at "
        f"{part.cost_usd:.4g} dollars per prompt, {part.reference} {100 * part.reference_quality:.1f}{instead}"
    )


def _too_few(
    claim: QualityClaim, outcomes: Outcomes, choice: Int[np.ndarray, " rows"], error: float, asked: Asked, references: list[str]
) -> str:
    """Why nothing is promised: the rows are too few, or they say the contrary."""
    routed, rows = float(chosen(outcomes.quality, choice).mean()), counted(len(outcomes), "row")
    if claim.margin(outcomes, choice) <= 0:
        best = int(outcomes.reference.mean(axis=0).argmax())
        against = "" if asked.within is None else f", {references[best]} {100 * outcomes.reference[:, best].mean():.1f}"
        return (
            f"nothing can be promised: on these {rows} the router has {100 * routed:.1f} points at its best{against}, so they "
            "speak against it, and more of the same would not help; promise less"
        )
    needed = max(rows_needed(claim, outcomes, choice, error) or 0, least_rows(claim, error))
    if needed <= len(outcomes):
        return (
            f"nothing can be promised: {rows} are far too few for a margin of {100 * claim.margin(outcomes, choice):.2f} points"
        )
    return (
        f"nothing can be promised with {100 * asked.confidence:g} percent confidence on {rows}: needs about "
        f"{needed - len(outcomes):,} more, or a promise of less"
    )


def _too_expensive(claim: CostClaim, outcomes: Outcomes, choice: Int[np.ndarray, " rows"], error: float) -> str:
    mean, rows = claim.usd - claim.margin(outcomes, choice), counted(len(outcomes), "row")
    if claim.margin(outcomes, choice) <= 0:
        return (
            f"spend_at_most_usd={claim.usd:g}: the cheapest way costs {mean:.4g} dollars per prompt on these {rows}: give more"
        )
    needed = rows_needed(claim, outcomes, choice, error)
    more = "far more rows" if needed is None else f"about {needed - len(outcomes):,} more"
    return f"spend_at_most_usd={claim.usd:g} cannot be promised on {rows}, whose cheapest way costs {mean:.4g}: needs {more}"


def _same_shares(first: Float[np.ndarray, " parts"], second: Float[np.ndarray, " parts"]) -> float:
    """The p-value of two samples' counts having the same shares."""
    both = first + second
    used = both > 0
    if used.sum() < 2:
        return 1.0
    first, second, both = first[used], second[used], both[used]
    statistic = sum(
        float(((counts - both * counts.sum() / both.sum()) ** 2 / (both * counts.sum() / both.sum())).sum())
        for counts in (first, second)
    )
    return float(chi2.sf(statistic, int(used.sum()) - 1))


def _between(edges: list[float], part: int) -> str:
    if part == 0:
        return f"below {edges[0]:.2f}"
    return f"of at least {edges[-1]:.2f}" if part == len(edges) else f"from {edges[part - 1]:.2f} to {edges[part]:.2f}"
