"""apricot-select's lazy greedy on a table of answers; run by a Python that has it, which need not have jaxroute.

PYTHON benchmarks/apricot_cover.py ANSWERS.npy SIZE     prints what is covered and the seconds of processor time
"""

from __future__ import annotations

import sys
import time
import warnings

import numpy as np


def main(path: str, size: int) -> None:
    warnings.simplefilter("ignore")
    from apricot import MaxCoverageSelection  # pyright: ignore[reportMissingImports]

    answered = np.load(path)
    by_model = np.ascontiguousarray(answered.T, np.float64)
    # It compiles on its first call.
    MaxCoverageSelection(8, threshold=1.0, optimizer="lazy").fit(by_model[:60, :100])
    started = time.process_time()
    chosen = np.asarray(MaxCoverageSelection(size, threshold=1.0, optimizer="lazy").fit(by_model).ranking)
    seconds = time.process_time() - started
    print(float(answered[:, np.unique(chosen)].any(axis=1).mean()), seconds)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
