"""The OpenAI-compatible proxy: live requests, each sent to one model, within a budget.

- `bodies.py` reads a request's JSON and changes single values in its bytes; `asking.py` says what the request asks for.
- `choosing.py` ranks models for a request. `accounts.py` holds the money for it, `clients.py` knows whose it is.
- `exchange.py` is one request and its response: it tries models in order and passes bytes on. `tries.py` is one try,
  `event_streams.py` what is read out of a stream while it passes.
- `pacing.py` follows the money with a price, by what `observed.py` has seen of the stream.
- `state.py` is what the files say at one moment, read again when they change. `app.py` has the routes, `server.py` runs them.
  `workers.py` is the parent of several processes, `worker_process.py` one of them; `shared.py` is what they know of each other.

What answers, routes or counts money without a request of HTTP belongs in the rooms beneath. To add a path, write its reader
in `asking.py` and its line in `app.py`; to rank models in another way, write another `Chooser`.
"""
