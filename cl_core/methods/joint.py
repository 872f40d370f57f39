"""Joint training: the upper reference."""

from __future__ import annotations

from collections.abc import Iterator

from torch.nn import functional as F

from cl_core.images.view import View
from cl_core.method import Method, Phase, Rows, register
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Batch, Task, Term


@register("joint")
class Joint(Method):
    """Train a new network on all classes so far, at every task."""

    name, title = "joint", "Joint training"
    paper = "the field's upper reference"
    equation = "CE(softmax(z), y) on all data so far"
    paradigm, level, kind = "baseline", "none", "none"
    restarts = True

    def begin(self, s: State, task: Task, data: View, g: Streams) -> None:
        if task.index:
            device = s.head.weight.device
            s.net.load_state_dict({k: v.to(device) for k, v in s.fresh().state_dict().items()})
        s.head.open(0, task.seen, g("head"))

    def phases(self, s: State, task: Task, data: View, g: Streams) -> Iterator[Phase]:
        yield Phase("train", (Rows(data.rows(range(task.seen))),), task.recipe, self.loss)

    def loss(self, s: State, b: Batch, task: Task) -> dict[str, Term]:
        return {"ce": Term(F.cross_entropy(s.net(b.x).logits, b.y))}
