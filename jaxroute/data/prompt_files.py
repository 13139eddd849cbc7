"""Several files of prompts read as one: a folder's or a glob's files, in the order of their names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxroute.data.prompts import ID_FIELDS, SUFFIXES, PromptFile, PromptRow, check_prompt_file
from jaxroute.errors import PromptError, counted, listed
from jaxroute.storage.places import matching

WILDCARDS = "*?["
MOST_FILES_SHOWN = 3
HIDDEN = (".", "_")
"""How names begin of what other programs leave beside their output, such as `_SUCCESS`."""


@dataclass(frozen=True)
class PromptFiles:
    """One file or several that were read once and found good; rows are counted over all of them."""

    given: str
    """What the user named: a file, a folder or a glob."""
    files: Sequence[PromptFile]

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    @property
    def rows(self) -> int:
        return sum(file.rows for file in self.files)

    @property
    def id_field(self) -> str | None:
        """`query_id`, `id` or `custom_id`, where a file has one."""
        named = {file.id_field for file in self.files}
        return next((name for name in ID_FIELDS if name in named), None)

    @property
    def id_kind(self) -> str:
        """`integer` where every id of every file is one, else `text`."""
        return "integer" if all(file.id_kind == "integer" for file in self.files) else "text"

    def read(self, skip: int = 0) -> Iterator[PromptRow]:
        """From row `skip` on, with ids of one kind; of several files, places name the file too."""
        for file in self.files:
            if skip >= file.rows:
                skip -= file.rows
                continue
            for row in file.read(skip):
                if self.id_kind == "text" and row.id is not None:
                    row = row._replace(id=str(row.id))
                yield row._replace(place=f"{file.path}, {row.place}") if len(self.files) > 1 else row
            skip = 0


def check_prompt_files(given: Path) -> PromptFiles:
    """Read all that a file, a folder or a glob names once, keeping nothing. Raises `PromptError` naming files and rows."""
    files, wrong = [], []
    for path in prompt_paths(given):
        try:
            files.append(check_prompt_file(path))
        except PromptError as error:
            wrong.append(str(error))
    if wrong:
        more = f"\nand {counted(len(wrong) - MOST_FILES_SHOWN, 'more file')}" if len(wrong) > MOST_FILES_SHOWN else ""
        raise PromptError("\n".join(wrong[:MOST_FILES_SHOWN]) + more)
    return PromptFiles(str(given), files)


def prompt_paths(given: Path) -> list[Path]:
    """The files that `given` names, sorted. Raises `PromptError` for a folder that holds anything else, lest it be left out."""
    if given.is_dir():
        found = sorted((path for path in given.iterdir() if not path.name.startswith(HIDDEN)), key=str)
        if others := [path.name for path in found if path.is_dir() or path.suffix not in SUFFIXES]:
            raise PromptError(
                f"prompts={str(given)!r} holds what is not a file of prompts ({', '.join(SUFFIXES)}): {listed(others)}. Name "
                f"the files that are meant with a pattern in quotes, such as '{given}/*.jsonl' or '{given}/**/*.parquet'"
            )
    elif any(mark in str(given) for mark in WILDCARDS) and not given.exists():
        found = matching(given)
    else:
        return [given]
    if not found:
        raise PromptError(f"prompts={str(given)!r}: there is no such file")
    return found
