"""Outcomes out of live models: asking them, grading what they answer, training data for the predictor.

`graders/` has one way to grade per file. What reads outcomes that others have graded belongs in `data.sources`.
"""
