"""Checks of a run before any work."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from cl_core.errors import BadRequest
from cl_core.images.dataset import Data
from cl_core.images.view import rows_left
from cl_core.method import METHODS
from cl_core.nets.beside import layers_of
from cl_core.nets.network import Network, build_network, sample
from cl_core.recipe import Recipe
from cl_core.training.configuration import Configuration


def check(run: Configuration, data: Data, measured: bool = True) -> None:
    """Raise BadRequest, one line, for any fault that shows before training.

    A run that is not `measured` needs no rows to measure on.
    """
    method = METHODS[run.method](run.hp)
    recipes = run.recipes(data, method)
    framework, adaptation = run.framework(), run.adaptation()
    sizes = run.scenario.sizes(data.num_classes)
    order = run.order(data.num_classes, data.class_names)
    last_relu = method.base().last_relu or run.shared_base
    method.check_net(*sample(run.net or data.net, data.shape, last_relu))
    if method.batch_norm and not _has_batch_norm(run, data):
        raise BadRequest(
            f"{run.method} reads the statistics of BatchNorm, and net {run.net or data.net!r} has none: use "
            "convnet, resnet32 or resnet18"
        )
    if method.grows and not layers_of(_network(run, data)):
        raise BadRequest(
            f"{run.method} sets modules beside the layers of a net, and net {run.net or data.net!r} takes "
            "none: use convnet, resnet32 or resnet18, or give yours a cl_core.nets.beside.Beside a layer"
        )
    if not 0.0 <= run.validation < 1.0:
        raise BadRequest(f"validation must lie in [0, 1), not {run.validation:g}; 0.1 is usual")
    if measured and not run.validation and not run.unsealed:
        raise BadRequest("validation 0 leaves nothing to measure: hold out 0.1, or open the test split")
    if run.unsealed and data.test is None:
        raise BadRequest(f"data set {data.name!r} has no test split to open: add one, or leave it sealed")
    if run.threads is not None and run.threads < 1:
        raise BadRequest(f"threads must be at least 1, not {run.threads}")
    if run.seed < 0:
        raise BadRequest(f"seed must not be negative: {run.seed}")
    if not isinstance(run.shared_base, bool):
        raise BadRequest(f"shared_base must be true or false, not {run.shared_base!r}")
    if run.until is not None and (type(run.until) is not int or not 1 <= run.until <= len(sizes)):
        raise BadRequest(
            f"until must be a number of tasks from 1 to the {len(sizes)} of scenario "
            f"{run.scenario.name!r}, not {run.until!r}"
        )
    if framework is not None:
        if not run.validation:
            raise BadRequest("chf measures on validation rows, and validation is 0: hold out 0.1")
        framework.check(recipes[1])
    if adaptation is not None:
        if framework is not None:
            raise BadRequest("chf and adaptive both set values task by task: take one of them")
        if not run.validation:
            raise BadRequest("adaptive judges attempts on validation rows, and validation is 0: hold out 0.1")
    method.check(sizes, data.shape)
    left = rows_left(data, run.validation)
    if left.min() < method.images_a_class:
        c = int(left.argmin())
        raise BadRequest(
            f"{run.method} needs {method.images_a_class} training images of every class, beside those "
            f"held out: {data.class_names[c]!r} has {left[c]}; add images or leave the class out"
        )
    _check_batches(run, data, recipes, sizes, left[list(order)])


def _network(run: Configuration, data: Data) -> Network:
    return build_network(run.net or data.net, data.shape, data.num_classes, "linear", True, run.seed)


def _has_batch_norm(run: Configuration, data: Data) -> bool:
    return any(isinstance(part, nn.modules.batchnorm._BatchNorm) for part in _network(run, data).modules())


def _check_batches(
    run: Configuration, data: Data, recipes: tuple[Recipe, Recipe], sizes: Sequence[int], rows: np.ndarray
) -> None:
    """Raise BadRequest where a net with BatchNorm would get a step of one image.

    `rows` are the training rows of each class in order of arrival.
    """
    ends = np.cumsum(sizes)
    single = [t for t, end in enumerate(ends) if rows[end - sizes[t] : end].sum() == 1]
    if not single and min(recipe.batch for recipe in recipes) > 1:
        return
    if not _has_batch_norm(run, data):
        return
    rule = f"net {run.net or data.net!r} has BatchNorm, which needs two images a step, but"
    if single:
        raise BadRequest(
            f"{rule} task {single[0]} has one training row: add images or classes to it, or take a net "
            "without BatchNorm"
        )
    raise BadRequest(f"{rule} recipe.batch is 1: set it to 2 or more, or take a net without BatchNorm")
