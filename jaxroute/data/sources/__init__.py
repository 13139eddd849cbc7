"""Published outcomes, in their authors' formats, as RoutingTables; `jaxroute sources` prints this list."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxroute.data.prices import ROUTOO_TABLE_1, PriceList
from jaxroute.data.sources.alpaca_eval import load_alpaca_eval
from jaxroute.data.sources.helm import load_helm
from jaxroute.data.sources.inspect_logs import load_inspect
from jaxroute.data.sources.llmrouterbench import load_llmrouterbench
from jaxroute.data.sources.lm_eval import load_lm_eval
from jaxroute.data.sources.options import loader_options, takes_price_file, takes_unpaid
from jaxroute.data.sources.paretobandit import load_paretobandit
from jaxroute.data.sources.routellm import load_gsm8k, load_mmlu
from jaxroute.data.sources.routerarena import load_routerarena
from jaxroute.data.sources.routerbench import load_routerbench
from jaxroute.data.sources.routerdc import load_routerdc
from jaxroute.data.sources.simulated import load_simulated, simulated_prices
from jaxroute.data.table import RoutingTable
from jaxroute.data.table_files import SCHEMA
from jaxroute.errors import SourceError, shortened


@dataclass(frozen=True)
class Source:
    """One published format: what it holds, where it comes from, what path its loader wants."""

    holds: str
    origin: str
    path: str
    load: Callable[..., RoutingTable]
    many: bool = False
    """Whether the loader takes a list of paths too."""


SOURCES: dict[str, Source] = {
    "routellm-mmlu": Source(
        holds="Mixtral 8x7B and GPT-4 Turbo, right or wrong, on 14,042 MMLU questions in 57 subjects",
        origin="github.com/lm-sys/RouteLLM, routellm/evals/mmlu (Apache-2.0)",
        path="the folder that holds responses/mmlu_<subject>.csv",
        load=load_mmlu,
    ),
    "routellm-gsm8k": Source(
        holds="the same two models on 1,319 GSM8K questions, with their answers",
        origin="github.com/lm-sys/RouteLLM, routellm/evals/gsm8k (Apache-2.0)",
        path="the folder that holds gsm8k_responses.csv",
        load=load_gsm8k,
    ),
    "routerdc": Source(
        holds="seven 7B and 8B models, graded in [0, 1], on 2,000 + 4,213 MMLU questions",
        origin="github.com/shuhao02/RouterDC, datasets/split2_model7",
        path="mmlu_train.json or mmlu_test.json",
        load=load_routerdc,
    ),
    "routerbench": Source(
        holds="eleven models from Mistral 7B to GPT-4 with their answers and dollars per query, zero-shot",
        origin="huggingface.co/datasets/withmartian/routerbench (MIT); CSV parts in github.com/shuhao02/RouterDC",
        path="one .csv, .parquet or .pkl of the wide frame",
        load=load_routerbench,
    ),
    "paretobandit": Source(
        holds="four current models, Llama 3.1 8B to Gemini 2.5 Pro, graded by a judge, with true dollars, on nine benchmarks",
        origin="github.com/ParetoBandit/ParetoBandit, data_collection/rewards (Apache-2.0)",
        path="val_k4.jsonl (1,766 prompts, to learn from) or test_k4.jsonl (1,793, to judge with)",
        load=load_paretobandit,
    ),
    "routerarena": Source(
        holds="current models' answers, tokens, dollars and scores on RouterArena's questions of some forty benchmarks",
        origin="github.com/RouteWorks/RouterArena, cached_results (Apache-2.0); options metric=, scale=, clip, and --prices",
        path="the folder cached_results, with a .jsonl per model; a cost.json in it gives prices",
        load=load_routerarena,
        many=True,
    ),
    "llmrouterbench": Source(
        holds="twenty models of about 7B, and thirteen flagship models with their dollars, on some twenty datasets",
        origin="github.com/ynulihao/LLMRouterBench, results/bench (MIT); options scale=, clip, and --prices",
        path="the folder results/bench, or one of a dataset in it",
        load=load_llmrouterbench,
        many=True,
    ),
    "alpaca-eval": Source(
        holds="a judge's preferences for many models' answers over a reference model's, on 805 instructions",
        origin="github.com/tatsu-lab/alpaca_eval, results; options annotator=, reference, and --prices",
        path="the folder results, with annotations.json in it by model and judge; or a list of such files",
        load=load_alpaca_eval,
        many=True,
    ),
    "lm-eval": Source(
        holds="your own runs of lm-eval-harness, several models",
        origin="github.com/EleutherAI/lm-evaluation-harness; options task=, filter=, metric=, scale=, clip, and --prices",
        path="the folder given as --output_path to lm_eval --log_samples, with a folder per model",
        load=load_lm_eval,
        many=True,
    ),
    "inspect": Source(
        holds="your own runs of inspect, several models",
        origin="github.com/UKGovernmentBEIS/inspect_ai; options task=, scorer=, scale=, clip, and --prices",
        path="the folder of its logs, .eval or .json",
        load=load_inspect,
        many=True,
    ),
    "helm": Source(
        holds="your own runs of HELM, or published ones, several models",
        origin="github.com/stanford-crfm/helm; options metric=, scale=, clip, and --prices",
        path="a suite's folder, benchmark_output/runs/SUITE, with scenario_state.json and per_instance_stats.json by run",
        load=load_helm,
        many=True,
    ),
    "simulated": Source(
        holds="ten invented models on templated questions of 13 domains: a simulation, made on the spot",
        origin="jaxroute.data.sources.simulated; options queries=1500, seed=0",
        path="none",
        load=load_simulated,
    ),
    "table": Source(
        holds="your own outcomes",
        origin="you",
        path="a .csv, .jsonl, .json or .parquet file in the schema below, or the database that `jaxroute collect` wrote",
        load=RoutingTable.load,
    ),
}


def load_source(name: str, path: Path | str | Sequence[Path | str] | None = None, **options: Any) -> RoutingTable:
    """The outcomes in `path`, in the format of the source `name`; `options` go to its loader. Logs may be a list of paths.

    Raises `SourceError` for an unknown name and for a file that is not what the loader expects.
    """
    if name not in SOURCES:
        raise SourceError(f"source={name!r} is unknown; known are {', '.join(SOURCES)}")
    if path is None and name != "simulated":
        raise SourceError(f"source={name!r} needs a path: {SOURCES[name].path}")
    if path is not None and name == "simulated":
        raise SourceError(f"path={str(path)!r}: the source 'simulated' is made on the spot and reads no file; leave it out")
    if path is None or isinstance(path, str | Path):
        return SOURCES[name].load(Path(path) if path is not None else None, **options)
    if not SOURCES[name].many:
        raise SourceError(f"path={shortened(path)}: the source {name!r} takes one path")
    return SOURCES[name].load([Path(one) for one in path], **options)


def chosen_table(
    table: Path | None,
    source: str | None,
    path: Path | None,
    options: Sequence[str] = (),
    *,
    prices: Path | None = None,
    paid: bool = True,
) -> RoutingTable:
    """What a command's --table names, or its --source with --path; `options` are `name=value` texts for the loader.

    With `paid` off, one's own outcomes need no dollars, and missing ones count as 0.
    Raises `SourceError` where it is not one of the two, and for an option that the loader does not know.
    """
    if (table is None) == (source is None):
        raise SourceError("give either --table FILE with your own outcomes, or --source NAME with --path")
    if table and path:
        raise SourceError(f"path={str(path)!r} goes with --source; --table names its file itself")
    name = source or "table"
    known = loader_options(name, SOURCES[name].load, options, prices) if name in SOURCES else {}
    unpaid = {"paid": False} if not paid and name in SOURCES and takes_unpaid(SOURCES[name].load) else {}
    return load_source(name, path if source else table, **known, **unpaid)


def makes_dollars(source: str | None) -> bool:
    """Whether a source, by default one's own table, takes a price list for outcomes that have tokens and no dollars."""
    return (source or "table") in SOURCES and takes_price_file(SOURCES[source or "table"].load)


def own_prices(source: str | None) -> PriceList | None:
    """The price list that a source's costs were made with, where there is one."""
    if source == "simulated":
        return simulated_prices()
    return ROUTOO_TABLE_1 if source in ("routellm-mmlu", "routellm-gsm8k", "routerdc") else None


__all__ = ["SCHEMA", "SOURCES", "Source", "chosen_table", "load_source", "makes_dollars", "own_prices"]
