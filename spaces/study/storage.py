"""Where a run is kept, as a study file says it; a password is never among what is kept."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, ModelWrapValidatorHandler, PrivateAttr, field_validator, model_validator

from cl_core.errors import BadRequest
from spaces.study.part import Part
from spaces.study.storage_url import split_password


class StoragePart(Part):
    """Where a run's folder lies."""

    @field_validator("root", "checkpoints")
    @classmethod
    def _mounted(cls, value: str | None) -> str | None:
        if value is not None and "://" in value:
            raise BadRequest(f"storage takes folders that are local or mounted here, not {value!r}: mount it")
        return value

    root: str = Field(
        default="runs/", min_length=1, description="the run's folder is made in here, named as the study"
    )
    checkpoints: str | None = Field(
        default=None,
        min_length=1,
        description="a checkpoint store shared with other runs; left out, the run's own",
    )
    share: bool = Field(
        default=True,
        description="train a first task once for all runs that share it; off, each trains its own",
    )
    optuna: str | None = Field(
        default=None,
        description="journal or sqlite (a file in the run's folder), sqlite:///path, or "
        "postgresql://user@host/database (password: ~/.pgpass or PGPASSWORD); left out, journal",
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
    def password(self) -> str | None:
        """The password that stood in the URL of `optuna`; it is in no dump of this part."""
        return self._password
