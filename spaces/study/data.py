"""The part of a study file that names images."""

from __future__ import annotations

from pydantic import Field

from cl_core.images.data_spec import DataSpec
from spaces.study.part import Part


class DataPart(Part):
    """Which images, and how many of them."""

    name: str = Field(description="a data set (`cl-search list datasets`), or module:function of your own")
    root: str | None = Field(
        default=None, description="folder of its files; left out, the data set's usual place"
    )
    size: int | None = Field(
        default=None,
        ge=1,
        description="side of the images in pixels; left out, the data set's own (32 of image-folder)",
    )
    classes: int | None = Field(
        default=None, ge=2, description="keep the first N classes in the data set's order"
    )
    per_class: int | None = Field(
        default=None, ge=2, description="cut the training split to N images a class"
    )
    download: bool = Field(default=False, description="fetch the data set if it is missing")

    def spec(self, half: str | None = None) -> DataSpec:
        """What `cl_core.load` takes; `half` is one of two fixed halves of the classes."""
        return DataSpec(**self.model_dump(), half=half)


def data_from_name(value: object) -> object:
    """A data set's name alone stands for a mapping with that name."""
    return {"name": value} if isinstance(value, str) else value
