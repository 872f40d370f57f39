"""The base class of methods: hyperparameters, and hooks that differ from fine-tuning.

A method derives from `Method` directly, never from another method. Shared code is in the functions of
`cl_core.blocks`. The trainer owns every loop: a method yields phases and returns loss terms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from cl_core.blocks.classifiers import Reading, probability
from cl_core.errors import located, source_of
from cl_core.hparams import Value, digest, from_dict, to_dict
from cl_core.memory import Budget
from cl_core.nets.network import Network
from cl_core.recipe import Recipe
from cl_core.registry import Registry
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term

if TYPE_CHECKING:
    from cl_core.images.view import View


def _fault(item: object) -> str | None:
    if not isinstance(item, type) or not issubclass(item, Method):
        return f"must be a subclass of cl_core.method.Method, not {getattr(item, '__name__', item)!r}"
    missing = [name for name in _CARD if not isinstance(getattr(item, name, None), str)]
    if missing:
        return f"must say its {', '.join(missing)}: give each as a text in the class"
    own = vars(item.HP) if isinstance(item.HP, type) else {}
    if "__dataclass_fields__" not in own or not own["__dataclass_params__"].frozen:
        return "must have its hyperparameters in a class HP below @dataclass(frozen=True)"
    if plain := [f.name for f in fields(item.HP) if "hp" not in f.metadata]:
        return f"must declare HP.{plain[0]} as hp(default, domain): else no study can set it"
    if item.loss is Method.loss and item.phases is Method.phases:
        return "must define loss(self, s, batch, task), which returns a dict of Terms"
    try:
        made = item()
        for hook, kind in ((made.base, Base), (made.recipe, Mapping), (made.primary, str)):
            if not isinstance(found := hook(), kind):
                said = f"must give a {kind.__name__} from {hook.__name__}()"
                return f"{said}, not {type(found).__name__}"
    except Exception as error:  # a method of your own may raise anything
        return f"must answer with its default hyperparameters: {located(error, source_of(item))}"
    return None


_CARD = ("name", "title", "paper", "equation", "paradigm", "level", "kind")

END = "end "  # begins the name of a phase of `end_phases` on record

METHODS: Registry[type[Method]] = Registry("method", "cl_core.methods", _fault)
register = METHODS.register

Loss = Callable[[State, Batch, Task], dict[str, Term]]
OnGrad = Callable[[Sequence[nn.Parameter], int, int, torch.Generator], None]


@dataclass(frozen=True)
class Base:
    """The part of a method that decides the training of the first task, besides data, net and recipe.

    Methods with equal `Base` train the same first task bit for bit and share it. `side_heads` names further
    heads for training, with their rows per class. `recipe` holds defaults; a study's recipe overrides them.
    """

    family: str = "plain"  # cross-entropy over the classes of the task
    head: str = "linear"
    last_relu: bool = True
    parameters: Mapping[str, Value] = field(default_factory=dict)
    recipe: Mapping[str, Value] = field(default_factory=dict)
    side_heads: Mapping[str, int] = field(default_factory=dict)

    def key(self) -> dict[str, Any]:
        """The part of a checkpoint's key that the family decides; its recipe enters resolved."""
        return {
            "family": self.family,
            "head": self.head,
            "last_relu": self.last_relu,
            "parameters": dict(self.parameters),
            "side_heads": dict(self.side_heads),
        }


@dataclass(frozen=True)
class Rows:
    """A source of training rows for a phase, with `batch` rows per step (default: the recipe's batch).

    The first source of a phase makes its epochs; `recipe.last_batch` decides their last step. The others are
    repeated as long as it lasts, with as many rows in every step.
    """

    ids: Tensor  # [n] int64, on the CPU
    batch: int | None = None


@dataclass(frozen=True)
class Phase:
    """One stretch of training within a task.

    Without `rows`, an epoch has `steps` steps, and `augment` gets a batch of no images. It makes those of the
    step, `recipe.batch` of them. `params` are the parameters that train, by default all of the network's.
    With `head_rows`, only these rows [start, stop) of the head train; the others stay equal bit for bit. With
    `train_mode` off the network stays in evaluation mode, so no BatchNorm statistic moves. With `augment` off
    images are read as in evaluation, and the method draws nothing. With both off, and if the backbone does
    not train, a phase may say that its inputs are `fixed`: the backbone's features [B, D] of each row are
    computed once, and `Batch.x` holds them in place of images. `s.net(b.x)` takes them, other networks do
    not. A module of `State.modules` is in training mode in the phases that train it. `on_grad` may change the
    gradients of a step. Its arguments are the parameters that train, the 0-based epoch, the number of images
    and a generator of the step.
    """

    name: str
    rows: tuple[Rows, ...]
    recipe: Recipe
    loss: Loss
    params: tuple[nn.Parameter, ...] | None = None
    head_rows: tuple[int, int] | None = None
    train_mode: bool = True
    augment: bool = True
    on_grad: OnGrad | None = None
    steps: int = 0  # of an epoch without rows
    fixed: bool = False


class Method:
    """A class-incremental learning method. Stateless: it holds its hyperparameters only."""

    name: ClassVar[str]
    title: ClassVar[str]
    paper: ClassVar[str]
    equation: ClassVar[str]
    # regularisation | data replay | generated data | feature replay | architecture | baseline
    paradigm: ClassVar[str]
    level: ClassVar[str]  # of the distillation: logits | features | implicit data | explicit data | none
    kind: ClassVar[str]  # probability matching | logit matching | instance feature | ... | none
    memories: ClassVar[tuple[str, ...]] = ("exemplars",)
    teacher: ClassVar[bool] = False  # on: keep the previous network frozen during a task
    images_a_class: ClassVar[int] = 1  # training images that every class needs, without validation rows
    batch_norm: ClassVar[bool] = False  # on: the method reads the statistics of BatchNorm, so nets need it
    grows: ClassVar[bool] = False  # on: the method sets modules beside the layers of a net
    restarts: ClassVar[bool] = False  # on: every task trains anew, with the first task's recipe
    # The names in `State.kept` that `scores` reads; None: all.
    answers_with: ClassVar[tuple[str, ...] | None] = None

    @dataclass(frozen=True)
    class HP:
        """No hyperparameters."""

    hp: Any

    def __init__(self, values: Mapping[str, object] | None = None) -> None:
        object.__setattr__(
            self, "hp", from_dict(type(self).HP, values or {}, f"hyperparameter of {self.name}")
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a method is stateless: {name!r} belongs into State")

    # Before any work.

    def check(self, sizes: tuple[int, ...], shape: tuple[int, int, int]) -> None:
        """Raise BadRequest if the method cannot run on tasks of these sizes and images [C, H, W].

        By default, a method with a budget of exemplars needs one for every class.
        """
        if isinstance(self.hp, Budget):
            self.hp.check_budget(sum(sizes), math.prod(shape))

    def check_net(self, features: Tensor, maps: tuple[Tensor, ...]) -> None:
        """Raise BadRequest where this method cannot use a net that gives these, for two noise images.

        features [2, D]; maps one of each stage of the net, [2, C, H, W], or none.
        """

    def base(self) -> Base:
        """The base family of the first task."""
        return Base()

    def recipe(self) -> Mapping[str, Value]:
        """The method's own recipe defaults for the increments; a study's recipe overrides them."""
        return {}

    def schedule(self, recipe: Recipe, index: int) -> Recipe:
        """The recipe of task `index`, 1 or later, from that of the increments."""
        return recipe

    def primary(self) -> str:
        """The name of the classifier that is the method's own."""
        return "head"

    # Within a task, in this order.

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        """Before training: freeze the teacher if the method has one, and open the head's rows."""
        if task.index and self.teacher:
            s.remember_teacher()
        s.head.open(task.old, task.seen, g("head"))
        for name, head in s.net.side.items():
            head.open(task.old, task.seen, g("head", name))  # type: ignore[operator]

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        """The phases of a task; code after a yield runs when that phase has been trained."""
        yield Phase("train", (Rows(task.rows),), task.recipe, self.loss)

    def augment(self, s: State, batch: Batch, task: Task, g: Streams) -> Batch:
        """Every random draw of a step beyond the data set's own augmentation; `g` are that step's streams."""
        return batch

    def loss(self, s: State, batch: Batch, task: Task) -> dict[str, Term]:
        """The named terms of the objective: deterministic arithmetic, no draw, no change of state.

        On a GPU its kernels are recorded and replayed: all that changes from step to step comes in `batch`.
        Code that waits for the GPU, such as `.item()`, makes every step a plain one.
        """
        raise TypeError(f"{type(self).__name__} must define loss")

    def end_phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        """The phases that train something beside the finished network, such as a generator, which is kept.

        The network stays as it is and in evaluation mode: a phase names its `params`, with `train_mode` off.
        Unlike `phases`, they run also where the training of the task is shared. So they read nothing that
        `phases` has left in `State.local` or `State.modules`.
        """
        yield from ()

    def end(self, s: State, task: Task, data: View, g: Streams) -> None:
        """After training: rank exemplars, compute class means and prototypes from the finished network."""

    def scores(self, s: State, x: Tensor, task: Task) -> dict[str, Tensor]:
        """Classifier name -> scores [B, seen] for images x [B, C, H, W]; one of them is `primary()`."""
        return {"head": s.net(x).logits}

    def answering(self, s: State) -> tuple[Network, ...]:
        """The networks that `primary()` reads. A saved model has no others of `State.nets`."""
        return (s.net,)

    def pictures(self, s: State, task: Task, n: int, g: Streams) -> tuple[Tensor, Tensor] | None:
        """Return n images [n, C, H, W] that this method has made of old classes, and their classes [n].

        They are normalised, as the network takes them. None where the method makes none. Training goes on as
        if nothing had been asked.
        """
        return None

    def reading(self, scores: Tensor) -> Reading:
        """The scores [B, K] of `primary()` as a reader takes them: probabilities, from logits."""
        return probability(scores)

    def note(self, task: Task) -> str | None:
        """A fallback that this task takes, for the record."""
        return None

    def build(self, make: Callable[[], Network]) -> State:
        """The state before the first task; `make` gives a network from the init stream."""
        return State(make(), make, self.memories)

    def values(self) -> dict[str, Value]:
        """The hyperparameters by name."""
        return to_dict(self.hp)

    def digest(self) -> str:
        """Equal for equal methods with equal hyperparameters."""
        return digest({"method": self.name, "hp": self.values()})
