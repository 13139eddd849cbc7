"""Fields that are computed when they are first read, such as bounds that nobody may ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")


class _WhenRead:
    """A field that is what it was set to, or what the call that it was set to returns, which is made once."""

    def __init__(self, name: str):
        self.name = name

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            # For a dataclass, a value of the class would be the field's default.
            raise AttributeError(self.name)
        fields: dict[str, Any] = instance.__dict__
        if callable(fields[self.name]):
            fields[self.name] = fields[self.name]()
        return fields[self.name]

    def __set__(self, instance: Any, value: object) -> None:
        instance.__dict__[self.name] = value


def when_read(*names: str) -> Callable[[type[Made]], type[Made]]:
    """Decorates a dataclass, frozen ones too: these fields may be set to calls without arguments.

    A copy or a pickle holds what the calls return.
    """

    def state(instance: Any) -> dict[str, Any]:
        fields: dict[str, Any] = instance.__dict__
        return fields | {name: getattr(instance, name) for name in names}

    def decorate(made: type[Made]) -> type[Made]:
        for name, changed in {"__getstate__": state, **{name: _WhenRead(name) for name in names}}.items():
            setattr(made, name, changed)
        return made

    return decorate
