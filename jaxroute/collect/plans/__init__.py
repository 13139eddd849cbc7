"""Which cells are asked, one plan per file; `base.py` finds them by name, or takes a file of yours.

To add one, write a file here with a dataclass `Config` and `build(config) -> Plan`.
"""

from jaxroute.collect.plans.base import Cell, Collected, Plan, find_plan, plan_names

__all__ = ["Cell", "Collected", "Plan", "find_plan", "plan_names"]
