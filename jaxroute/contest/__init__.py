"""Routers side by side: the rows, the judging, the report and its figures.

A new measure is written in `evaluation` and read in `judging.py`; a new figure in `figures.py`.
"""
