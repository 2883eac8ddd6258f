"""Validate settings strictly, with errors that name the parameter, its value and the nearest right one."""

import contextlib
import difflib
import importlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError


def nearest(name: str, allowed: Iterable[str]) -> str:
    """Return a sentence that proposes the allowed name most like ``name`` in any case; empty where none is alike."""
    names = {other.lower(): other for other in allowed}
    match = difflib.get_close_matches(str(name).lower(), names, n=1, cutoff=0.5)
    return f" Did you mean {names[match[0]]!r}?" if match else ""


def choose(name: str, allowed: Iterable[str], what: str) -> str:
    """Return ``name`` if it is allowed; else raise ValueError with what is allowed and the nearest match."""
    allowed = list(allowed)
    if name not in allowed:
        raise ValueError(
            f"{what} {name!r} does not exist; it must be one of {', '.join(allowed)}.{nearest(name, allowed)}"
        )
    return name


EXPECTED = {  # type of a pydantic error, or pattern that a value does not fit -> what a reader can act on
    "dict_type": "a table of names and values",
    "model_type": "a table of settings, such as { dir = 'RGB' }",
    "string_type": "text, in quotes",
    "tuple_type": "a list, such as [255]",
    r"^(\w[\w.-]*)?$": "a name of letters, digits, '_', '-' and '.'",
    r"^[\w.-]+$": "a name of letters, digits, '_', '-' and '.'",
    "^[0-9]{1,4}$": "an id of at most four digits",
    "^#[0-9a-f]{6}$": "a colour such as '#00ff80', in small letters",
    "^(train|val|test.*)$": "train, val, or a name that begins with test",
}


@contextlib.contextmanager
def collect(errors: list[str]) -> Iterator[None]:
    """Add the message of a ValueError to ``errors`` in place of raising it."""
    try:
        yield
    except ValueError as error:
        errors.append(str(error))


def load_object(path: str) -> Any:
    """Import and return ``module:name``: registries name what is imported only when it is needed."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class Strict(BaseModel):
    """Settings that refuse unknown keys and wrong types with an error a reader can act on."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, validate_default=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: str = "") -> Self:
        """Validate ``values``.

        Args:
            values: parameter name -> value.
            where: put before the error, such as a notebook's name.

        Raises:
            ValueError: one line per parameter: its name, its value, what is allowed and the nearest match.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            lines = [cls._explain(problem) for problem in error.errors()]
        raise ValueError(f"{where + ': ' if where else ''}" + "\n".join(lines))

    @classmethod
    def _explain(cls, problem: Mapping[str, Any]) -> str:
        path = [str(part) for part in problem["loc"] if part != "[key]"] or ["settings"]
        name, value = ".".join(path), problem["input"]
        if problem["type"] == "extra_forbidden":
            known = cls._fields_at(path[:-1])
            hint = nearest(path[-1], known)
            return f"there is no parameter {name!r} (given {value!r}).{hint} Known: {', '.join(known) or 'none'}."
        if problem["type"] == "literal_error":
            allowed = [part.strip("'") for part in problem["ctx"]["expected"].replace(" or ", ", ").split(", ")]
            return f"{name} = {value!r} is not allowed: {problem['msg']}.{nearest(value, allowed)}"
        kind = problem.get("ctx", {}).get("pattern", problem["type"])
        if kind in EXPECTED and not (kind == "tuple_type" and isinstance(value, str)):
            return f"{name} = {value!r}: expected {EXPECTED[kind]}"
        as_text = isinstance(value, str) and value[:1] in "([{"
        hint = " (a list or tuple that arrived as text: pass JSON or YAML, as in -y 'name: [a, b]')" if as_text else ""
        return f"{name} = {value!r}: {problem['msg'].removeprefix('Value error, ')}{hint}"

    @classmethod
    def _fields_at(cls, path: list[str]) -> list[str]:
        model: Any = cls
        for part in path:
            annotation = model.model_fields[part].annotation
            model = annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else cls
        return list(model.model_fields)


def as_tuple(value: Any) -> Any:
    """Return a list, as JSON and notebooks have it, as a tuple; anything else as it is."""
    return tuple(value) if isinstance(value, list) else value


Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Counts = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(as_tuple)]
