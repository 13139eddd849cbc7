"""The pages say what is there: options, modules, links and routers that they name exist."""

from __future__ import annotations

import re
from collections import defaultdict
from importlib.util import find_spec
from pathlib import Path

import pytest

from jaxroute.cli import main
from jaxroute.routers.base import router_names

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
            for command, rest in re.findall(r"\bjaxroute ([a-z]+)([^&']*)", line):
                named[command] |= set(re.findall(r"(--[a-z][a-z.-]*)", rest))
    return named


@pytest.mark.parametrize(("command", "named"), sorted(options_named().items()))
def test_commands_have_the_options_that_the_pages_give_them(command: str, named: set[str], capsys) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
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
