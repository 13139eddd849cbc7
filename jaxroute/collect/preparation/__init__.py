"""Training data: which questions are worth asking, new ones, and none of the test set's; each job in a file of its own.

`texts.py` says when two texts are the same or nearly so. What asks, grades or stores answers belongs in the room above.
"""
