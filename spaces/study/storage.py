"""The part of a study file that says where a run folder is kept. It never stores a password."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ByteSize,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)

from cl_core.errors import BadRequest
from spaces.study.budget import seconds_in
from spaces.study.part import Part
from spaces.study.storage_url import split_password


class StoragePart(Part):
    """The place of a run folder, its checkpoints and its Optuna studies."""

    @field_validator("root", "checkpoints")
    @classmethod
    def _mounted(cls, value: str | None) -> str | None:
        if value is not None and "://" in value and not value.startswith(("s3://", "gs://", "az://")):
            raise BadRequest(
                "storage.root and storage.checkpoints must be folders, or URLs of s3://, gs:// or az://, "
                f"not {value!r}: mount it"
            )
        return value

    root: str = Field(
        default="runs/", min_length=1, description="parent folder; the run folder in it has the study's name"
    )
    checkpoints: str | None = Field(
        default=None,
        min_length=1,
        description="checkpoint store shared with other studies; by default checkpoints/ in the run folder",
    )
    share: bool = Field(
        default=True,
        description="train a first task once for all runs that have the same one",
    )
    checkpoint_bytes: Annotated[int | None, BeforeValidator(lambda value: _bytes(value))] = Field(
        default=None,
        gt=0,
        description="bytes of base checkpoints to keep, such as 20GB: the least recently used go, and are "
        "trained again where a run needs one",
    )
    every: Annotated[str | None, AfterValidator(lambda value: _span(value))] = Field(
        default="10min",
        description="time between two saves inside a task, at ends of epochs, such as 90s: a task that is "
        "cut short continues after the last; null: none",
    )
    optuna: str | None = Field(
        default=None,
        description="Optuna's studies: journal or sqlite (a file in the run folder), sqlite:///path, or "
        "postgresql://user@host/database (password in ~/.pgpass or PGPASSWORD); by default journal",
    )
    _password: str | None = PrivateAttr(default=None)

    @model_validator(mode="wrap")
    @classmethod
    def _out_of_sight(cls, value: object, handler: ModelWrapValidatorHandler[StoragePart]) -> StoragePart:
        """Take the password out of the URL before anything can show or store it."""
        given = value.get("optuna") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping) or not isinstance(given, str):
            return handler(value)
        url, password = split_password(given)
        part = handler({**value, "optuna": url})
        part._password = password
        return part

    @property
    def every_seconds(self) -> float | None:
        """`every` in seconds."""
        return None if self.every is None else seconds_in(self.every)

    @property
    def password(self) -> str | None:
        """The password from the URL of `optuna`. No dump of this part holds it."""
        return self._password


def _span(value: str | None) -> str | None:
    if value is not None:
        seconds_in(value, "storage.every")
    return value


def _bytes(value: object) -> object:
    """Return bytes with a unit, such as 20GB, as a number; other values as they are."""
    if not isinstance(value, str):
        return value
    try:
        return int(TypeAdapter(ByteSize).validate_python(value))
    except ValidationError as error:
        raise BadRequest(
            f"storage.checkpoint_bytes must be bytes, such as 500MB or 20GB, not {value!r}"
        ) from error
