"""Error messages of a study file: one line in our words instead of pydantic's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from cl_core.errors import BadRequest, unknown
from spaces.study.storage_url import without_passwords

_MESSAGES: dict[str, Callable[[dict[str, Any]], str]] = {
    "invalid_key": lambda _: "must be a text",
    "int_type": lambda _: "must be a whole number",
    "int_from_float": lambda _: "must be a whole number",
    "float_type": lambda _: "must be a number",
    "finite_number": lambda _: "must be a finite number",
    "string_type": lambda _: "must be a text",
    "bool_type": lambda _: "must be true or false",
    "list_type": lambda _: "must be a list",
    "dict_type": lambda _: "must be a mapping",
    "model_type": lambda _: "must be a mapping",
    "greater_than": lambda c: f"must be greater than {c['gt']:g}",
    "greater_than_equal": lambda c: f"must be at least {c['ge']:g}",
    "less_than_equal": lambda c: f"must be at most {c['le']}",
    "less_than": lambda c: f"must be less than {c['lt']:g}",
    "literal_error": lambda c: f"must be {c['expected']}".replace("'", ""),
    "too_short": lambda _: "must not be empty",
    "string_too_short": lambda _: "must not be empty",
}


def known_keys(model: type[BaseModel], plain: Mapping[str, Any], prefix: str = "") -> None:
    """Raise BadRequest for a key that `model` or one of its parts lacks, with the nearest one."""
    for key, inner in plain.items():
        if key not in model.model_fields:
            raise unknown("study key", f"{prefix}{key}", [f"{prefix}{name}" for name in model.model_fields])
        annotation = model.model_fields[key].annotation
        union = get_origin(annotation) in (Union, UnionType)
        for part in get_args(annotation) if union else (annotation,):
            if isinstance(part, type) and issubclass(part, BaseModel) and isinstance(inner, Mapping):
                known_keys(part, inner, f"{prefix}{key}.")


def one_line(error: ValidationError) -> str:
    """Return the first error of pydantic in our words."""
    first, *others = error.errors(include_url=False)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, BadRequest):
        return str(cause)
    where = _where(first)
    if first["type"] == "missing":
        return f"{where} is missing: {_example(where)}"
    say = _MESSAGES.get(first["type"], lambda _: first["msg"].replace("Input should", "should"))
    near = ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        options = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        found = difflib.get_close_matches(first["input"], options, n=1, cutoff=0.5)
        near = f": did you mean {found[0]!r}?" if found else ""
    words = [other for other in others if other["type"] == "literal_error" and _where(other) == where]
    more = "".join(f" or {other['ctx']['expected']}" for other in words).replace("'", "")
    return f"{where} {say(first.get('ctx', {}))}{more}, not {cut(first['input'])}{near}"


def _where(error: Mapping[str, Any]) -> str:
    return ".".join(str(part) for part in error["loc"] if not _is_branch(part)) or "the study"


def cut(value: object) -> str:
    """Return a value as a message shows it: one line, not too long, without a URL's password."""
    shown = without_passwords(" ".join(repr(value).split()))
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _is_branch(part: object) -> bool:
    """Return true if a part of pydantic's location names a branch of a union, not a key."""
    names = ("str", "bool", "float", "[key]")
    return isinstance(part, str) and (part in names or part.startswith(("dict[", "function-", "literal[")))


def _example(where: str) -> str:
    return {
        "data": "write data: digits",
        "data.name": "write data: {name: digits}",
        "scenarios": "write scenarios: [B0-5tasks]",
        "methods": "write methods: [finetune, lwf]",
        "study": "give the study a name",
    }.get(where, "give it a value")
