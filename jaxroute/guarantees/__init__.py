"""Guarantees: what may be promised of a router with a stated confidence, and when a promise no longer holds.

Here belongs what turns outcomes that a router was not trained on into a statement with an error probability: confidence
bounds, the promise of a quality or a cost, the flag of a prompt unlike the training prompts, the alarm that traffic changed.
How quality is estimated belongs in `routers` and `predictor`, how a table of results is judged in `evaluation`, printing in
`commands`.

A promise takes `Estimates` and outcomes, and nothing of the router that made them, so every `Estimator` gets it. To add a
guarantee, write a file with a frozen dataclass of what is claimed and a function that makes it from arrays; give the theorem's
source, say in words what it assumes of the rows, and show in the test that the claim fails no more often than it may.
"""
