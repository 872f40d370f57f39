"""Class orders: which class of a data set arrives at which place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from cl_core.errors import BadRequest, unknown
from cl_core.hparams import digest
from cl_core.images.class_names import composed
from cl_core.seeds import numpy_stream

CLASS_ORDERS: dict[str, str] = {
    "natural": "as the data set numbers its classes",
    "seed:K": "a random order, another one for each whole number K",
    "numpy-1993": "numpy.random.seed(1993) and permutation, as in LUCIR and PyCIL",
    "icarl-cifar": "iCaRL's own order of CIFAR-100, as in PODNet and DyTox",
    "list:A-B-...": "written out: the class ids in their order of arrival, as in list:3-1-4-0-2",
    "FILE": "a text file with one class id or class name a line",
}
"""Class orders for listing."""

SOUGHT: dict[str, str] = {
    "hardest": "the order that a study finds worst for a method",
    "easiest": "the order that a study finds best for a method",
}
"""Class orders that a study searches, valid in its scenarios alone."""

LIST = "list:"
_LONGEST_LIST = 24  # characters of a list that becomes part of a name


def class_order(name: str, num_classes: int, class_names: Sequence[str] | None = None) -> tuple[int, ...]:
    """Return the original class id at each arrival position: a permutation of 0..num_classes-1.

    `name` is natural, seed:K, numpy-1993, icarl-cifar, list:A-B-..., or the path of a text file with one
    class a line. If every line is one of `class_names`, the lines are names, else ids. Raises BadRequest.
    """
    if name == "natural":
        return tuple(range(num_classes))
    if name == "numpy-1993":
        return tuple(np.random.RandomState(1993).permutation(num_classes).tolist())
    if name == "icarl-cifar":
        if num_classes != 100:
            raise BadRequest(
                f"class order icarl-cifar is one of 100 classes, not {num_classes}: use numpy-1993 or seed:K"
            )
        # iCaRL shuffles the 500 images of each class with the same generator before it shuffles the classes.
        generator = np.random.RandomState(1993)
        for _ in range(100):
            generator.permutation(500)
        return tuple(generator.permutation(100).tolist())
    if name.startswith("seed:"):
        if not re.fullmatch(r"seed:\d{1,18}", name):
            raise BadRequest(f"class order seed:K needs a whole number K, not {name[5:]!r}: as in seed:1")
        return tuple(numpy_stream(int(name[5:]), "class-order").permutation(num_classes).tolist())
    if name.startswith(LIST):
        if not re.fullmatch(r"\d{1,9}(-\d{1,9})*", name.removeprefix(LIST)):
            raise BadRequest(
                f"class order list: needs class ids joined by '-', not {name.removeprefix(LIST)!r}: "
                "as in list:3-1-4-0-2"
            )
        order = [int(part) for part in name.removeprefix(LIST).split("-")]
        return _permutation(name, order, num_classes)
    if name in SOUGHT:
        raise BadRequest(
            f"class order {name} is searched by a study: give it to one of its scenarios, as in "
            f"{{name: B0-5tasks, class_order: {name}}}, or write an order out as list:3-1-4-0-2"
        )
    return _order_from_file(name, num_classes, class_names)


def order_text(order: Sequence[int]) -> str:
    """Return an order of arrival as text, list:A-B-..."""
    return LIST + "-".join(map(str, order))


def by_task(order: Sequence[int], sizes: Sequence[int]) -> tuple[int, ...]:
    """Return `order` with the classes of each task in the data set's own order.

    Two orders with the same classes in the same tasks are one split and give the same result. Otherwise they
    would train networks with rows in different orders.
    """
    ends = list(accumulate(sizes))
    return tuple(c for size, end in zip(sizes, ends, strict=True) for c in sorted(order[end - size : end]))


def shortened(name: str) -> str:
    """Return `name`, or "list:" and a digest where a list is too long for the name of a run or cell."""
    if name.startswith(LIST) and len(name) > _LONGEST_LIST:
        return LIST + digest(name, 8)
    return name


def _order_from_file(name: str, num_classes: int, class_names: Sequence[str] | None) -> tuple[int, ...]:
    path = Path(name).expanduser()
    if not path.is_file():
        raise BadRequest(
            f"{unknown('class order', name, [*CLASS_ORDERS, *SOUGHT])}; nor is there a file of that name"
        )
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise BadRequest(
            f"class order {name!r} is not a readable text file: give one class id or name a line"
        ) from error
    lines = [composed(line) for line in lines]
    known = {str(n): i for i, n in enumerate(class_names or ())}
    if lines and all(line in known for line in lines):
        order = [known[line] for line in lines]
    elif all(re.fullmatch(r"\d{1,9}", line) for line in lines):
        order = [int(line) for line in lines]
    elif known:
        raise unknown("class", next(line for line in lines if line not in known), known)
    else:
        raise BadRequest(
            f"class order {name!r} holds names, and the data set has none: give one class id a line"
        )
    return _permutation(name, order, num_classes)


def _permutation(name: str, order: Sequence[int], num_classes: int) -> tuple[int, ...]:
    """Return `order` if it names every class once. Raises BadRequest."""
    shown = name if len(name) <= 60 else f"{name[:57]}..."
    seen: set[int] = set()
    for label in order:
        if not 0 <= label < num_classes:
            raise BadRequest(
                f"class order {shown!r} names class {label} of {num_classes}: use ids 0..{num_classes - 1}"
            )
        if label in seen:
            raise BadRequest(f"class order {shown!r} names class {label} twice: remove one")
        seen.add(label)
    if len(order) != num_classes:
        missing = sorted(set(range(num_classes)) - seen)
        raise BadRequest(
            f"class order {shown!r} must name all {num_classes} classes and leaves out {len(missing)}, "
            f"the first of them {missing[0]}: add them"
        )
    return tuple(order)
