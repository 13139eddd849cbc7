"""A user evaluates routers: one table of outcomes in, one page, one table and its numbers out."""

import csv
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from jaxroute import cli
from jaxroute.contest.evaluate import EvaluateConfig, chosen_routers, evaluate
from jaxroute.contest.judging import enter, judge
from jaxroute.contest.results import printed
from jaxroute.contest.rows import ContestConfig, make_contest, read_contest
from jaxroute.data.sources import load_source
from jaxroute.data.table import RoutingTable
from jaxroute.errors import RouterError, SourceError, TableError
from jaxroute.evaluation import aiq_gain, area_gain, single_models, zero_router
from jaxroute.routers.base import find_router
from solvers import lagrangian

CHEAP = ("domain_mean", "prompt_length", "tensoropera_mlp:hidden=8:epochs=1")


@pytest.fixture(scope="module")
def simulated() -> RoutingTable:
    return load_source("simulated", queries=240, seed=3)


@pytest.fixture(scope="module")
def run(simulated, tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    test, train = simulated.split(0.4, seed=0)
    contest = make_contest(train, test, resamples=50)
    config = EvaluateConfig(router=CHEAP, solver=("lagrangian,exact",), budgets=11, shuffles=25, output=folder)
    return config, contest, evaluate(contest, config)


def test_every_router_is_judged_and_the_ones_every_report_shows_come_along(run):
    _, _, evaluation = run
    names = [one.name for one in evaluation.judged]
    assert names[:2] == ["domain_mean", "domain_mean (exact)"]
    assert {"best_single", "random", "prompt_length", "zero_router", "oracle"} <= set(names)
    best = max(evaluation.judged, key=lambda one: one.gain.value)
    assert best.name == "oracle"
    zero = next(one for one in evaluation.judged if one.name == "zero_router")
    assert (zero.gain.value, zero.gain.verdict) == (0.0, "tie")


def test_the_numbers_are_those_of_the_measures(run):
    _, contest, evaluation = run
    first, second = evaluation.judged[0], evaluation.judged[2]
    low, high = contest.costs
    wanted = area_gain(
        contest.test, first.entry.curve, zero_router(contest.train, contest.test), contest.weights,
        low=low, high=high, shuffles=25, questions=contest.questions,
    )  # fmt: skip
    assert first.gain == wanted
    hulls = aiq_gain(first.entry.curve, single_models(contest.test), contest.weights, low=low, high=high)
    assert (first.hull.gain.value, first.hull.gain.low) == pytest.approx((hulls.value, hulls.low))
    over = evaluation.against_first(second)
    assert over is not None and over.value == pytest.approx(first.gain.value - second.gain.value)
    assert over.low < over.value < over.high
    assert evaluation.against_first(first) is None


def test_an_assignment_keeps_its_expected_budget_and_says_what_it_really_cost(run):
    _, contest, evaluation = run
    for one in evaluation.judged:
        if one.at is None:
            continue
        cells = np.arange(len(contest.test)), one.at.choice.choice
        assert one.entry.estimated.expected_cost_usd[cells].mean() <= contest.cost_at * (1 + 1e-9)
        realised = contest.test.cost_usd[cells]
        assert one.at.account.total_cost_usd == pytest.approx(realised.sum())
        assert one.at.overrun.value == pytest.approx(realised.mean() / contest.cost_at - 1)
        assert sum(one.at.account.queries.values()) == len(contest.test)


def test_what_is_written_says_the_same_everywhere(run):
    config, contest, evaluation = run
    with (config.output / "table.csv").open(encoding="utf-8") as file:
        rows = {row["router"]: row for row in csv.DictReader(file)}
    result = json.loads((config.output / "result.json").read_text())
    assert result["queries"] == len(contest.test)
    for one in evaluation.judged:
        row = rows[one.name]
        assert float(row["gain"]) == pytest.approx(one.gain.value)
        assert float(row["gain_high"]) == result[f"{one.name} gain_high"] == pytest.approx(one.gain.high)
        assert float(row["p_value"]) == one.gain.p_value
        assert row["verdict"] == result[f"{one.name} verdict"] == one.gain.verdict in ("gain", "tie", "loss")
        assert float(row["hull_aiq"]) == pytest.approx(one.hull.aiq)
    assert "throughput" in "".join(rows["domain_mean"]), "the simulation has latencies"


def test_a_router_that_knows_what_answers_cost_is_judged_with_that(simulated):
    """The same estimates with every query's own costs spend less for the same quality; they are measured with the true ones."""
    test, train = simulated.split(0.4, seed=0)
    contest = make_contest(train, test, resamples=50)
    quality = find_router("domain_mean").fit(contest.train).estimate(contest.test.queries).quality
    blind = enter(contest, "blind", "", quality, lagrangian, budgets=21)
    knowing = enter(contest, "knowing", "", quality, lagrangian, budgets=21, expected_cost_usd=contest.test.cost_usd)
    assert blind.estimated is not None and knowing.estimated is not None
    assert (blind.estimated.expected_cost_usd == contest.expected_cost_usd).all()
    assert contest.difference(knowing.curve, blind.curve).value > 0
    judged = judge(contest, knowing, shuffles=25)
    assert judged.at is not None and judged.at.overrun.value == pytest.approx(0, abs=1e-3)


def test_luck_is_no_gain_and_nothing_is_undefined(tmp_path):
    """Two models, right with probability 0.5 and 0.7 whatever is asked, of which the hull made +3.9 points."""
    generator = np.random.default_rng(11)
    quality = (generator.uniform(size=(300, 2)) < [0.5, 0.7]).astype(float)
    table = RoutingTable([f"prompt {row}" for row in range(300)], ["weak", "strong"], quality, np.array([0.0001, 0.01]))
    test, train = table.split(0.3, seed=0)
    config = EvaluateConfig(router=("random",), budgets=31, output=tmp_path / "run")
    evaluation = evaluate(make_contest(train, test), config)
    assert "gain" not in {one.gain.verdict for one in evaluation.judged if one.name != "oracle"}
    assert evaluation.judged[0].hull.gain.low > 0, "the hull calls it more than luck"
    written = "".join((tmp_path / "run" / name).read_text() for name in ("table.csv", "result.json", "report.html"))
    assert "nan" not in written and "tie: it may be luck" in written
    assert "nan" not in printed(evaluation)


def test_models_of_one_cost_are_compared_by_quality(tmp_path):
    """Nothing can be bought: the router's choice by its estimates alone, against the single model that was best in training."""
    law = np.arange(200) % 2 == 0
    chance = np.where(law[:, None], [0.8, 0.5], [0.4, 0.6])
    table = RoutingTable(
        [f"prompt {row}" for row in range(200)],
        ["lawyer", "physicist"],
        (np.random.default_rng(0).uniform(size=(200, 2)) < chance).astype(float),
        np.full(2, 0.002),
        domains=["law" if one else "physics" for one in law],
    )
    test, train = table.split(0.5, seed=0)
    contest = make_contest(train, test, resamples=100)
    assert contest.same_cost and any("every model costs 0.002 dollars" in note for note in contest.notes)
    config = EvaluateConfig(router=("domain_mean", "best_single"), budgets=11, shuffles=99, output=tmp_path / "run")
    evaluation = evaluate(contest, config)
    first, single = evaluation.judged[:2]
    estimates = first.entry.estimated.quality
    picked = contest.test.quality[np.arange(len(contest.test)), estimates.argmax(axis=1)].mean()
    best = contest.test.quality[:, train.quality.mean(axis=0).argmax()].mean()
    assert first.gain.value == pytest.approx(picked - best) and first.gain.low < first.gain.value < first.gain.high
    assert (single.gain.value, single.gain.verdict) == (0.0, "tie")
    assert next(one for one in evaluation.judged if one.name == "oracle").gain.verdict == "gain"
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "at the cost that all models have" in page and "nan" not in page
    assert "which is what every model costs" in printed(evaluation)


def test_repeated_questions_are_counted(simulated):
    test, train = simulated.split(0.4, seed=0)
    rows = [*range(len(test)), 0, 1]
    twice = RoutingTable([test.prompts[row] for row in rows], test.models, test.quality[rows], test.cost_usd[rows])
    contest = make_contest(train, twice, resamples=20)
    assert any("2 test queries repeat a question" in note for note in contest.notes)
    assert np.array_equal(contest.weights[:, 0], contest.weights[:, len(test)])


class Page(HTMLParser):
    """What a browser would fetch, and the names of the page's parts."""

    def __init__(self):
        super().__init__()
        self.fetched, self.ids, self.drawings = [], [], 0

    def handle_starttag(self, tag, attrs):
        self.fetched += [value for name, value in attrs if name in ("src", "href", "xlink:href") and not value.startswith("#")]
        self.ids += [value for name, value in attrs if name == "id"]
        self.drawings += tag == "svg"


def test_the_page_needs_nothing_else(run):
    config, _, _ = run
    text = (config.output / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.fetched == [] and not re.search(r"@import|url\((?!#)", text)
    assert page.drawings == 10, "five figures, each in two shapes"
    assert len(page.ids) == len(set(page.ids))
    assert set(re.findall(r"url\(#([^)]+)\)", text)) <= set(page.ids)
    assert len(text) < 3_000_000
    for name in ("domain_mean", "prompt_length", "sim-frontier", "a simulation, not real models"):
        assert name in text


def test_a_second_run_trains_nothing_again(run, monkeypatch):
    config, contest, evaluation = run
    monkeypatch.setattr("jaxroute.routers.base.RouterKind.fit", lambda *_: pytest.fail("trained again"))
    again = evaluate(contest, config)
    assert [one.gain for one in again.judged] == [one.gain for one in evaluation.judged]


def test_two_models_have_routellms_measures(simulated, tmp_path):
    simulated.save(tmp_path / "outcomes.parquet")
    pair = ("sim-small", "sim-frontier")
    contest = read_contest(ContestConfig(table=tmp_path / "outcomes.parquet", models=pair, resamples=30))
    assert contest.test.models == contest.train.models == [*pair]
    found = evaluate(contest, EvaluateConfig(router=("domain_mean",), budgets=9, shuffles=20, output=tmp_path / "run"))
    first = found.judged[0]
    assert first.pair is not None and first.pair.apgr.low <= first.pair.apgr.value <= first.pair.apgr.high
    assert 0 <= first.pair.cpt[0] <= first.pair.cpt[1] <= 1
    assert "APGR" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")


def test_rows_that_stand_in_training_or_lack_a_model_are_not_judged(simulated):
    test, train = simulated.split(0.4, seed=0)
    holed = test.select(np.arange(20))
    holed.quality[3, 1] = np.nan
    both = RoutingTable(
        prompts=[*holed.prompts, train.prompts[0]],
        models=test.models,
        quality=np.concatenate([holed.quality, train.quality[:1]]),
        cost_usd=np.concatenate([holed.cost_usd, train.cost_usd[:1]]),
    )
    contest = make_contest(train, both)
    assert len(contest.test) == 19 and train.prompts[0] not in contest.test.prompts
    assert any("1 test queries dropped whose text" in note for note in contest.notes)


def test_loader_options_and_a_price_list_are_passed_on(tmp_path):
    assert len(read_contest(ContestConfig(source="simulated", option=("queries=60",))).test) < 30
    lines = ["prompt,a|quality,b|quality,a|input_tokens,b|input_tokens,a|output_tokens,b|output_tokens"]
    lines += [f"question {row},{row % 2 * 10},10,100,100,50,50" for row in range(20)]
    (tmp_path / "outcomes.csv").write_text("\n".join(lines))
    (tmp_path / "prices.json").write_text(
        json.dumps({model: {"input": 1.0, "output": 2.0 * at} for at, model in ((1, "a"), (3, "b"))})
    )
    config = ContestConfig(table=tmp_path / "outcomes.csv", option=("scale=10",), prices=tmp_path / "prices.json")
    contest = read_contest(config)
    assert contest.expected_cost_usd == pytest.approx([2e-4, 4e-4])
    assert contest.test.quality.max() == 1.0
    with pytest.raises(SourceError, match="option='size=3': the source 'table' knows"):
        read_contest(replace(config, option=("size=3",)))


def test_options_with_commas_belong_to_their_router():
    config = EvaluateConfig(router=("predictor:layers=10,20,knn:neighbours=5", "random"))
    assert [kind.spec for kind in chosen_routers(config)] == ["predictor:layers=10,20", "knn:neighbours=5", "random"]
    assert len(chosen_routers(EvaluateConfig(router=("all",)))) > 10


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: EvaluateConfig(solver=("simplex",)), TableError, "simplex"),
        (lambda: EvaluateConfig(budgets=1), TableError, "budgets=1"),
        (lambda: EvaluateConfig(shuffles=19), TableError, "shuffles=19 must be at least 20"),
        (lambda: ContestConfig(test_fraction=1.5), TableError, "test_fraction=1.5"),
        (lambda: ContestConfig(test_path=Path("a")), TableError, "test_path='a'"),
        (lambda: ContestConfig(models=("sim-nano",)), TableError, "models=sim-nano must be at least two"),
        (lambda: read_contest(ContestConfig(source="simulated", models=("sim-nano", "gpt"))), TableError, "unknown model gpt"),
        (lambda: chosen_routers(EvaluateConfig(router=("knn", "knn"))), RouterError, "none twice"),
        (lambda: chosen_routers(EvaluateConfig(router=("nearest",))), RouterError, "nearest"),
        (lambda: read_contest(ContestConfig(source="simulated", table=Path("t.csv"))), Exception, "table"),
    ],
)
def test_bad_input_is_refused_before_any_work(make, error, words):
    with pytest.raises(error, match=re.escape(words)):
        make()


def test_the_command_refuses_a_folder_of_other_files(tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    arguments = ["evaluate", "--source", "simulated", "--router", "random", "--output", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["jaxroute", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == cli.BAD_INPUT and "holds other files" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.slow
def test_a_checkpoint_is_judged_beside_the_router_that_it_is_of(simulated, tmp_path):
    test, train = simulated.split(0.4, seed=0)
    find_router("domain_mean").fit(train).save(tmp_path / "checkpoint")
    contest = make_contest(train, test, resamples=20)
    config = EvaluateConfig(router=("domain_mean",), checkpoint=(tmp_path / "checkpoint",), budgets=5, shuffles=20)
    judged = {one.name: one for one in evaluate(contest, replace(config, output=tmp_path / "run")).judged}
    assert judged[str(tmp_path / "checkpoint")].gain == judged["domain_mean"].gain
    without = contest.test.models[:-1]
    fewer = make_contest(train.select(models=without), test.select(models=without))
    find_router("domain_mean").fit(fewer.train).save(tmp_path / "checkpoint")
    with pytest.raises(TableError, match=f"not {contest.test.models[-1]}"):
        evaluate(contest, replace(config, output=tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_the_encoder_that_was_used_stands_in_the_table(simulated, tiny_encoder, tmp_path, fresh_cache):
    test, train = simulated.select(range(40)).split(0.4, seed=0)
    spec = f"knn:neighbours=3:encoder={tiny_encoder}"
    find_router(spec).fit(train).save(tmp_path / "checkpoint")
    config = EvaluateConfig(router=(spec, "domain_mean"), checkpoint=(tmp_path / "checkpoint",), budgets=5, shuffles=20)
    evaluation = evaluate(make_contest(train, test, resamples=20), replace(config, output=tmp_path / "run"))
    with (tmp_path / "run" / "table.csv").open(encoding="utf-8") as file:
        used = {row["router"]: row["encoder"] for row in csv.DictReader(file)}
    assert used[spec] == used[str(tmp_path / "checkpoint")] == tiny_encoder.name and used["domain_mean"] == ""
    assert f" {tiny_encoder.name[:8]} " in printed(evaluation)


def test_the_command_lists_the_routers(capsys):
    cli.main(["evaluate", "--router", "list"])
    listed = capsys.readouterr().out
    assert all(name in listed for name in ("knn", "bradley_terry", "tensoropera_bert", "cascade"))
