"""What a judge is asked and what its replies say, without asking anybody: `judge.py` beside this folder does that.

- `prompts.py` writes the request: the instructions, and the texts to be judged between tags that no text can close.
- `templates.py` reads a user's own wording.
- `verdicts.py` reads a reply: a level, or which of two answers is better.
- `orders.py` combines the verdicts on two answers in both orders.
"""
