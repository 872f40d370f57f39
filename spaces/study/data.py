"""The part of a study file that names images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cl_core.images.data_spec import DataSpec
from spaces.study.part import Part


class AugmentPart(Part):
    """The augmentation of training images, in place of the data set's own."""

    crop: int = Field(default=0, ge=0, description="pixels of zero padding, from which a window is cut")
    flip: bool = Field(default=False, description="mirror left and right with probability one half")
    brightness: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="multiply pixels by a factor from 1 - brightness to 1 + brightness, as in torchvision's "
        "ColorJitter",
    )
    contrast: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="move pixels from the mean grey by a factor from 1 - contrast to 1 + contrast, before or "
        "after, as in torchvision's ColorJitter",
    )
    auto_augment: Literal["cifar10", "imagenet", "svhn"] | None = Field(
        default=None,
        description="then AutoAugment by the policy of this name, with torchvision's operations",
    )
    cutout: int = Field(default=0, ge=0, description="then blacken a square with this side at a random place")


class DataPart(Part):
    """The images of a study, and how many of them."""

    name: str = Field(description="a data set (`cl-search list datasets`), or your own as module:function")
    root: str | None = Field(
        default=None, description="folder of its files; by default the data set's usual place"
    )
    size: int | None = Field(
        default=None,
        ge=1,
        description="side of the images in pixels; by default the data set's own (32 for image-folder)",
    )
    classes: int | None = Field(
        default=None, ge=2, description="keep only the first N classes, in the data set's order"
    )
    per_class: int | None = Field(default=None, ge=2, description="keep only N training images of each class")
    download: bool = Field(default=False, description="download the data set if it is missing")
    augment: AugmentPart | None = Field(
        default=None, description="augmentation in place of the data set's own"
    )
    mean: list[float] | None = Field(
        default=None, description="mean of pixels / 255, a value a channel; by default the data set's own"
    )
    std: list[float] | None = Field(default=None, description="standard deviation of pixels / 255, as mean")

    def spec(self, half: str | None = None) -> DataSpec:
        """Return what `cl_core.load` takes; `half` is one of two fixed halves of the classes."""
        return DataSpec(**self.model_dump(), half=half)


def data_from_name(value: object) -> object:
    """Turn a data set's name alone into a mapping with that name."""
    return {"name": value} if isinstance(value, str) else value
