"""Responses that an endpoint has stored: read, cancelled and deleted where they are, by the client that made them."""

from __future__ import annotations

import asyncio
import re

from starlette.types import Receive, Scope, Send

from jaxroute.errors import shortened
from jaxroute.serve.clients import authorised
from jaxroute.serve.exchange import read_body
from jaxroute.serve.headers import OWN, going_up, read_headers, read_query
from jaxroute.serve.refusals import Refused
from jaxroute.serve.service import Service
from jaxroute.serve.tries import Failure, Try

NUMBER = re.compile(r"[A-Za-z0-9._-]{1,256}")
MOST_BYTES = 65_536


class StoredResponses:
    """Plain ASGI for `/v1/responses/{number}` and what is beneath it; nothing is paid, so nothing is counted."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        service, state = self.service, self.service.state
        headers, query = read_headers(scope["headers"]), read_query(scope["query_string"])
        client = authorised(state.clients, headers)
        body = await read_body(receive, headers, MOST_BYTES, state.config.body_seconds)
        number: str = scope["path_params"]["number"]
        place = service.place(number, None if client is None else client.name) if NUMBER.fullmatch(number) else None
        upstream = None if place is None else state.upstreams.get(place.model)
        if upstream is None:
            raise Refused(
                404, "not_found", f"The response {shortened(number)} is not known here, or not any more.", param="response_id"
            )
        deadline = asyncio.get_running_loop().time() + state.config.timeouts.deadline_seconds
        below = scope["path"][len("/v1/responses") :]
        begun = False
        try:
            async with Try(service.session, upstream, state.config.timeouts, deadline) as current:
                up = going_up(headers, upstream.key, stream=False)
                if not body:
                    del up["content-type"]
                await current.open("response", body, up, method=scope["method"], below=below, query=query)
                own = (f"{OWN}model".encode(), upstream.endpoint.name.encode("latin-1", "replace"))
                begun = True
                await send({"type": "http.response.start", "status": 200, "headers": [*current.headers, own]})
                while data := await current.read():
                    await send({"type": "http.response.body", "body": data, "more_body": True})
        except Failure as failure:
            if begun:
                # Without its end, the client sees that it is cut.
                return
            if not failure.passes:
                raise failure.refused(upstream.endpoint.name) from None
            await send({"type": "http.response.start", "status": failure.status, "headers": failure.headers})
            await send({"type": "http.response.body", "body": failure.body})
            return
        await send({"type": "http.response.body", "body": b""})
