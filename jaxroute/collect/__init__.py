"""Outcomes out of live models: asking them, grading what they answer, training data for the predictor.

- `collecting.py` runs a collection: `questions.py` reads what is asked, `asking.py` asks, `grading.py` grades, `database.py`
  keeps everything in one file, `summary.py` says what there is.
- `graders/` has one way to grade per file, `plans/` one way to choose what is asked.

What reads outcomes that others have graded belongs in `data`, and so does what reads a collection's file as a table. How a
model is asked and how money is counted is known in `endpoints` alone.
"""
