"""Published figures beside a study: what a paper reports, with the place where it was read."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field, field_validator

from cl_core.errors import unknown
from cl_core.metrics import METRICS
from spaces.study.part import Part


class FigurePart(Part):
    """One published figure."""

    metric: str = Field(description="the metric, by its name in `runs`")
    value: float = Field(ge=-1, le=1, description="its value, a fraction")
    spread: float | None = Field(
        default=None, ge=0, description="half of the published range, such as a standard deviation over runs"
    )
    scenario: str | None = Field(default=None, description="its scenario; by default every one of the study")
    label: str | None = Field(default=None, description="its label; by default every one of the study")
    classifier: str | None = Field(
        default=None, description="the rule that answers; by default the method's own"
    )
    source: str = Field(min_length=1, description="where it was read: a paper's table, or a file")

    @field_validator("metric")
    @classmethod
    def _of_accuracies(cls, value: str) -> str:
        if value not in METRICS:
            raise unknown("metric of published.figures", value, METRICS)
        return value


class PublishedPart(Part):
    """The figures that a study is compared with at its end."""

    data: str = Field(description="the data set that they were measured on")
    figures: list[FigurePart] = Field(default=[], description="the figures, each a mapping")


def check_labels(figures: Sequence[FigurePart], labels: Sequence[str]) -> None:
    """Raise BadRequest for a figure of a label that the study does not have."""
    for figure in figures:
        if figure.label is not None and figure.label not in labels:
            raise unknown("label of published.figures", figure.label, labels)
