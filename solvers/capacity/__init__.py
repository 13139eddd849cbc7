"""Capacities: the best choices at a multiplier when every model takes only so many queries.

What belongs here: `share`, the best choices and the tolls that prove them; `blend`, a mixture of two such assignments.
What does not: the search for the multiplier (`solvers.dual`), and anything that needs no capacity.
"""

from solvers.capacity.exchanges import blend
from solvers.capacity.sharing import Shared, share

__all__ = ["Shared", "blend", "share"]
