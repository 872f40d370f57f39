"""A network is a backbone and a head; heads have full width from the start and are opened task by task."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cl_core.errors import BadRequest, defined_at, located, source_of
from cl_core.nets.task_tokens import TokenHead
from cl_core.registry import Registry
from cl_core.rng import global_stream, stream
from cl_core.task import Out

Shape = tuple[int, int, int]
Make = Callable[[Shape, bool], nn.Module]


def _fault(item: object) -> str | None:
    if not callable(item):
        return f"must be a function, not {type(item).__name__}"
    try:
        inspect.signature(item).bind((3, 32, 32), True)
    except TypeError:
        return f"must take (shape, last_relu), not {inspect.signature(item)}"
    except ValueError:  # some callables written in C have no signature
        pass
    return None


NETS: Registry[Make] = Registry("net", "cl_core.nets", _fault)
"""Backbones: `make((C, H, W), last_relu) -> nn.Module`, whose forward gives features [B, D], or (features,
maps).
"""


class Head(Protocol):
    """The interface of a head, a module on features [B, D], for the trainer."""

    weight: nn.Parameter  # [N, D]
    seen: int

    def open(self, start: int, stop: int, g: torch.Generator) -> None: ...

    def rows(self) -> list[nn.Parameter]: ...


class LinearHead(nn.Module):
    """z = W f + b with `per_class` rows a class, those of class c from row c * per_class on.

    Rows not yet opened are zero and never read.
    """

    def __init__(self, dim: int, num_classes: int, per_class: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes * per_class, dim))
        self.bias = nn.Parameter(torch.zeros(num_classes * per_class))
        self.per_class = per_class
        self.seen = 0

    def open(self, start: int, stop: int, g: torch.Generator) -> None:
        """Initialise and open the rows of classes [start, stop): U(-1/sqrt(D), 1/sqrt(D)), as nn.Linear."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        a, b = start * self.per_class, stop * self.per_class
        with torch.no_grad():
            for rows in (self.weight[a:b], self.bias[a:b]):
                rows.copy_(torch.empty(rows.shape).uniform_(-bound, bound, generator=g))
        self.seen = stop

    def rows(self) -> list[nn.Parameter]:
        """The parameters with `per_class` rows a class."""
        return [self.weight, self.bias]

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, seen * per_class]."""
        stop = self.seen * self.per_class
        return F.linear(features, self.weight[:stop], self.bias[:stop])


class CosineHead(nn.Module):
    """z_c = eta <f/|f|, w_c/|w_c|> with a learnable scale (LUCIR, Hou et al., CVPR 2019, sec. 3.2)."""

    def __init__(self, dim: int, num_classes: int, eta: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_classes, dim))
        self.eta = nn.Parameter(torch.tensor(eta))
        self.seen = 0

    def open(self, start: int, stop: int, g: torch.Generator) -> None:
        """Initialise rows [start, stop); only their direction matters."""
        bound = 1.0 / math.sqrt(self.weight.shape[1])
        with torch.no_grad():
            rows = self.weight[start:stop]
            rows.copy_(torch.empty(rows.shape).uniform_(-bound, bound, generator=g))
        self.seen = stop

    def rows(self) -> list[nn.Parameter]:
        """The parameters with one row a class."""
        return [self.weight]

    def similarity(self, features: Tensor) -> Tensor:
        """The cosines, [B, D] -> [B, seen] in [-1, 1]; in float32, since bfloat16 has few of them near 1."""
        with torch.autocast(features.device.type, enabled=False):
            return F.linear(
                F.normalize(features.float(), dim=1), F.normalize(self.weight[: self.seen], dim=1)
            )

    def forward(self, features: Tensor) -> Tensor:
        """[B, D] -> [B, seen]."""
        return self.eta * self.similarity(features)


HEADS: dict[str, Callable[[int, int], nn.Module]] = {
    "linear": LinearHead,
    "cosine": CosineHead,
    "tokens": TokenHead,
}


class Network(nn.Module):
    """Backbone and head; one forward gives features, logits of the seen classes and the maps of every stage.

    `head` answers, with one row a class. `side` holds further heads by name, which a loss calls on features.
    `moving` names the parts of the backbone that alone enter training mode; None: all of it.
    `shape` is that of the images, [C, H, W].
    """

    def __init__(
        self,
        backbone: nn.Module,
        head: nn.Module,
        side: Mapping[str, LinearHead] | None = None,
        shape: Shape = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.side = nn.ModuleDict(side or {})
        self.shape = shape
        self.moving: tuple[nn.Module, ...] | None = None

    def train(self, mode: bool = True) -> Network:
        """Enter training or evaluation mode; of the backbone only what is `moving` trains."""
        super().train(mode)
        if self.moving is not None:
            self.backbone.eval()
            for part in self.moving:
                part.train(mode)
        return self

    def heads(self) -> list[Head]:
        """The head that answers, then the others."""
        return [cast(Head, self.head), *(cast(Head, head) for head in self.side.values())]

    def answering_parameters(self) -> int:
        """Return the number of parameters of backbone and head; of the head, in the rows of seen classes."""
        head = cast(Head, self.head)
        unseen = sum(rows[head.seen :].numel() for rows in head.rows())
        if isinstance(self.head, TokenHead):
            unseen = self.head.unread()
        return sum(p.numel() for part in (self.backbone, self.head) for p in part.parameters()) - unseen

    def kept_bytes(self) -> int:
        """Return the bytes of parts that are kept for later tasks and do not answer, such as a decoder."""
        return 0

    def forward(self, x: Tensor) -> Out:
        """[B, C, H, W] -> features [B, D] and logits [B, seen] in float32, and the backbone's maps.

        Takes the features [B, D] as well, and then gives no maps. A head with task tokens reads the last map;
        the features are then the embeddings of its tokens.
        """
        out = self.backbone(x) if x.ndim > 2 else x
        features, maps = out if isinstance(out, tuple) else (out, ())
        if maps and isinstance(self.head, TokenHead):
            features = self.head.embed(maps[-1])
        features = features.float()
        return Out(features, self.head(features).float(), tuple(maps))


class Frozen(nn.Module):
    """A network that stays in evaluation mode and gives no gradient: a teacher."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net = copy.deepcopy(net).eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Frozen:
        """Stays in evaluation mode, whatever its surroundings do."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Out:
        """As `Network.forward`; not inference mode, whose tensors cannot enter a loss that saves them."""
        if x.ndim == 2:
            raise ValueError("a frozen network takes images [B, C, H, W]: it has features of its own")
        out: Out = self.net(x)
        return out


def build_network(
    net: str,
    shape: Shape,
    num_classes: int,
    head: str,
    last_relu: bool,
    seed: int,
    side_heads: Mapping[str, int] | None = None,
) -> Network:
    """A fresh network on the CPU, drawn from streams of `seed`; the global generator is left as it was.

    `side_heads` names further heads with their rows a class. Raises BadRequest where the net does not take
    images of `shape` [C, H, W].
    """
    make = NETS[net]
    with global_stream(stream(seed, "init")):
        try:
            backbone = make(shape, last_relu)
            if isinstance(backbone, nn.Module):
                backbone.eval()
                with torch.no_grad():
                    out = backbone(torch.zeros(1, *shape))
        except Exception as error:  # a net of your own may raise anything
            raise BadRequest(
                f"net {net!r} must take images of {shape[0]}x{shape[1]}x{shape[2]}: "
                f"{located(error, source_of(make))}; mend it or take another net"
            ) from error
    if not isinstance(backbone, nn.Module):
        raise BadRequest(
            f"net {net!r} must be a function that returns an nn.Module, not {type(backbone).__name__} "
            f"({defined_at(make)})"
        )
    features, maps = out if isinstance(out, tuple) and len(out) == 2 else (out, ())
    if not isinstance(features, Tensor) or features.ndim != 2:
        got = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise BadRequest(
            f"net {net!r} must give features [B, D] or (features, maps), not {got}: pool and flatten them, "
            f"as in x.mean(dim=(2, 3)) ({defined_at(make)})"
        )
    if not isinstance(maps, tuple | list) or not all(isinstance(m, Tensor) for m in maps):
        raise BadRequest(
            f"net {net!r} must give its maps as a tuple of tensors, not {type(maps).__name__}: return "
            f"(features, (map, ...)) or features alone ({defined_at(make)})"
        )
    dim = features.shape[1]
    side = {name: LinearHead(dim, num_classes, rows) for name, rows in (side_heads or {}).items()}
    with global_stream(stream(seed, "init", "head")):
        made = HEADS[head](dim, num_classes)
    return Network(backbone, made, side, shape)


def sample(net: str, shape: Shape, last_relu: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Features [2, D] and maps of two images of noise, from an untrained net in evaluation mode.

    What a method needs of a net is seen on them before any work; they are made once a process. Raises
    BadRequest where the net does not take images of `shape` [C, H, W].
    """
    return _sample(net, NETS[net], shape, last_relu)


@lru_cache(maxsize=32)
def _sample(net: str, make: Make, shape: Shape, last_relu: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
    built = build_network(net, shape, 1, "linear", last_relu, 0).eval()
    with torch.no_grad():
        out = built(torch.randn(2, *shape, generator=stream(0, "sample")))
    return out.features, out.maps
