"""The names that users import: none may vanish, and importing the package loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import jaxroute

NAMES = (
    "Checkpoint CheckpointError EncoderError Estimates Estimator GraderError JaxrouteError OutputError Predictor PromptError "
    "Queries RouteRequest Router RouterError RoutingTable ScoringConfig SourceError TableError TrainConfig __version__ "
    "estimate_stream join load load_checkpoint load_source save_checkpoint train train_costs train_estimator"
)


def test_every_name_is_there() -> None:
    assert sorted(jaxroute.__all__) == sorted(NAMES.split())
    for name in NAMES.split():
        assert getattr(jaxroute, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Rooter'"):
        jaxroute.Rooter  # noqa: B018


def test_importing_the_package_and_asking_for_help_load_nothing_heavy() -> None:
    program = (
        "import sys, jaxroute.cli\n"
        "try: jaxroute.cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'jax', 'numpy', 'pandas', 'matplotlib', 'orbax', 'transformers', 'ortools', 'tyro'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    assert "universe" in _run(program)


def test_help_of_commands_whose_options_name_no_network_loads_no_jax() -> None:
    named = ["score", "route", "run", "assign", "universe", "collect", "simulate", "prepare", "serve", "sources"]
    program = (
        "import contextlib, io, sys, jaxroute.cli\n"
        f"for name in {named}:\n"
        "    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):\n"
        "        jaxroute.cli.main([name, '--help'])\n"
        "    heavy = {'jax', 'flax', 'optax', 'tokenizers', 'transformers', 'ortools', 'ray', 'scipy'} & set(sys.modules)\n"
        "    assert not heavy, f'{name} loads {heavy}'\n"
    )
    _run(program)


def _run(program: str) -> str:
    """What a process of its own prints."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
