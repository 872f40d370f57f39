"""A trained model as one file: what answers, and all that is needed to ask it.

    model = load_model("model.safetensors")
    model.predict(["cat.jpg", "dog.jpg"])

The file is safetensors: the network's tensors as `net.*`, those of further networks that answer as `nets.*`,
what the method's own classifier reads beside them (class means, pairs of a bias correction) as `kept.*`, and
a card in its metadata. No training image is needed to answer, and none is in it. Nothing is unpickled.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from cl_core.aside import aside
from cl_core.errors import BadRequest, first_line
from cl_core.images.augment import normalise
from cl_core.images.pixels import Array
from cl_core.method import METHODS, Method
from cl_core.model.pictures import batches
from cl_core.nets.network import NETS, Network, build_network
from cl_core.own_code import check_own_code, only
from cl_core.recipe import Recipe
from cl_core.state import State
from cl_core.task import Task, no_rows
from cl_core.training.checkpoints import network_digest
from cl_core.training.device import resolve_device

if TYPE_CHECKING:
    from cl_core.model.pictures import Pictures
    from cl_core.training.trainer import Training

KEY = "cl_search"  # of the card in the file's metadata
FORMAT = 2


@dataclass(frozen=True)
class Card:
    """The description of a model as plain values. `origin` records its run and is not read back."""

    class_names: list[str]  # of the seen classes, in arrival order
    sizes: list[int]  # classes of each task
    width: int  # classes that the head has rows for
    shape: list[int]  # channels, height, width of an image
    mean: list[float]  # of x / 255, one value a channel
    std: list[float]
    net: str
    method: str
    hp: dict[str, Any]
    base: dict[str, Any]  # the base family, as in a checkpoint's key; last_relu as the net was built
    classifier: str  # the rule that answers
    score: str  # what its scores are to a reader: see `Reading`
    origin: dict[str, Any]
    digest: str  # of the tensors
    format: int = FORMAT


@dataclass(frozen=True)
class Answer:
    """The most likely classes of one image, the first one the answer, each with its score."""

    classes: tuple[str, ...]
    scores: tuple[float, ...]


class Model:
    """A network with the rule by which its method answers; see `load_model`."""

    def __init__(self, card: Card, method: Method, state: State, device: torch.device) -> None:
        self.card = card
        self._method, self._state, self._device = method, state, device
        self._task = Task(len(card.sizes) - 1, tuple(card.sizes), no_rows(), Recipe())
        std = torch.tensor(card.std, device=device)
        self._scale = 1.0 / (255.0 * std)
        self._shift = -torch.tensor(card.mean, device=device) / std
        state.net.eval()

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes, in the order of the scores."""
        return tuple(self.card.class_names)

    def scores(self, images: Pictures) -> Array:
        """Scores [B, K] float32 of the method's own classifier: the largest is the answer.

        `images` are uint8 arrays [B, H, W, C] or [B, H, W], or paths, Pillow images and arrays of single
        images: whatever has not the model's size is turned, converted, resized and cropped as an image folder
        is read. Raises BadRequest for what is no image.
        """
        parts = [self._scores(batch) for batch in batches(images, self.card.shape)]
        return np.concatenate(parts) if parts else np.empty((0, len(self.card.class_names)), np.float32)

    def predict(self, images: Pictures) -> list[str]:
        """The class of each image, by name; `images` as for `scores`."""
        return [answer.classes[0] for answer in self.answers(images)]

    def answers(self, images: Pictures, top: int = 1) -> list[Answer]:
        """The `top` classes of each image, at most all, with the scores that `card.score` names.

        `images` are as for `scores`. Raises BadRequest.
        """
        if top < 1:
            raise BadRequest(f"top must be at least 1, not {top}: it is the number of classes an image")
        scores = torch.from_numpy(self.scores(images))
        values = self._method.reading(scores).values
        order = scores.sort(dim=1, descending=True, stable=True).indices[:, :top]
        return [
            Answer(tuple(self.card.class_names[c] for c in best), tuple(of[best].tolist()))
            for best, of in zip(order, values, strict=True)
        ]

    @torch.no_grad()
    def _scores(self, batch: Array) -> Array:
        x = normalise(torch.from_numpy(batch).to(self._device), self._scale, self._shift)
        answers = self._method.scores(self._state, x, self._task)
        return answers[self.card.classifier].float().cpu().numpy()


def save_model(path: Path, training: Training, origin: Mapping[str, Any]) -> None:
    """Write the model that `training` has come to, after one task or more.

    Raises BadRequest where the place is not writable.
    """
    method, data = training.method, training.data
    base = method.base()
    sizes = training.sizes[: training.done]
    wanted = method.answers_with
    answering = [id(net) for net in method.answering(training.state)]
    nets = tuple(f"nets.{name}." for name, kept in training.state.nets.items() if id(kept.net) in answering)
    tensors = {
        name: tensor
        for name, tensor in training.state.tensors().items()
        if name.startswith(("net.", *nets))
        or (name.startswith("kept.") and (wanted is None or name.removeprefix("kept.") in wanted))
    }
    card = Card(
        class_names=list(training.view.class_names[: sum(sizes)]),
        sizes=list(sizes),
        width=data.num_classes,
        shape=list(data.shape),
        mean=list(data.mean),
        std=list(data.std),
        net=training.configuration.net or data.net,
        method=training.configuration.method,
        hp=dict(method.values()),
        base={**base.key(), "last_relu": base.last_relu or training.configuration.shared_base},
        classifier=method.primary(),
        score=method.reading(torch.zeros(1, sum(sizes))).name,
        origin=dict(origin),
        digest=network_digest(tensors),
    )
    metadata = {KEY: json.dumps(asdict(card))}  # one key: of several, their order in the file is by chance
    try:
        with aside(path) as hidden:
            save_file(tensors, hidden, metadata=metadata)
    except (OSError, SafetensorError) as error:
        raise BadRequest(f"the model must be written to a writable place: {path}: {error}") from error


def load_model(path: str | Path, device: str = "cpu", own_code: bool = False) -> Model:
    """The model in a file that `cl-search export` or `train --save` wrote.

    A file may name its net or method as module:attribute; such a module is imported only with `own_code`.
    Raises BadRequest where the file is none, is damaged, or does not hold together.
    """
    place = Path(path).expanduser()
    card, tensors = _read(place)
    where, _ = resolve_device(device, "float32")
    with only(None if own_code else ()):
        try:
            check_own_code(NETS.kind, card.net)
            check_own_code(METHODS.kind, card.method)
        except BadRequest as error:
            raise BadRequest(f"{place}: {error}") from None
        return _made(place, card, tensors, where)


def _made(place: Path, card: Card, tensors: dict[str, Tensor], where: torch.device) -> Model:
    try:
        method = METHODS[card.method](card.hp)
        model = Model(card, method, _state(card, method, tensors, where), where)
        height, width = card.shape[1:]
        answers = model.scores(np.zeros((1, height, width, card.shape[0]), np.uint8))
        if answers.shape != (1, len(card.class_names)):
            raise ValueError(f"it gives scores {list(answers.shape)} for {len(card.class_names)} classes")
    except Exception as error:  # whatever a file's values lead to, it is the file that is wrong
        raise _no_model(place, first_line(error)) from error
    return model


def read_card(path: Path) -> Card:
    """Read the card of a model's file, without its tensors. Raises BadRequest."""
    return _opened(path, lambda file: _card(path, file.metadata()))


def _state(card: Card, method: Method, tensors: dict[str, Tensor], device: torch.device) -> State:
    base = method.base()
    last_relu = base.last_relu or card.base.get("last_relu")  # on as well where methods shared a first task
    if {**base.key(), "last_relu": last_relu} != card.base or method.primary() != card.classifier:
        raise ValueError(f"{card.method} has another base family or classifier in this version")
    if (name := method.reading(torch.zeros(1, len(card.class_names))).name) != card.score:
        raise ValueError(f"{card.method} gives a {name} in this version, and the file says {card.score}")
    if len(tensors["net.head.weight"]) != card.width:
        raise ValueError(f"its head has {len(tensors['net.head.weight'])} rows for {card.width} classes")
    shape = cast(tuple[int, int, int], tuple(card.shape))

    def make() -> Network:
        net = build_network(card.net, shape, card.width, base.head, bool(last_relu), 0, base.side_heads)
        return net.to(memory_format=torch.channels_last).to(device)

    state = method.build(make)
    try:
        state.restore(tensors, len(card.class_names))
    except RuntimeError as error:  # its first line names the class alone
        raise ValueError(str(error).splitlines()[-1].strip()) from error
    return state


def _read(path: Path) -> tuple[Card, dict[str, Tensor]]:
    def whole(file: Any) -> tuple[Card, dict[str, Tensor]]:
        card = _card(path, file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if network_digest(tensors) != card.digest:
            raise _no_model(path, "the tensors are not those that were saved")
        if not all(t.isfinite().all() for t in tensors.values()):
            raise _no_model(path, "not every number in it is finite")
        return card, tensors

    return _opened(path, whole)


def _opened(path: Path, read: Callable[[Any], Any]) -> Any:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return read(file)
    except FileNotFoundError:
        raise BadRequest(f"there is no model {path}: name a file that `cl-search export` wrote") from None
    except (OSError, SafetensorError) as error:
        raise _no_model(path, first_line(error)) from error


def _card(path: Path, metadata: Mapping[str, str] | None) -> Card:
    """The card, with every value of its type. Raises BadRequest."""
    try:
        plain = json.loads((metadata or {})[KEY])
    except KeyError:
        raise _no_model(path, f"it has no {KEY} in its metadata") from None
    except (ValueError, RecursionError) as error:
        raise _no_model(path, first_line(error)) from error
    names = {field.name for field in fields(Card)}
    if not isinstance(plain, dict) or plain.get("format") != FORMAT or set(plain) != names:
        raise _no_model(path, f"its card is not of format {FORMAT}")
    card = Card(**plain)
    channels = card.shape[0] if _numbers(card.shape, int, 1, 4096) and len(card.shape) == 3 else 0
    rules = {
        "class_names": _texts(card.class_names) and len(set(card.class_names)) == len(card.class_names),
        "sizes": _numbers(card.sizes, int, 1, 10**6)
        and isinstance(card.class_names, list)
        and sum(card.sizes) == len(card.class_names),
        "width": _numbers([card.width], int, 1, 10**6),
        "shape": 1 <= channels <= 4,
        "mean": _numbers(card.mean, float, -1e6, 1e6) and len(card.mean) == channels,
        "std": _numbers(card.std, float, 1e-6, 1e6) and len(card.std) == channels,
        "net": isinstance(card.net, str),
        "method": isinstance(card.method, str),
        "hp": isinstance(card.hp, dict),
        "base": isinstance(card.base, dict),
        "classifier": isinstance(card.classifier, str),
        "score": isinstance(card.score, str),
        "origin": isinstance(card.origin, dict),
    }
    for name, right in rules.items():
        if not right:
            raise _no_model(path, f"its card says {name} {str(getattr(card, name))[:60]!r}")
    return card


def _texts(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, str) for item in value)


def _numbers(value: object, kind: type, low: float, high: float) -> bool:
    kinds = (int,) if kind is int else (int, float)
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(n, kinds) and not isinstance(n, bool) for n in value)
        and all(math.isfinite(n) and low <= n <= high for n in value)
    )


def _no_model(path: Path, why: str) -> BadRequest:
    return BadRequest(f"{path} is no model of cl-search, or is damaged: {why}; export it again")
