"""An evaluation as one HTML page: figures, tables and what they mean; nothing is fetched, nothing else is needed."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxroute.contest import figures
from jaxroute.contest.judging import Judged, gains_by_domain
from jaxroute.contest.rows import Contest
from jaxroute.evaluation import Interval
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
tr.first td { font-weight: 600; } td.tie { color: #555; }
@media (max-width: 700px) { body { padding: .7rem; } svg.wide { display: none; } svg.narrow { display: block; }
  td:first-child, th:first-child { max-width: 9rem; } }
@media print { svg.wide { display: block; } svg.narrow { display: none; } }
"""


def write_report(path: Path, contest: Contest, judged: Sequence[Judged], over: Sequence[Interval | None]) -> None:
    """`over` is the first router's AIQ less each one's."""
    first = judged[0]
    found = first if first.choice_at is not None else next((one for one in judged if one.choice_at is not None), None)
    parts = [_opening(contest, judged), _plane(contest, judged), _table(contest, judged, over), _gains(judged)]
    if found is not None:
        parts.append(_shares(contest, found))
        if contest.has_domains:
            parts.append(_domains(contest, found))
    if any(one.reliability for one in judged):
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


def _opening(contest: Contest, judged: Sequence[Judged]) -> str:
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in contest.notes)
    first = judged[0]
    verdict = "which may be luck" if first.gain.tie else "which is more than luck" if first.gain.low > 0 else "which is a loss"
    null = f" Choices shuffled across queries gain {100 * first.shuffled[0]:+.1f} by the hull alone." if first.shuffled else ""
    return (
        f"<ul>{notes}</ul><p><strong>{html.escape(first.name)}</strong> has an AIQ of {100 * first.aiq:.1f}, "
        f"{first.gain} points over the zero router, {verdict}.{null} Intervals are 95 percent, by paired bootstrap over the "
        f"test queries ({contest.resamples:,} resamples).</p>"
    )


def _plane(contest: Contest, judged: Sequence[Judged]) -> str:
    return _figure(
        "What money buys",
        figures.cost_quality(contest, judged),
        "Hulls of routers, by true mean cost. Dots are single models; the grey line, the zero router, mixes them by chance. "
        "The band is the first router's interval. AIQ is the mean height of a hull between the cheapest and the dearest model.",
    )


def _gains(judged: Sequence[Judged]) -> str:
    return _figure(
        "What every router gains",
        figures.gains(judged),
        "AIQ over the zero router, with intervals. Grey ticks: what 95 percent of shuffles of the same choices across queries "
        "stay below. Beyond the edge: routers that look at the outcomes, such as the oracle.",
    )


def _shares(contest: Contest, one: Judged) -> str:
    return _figure(
        "Who answers, as the budget moves",
        figures.shares(contest, one),
        f"Share of queries that {one.name} gives each model, from the cheapest (dark) to the dearest (light).",
    )


def _domains(contest: Contest, one: Judged) -> str:
    assert one.choice_at is not None
    return _figure(
        "Where it gains",
        figures.domains(gains_by_domain(contest, one.choice_at)),
        f"Quality of {one.name} over the zero router's at the same mean cost, about {_money(contest, contest.cost_at)}, by "
        "domain. With many domains, a few intervals miss zero by chance.",
    )


def _calibration(judged: Sequence[Judged]) -> str:
    return _figure(
        "Whether estimates mean what they say",
        figures.calibration(judged),
        "On the grey line, of the answers estimated at 0.7, 70 percent are right. The error is the expected calibration error.",
    )


def _table(contest: Contest, judged: Sequence[Judged], over: Sequence[Interval | None]) -> str:
    pair = any(one.apgr for one in judged)
    heads = [
        "router",
        "encoder",
        "AIQ",
        "over the zero router",
        "shuffled: mean, 95th",
        f"{judged[0].name} over it",
        "fixed price",
    ]
    heads += ["APGR", "CPT(50), CPT(80)"] * pair
    heads += ["cost of the best model's quality", "log-loss", "Brier", "calibration error"]
    rows = []
    for one, interval in zip(judged, over, strict=True):
        row = [
            one.name,
            one.entry.encoder,
            f"{100 * one.aiq:.1f}",
            _told(one.gain),
            _null(one),
            _told(interval),
            _told(one.deployed),
        ]
        if pair:
            row += [_share(one.apgr), ", ".join(f"{100 * share:.0f} %" for share in one.cpt or ())]
        row.append(f"{one.cost_of_best * contest.scale:.3g}" if np.isfinite(one.cost_of_best) else "never")
        row += [_number(one.log_loss), _number(one.brier)]
        row.append(_number(one.reliability.expected_calibration_error if one.reliability else None))
        rows.append(row)
    return _section(
        "The table",
        "AIQ and gains in points. <em>Fixed price</em>: the gain where the price of money is chosen on one half of the queries "
        "and each query of the other half is routed on its own. <em>Cost of the best model's quality</em>: the least mean "
        f"cost, in {contest.unit}, at which a hull is as high as the best single model. <em>Tie</em>: the interval leaves the "
        "sign open.",
        heads,
        rows,
    )


def _at(contest: Contest, judged: Sequence[Judged]) -> str:
    shown = [one for one in judged if one.account is not None]
    heads = ["router", "quality", "over the zero router, hulls", "total cost, dollars", "realised over budget, percent"]
    known = [one.account.columns() for one in shown if one.account]
    extra = [name for name in ("throughput", "negative_log_likelihood") if any(name in columns for columns in known)]
    heads += [{"throughput": "output tokens per second"}.get(name, "negative log-likelihood") for name in extra]
    heads += ["RouterArena score", "Gain@R", "Gain@B", "Gap@O"]
    rows = []
    for one in shown:
        assert one.account is not None and one.leaderboard is not None
        row = [one.name, f"{100 * one.account.quality:.1f}", _told(one.gain_at), f"{one.account.total_cost_usd:.4g}"]
        row.append(str(one.overrun or ""))
        row += [f"{value:.3g}" if (value := one.account.columns().get(name)) is not None else "" for name in extra]
        gains = (one.leaderboard.gain_over_random, one.leaderboard.gain_over_best, one.leaderboard.gap_to_oracle)
        row += ["" if one.arena is None else f"{100 * one.arena:.1f}", *(f"{100 * gain:+.1f} %" for gain in gains)]
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
    rows = [
        [one.name, *(f"{one.account.queries.get(model, 0):,}" for model in models)] for one in judged if one.account is not None
    ]
    return _section(
        "How many queries each model answers",
        f"At the same budget; models from cheap to dear. There are {len(contest.test):,} queries.",
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
    told = html.escape(caption)
    return f"<h2>{html.escape(title)}</h2>\n<figure>{drawing}<figcaption>{told}</figcaption></figure>"


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


def _told(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval}{' tie' if interval.tie else ''}"


def _null(one: Judged) -> str:
    return f"{100 * one.shuffled[0]:+.1f}, {100 * one.shuffled[1]:+.1f}" if one.shuffled else ""


def _share(interval: Interval | None) -> str:
    return "" if interval is None else f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _money(contest: Contest, cost_usd: float) -> str:
    return f"{cost_usd * contest.scale:.4g} {contest.unit}"
