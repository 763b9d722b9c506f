# SPDX-License-Identifier: GPL-3.0-or-later
"""What a fault or an action may be told, and how a mistake in that is answered."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

TYPES: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


class ControlError(Exception):
    """The request makes no sense here; the text says what would. `status` is that of the HTTP answer."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True)
class Field:
    """One value of a fault or an action. Without `required`, `default` stands in for one that is not given."""

    type: type
    meaning: str
    default: Any = None
    choices: tuple[str, ...] = ()
    required: bool = False
    minimum: float | None = 0

    def told(self) -> dict[str, Any]:
        """For the endpoint's own description."""
        described: dict[str, Any] = {"type": TYPES[self.type], "meaning": self.meaning}
        if self.choices:
            described["choices"] = list(self.choices)
        if self.required:
            described["required"] = True
        elif self.default is not None:
            described["default"] = self.default
        return described


Schema = Mapping[str, Field]


def read(what: str, schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """All values of the schema, checked and completed. Raises ControlError."""
    unknown = sorted(set(given) - set(schema))
    if unknown:
        raise ControlError(
            f"{what} has no {', '.join(unknown)}; it takes {', '.join(sorted(schema)) or 'nothing'}."
        )
    missing = sorted(name for name, field in schema.items() if field.required and given.get(name) is None)
    if missing:
        raise ControlError(f"{what} needs {', '.join(missing)}; it takes {', '.join(sorted(schema))}.")
    return {
        name: field.default if given.get(name) is None else _checked(what, name, field, given[name])
        for name, field in schema.items()
    }


def _checked(what: str, name: str, field: Field, value: Any) -> Any:
    fits = isinstance(value, field.type) or (field.type is float and isinstance(value, int))
    if not fits or (isinstance(value, bool) and field.type is not bool):
        raise ControlError(f"{name} of {what} must be {TYPES[field.type]}, not {value!r}.")
    if field.choices and value not in field.choices:
        raise ControlError(f"{name} of {what} must be one of {', '.join(field.choices)}, not {value!r}.")
    if field.minimum is not None and field.type in (int, float) and value < field.minimum:
        raise ControlError(f"{name} of {what} must be at least {field.minimum:g}, not {value!r}.")
    return value
