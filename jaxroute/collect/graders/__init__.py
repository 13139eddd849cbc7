"""Every way to grade an answer, one per file; `base.py` finds them by name, or takes a file of yours.

A grader is a module with `grade(answer, reference, question, config) -> Grade` and a frozen dataclass `Config` of its options.
To add one, write such a file here.
"""

from jaxroute.collect.graders.base import Grade, Grader, find_grader, grader_names

__all__ = ["Grade", "Grader", "find_grader", "grader_names"]
