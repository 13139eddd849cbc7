"""Modules by name or file, with options, as people write them: `knn:neighbours=5`, `numeric:tolerance=0.01`, `mine.py`."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from importlib.machinery import SourceFileLoader
from io import StringIO
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeVar, get_type_hints

from jaxroute.errors import JaxrouteError, listed, shortened
from jaxroute.storage.digests import file_digest

Value = TypeVar("Value")
OPTION = re.compile(r"\s*\w+=")


@dataclass(frozen=True)
class Shelf:
    """Where modules of one kind are, a file each, and how errors name them."""

    package: str
    """Such as `jaxroute.routers`."""
    kind: str
    """What errors call one, such as `router`; a file of one's own gets it as a prefix."""
    error: type[JaxrouteError]
    """What is raised for all that is wrong."""
    others: tuple[str, ...] = ()
    """Modules of the package that are none."""

    def names(self) -> list[str]:
        """All that the package has, sorted."""
        folder = importlib.import_module(self.package).__path__
        return sorted(one.name for one in pkgutil.iter_modules(folder) if one.name not in self.others and not one.ispkg)

    def captions(self) -> dict[str, str]:
        """Name and caption of each: the first line of its docstring."""
        return {name: caption(importlib.import_module(f"{self.package}.{name}")) for name in self.names()}

    def module(self, spec: str) -> ModuleType:
        """The module that a name, or a file that ends in .py, says, whatever options follow."""
        name = spec.split(":")[0]
        if name.endswith(".py"):
            return self._own(name)
        if name not in self.names():
            known = ", ".join(self.names())
            raise self.error(f"{self.kind}={name!r} is unknown; known are {known}, or give a .py file of your own")
        return importlib.import_module(f"{self.package}.{name}")

    def config(self, spec: str, module: ModuleType) -> Any:
        """The module's `Config` with the options that follow its name."""
        known = [one.name for one in fields(module.Config)]
        texts = [name for name, hint in get_type_hints(module.Config).items() if hint is str]
        arguments: list[str] = []
        given = _parts(spec, texts)
        for part in given:
            option, equals, value = part.partition("=")
            if not equals or option not in known:
                raise self.error(
                    f"{self.kind}={spec!r}: {part!r} is none of its options, which are {', '.join(known) or 'none'}"
                )
            if value.casefold() in ("true", "false") and option not in texts:
                arguments.append(f"--{option}" if value.casefold() == "true" else f"--no-{option}")
            else:
                arguments += [f"--{option}={value}"] if option in texts else [f"--{option}", *value.split(",")]
        import tyro

        try:
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                return tyro.cli(module.Config, args=arguments) if arguments else module.Config()
        except SystemExit as error:
            # What a conversion or a `__post_init__` of the options says, where it was that.
            said = [text for text in getattr(error.__context__, "args", ())[:1] if isinstance(text, str)]
            why = f": {shortened(said[0], 300, quoted=False)}" if said else ""
            raise self.error(
                f"{self.kind}={shortened(spec)}: an option's value does not fit ({listed(given)}){why}; options are joined by "
                f"colons, as in NAME:option=value:other=value, and the defaults are "
                f"{shortened(str(module.Config()), 300, quoted=False)}"
            ) from None

    def own_code(self, module: ModuleType) -> str | None:
        """SHA-256 of a file of one's own; None for a module of the package."""
        return None if module.__name__.startswith(f"{self.package}.") else file_digest(Path(str(module.__file__)))

    def own_words(self, spec: str, module: ModuleType, name: str, call: Callable[[], Value]) -> Value:
        """What `call` returns; what a file of one's own does wrong in it is reported with its place in that file."""
        if module.__name__.startswith(f"{self.package}."):
            return call()
        try:
            return call()
        except JaxrouteError:
            raise
        except Exception as error:
            raise self.error(f"{self.kind}={shortened(spec)}: {name} failed{_where(error, module)}") from error

    def _own(self, name: str) -> ModuleType:
        if not Path(name).is_file():
            raise self.error(f"{self.kind}={name!r}: there is no such file")
        # Its own prefix, so that a file called random.py hides no other module.
        known_as = f"own_{self.kind}_{Path(name).stem}"
        described = importlib.util.spec_from_file_location(known_as, name, loader=_AsItIs(known_as, name))
        assert described is not None and described.loader is not None
        module = importlib.util.module_from_spec(described)
        # A dataclass whose annotations are texts looks its module up by name.
        sys.modules[described.name] = module
        try:
            described.loader.exec_module(module)
        except Exception as error:
            raise self.error(f"{self.kind}={shortened(name)} cannot be imported{_where(error, module)}") from error
        return module


class _AsItIs(SourceFileLoader):
    """Compiles what the file says now, and leaves no bytecode beside it: Python takes that for the file's own as long as its
    size and the second of its last change are the same, as they may be after a quick edit."""

    def get_code(self, fullname: str) -> CodeType:
        return self.source_to_code(self.get_data(self.path), self.path)


def caption(module: ModuleType) -> str:
    """The first line of its docstring."""
    return (module.__doc__ or "").split("\n")[0]


def _parts(spec: str, texts: list[str]) -> list[str]:
    """The options of a spec. A colon inside a text's value, as in a pattern, joins what follows where that is no option."""
    parts: list[str] = []
    for part in spec.split(":")[1:]:
        if parts and not OPTION.match(part) and parts[-1].partition("=")[0] in texts:
            parts[-1] += f":{part}"
        else:
            parts.append(part)
    return parts


def _where(error: Exception, module: ModuleType) -> str:
    """The error in words, with the last line of the module's file that led to it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == module.__file__]
    line = lines[-1] if lines else getattr(error, "lineno", None)
    place = f" in line {line}" if line else ""
    return f"{place}: {type(error).__name__}: {shortened(str(error), 300, quoted=False)}"
