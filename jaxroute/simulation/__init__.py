"""The simulated pool behind OpenAI's wire format: endpoints for demos and tests that need no key and cost nothing.

It lies above `data`, whose simulated pool it serves, and below everything that asks endpoints, so that demos may start it.
What asks endpoints belongs in `endpoints`.
"""
