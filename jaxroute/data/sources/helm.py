"""HELM's runs: one metric of every instance, without perturbed ones, with the tokens that HELM counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.prices import PriceList
from jaxroute.data.reading import Problems, as_text
from jaxroute.data.rows import Unreadable
from jaxroute.data.sources.logs import (
    Log,
    Record,
    entries,
    found_files,
    gathered,
    json_of,
    keys_of,
    log_problems,
    mapping,
    number,
    under,
)
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_options import TableOptions
from jaxroute.errors import PromptError, counted, listed, shortened

STATE, STATS = "scenario_state.json", "per_instance_stats.json"
MAIN = (
    "math_equiv_chain_of_thought",
    "math_equiv",
    "final_number_exact_match",
    "chain_of_thought_correctness",
    "exact_match_indicator",
    "ifeval_strict_accuracy",
    "wildbench_score_rescaled",
    "omni_math_accuracy",
    "safety_score",
    "f1_score",
    "quasi_exact_match",
    "exact_match",
    "bleu_4",
    "rouge_2",
)
"""Metrics that HELM's leaderboards name as the main one of a scenario, the special ones first."""
TOKENS = {"input_tokens": ("num_prompt_tokens",), "output_tokens": ("num_output_tokens", "num_completion_tokens")}
SECONDS = "inference_runtime"
OURS = ("model", "model_deployment")
"""Arguments in a run's name that are not the scenario's."""


def load_helm(
    path: Path | Sequence[Path],
    *,
    metric: str = "",
    scale: float = 1.0,
    clip: bool = False,
    prices: PriceList | Path | str | None = None,
    paid: bool = True,
) -> RoutingTable:
    """`path` is a suite's folder (`benchmark_output/runs/SUITE`), a run's, or a list of those.

    - A run is a folder with `scenario_state.json` and `per_instance_stats.json`; its name without the model is the domain.
    - `metric` names what counts, by default the scenario's main one, which the note names; of several, joined by commas, the
      first that a run has.
    - A query is a scenario's instance; its prompt, with HELM's examples, is what the first model was given.
    - Perturbed instances are dropped and counted, trials averaged, failed requests missing.

    Costs are tokens times `prices`. Raises `SourceError`.
    """
    options = TableOptions(scale=scale, clip=clip, repeats="mean", paid=paid, prices=prices)
    problems = log_problems(path, "runs of HELM")
    records: list[Record] = []
    used: dict[str, None] = {}
    perturbed = 0
    try:
        files = [file for file in found_files(path, (STATE,)) if file.name == STATE]
    except Unreadable as error:
        files = []
        problems.add(str(error))
    if not files and not problems.found:
        problems.add(f"it holds no {STATE}")
    for file in files:
        run = _Run.read(file, under(path, file), problems)
        if run is None:
            continue
        name = next((one for one in (metric.split(",") if metric else MAIN) if one in run.metrics), "")
        if not name:
            what = f"metric={metric!r} is none of its metrics" if metric else "its main metric is not known: give it as metric="
            problems.add(f"{run.name}: {what}; it has {listed(run.metrics, 24)}")
            continue
        used[f"{run.scenario}: {name}"] = None
        for state, place in run.states:
            if state["instance"].get("perturbation"):
                perturbed += 1
            elif record := _record(run, state, f"{run.name}, request_states[{place}]", name, problems):
                records.append(record)
    notes = [f"counted by {listed(used, 6)}"] * bool(used)
    notes += [f"{counted(perturbed, 'perturbed instance')} {'was' if perturbed == 1 else 'were'} dropped"] * bool(perturbed)
    return gathered(Log(records, notes), problems, options, "HELM")


@dataclass(frozen=True)
class _Run:
    """One model on one scenario."""

    name: str
    model: str
    scenario: str
    states: list[tuple[Mapping[str, Any], int]]
    """A request of each instance and trial, with its place."""
    stats: Mapping[tuple[str, str], Mapping[str, float]]
    """Every metric's mean, by instance and trial."""

    @property
    def metrics(self) -> list[str]:
        return list(dict.fromkeys(name for one in self.stats.values() for name in one))

    @staticmethod
    def read(file: Path, name: str, problems: Problems) -> _Run | None:
        found, beside = json_of(file, name, problems), file.with_name(STATS)
        if not beside.is_file():
            problems.add(f"{name}: there is no {STATS} beside it")
            return None
        stats = json_of(beside, f"{name.removesuffix(STATE)}{STATS}", problems)
        if found is None or stats is None:
            return None
        states, model = mapping(found).get("request_states"), mapping(mapping(found).get("adapter_spec")).get("model")
        if not isinstance(states, list) or not isinstance(model, str) or not model.strip():
            has = keys_of(found, "helm") if isinstance(found, dict) else "it is no object"
            problems.add(f"{name} has no request_states and adapter_spec.model: {has}")
            return None
        first: dict[tuple[str, ...], tuple[Mapping[str, Any], int]] = {}
        for place, state in enumerate(states):
            # Of a method with a request per reference the first shows the prompt.
            if isinstance(state, dict) and isinstance(state.get("instance"), dict):
                perturbation = state["instance"].get("perturbation")
                first.setdefault((*_key(state["instance"].get("id"), state), repr(perturbation)), (state, place))
        return _Run(name, model, _scenario(file.parent.name), list(first.values()), dict(_means(entries(stats))))


def _key(instance: Any, row: Mapping[str, Any]) -> tuple[str, str]:
    return f"{instance}", str(row.get("train_trial_index", 0))


def _means(stats: list[Any]) -> Iterator[tuple[tuple[str, str], Mapping[str, float]]]:
    """Of every unperturbed instance and trial the mean of every metric that was computed."""
    for row in stats:
        if isinstance(row, dict) and not row.get("perturbation"):
            means = {}
            for one in map(mapping, entries(row.get("stats"))):
                name, count = mapping(one.get("name")), number(one.get("count"))
                if name and not name.get("perturbation") and count:
                    means[str(name.get("name"))] = number(one.get("mean", number(one.get("sum")) / count))
            yield _key(row.get("instance_id"), row), means


def _scenario(folder: str) -> str:
    """`mmlu:subject=law,model=openai_gpt-4` without the model."""
    name, _, given = folder.partition(":")
    kept = [one for one in given.split(",") if one and one.partition("=")[0] not in OURS]
    return f"{name}:{','.join(kept)}" if kept else name


def _record(run: _Run, state: Mapping[str, Any], where: str, metric: str, problems: Problems) -> Record | None:
    request, result = mapping(state.get("request")), mapping(state.get("result"))
    try:
        prompt = prompt_text(_prompt(request))
    except PromptError as error:
        problems.add(f"{where}: the prompt {error}")
        return None
    instance, trial = _key(state["instance"].get("id"), state)
    means = run.stats.get((instance, trial), {})
    failed = result.get("success") is False
    first = mapping(next(iter(entries(result.get("completions"))), None))
    return Record(
        model=run.model,
        query=f"{run.scenario}/{instance}",
        prompt=prompt,
        score=np.nan if failed else means.get(metric, np.nan),
        where=where,
        domain=run.scenario,
        missing=f"failed: {shortened(str(result.get('error')), 40, quoted=False)}" if failed else f"no {metric}",
        **{part: next((means[one] for one in names if one in means), np.nan) for part, names in TOKENS.items()},
        latency_seconds=means.get(SECONDS, np.nan),
        response=as_text(first.get("text")) or "",
    )


def _prompt(request: Mapping[str, Any]) -> Any:
    """A text, chat messages, or a sequence of media as one message."""
    media = mapping(request.get("multimodal_prompt")).get("media_objects")
    if isinstance(media, list):
        return [{"role": "user", "content": [_part(one) for one in media if isinstance(one, dict)]}]
    return request.get("messages") or request.get("prompt")


def _part(media: Mapping[str, Any]) -> Mapping[str, Any]:
    kind = str(media.get("content_type", "")).partition("/")[0]
    if kind == "text":
        return {"type": "text", "text": media.get("text") or ""}
    return {"type": kind if kind in ("image", "audio", "video") else "file", "url": media.get("location") or ""}
