"""The confirmation of a selection: how many trials it trains again, on how many fresh class orders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationError

from cl_core.errors import BadRequest
from spaces.study.messages import known_keys, one_line
from spaces.study.part import Part

AUTO: Literal["auto"] = "auto"


class ConfirmPart(Part):
    """The trials that are confirmed, and the class orders of each."""

    top: int = Field(
        default=3, ge=1, le=100, description="number of trials to confirm beside the published default"
    )
    orders: int = Field(
        default=3, ge=1, le=100, description="fresh class orders of each: seed:2001, seed:2002, ..."
    )

    @property
    def runs(self) -> int:
        """The runs of a confirmation: the trials picked and the default, on every fresh class order."""
        return (self.top + 1) * self.orders


def _confirm(value: object) -> object:
    """Read `confirm`; its error messages name the whole key."""
    if value is None or value == "none":
        return None
    if value == AUTO or isinstance(value, ConfirmPart):
        return value
    if not isinstance(value, Mapping):
        raise BadRequest(
            f"protocol.confirm must be a mapping, none or auto, not {value!r}: write {{top: 3, orders: 3}}"
        )
    known_keys(ConfirmPart, value, "protocol.confirm.")
    try:
        return ConfirmPart.model_validate(dict(value))
    except ValidationError as error:
        raise BadRequest(f"protocol.confirm.{one_line(error)}") from None


Confirm = Annotated[ConfirmPart | Literal["auto"] | None, BeforeValidator(_confirm)]
