"""`jaxroute evaluate`: routers that learnt from the same outcomes, judged on the same others, in one report."""

from __future__ import annotations

from typing import Annotated

import tyro

from jaxroute.contest.evaluate import EvaluateConfig, chosen_routers, evaluate, is_evaluation
from jaxroute.contest.results import Evaluation, printed
from jaxroute.contest.rows import ContestConfig, read_contest
from jaxroute.routers.base import router_names
from jaxroute.storage.files import check_folder


def main(
    rows: Annotated[ContestConfig, tyro.conf.arg(name="")], config: Annotated[EvaluateConfig, tyro.conf.arg(name="")]
) -> Evaluation | None:
    """Train routers on outcomes, judge them on others, and write a report; what is wrong is raised before any training."""
    if config.router == ("list",):
        print("\n".join(f"{name:<22} {caption}" for name, caption in router_names().items()))
        return None
    check_folder("output", config.output, ours=is_evaluation)
    chosen_routers(config)
    contest = read_contest(rows)
    print("\n".join(contest.notes))
    evaluation = evaluate(contest, config)
    print(printed(evaluation))
    print(f"written to {config.output}/: report.html, table.csv, result.json")
    return evaluation
