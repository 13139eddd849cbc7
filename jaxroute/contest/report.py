"""An evaluation as one HTML page: figures, tables and what they mean; nothing is fetched, nothing else is needed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxroute.contest import figures
from jaxroute.contest.judging import Judged, gains_by_domain
from jaxroute.contest.results import Evaluation, in_words, p_words
from jaxroute.contest.rows import Contest
from jaxroute.contest.savings import in_words as savings_in_words
from jaxroute.evaluation import Gain, Interval
from jaxroute.storage.files import replacing

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; color: #1b1b1b; background: #fff;
  max-width: 1160px; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; } h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; }
p, li { max-width: 46rem; }
svg { width: 100%; height: auto; } svg.narrow { display: none; }
figure { margin: .6rem 0; } figcaption { color: #444; font-size: .92rem; max-width: 46rem; }
.scroll { overflow-x: auto; }
table { border-collapse: separate; border-spacing: 0; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .4rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid #888; vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
th:first-child, td:first-child { min-width: 7rem; max-width: 15rem; white-space: normal; overflow-wrap: break-word; }
tr.first td { font-weight: 600; } .gain { color: #0072b2; font-weight: 600; } .loss { color: #c04000; font-weight: 600; }
.tie { color: #555; }
@media (max-width: 700px) { body { padding: .7rem; } svg.wide { display: none; } svg.narrow { display: block; }
  td:first-child, th:first-child { max-width: 9rem; } }
@media print { svg.wide { display: block; } svg.narrow { display: none; } }
"""


def write_report(path: Path, evaluation: Evaluation) -> None:
    """The page at `path`, written atomically."""
    contest, judged = evaluation.contest, evaluation.judged
    over = [evaluation.against_first(one) for one in judged]
    first = judged[0]
    found = first if first.at is not None else next((one for one in judged if one.at is not None), None)
    parts = [_opening(contest, judged)]
    if evaluation.savings is not None:
        parts.append(f"<pre>{html.escape(savings_in_words(contest, evaluation.savings).strip())}</pre>")
    if not contest.same_cost:
        parts.append(_plane(contest, judged))
    parts += [_gains(judged), _table(contest, judged, over), _hull_table(contest, judged)]
    if found is not None and not contest.same_cost:
        parts.append(_shares(contest, found))
    if found is not None and contest.has_domains:
        parts.append(_domains(contest, found))
    if any(one.calibration for one in judged):
        parts.append(_calibration(judged))
    parts += [_at(contest, judged), _counts(contest, judged), _about(judged)]
    title = html.escape(f"Routers on {contest.test.name}")
    page = (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n" + "\n".join(parts) + "\n</body>\n</html>\n"
    )
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


VERDICTS = {
    "gain": "a gain: the interval lies above zero, and shuffled choices hardly ever do as well",
    "tie": "a tie: it may be luck",
    "loss": "a loss",
    "": "without a verdict, since its choices follow the outcomes and cannot be shuffled",
}


def _opening(contest: Contest, judged: Sequence[Judged]) -> str:
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in contest.notes)
    first = judged[0]
    where = "at the cost that all models have" if contest.same_cost else "on average over the range of costs"
    p = f", p = {p_words(first.gain)}" if first.gain.p_value is not None else ""
    return (
        f"<ul>{notes}</ul><p><strong>{html.escape(first.name)}</strong> has a quality of {100 * first.area:.1f} {where}, "
        f"{first.gain.in_points} points over the zero router{p}. That is <strong>{VERDICTS[first.gain.verdict]}</strong>.</p>"
        "<p>The zero router reads no prompt: it sends a share of the queries to one model and the rest to another, both chosen "
        "on the training rows. <em>Gain</em>: p &lt; 0.05 and the interval above zero; <em>loss</em>: the interval below zero; "
        f"else <em>tie</em>. Intervals are 95 percent, by paired bootstrap over the test questions ({contest.resamples:,} "
        "resamples); p is the share of shuffles of the same choices across queries that do as well. A verdict holds for new "
        "queries like these, of the same domains in the same shares.</p>"
    )


def _plane(contest: Contest, judged: Sequence[Judged]) -> str:
    return _figure(
        "What money buys",
        figures.cost_quality(contest, judged),
        "Curves of routers as they are, by true mean cost. Dots are single models; the grey line is the zero router. The band "
        "is the first router's interval. A gain is the mean height over the grey line between the cheapest and the most "
        "expensive model.",
    )


def _gains(judged: Sequence[Judged]) -> str:
    return _figure(
        "What every router gains",
        figures.gains(judged),
        "Mean quality over the zero router, with intervals; filled dots have the verdict gain. Beyond the edge: routers that "
        "look at the outcomes, such as the oracle.",
    )


def _shares(contest: Contest, one: Judged) -> str:
    return _figure(
        "Who answers, as the budget moves",
        figures.shares(contest, one),
        f"Share of queries that {one.name} gives each model, from the cheapest (dark) to the most expensive (light).",
    )


def _domains(contest: Contest, one: Judged) -> str:
    assert one.at is not None
    return _figure(
        "Where it gains",
        figures.domains(gains_by_domain(contest, one.at.choice)),
        f"Quality of {one.name} over the zero router's at the same mean cost, about {_money(contest, contest.cost_at)}, by "
        "domain. The intervals are wide enough to hold for all domains together.",
    )


def _calibration(judged: Sequence[Judged]) -> str:
    return _figure(
        "Whether estimates mean what they say",
        figures.calibration(judged),
        "On the grey line, of the answers estimated at 0.7, 70 percent are right. The error is the expected calibration error.",
    )


def _table(contest: Contest, judged: Sequence[Judged], over: Sequence[Interval | None]) -> str:
    heads = ["router", "encoder", "quality", "over the zero router", "verdict", f"{judged[0].name} over it"]
    heads += ["fixed price: over the zero router", "verdict"]
    heads += ["log-loss", "Brier", "calibration error"]
    rows = []
    for one, interval in zip(judged, over, strict=True):
        row = [one.name, one.entry.encoder, f"{100 * one.area:.1f}", *_gain_cells(one.gain), in_words(interval)]
        row += _gain_cells(one.deployed)
        known = one.calibration
        row += [_number(known and known.log_loss), _number(known and known.brier)]
        row.append(_number(known and known.reliability.expected_calibration_error))
        rows.append(row)
    return _section(
        "The table",
        "Qualities and gains in points. <em>Fixed price</em>: the gain where the price of money is chosen on one half of the "
        "queries and each query of the other half is routed on its own. <em>Tie</em> beside the first router's lead: the "
        "interval leaves the sign open.",
        heads,
        rows,
    )


def _hull_table(contest: Contest, judged: Sequence[Judged]) -> str:
    pair = any(one.pair for one in judged)
    heads = ["router", "hull AIQ", "over the single models' hull", "shuffled: mean, 95th", "cost of the best model's quality"]
    heads += ["APGR", "CPT(50), CPT(80)"] * pair
    rows = []
    for one in judged:
        row = [one.name, f"{100 * one.hull.aiq:.1f}", str(one.hull.gain)]
        row.append(", ".join(f"{100 * value:+.1f}" for value in one.hull.shuffled or ()))
        row.append(f"{one.hull.cost_of_best * contest.scale:.3g}" if np.isfinite(one.hull.cost_of_best) else "never")
        if pair:
            row.append(_share(one.pair.apgr) if one.pair else "")
            row.append(", ".join(f"{100 * share:.0f} %" for share in one.pair.cpt) if one.pair else "")
        rows.append(row)
    return _section(
        "As the papers count",
        "For comparison with RouterBench's and RouteLLM's tables, without a verdict: a hull over points of the test rows "
        "rewards luck, as the column of shuffled choices shows. <em>Cost of the best model's quality</em>: the least mean "
        f"cost, in {contest.unit}, at which a hull is as high as the best single model.",
        heads,
        rows,
    )


def _at(contest: Contest, judged: Sequence[Judged]) -> str:
    shown = [(one, one.at) for one in judged if one.at is not None]
    heads = ["router", "quality", "curve over the zero router", "verdict", "total cost, dollars"]
    heads += ["realised over budget, percent"]
    known = [at.account.columns() for _, at in shown]
    extra = [name for name in ("throughput", "negative_log_likelihood") if any(name in columns for columns in known)]
    heads += [{"throughput": "output tokens per second"}.get(name, "negative log-likelihood") for name in extra]
    heads += ["RouterArena score", "Gain@R", "Gain@B", "Gap@O"]
    rows = []
    for one, at in shown:
        row = [one.name, f"{100 * at.account.quality:.1f}", *_gain_cells(one.gain_at)]
        row += [f"{at.account.total_cost_usd:.4g}", str(at.overrun)]
        row += [f"{value:.3g}" if (value := at.account.columns().get(name)) is not None else "" for name in extra]
        gains = (at.leaderboard.gain_over_random, at.leaderboard.gain_over_best, at.leaderboard.gap_to_oracle)
        row += ["" if at.arena is None else f"{100 * at.arena:.1f}", *(f"{100 * gain:+.1f} %" for gain in gains)]
        rows.append(row)
    return _section(
        f"At a budget of {_money(contest, contest.cost_at)}",
        "One assignment each, with what it really costs. Gain@R, Gain@B and Gap@O are LLMRouterBench's: average accuracy over "
        "the domains against a random model, the best single model and the oracle.",
        heads,
        rows,
    )


def _counts(contest: Contest, judged: Sequence[Judged]) -> str:
    models = [contest.test.models[column] for column in np.argsort(contest.expected_cost_usd, kind="stable")]
    rows = [[one.name, *(f"{one.at.account.queries.get(model, 0):,}" for model in models)] for one in judged if one.at]
    return _section(
        "How many queries each model answers",
        f"At the same budget; models from cheap to expensive. There are {len(contest.test):,} queries.",
        ["router", *(model.rpartition("/")[2] for model in models)],
        rows,
    )


def _about(judged: Sequence[Judged]) -> str:
    rows = [
        [
            one.name,
            html.escape(one.entry.caption + (f" ({one.entry.note})" if one.entry.note else "")),
            *("" if seconds is None else f"{seconds:.1f}" for seconds in (one.entry.fit_seconds, one.entry.estimate_seconds)),
        ]
        for one in judged
    ]
    return _section("The routers", "", ["router", "what it is", "training, seconds", "estimating, seconds"], rows, words=True)


def _figure(title: str, drawing: str, caption: str) -> str:
    words = html.escape(caption)
    return f"<h2>{html.escape(title)}</h2>\n<figure>{drawing}<figcaption>{words}</figcaption></figure>"


def _section(title: str, text: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, words: bool = False) -> str:
    style = ' style="text-align:left;white-space:normal;min-width:18rem"' if words else ""
    head = "".join(f"<th{style if column == 1 else ''}>{html.escape(one)}</th>" for column, one in enumerate(heads))
    body = "".join(
        f"<tr{' class=first' if not place else ''}><td>{html.escape(row[0])}</td>"
        + "".join(f"<td{style if column == 0 else ''}>{cell}</td>" for column, cell in enumerate(row[1:]))
        + "</tr>\n"
        for place, row in enumerate(rows)
    )
    return (
        f"<h2>{html.escape(title)}</h2>\n<p>{text}</p>\n<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>\n{body}</tbody></table></div>"
    )


def _gain_cells(gain: Gain | None) -> list[str]:
    """Interval, verdict with its p-value."""
    if gain is None:
        return ["", ""]
    verdict = f"<span class={gain.verdict}>{gain.verdict}</span>, p {p_words(gain)}" if gain.verdict else ""
    return [gain.in_points, verdict]


def _share(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f}){interval.left_out}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _money(contest: Contest, cost_usd: float) -> str:
    return f"{cost_usd * contest.scale:.4g} {contest.unit}"
