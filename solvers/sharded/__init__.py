"""One budget over many shards: a problem that no machine holds, solved by small summaries of its pieces.

What belongs here: `solve_shards`, what it asks of a shard and of an engine (`Shard`, `Map`), and the price that it finds
(`Price`). What does not: files, and engines; those are `jaxroute.batch`.

`blocks` is the standard form of a few queries, `walking` their steps up the hull, `summaries` what a shard says of them,
`rounds` the search for the price, `repair` the last of the budget, `solving` the proof, `price` the choices. With capacities
`tolls` is the search, `weighing` the best choices at a price and tolls, `undecided` what a shard says of them, `brought` what
is solved in one place, `places` whether all queries have one.
"""

from solvers.sharded.blocks import Terms, WrongCell
from solvers.sharded.price import Assigned, Price
from solvers.sharded.shards import ArrayShard, Map, Shard
from solvers.sharded.solving import ShardedAssignment, solve_shards
from solvers.sharded.summaries import Total

__all__ = [
    "ArrayShard",
    "Assigned",
    "Map",
    "Price",
    "Shard",
    "ShardedAssignment",
    "Terms",
    "Total",
    "WrongCell",
    "solve_shards",
]
