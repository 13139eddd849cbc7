"""Batches of any size: streams of prompts and shards of estimates; answers within a hard budget. Resumed after any stop.

`runs.run` answers what `prepare.prepare` has read, checked and estimated; `answering` makes the calls, `hard_budget` decides
which, `release` in which order, `answer_lines` writes the output. `shards.score_file` estimates files that do not fit into
memory, and `assigning.assign_shards` assigns shards within one budget.
"""
