"""The page at `/`: who answers, spend against budget, price, latencies, recent errors. One HTML text without any script."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import TYPE_CHECKING

from jaxroute.serve.finished import Finished

if TYPE_CHECKING:
    from jaxroute.serve.service import Service

MOST_RECENT = 2_000
MOST_ERRORS = 12
REFRESH_SECONDS = 5
STYLE = """
:root{color-scheme:light dark;--ink:#1d2433;--soft:#5d6778;--line:#dfe3ea;--paper:#fff;--card:#f6f7f9;--bar:#3b6fd4;
--warn:#b3471b}
@media(prefers-color-scheme:dark){:root{--ink:#e7eaf0;--soft:#9aa4b5;--line:#323a48;--paper:#151922;--card:#1d2330;--bar:#6f9bf0;
--warn:#f0936b}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.45 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:20px 16px 40px}h1{font-size:20px;margin:0}h2{font-size:15px;margin:28px 0 8px}
header{display:flex;flex-wrap:wrap;gap:4px 16px;align-items:baseline}header p{margin:0;color:var(--soft)}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(max(150px,22%),1fr));gap:10px;margin-top:16px}
.card{background:var(--card);border-radius:8px;padding:10px 12px}.card b{display:block;font-size:18px;font-weight:600;
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.card span{color:var(--soft);font-size:13px}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:6px 8px;border-bottom:1px solid var(--line);white-space:nowrap}
th{color:var(--soft);font-weight:500}
th:first-child,td:first-child,th.text,td.text{text-align:left}
td.text{white-space:normal;overflow-wrap:anywhere}
.bar{background:var(--line);height:8px;border-radius:4px;overflow:hidden}.bar i{display:block;height:100%;background:var(--bar)}
.note{margin:4px 0;overflow-wrap:anywhere}
.share{min-width:90px}.wide{margin:10px 0 4px}.warn{color:var(--warn)}.empty{color:var(--soft)}
"""


class Recent:
    """The latest requests, and when they ended."""

    def __init__(self) -> None:
        self.started = time.time()
        self.requests: deque[tuple[float, Finished]] = deque(maxlen=MOST_RECENT)

    def __call__(self, finished: Finished) -> None:
        """A request has ended."""
        self.requests.append((time.time(), finished))


def status_page(service: Service, recent: Recent) -> str:
    """HTML; it loads itself again every few seconds."""
    requests = [finished for _, finished in recent.requests]
    parts = [
        _header(service, recent),
        _wrong(service.wrong_files),
        *(f'<p class="warn">Drift: {escape(str(alarm))}</p>' for alarm in service.drift.alarms),
        _cards(service, requests),
        _promise(service),
        _budgets(service),
        "<h2>Who answers</h2>",
        _models(service, requests),
        "<h2>Recent errors</h2>",
        _errors(recent.requests),
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS}"><title>jaxroute serve</title><style>{STYLE}</style></head>'
    )
    return f"{head}<body><main>{''.join(parts)}</main></body></html>"


def _header(service: Service, recent: Recent) -> str:
    up = _duration(time.time() - recent.started)
    count, routed = len(service.state.upstreams), len(service.state.routed)
    worker = service.state.config.worker
    workers = "" if worker is None else f" on {worker.count} workers"
    said = f"{count} models, {routed} of them behind auto; running for {up}{workers}"
    return f"<header><h1>jaxroute serve</h1><p>{said}</p></header>"


def _wrong(message: str) -> str:
    if not message:
        return ""
    return f'<p class="warn">The files have changed and are wrong, so what was read before still holds: {escape(message)}</p>'


def _cards(service: Service, requests: Sequence[Finished]) -> str:
    answered = [one for one in requests if one.status == 200]
    routed = [one for one in answered if one.routed]
    overhead = _percentiles([one.overhead_seconds for one in answered])
    first = _percentiles([one.first_byte_seconds for one in answered if one.first_byte_seconds is not None])
    quality = [one.quality for one in routed if one.quality is not None]
    cards = [
        (f"{len(requests):,}", "latest requests, which count here"),
        (f"{service.figures()['requests_under_way']:,.0f}", "under way"),
        (f"{len(requests) - len(answered):,}", "without a whole answer"),
        (_milliseconds(first), "first byte, median / 99th"),
        (_milliseconds(overhead), "overhead, median / 99th"),
        (f"{sum(quality) / len(quality):.2f}" if quality else "-", "mean expected quality of auto"),
        (_unknown_share(service, routed), "of auto unlike the training prompts"),
        (f"{service.state.pace.multiplier:.4g}", "multiplier, quality per dollar"),
    ]
    return (
        '<div class="cards">'
        + "".join(f'<div class="card"><b>{a}</b><span>{escape(b)}</span></div>' for a, b in cards)
        + "</div>"
    )


def _unknown_share(service: Service, routed: Sequence[Finished]) -> str:
    known = [one.p_value for one in routed if one.p_value is not None]
    below = service.state.config.unknown_below
    return f"{100 * sum(value < below for value in known) / len(known):.2g} %" if known else "-"


def _promise(service: Service) -> str:
    promise, drift = service.state.promise, service.drift
    if promise is None:
        return ""
    first, *rest = str(promise).splitlines()
    if drift.unsupported:
        support = (
            "<p class='warn'>No longer supported, since the drift above: do what is said there, and then promise it again with "
            "`jaxroute guarantee` and outcomes of now.</p>"
        )
    elif drift.watch is None:
        support = "<p class='warn'>Drift is not watched: nothing would show that the promise no longer holds.</p>"
    else:
        prompts = "" if drift.watch.prompts is None else "of the prompts, and "
        rated = f"{drift.rated_answers:,} rated answers"
        unrated = "" if drift.rated_answers else ": until some are, a model that answers worse is not noticed"
        support = f"<p class='empty'>No alarm of drift speaks against it, {prompts}of {rated}{unrated}.</p>"
    said = [escape(line[:1].upper() + line[1:]) for line in (line.strip() for line in (first, *rest))]
    lines = "".join(f"<p class='note'>{line}</p>" for line in said[1:])
    return f"<h2>Promise</h2><p class='note'><b>{said[0]}</b></p>{support}{lines}"


def _budgets(service: Service) -> str:
    accounts, config = service.state.accounts, service.state.config
    rows = []
    named = [("all requests", accounts.everyone, config.budget)]
    named += [(one.name, accounts.clients.get(one.name), one.budget) for one in service.state.clients or ()]
    for name, ledger, budget in named:
        if ledger is None or budget is None:
            continue
        totals = ledger.totals()
        next_window = ledger.next_window
        per = "in total" if budget.per == "total" else f"per {budget.per}"
        ends = None if next_window is None else datetime.fromtimestamp(next_window, UTC)
        until = "" if ends is None else f", until {ends:%d %b %H:%M} UTC"
        share = min(1.0, (totals.settled_usd + totals.reserved_usd) / totals.limit_usd) if totals.limit_usd else 1.0
        rows.append(
            f"<p class='wide'><b>{escape(name)}</b>: {_usd(totals.settled_usd)} of {_usd(totals.limit_usd)} {per}"
            f"{until}; {_usd(totals.reserved_usd)} reserved</p><div class='bar'><i style='width:{100 * share:.1f}%'></i></div>"
        )
    return "<h2>Budget</h2>" + ("".join(rows) or '<p class="empty">Nothing limits what is spent.</p>')


def _models(service: Service, requests: Sequence[Finished]) -> str:
    answered = Counter(one.model for one in requests if one.status == 200 and one.model is not None)
    most = max(answered.values(), default=1)
    lines = []
    for name, upstream in sorted(service.state.upstreams.items(), key=lambda one: (-answered[one[0]], one[0])):
        own = [one for one in requests if one.model == name]
        failed = sum(1 for one in requests for model, _ in one.failures if model == name)
        seconds = _percentiles([one.total_seconds for one in own if one.status == 200])
        kind = "local" if upstream.endpoint.local else "auto" if name in service.state.routed else "by name"
        lines.append(
            f"<tr><td>{escape(name)}</td><td class='text'>{kind}</td><td class='share'><div class='bar'>"
            f"<i style='width:{100 * answered[name] / most:.0f}%'></i></div></td><td>{answered[name]:,}</td><td>{failed:,}</td>"
            f"<td>{_usd(sum(one.cost_usd or 0.0 for one in own))}</td><td>{_milliseconds(seconds)}</td></tr>"
        )
    head = (
        "<th>model</th><th class='text'>asked by</th><th class='text'>share</th><th>answers</th><th>failed</th><th>dollars</th>"
    )
    return f"<div class='scroll'><table><tr>{head}<th>ms, median / 99th</th></tr>{''.join(lines)}</table></div>"


def _errors(requests: Iterable[tuple[float, Finished]]) -> str:
    wrong = [(when, one) for when, one in requests if one.reason][-MOST_ERRORS:]
    if not wrong:
        return '<p class="empty">None.</p>'
    lines = "".join(
        f"<tr><td>{datetime.fromtimestamp(when, UTC):%H:%M:%S}</td><td>{one.status or '-'}</td>"
        f"<td class='text'>{escape(one.reason)}</td><td class='text'>{escape(one.model or '-')}</td></tr>"
        for when, one in reversed(wrong)
    )
    head = "<tr><th>UTC</th><th>status</th><th class='text'>reason</th><th class='text'>model</th></tr>"
    return f"<div class='scroll'><table>{head}{lines}</table></div>"


def _percentiles(values: Sequence[float]) -> tuple[float, float] | None:
    if not values:
        return None
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


def _milliseconds(pair: tuple[float, float] | None) -> str:
    if pair is None:
        return "-"
    return " / ".join(f"{1000 * one:,.0f}" if one >= 0.1 else f"{1000 * one:.1f}" for one in pair) + " ms"


def _usd(value: float) -> str:
    return f"${value:,.2f}" if value >= 1 or not value else f"${value:.4g}"


def _duration(seconds: float) -> str:
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
