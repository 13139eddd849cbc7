"""Fields that are computed when they are first read, such as bounds that nobody may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class _WhenRead:
    """A field that is what it was set to, or what the call that it was set to returns, which is made once."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            # For a dataclass, a value of the class would be the field's default.
            raise AttributeError(self.name)
        found = vars(instance)[self.name]
        if callable(found):
            vars(instance)[self.name] = found = found()
        return found

    def __set__(self, instance: Any, value: object) -> None:
        vars(instance)[self.name] = value


def when_read(*names: str) -> Callable[[type[Any]], type[Any]]:
    """Decorates a dataclass, frozen ones too: these fields may be set to calls without arguments.

    A copy or a pickle holds what the calls return.
    """

    def state(instance: Any) -> dict[str, Any]:
        return vars(instance) | {name: getattr(instance, name) for name in names}

    def decorate(made: type[Any]) -> type[Any]:
        for name in names:
            setattr(made, name, _WhenRead(name))
        setattr(made, "__getstate__", state)
        return made

    return decorate
