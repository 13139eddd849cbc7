"""The paths: OpenAI's, and our own beside them."""

from __future__ import annotations

import json
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from jaxroute.errors import shortened
from jaxroute.serve.asking import AUTO, Kind
from jaxroute.serve.bodies import BadBody, Body
from jaxroute.serve.clients import ServedClient, authorised
from jaxroute.serve.exchange import Exchange, read_body
from jaxroute.serve.finished import Finished
from jaxroute.serve.headers import read_headers
from jaxroute.serve.refusals import Refused, invalid
from jaxroute.serve.service import Service
from jaxroute.serve.status_page import status_page
from jaxroute.serve.stored import StoredResponses

ASKING: dict[str, Kind] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/responses": "response",
    "/v1/embeddings": "embedding",
}


MOST_RATING_BYTES = 65_536
RATING_SECONDS = 10.0
LOOPBACK = ("127.0.0.1", "::1", "localhost")
PAGE_HEADERS = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'", "cache-control": "no-store"}


class _Asking:
    """A path that answers with a model; plain ASGI, so that bytes pass as they come."""

    def __init__(self, service: Service, kind: Kind) -> None:
        self.service = service
        self.kind: Kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await Exchange(self.service, self.kind, scope, receive, send).run()


def application(service: Service) -> Starlette:
    """All paths, answering with what `service` has."""

    async def models(request: Request) -> Response:
        client = _client(service, request)
        names = sorted(service.state.upstreams)
        if client is not None and client.models is not None:
            names = [name for name in names if name in client.models]
        if service.state.routed:
            names = [AUTO, *names]
        return _json({"object": "list", "data": [_model(name) for name in names]})

    async def model(request: Request) -> Response:
        client, name = _client(service, request), request.path_params["name"]
        hidden = client is not None and client.models is not None and name not in client.models
        known = name in service.state.upstreams and not hidden
        if not known and not (name == AUTO and service.state.routed):
            raise Refused(404, "model_not_found", "There is no such model here: GET /v1/models lists them.", param="model")
        return _json(_model(name))

    async def health(request: Request) -> Response:
        return _json({"status": "ok"})

    async def ready(request: Request) -> Response:
        return _json({"status": "ready", "models": len(service.state.upstreams), "routed": len(service.state.routed)})

    async def rate(request: Request) -> Response:
        client = _client(service, request)
        headers = read_headers(request.scope["headers"])
        number, quality = _rating(await read_body(request.receive, headers, MOST_RATING_BYTES, RATING_SECONDS))
        finished = _own(service.answers.get(number), client)
        kept = False
        if service.records is not None:
            known, owner = service.records.owner(number)
            kept = known and (client is None or owner == client.name) and service.records.rate(number, quality)
        if finished is None and not kept:
            raise Refused(404, "not_found", "No answer of that id is known here.", param="id")
        if finished is not None:
            if finished.rated is None:
                service.drift.rated(finished, quality)
            finished.rated = quality
            service.answers.put(number, finished)
        return _json({"id": number, "quality": quality, "recorded": kept})

    async def rated(request: Request) -> Response:
        finished = _own(service.answers.get(request.path_params["number"]), _client(service, request))
        if finished is None:
            raise Refused(404, "not_found", "No answer of that id is known here, or not any more.", param="id")
        return _json(finished.as_json())

    async def page(request: Request) -> Response:
        _check_may_look(service, request)
        await service.look_back()
        return Response(status_page(service, service.recent), media_type="text/html", headers=PAGE_HEADERS)

    async def metrics(request: Request) -> Response:
        _check_may_look(service, request)
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    routes: list[Any] = [Route(path, _Asking(service, kind), methods=["POST"]) for path, kind in ASKING.items()]
    stored = StoredResponses(service)
    routes += [
        Route("/v1/responses/{number}", stored, methods=["GET", "DELETE"]),
        Route("/v1/responses/{number}/input_items", stored, methods=["GET"]),
        Route("/v1/responses/{number}/cancel", stored, methods=["POST"]),
        Route("/v1/models", models),
        Route("/v1/models/{name:path}", model),
        Route("/v1/feedback", rate, methods=["POST"]),
        Route("/v1/feedback/{number}", rated),
        Route("/", page),
        Route("/metrics", metrics),
        Route("/healthz", health),
        Route("/readyz", ready),
    ]
    found = Starlette(routes=routes, exception_handlers={Refused: _refused, HTTPException: _http_error})
    # A redirect would lead to whatever the client calls this host.
    found.router.redirect_slashes = False
    return found


def _client(service: Service, request: Request) -> ServedClient | None:
    """Whose key it carries. Raises `Refused` where it needs one."""
    return authorised(service.state.clients, read_headers(request.scope["headers"]))


def _check_may_look(service: Service, request: Request) -> None:
    """What everybody spends is for this machine, and for those who have a key."""
    if request.client is None or request.client.host not in LOOPBACK:
        _client(service, request)


def _own(finished: Finished | None, client: ServedClient | None) -> Finished | None:
    """An answer, where it is this client's."""
    return finished if finished is not None and (client is None or finished.client == client.name) else None


def _rating(data: bytes) -> tuple[str, float]:
    """The id and the quality of `{"id": "jr-...", "quality": 0.8}`."""
    try:
        body = Body(data)
    except BadBody as error:
        raise invalid(f"The body is no JSON request: {error}.", code="invalid_json") from None
    number, quality = body.get("id"), body.get("quality")
    if not isinstance(number, str):
        raise invalid(f"id={shortened(number)} must be the x-jaxroute-id of an answer.", "id")
    if not isinstance(quality, bool | int | float) or not 0 <= quality <= 1:
        raise invalid(f"quality={shortened(quality)} must be a number from 0 to 1, or true or false.", "quality")
    return number, float(quality)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "jaxroute"}


def _json(content: Any) -> Response:
    return Response(json.dumps(content), media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return Response(error.body(), error.status, headers=error.headers, media_type="application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    """No such path, or another method."""
    assert isinstance(error, HTTPException)
    what = {404: "There is no such path here", 405: "The path takes another method"}.get(error.status_code, error.detail)
    refused = Refused(error.status_code, "not_found" if error.status_code == 404 else "bad_request", f"{what}.")
    return Response(refused.body(), refused.status, headers=error.headers, media_type="application/json")
