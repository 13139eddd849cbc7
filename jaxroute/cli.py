"""The command line: finds the command that was asked for, and imports nothing else."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence

from jaxroute import __version__
from jaxroute.storage.cache import keep_compiled

COMMANDS = {
    "demo": "The whole line on a simulated pool, in a minute and without any download.",
    "train": "Train a predictor, or another router, on a table of outcomes and write a checkpoint.",
    "route": "Assign every prompt of a file to a model within a budget.",
    "run": "Answer every prompt of a file within a budget that holds for what is really paid.",
    "score": "Estimate the quality of every model on every prompt of a file, of any size.",
    "evaluate": "Train routers on outcomes, judge them on others, and write a report, a table and its numbers.",
    "guarantee": "Promise a quality or a cost with a confidence, on outcomes that a router has not seen.",
    "assign": "Assign queries to models from files of estimates and costs; no predictor needed.",
    "universe": "Choose the models worth serving from a table of outcomes.",
    "collect": "Ask models questions within a budget, grade the answers, and keep everything in a database to train on.",
    "simulate": "Serve a simulated pool of models in OpenAI's wire format, to try endpoints without a key.",
    "prepare": "Prepare training questions: filter them, write new ones, drop those that are in a test set.",
    "serve": "Answer live requests as an OpenAI-compatible endpoint, routed within a budget.",
    "probes": "Draw the questions to ask a new model, so that a trained router can take it in.",
    "extend": "Add models to a checkpoint from a few graded answers each, remove some, or move to a new kind of traffic.",
    "sources": "List the sources of outcomes and the schema of your own, or fetch published files.",
}
"""Each is `jaxroute.commands.NAME`, whose `main` takes the dataclasses of its options."""
BAD_INPUT = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; raises `JaxrouteError` or `ProblemError` for bad input, before anything is written."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] in (["-h"], ["--help"]):
        print(_help())
        sys.exit(0)
    if given[:1] == ["--version"]:
        print(f"jaxroute {__version__}")
        sys.exit(0)
    if not given or given[0] not in COMMANDS:
        print(f"error: {given[0]!r} is no command\n\n{_help()}" if given else _help(), file=sys.stderr)
        sys.exit(BAD_INPUT)
    _check_once(given[1:])
    import tyro

    module = importlib.import_module(f"jaxroute.commands.{given[0]}")
    tyro.cli(module.main, args=given[1:], prog=f"jaxroute {given[0]}", description=COMMANDS[given[0]])


def run() -> None:
    """The console script: bad input ends with a message and exit status 2."""
    keep_compiled()
    warnings.showwarning = _show_warning
    try:
        main()
    except KeyboardInterrupt:
        print("interrupted; what is done is kept, so the same command resumes from there", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except OSError as error:
        # A name that is too long, a place without permission, a full disk.
        where = f": {str(error.filename)[:200]!r}" if error.filename else ""
        print(f"error: {error.strerror or error}{where}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except ValueError as error:
        if not _is_bad_input(error):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)


def _show_warning(message: Warning | str, category: type[Warning], *place: object) -> None:
    """What a user should know of, without the line of code that says it."""
    print(f"warning: {message}", file=sys.stderr)


def _help() -> str:
    width = max(map(len, COMMANDS))
    listed = "\n".join(f"  {name:<{width}}  {caption}" for name, caption in COMMANDS.items())
    return (
        "usage: jaxroute COMMAND [OPTIONS]\n\n"
        "Assign every prompt to a language model so that total quality is highest within a budget.\n\n"
        f"commands:\n{listed}\n\n`jaxroute COMMAND --help` lists the options of a command."
    )


def _check_once(arguments: Sequence[str]) -> None:
    """Of an option that is given twice the parser would keep the last value and say nothing."""
    names = [one.partition("=")[0].replace("_", "-") for one in arguments if one.startswith("--")]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        from jaxroute.errors import JaxrouteError

        raise JaxrouteError(f"{', '.join(twice)}: given more than once; give it once, with all its values behind it")


def _is_bad_input(error: ValueError) -> bool:
    from jaxroute.errors import JaxrouteError
    from solvers import ProblemError

    return isinstance(error, JaxrouteError | ProblemError)
