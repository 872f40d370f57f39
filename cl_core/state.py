"""The state of a run: tensors that survive a task, and tensors that live only during one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from cl_core.errors import RunError, defined_at
from cl_core.memory import Memory
from cl_core.nets.network import Frozen, LinearHead, Network


class State:
    """The network and everything that a method keeps with it.

    `net`, `nets` (further frozen networks, built as `net` is), `memories` (ranked row ids) and `kept` (named
    tensors: class means, prototypes, bias pairs) survive a task and are saved in checkpoints. `teacher` (the
    previous task's network), `copies` (further frozen networks), `local` (parameters) and `modules` (such as
    a generator) live during a task and are dropped before its checkpoint.
    """

    def __init__(
        self, net: Network, fresh: Callable[[], Network], memories: tuple[str, ...] = ("exemplars",)
    ) -> None:
        self.net = net
        self.fresh = fresh  # a network as it was before the first task, from the same init stream
        self.nets: dict[str, Frozen] = {}
        self.memories = {name: Memory() for name in memories}
        self.kept: dict[str, Tensor] = {}
        self.teacher: Frozen | None = None
        self.copies: dict[str, Frozen] = {}
        self.local: dict[str, nn.Parameter] = {}
        self.modules: dict[str, nn.Module] = {}

    @property
    def memory(self) -> Memory:
        """The exemplars."""
        return self.memories["exemplars"]

    @property
    def head(self) -> LinearHead:
        """The network's head (or another kind with the same interface)."""
        return self.net.head  # type: ignore[return-value]

    def remember_teacher(self) -> None:
        """Freeze a copy of the network as the teacher of the task that begins."""
        self.teacher = Frozen(self.net)

    def drop_local(self) -> None:
        """Drop what lives only during a task."""
        self.teacher = None
        self.copies.clear()
        self.local.clear()
        self.modules.clear()

    def check_kept(self, method: type) -> None:
        """Raise RunError, naming the file of `method`, unless everything kept is a tensor."""
        for name, value in self.kept.items():
            if not isinstance(value, Tensor):
                raise RunError(
                    f"State.kept must hold tensors: {name!r} is a {type(value).__name__}; make it one, as "
                    f"torch.stack does ({defined_at(method)})"
                )

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that survives a task, by name, on the CPU."""
        out = {f"net.{name}": t for name, t in self.net.state_dict().items()}
        out |= self._tensors_of_nets() | {f"kept.{name}": t for name, t in self.kept.items()}
        for name, memory in self.memories.items():
            out |= {f"memory.{name}.{c}": rows for c, rows in memory.rows.items()}
        return {name: t.detach().cpu().contiguous() for name, t in out.items()}

    def restore(self, tensors: dict[str, Tensor], seen: int) -> None:
        """Restore what `tensors()` returned after a task with `seen` classes."""
        part = {n.removeprefix("net."): t for n, t in tensors.items() if n.startswith("net.")}
        self.net.load_state_dict(part)
        for head in self.net.heads():
            head.seen = seen
        self.nets = {name: self._frozen(name, tensors, seen) for name in _names_of_nets(tensors)}
        device = self.head.weight.device
        self.kept = {
            n.removeprefix("kept."): t.to(device) for n, t in tensors.items() if n.startswith("kept.")
        }
        for name, memory in self.memories.items():
            stem = f"memory.{name}."
            rows = {int(n.removeprefix(stem)): t for n, t in tensors.items() if n.startswith(stem)}
            memory.rows = dict(sorted(rows.items()))

    def network_tensors(self) -> dict[str, Tensor]:
        """Return the tensors of all networks that survive a task, by name."""
        return self.net.state_dict() | self._tensors_of_nets()

    def _tensors_of_nets(self) -> dict[str, Tensor]:
        nets = self.nets.items()
        return {f"nets.{name}.{key}": t for name, kept in nets for key, t in kept.net.state_dict().items()}

    def _frozen(self, name: str, tensors: dict[str, Tensor], seen: int) -> Frozen:
        net, stem = self.fresh(), f"nets.{name}."
        net.load_state_dict({n.removeprefix(stem): t for n, t in tensors.items() if n.startswith(stem)})
        for head in net.heads():
            head.seen = seen
        return Frozen(net)

    def kept_bytes(self) -> int:
        """Return the bytes of the named tensors in `kept`, and of what the network keeps for later tasks."""
        return sum(t.numel() * t.element_size() for t in self.kept.values()) + self.net.kept_bytes()


def _names_of_nets(tensors: dict[str, Tensor]) -> list[str]:
    return sorted({name.split(".")[1] for name in tensors if name.startswith("nets.")})


def same_tensors(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Tell whether two sets of named tensors are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[n], b[n]) for n in a)
