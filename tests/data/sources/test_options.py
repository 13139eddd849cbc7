"""Loader options as a command takes them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jaxroute.data.sources import chosen_table
from jaxroute.errors import SourceError


def test_options_reach_the_loader() -> None:
    table = chosen_table(None, "simulated", None, ["queries=30", "seed=4"])
    assert len(table) == 30
    assert table.prompts != chosen_table(None, "simulated", None, ["queries=30"]).prompts


def test_a_name_alone_switches_on(data: Path) -> None:
    file = data / "routerdc" / "mmlu_test.json"
    graded, binary = (chosen_table(None, "routerdc", file, options) for options in ([], ["binary"]))
    assert set(binary.quality.ravel()) == {0.0, 1.0} and len(set(graded.quality.ravel())) > 2
    assert (binary.quality == (graded.quality > 0)).all()
    assert set(chosen_table(None, "routerdc", file, ["binary=no"]).quality.ravel()) == set(graded.quality.ravel())


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ("routerdc", ["decontaminate"], "the source 'routerdc' knows binary"),
        ("routerdc", ["binary=perhaps"], "option='binary=perhaps' must be one of true"),
        ("simulated", ["queries=many"], "option='queries=many' must be a number"),
        ("routerbench", ["clip"], "the source 'routerbench' knows no options"),
        ("routerdc", ["prices=list.json"], "--prices"),
    ],
)
def test_what_a_loader_does_not_know_is_refused_before_reading(source: str, options: list[str], words: str) -> None:
    with pytest.raises(SourceError, match=re.escape(words)):
        chosen_table(None, source, Path("nowhere"), options)


def test_a_price_list_goes_to_loaders_that_have_no_dollars_of_their_own(tmp_path: Path, data: Path) -> None:
    table = chosen_table(None, "routerdc", data / "routerdc" / "mmlu_test.json")
    prices = tmp_path / "prices.json"
    prices.write_text("{" + ",".join(f'"{model}": {{"input": 3.0, "output": 3.0}}' for model in table.models) + "}")
    assert chosen_table(None, "routerdc", data / "routerdc" / "mmlu_test.json", prices=prices).mean_cost_usd()[0] == 3.0
    with pytest.raises(SourceError, match="'routerbench' has dollars of its own"):
        chosen_table(None, "routerbench", Path("nowhere"), prices=prices)
