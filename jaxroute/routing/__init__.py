"""The facade: load an estimator, route a batch within a budget, or one prompt at a price.

Commands, batches and servers route through `Router`. How quality is estimated belongs in `routers`, how budgets are met in
`solvers`.
"""
