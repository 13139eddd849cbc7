"""The pages say what is there: options, modules, links and routers that they name exist."""

from __future__ import annotations

import json
import re
import runpy
import textwrap
from collections import defaultdict
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from jaxroute import SourceError, load_source
from jaxroute.cli import main
from jaxroute.collect.graders import find_grader, grader_names
from jaxroute.data.sources import SOURCES
from jaxroute.evaluation import outcome
from jaxroute.routers.base import find_router, router_names
from solvers import Problem, exact

ROOT = Path(__file__).parents[1]
DOOR = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*DOOR, *sorted((ROOT / "docs").rglob("*.md"))]


def shell_lines(page: Path) -> list[str]:
    """Commands in the page's shell blocks, continued lines joined."""
    blocks = re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    return [line.split("#")[0] for block in blocks for line in block.replace("\\\n", " ").splitlines()]


def options_named() -> dict[str, set[str]]:
    """The options that pages give to each command."""
    named: dict[str, set[str]] = defaultdict(set)
    for page in PAGES:
        for line in shell_lines(page):
            for command, rest in re.findall(r"\bjaxroute (prepare [a-z]+|[a-z]+)([^&']*)", line):
                named[command] |= set(re.findall(r"(--[a-z][a-z.-]*)", rest))
    return named


@pytest.mark.parametrize(("command", "named"), sorted(options_named().items()))
def test_commands_have_the_options_that_the_pages_give_them(command: str, named: set[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert named <= set(re.findall(r"--[a-z][a-z.-]*", capsys.readouterr().out))


def test_pages_name_experiments_and_benchmarks_that_exist():
    named = {name for page in PAGES for name in re.findall(r"-m ((?:experiments|benchmarks)\.\w+)", page.read_text())}
    assert named and all(find_spec(name) for name in named)


@pytest.mark.parametrize("page", DOOR, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path):
    """Those between pages of docs/ are checked by mkdocs."""
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_every_router_is_in_the_reference():
    page = (ROOT / "docs/reference/routers.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"::: jaxroute\.routers\.(\w+)", page)) == sorted([*router_names(), "base"])


@pytest.fixture
def recipes(tmp_path: Path) -> list[Path]:
    """The files of CONTRIBUTING.md's recipes: a router, a solver, a source, a measure, a grader."""
    blocks = re.findall(r"    ```python\n(.*?)    ```", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.DOTALL)
    files = [tmp_path / f"{name}.py" for name in ("router", "solver", "source", "measure", "grader")]
    for file, block in zip(files, blocks, strict=True):
        file.write_text(textwrap.dedent(block), encoding="utf-8")
    return files


def test_the_recipes_router_tells_prompts_apart_and_its_solver_stays_below_the_optimum(recipes: list[Path]):
    table = load_source("simulated", queries=120, seed=0)
    train, test = replace(table, cost_usd=table.mean_cost_usd()).split(0.5, seed=0)
    estimates = find_router(f"{recipes[0]}:strength=5").fit(train).estimate(test.queries)
    assert np.ptp(estimates.quality, axis=0).max() > 0

    problem = Problem(estimates.quality, estimates.cost_usd, budget_usd=0.05)
    found, best = runpy.run_path(str(recipes[1]))["cheapest"](problem), exact(problem)
    assert found.cost_usd <= best.cost_usd and found.value <= best.value <= found.bound
    share = runpy.run_path(str(recipes[3]))["share_of_best"]
    assert 0 < share(test, outcome(test, found)) < share(test, outcome(test, best)) < 1


def test_every_grader_and_every_source_of_logs_is_on_its_page():
    graders, sources = ((ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("graders.md", "own-data.md"))
    assert [name for name in grader_names() if f"\n| `{name}` |" not in graders] == []
    assert [name for name, source in SOURCES.items() if source.many and f"\n| `{name}` |" not in sources] == []


def test_the_recipes_grader_prefers_short_answers(recipes: list[Path]):
    grader = find_grader(f"{recipes[4]}:words=2")
    grader.check(None)
    assert [grader.grade(answer).score for answer in ("", "one two", "one two three four")] == [1, 1, 0.5]


def test_the_recipes_source_leaves_missing_scores_open_and_names_what_is_wrong(recipes: list[Path], tmp_path: Path):
    load, file = runpy.run_path(str(recipes[2]))["load_opinions"], tmp_path / "opinions.json"
    rows = [{"question": "Why?", "scores": {"a": 5}, "dollars": {"a": 0.1}}]
    rows += [{"question": "How?", "scores": {"a": 5, "b": 10}, "dollars": {"a": 0.1, "b": 1.0}}]
    file.write_text(json.dumps(rows))
    np.testing.assert_array_equal(load(file).quality, [[0.5, np.nan], [0.5, 1.0]])
    file.write_text(json.dumps([*rows, {"question": "Who?"}]))
    with pytest.raises(SourceError, match="question 2 lacks"):
        load(file)
