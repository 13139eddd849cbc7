"""Tables of outcomes, prices and prompts, and the files that they come from.

`table.py` holds what every router learns from, `sources/` one published format per file: to add one, write its loader there and
list it in `sources/__init__.py`. Nothing here knows an encoder or an estimate.
"""
