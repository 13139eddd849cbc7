"""jaxroute's own estimator: heads over an encoder's features, their fit, the costs of answers, training by gradients.

A new head goes into `heads.py` with its fit in `fitting.py`. Routers of other papers belong in `routers`.
"""
