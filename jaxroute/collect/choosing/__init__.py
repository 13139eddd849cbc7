"""Which cells are worth asking: a posterior of what is known, what a cell would add, and how cells are shared among models.

Nothing here asks anything. `plans/adaptive.py` makes a plan of it, `experiments/which_cells.py` compares the ways to choose.
"""
