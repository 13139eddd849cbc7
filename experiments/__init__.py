"""One question per file: run it, read a table, see a figure."""
