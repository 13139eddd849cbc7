"""Every way to estimate, one per file; `base.py` finds, trains, saves and loads them.

A router is a module with a frozen dataclass `Config` of its options, `fit(train, config)`, which returns arrays by name, and
`estimate(state, queries, config)`, which returns `(queries, models)`. To add one, write such a file here.
"""
