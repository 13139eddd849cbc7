"""A request that is not answered, in OpenAI's shape: status, and `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

import json
from collections.abc import Mapping

from jaxroute.errors import shortened

MOST_MESSAGE = 1_000
TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


class Refused(Exception):
    """Why there is no answer."""

    def __init__(
        self, status: int, code: str, message: str, *, param: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})
        self.message = shortened(message, MOST_MESSAGE, quoted=False)

    @property
    def kind(self) -> str:
        """The `type` that OpenAI's clients know for such a status."""
        return TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")

    def body(self) -> bytes:
        """JSON, in ASCII, so that half of a surrogate pair in a name does no harm."""
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def invalid(message: str, param: str | None = None, *, code: str = "invalid_request") -> Refused:
    """Status 400."""
    return Refused(400, code, message, param=param)
