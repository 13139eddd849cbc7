"""RouterBench's wide frame of eleven models: as CSV, as Parquet, or as the published pickle, read without trusting it."""

from __future__ import annotations

import ast
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from jaxroute.data.messages import prompt_text
from jaxroute.data.reading import Problems, Sheet, as_text, columns_match, names, numbers, read_sheet, such_cells, texts
from jaxroute.data.table import RoutingTable
from jaxroute.errors import PromptError, listed, shortened

if TYPE_CHECKING:
    import pandas as pd

COST, RESPONSE = "|total_cost", "|model_response"
REQUIRED = ["sample_id", "prompt", "eval_name"]
IGNORED = ["oracle_model_to_route_to", "cluster_id"]
"""RouterDC's parts add the clusters that its own training uses."""

# Everything that a pickled frame of texts and floats is made of; a name outside this list is refused, never imported.
ALLOWED_GLOBALS = {
    ("pandas.core.frame", "DataFrame"),
    ("pandas", "DataFrame"),
    ("pandas.core.internals.managers", "BlockManager"),
    ("pandas.core.internals.blocks", "new_block"),
    ("pandas._libs.internals", "_unpickle_block"),
    ("pandas.core.indexes.base", "_new_Index"),
    ("pandas.core.indexes.base", "Index"),
    ("pandas", "Index"),
    ("pandas.core.indexes.range", "RangeIndex"),
    ("pandas", "RangeIndex"),
    ("pandas.core.indexes.numeric", "Int64Index"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    ("builtins", "slice"),
}
# Names that moved between the versions that wrote such files and the installed one.
MOVED_GLOBALS = {("pandas.core.indexes.numeric", "Int64Index"): ("pandas.core.indexes.base", "Index")}


def load_routerbench(path: Path) -> RoutingTable:
    """Every row of the frame; the task (`eval_name`) is the domain, costs are dollars per query as published.

    An empty cell is a model that was not run on that query. Raises `SourceError` listing everything that is wrong.
    """
    problems = Problems(path, "RouterBench's wide frame")
    pickled = path.suffix in (".pkl", ".pickle")
    sheet = Sheet.of_frame(path, _read_pickle(path, problems)) if pickled else read_sheet(path, problems)
    columns = list(sheet.columns)
    models = [name.removesuffix(COST) for name in columns if name.endswith(COST)]
    if not models:
        problems.add(f"no column ends in {COST!r}: it names no model")
    optional = [*IGNORED, *(f"{model}{RESPONSE}" for model in models)]
    columns_match(sheet, problems, required=[*REQUIRED, *models], optional=[*optional, *(m + COST for m in models)])
    problems.stop()
    prompts = [_prompt(cell, sheet.cell(row, "prompt"), problems) for row, cell in enumerate(sheet.columns["prompt"])]
    quality = np.stack([numbers(sheet, model, problems, highest=1.0) for model in models], axis=1)
    cost = np.stack([numbers(sheet, model + COST, problems) for model in models], axis=1)
    unpaid = np.isnan(cost) & ~np.isnan(quality)
    if unpaid.any():
        row, column = np.argwhere(unpaid)[0]
        where = sheet.cell(row, models[column] + COST)
        problems.add(f"{where} is empty, and {models[column]!r} was run: it has no cost ({such_cells(int(unpaid.sum()))})")
    response = None
    if all(f"{model}{RESPONSE}" in columns for model in models):
        response = [texts(sheet, f"{model}{RESPONSE}", problems, allow_empty=True) for model in models]
    query_ids = _distinct(names(sheet, "sample_id", problems))
    domains = texts(sheet, "eval_name", problems)
    problems.stop()
    return RoutingTable(
        prompts=prompts,
        models=models,
        quality=quality,
        cost_usd=cost,
        query_ids=query_ids,
        domains=domains,
        response=None if response is None else np.array(response, dtype=object).T,
        name=f"RouterBench {path.stem}",
    )


def _prompt(cell: object, where: str, problems: Problems) -> str:
    """The prompt is stored as (the text of) a list of one text; a few rows hold two, which then follow one another."""
    if isinstance(cell, bytes):
        cell = as_text(cell) or cell
    if isinstance(cell, str) and cell.startswith("["):
        try:
            cell = ast.literal_eval(cell)
        except (ValueError, SyntaxError):
            pass
    if isinstance(cell, np.ndarray):
        cell = cell.tolist()
    try:
        if not isinstance(cell, list):
            return prompt_text(cell)
        if all(isinstance(text, str) for text in cell):
            return prompt_text("\n\n".join(dict.fromkeys(cell)))
        raise PromptError(f"is not a list of texts: {shortened(cell)}")
    except PromptError as error:
        problems.add(f"{where} {error}")
        return ""


def _distinct(ids: list[str]) -> list[str]:
    """The frame repeats a few sample ids; from the second on they are numbered."""
    count = dict.fromkeys(ids, 0)
    result = []
    for name in ids:
        count[name] += 1
        result.append(name if count[name] == 1 else f"{name}#{count[name]}")
    return result


def _read_pickle(path: Path, problems: Problems) -> pd.DataFrame:
    import pandas as pd

    try:
        with path.open("rb") as file:
            frame = FrameUnpickler(file).load()
        if not isinstance(frame, pd.DataFrame):
            raise pickle.UnpicklingError(f"it holds a {type(frame).__name__}, not a pandas DataFrame")
        if not len(frame):
            raise pickle.UnpicklingError("it has no rows")
        if not frame.columns.is_unique:
            raise pickle.UnpicklingError(f"columns that appear twice: {listed(frame.columns[frame.columns.duplicated()])}")
    except Exception as error:  # hostile bytes can raise anything; all of it means "not such a file"
        problems.add(f"it cannot be read as a pickled frame: {error}; a frame saved as CSV or Parquet is read as well")
        problems.stop()
        raise
    return frame


class FrameUnpickler(pickle._Unpickler):
    """An unpickler that can build a frame and nothing else; the one written in Python, since that one can be checked."""

    dispatch: ClassVar[dict] = dict(pickle._Unpickler.dispatch)

    # Type stubs know of neither the Python unpickler's stack nor its opcodes.
    def load_build(self) -> None:
        # BUILD fills an object's state; on a class it would change the class for the whole process.
        target = self.stack[-2]  # pyright: ignore[reportAttributeAccessIssue]
        if callable(target):
            raise pickle.UnpicklingError(f"it tries to change {target!r}; refused")
        super().load_build()  # pyright: ignore[reportAttributeAccessIssue]

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in ALLOWED_GLOBALS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which a frame does not need; refused")
        module, name = MOVED_GLOBALS.get((module, name), (module, name))
        return super().find_class(module.replace("numpy.core.", "numpy._core."), name)
