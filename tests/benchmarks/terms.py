"""The share of each term of a method's loss in the gradient's norms, in the second task.

A term whose share is zero does not act, whatever its weight says.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from cl_core.errors import unknown
from cl_core.hparams import Choice, Value, hparams
from cl_core.images.data_spec import DataSpec
from cl_core.images.dataset import Data
from cl_core.images.loading import load
from cl_core.memory import Budget
from cl_core.method import METHODS, Loss, Phase
from cl_core.scenarios.scenarios import parse_scenario
from cl_core.state import State
from cl_core.task import Batch, Task, Term
from cl_core.training.checkpoints import CheckpointStore
from cl_core.training.configuration import Configuration
from cl_core.training.trainer import Training
from cl_core.yaml_text import read_value

Norms = dict[str, tuple[float, float]]  # term -> norm of the gradient of value x weight, and the weight
Figures = dict[str, dict[str, dict[str, dict[str, float]]]]  # run -> phase -> term -> share and weight


def term_shares(
    configuration: Configuration, data: Data, steps: int = 8, store: CheckpointStore | None = None
) -> dict[str, dict[str, dict[str, float]]]:
    """Phase -> term -> its mean share of the sum of all terms' norms, and its mean weight.

    Norms are those of the gradients over what the phase trains, at `steps` steps spread evenly over each
    phase of the second task; the numbers of the training are those of any other run. Shares of a phase sum
    to 1, or are all 0 where no term has a gradient. With a `store` the first task is shared.
    """
    training = Training(configuration, data, store)
    training.next_task()
    noted: dict[str, list[Norms]] = {}

    def noting(phase: Phase) -> Phase:
        return dataclasses.replace(phase, loss=_noting(phase, steps, noted.setdefault(phase.name, [])))

    training.learner = dataclasses.replace(training.learner, adapt=noting)
    training.next_task()
    return {phase: _means(norms) for phase, norms in noted.items()}


def _noting(phase: Phase, steps: int, noted: list[Norms]) -> Loss:
    first = phase.rows[0]
    width = min(first.batch or phase.recipe.batch, len(first.ids))
    total = phase.recipe.epochs * math.ceil(len(first.ids) / width)
    # The middles of equal stretches: at the very first step the student still is the teacher.
    chosen = {(2 * k + 1) * total // (2 * steps) for k in range(steps)}
    step = 0

    def loss(s: State, b: Batch, t: Task) -> dict[str, Term]:
        nonlocal step
        terms = phase.loss(s, b, t)
        if step in chosen:
            noted.append(gradient_norms(terms, phase, s))
        step += 1
        return terms

    return loss


def gradient_norms(terms: dict[str, Term], phase: Phase, s: State) -> Norms:
    """The norm of each term's weighted gradient over the parameters and head rows that `phase` trains."""
    params = list(phase.params) if phase.params is not None else list(s.net.parameters())
    params = [p for p in params if p.requires_grad]
    head = {id(rows) for rows in s.head.rows()} if phase.head_rows else set()
    out: Norms = {}
    for name, term in terms.items():
        pull = term.value * term.weight
        grads: Sequence[Tensor | None] = []
        if pull.requires_grad:
            grads = torch.autograd.grad(pull, params, retain_graph=True, allow_unused=True)
        parts = [
            gradient[slice(*phase.head_rows)] if phase.head_rows and id(p) in head else gradient
            for p, gradient in zip(params, grads or [None] * len(params), strict=True)
            if gradient is not None
        ]
        norms = [torch.linalg.vector_norm(part.float()) for part in parts]
        norm = float(torch.linalg.vector_norm(torch.stack(norms))) if norms else 0.0
        out[name] = (norm, float(term.weight))
    return out


def _means(noted: list[Norms]) -> dict[str, dict[str, float]]:
    shares: dict[str, list[float]] = {name: [] for step in noted for name in step}
    weights: dict[str, list[float]] = {name: [] for name in shares}
    for step in noted:
        total = sum(norm for norm, _ in step.values())
        for name in shares:
            norm, weight = step.get(name, (0.0, 0.0))
            weights[name].append(weight)
            if total:
                shares[name].append(norm / total)
    return {
        name: {"share": sum(each) / max(1, len(each)), "weight": sum(weights[name]) / len(noted)}
        for name, each in shares.items()
    }


# The command


def runs() -> Iterator[tuple[str, str, dict[str, Value]]]:
    """(label, method, hyperparameters): each method that distils or replays, and each of its losses."""
    for method in METHODS.names():
        cls = METHODS[method]
        if not cls.teacher and not issubclass(cls.HP, Budget):
            continue
        loss = hparams(cls.HP).get("loss")
        if loss is None or not isinstance(loss.domain, Choice):
            yield method, method, {}
            continue
        for option in loss.domain.options:
            if option != "none":
                yield f"{method} {option}", method, {"loss": option}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `python -m tests.benchmarks terms`."""
    group = parser.add_argument_group("terms")
    group.add_argument("--data", default="digits", help="data set (digits)")
    group.add_argument("--root", help="folder of its files")
    group.add_argument("--per-class", type=int, default=100, help="training images a class (100)")
    group.add_argument("--epochs", type=int, default=2, help="epochs a task (2)")
    group.add_argument("--net", help="network; the data set's without")
    group.add_argument("--scenario", default="B0-5tasks", help="scenario (B0-5tasks)")
    group.add_argument(
        "--run",
        action="append",
        metavar="LABEL",
        help="only these: a label of the table or a part of it, as distill or 'replay kl'; may be repeated",
    )
    group.add_argument(
        "--set",
        action="append",
        type=_assignment,
        metavar="NAME=VALUE",
        help="a hyperparameter of every run measured; may be repeated",
    )


def chosen(labels: Sequence[str] | None) -> list[tuple[str, str, dict[str, Value]]]:
    """The runs whose words include all those of one of `labels`; all without. Raises BadRequest on a label
    that names none.
    """
    known = list(runs())
    if not labels:
        return known
    out = {}
    for wanted in labels:
        found = [run for run in known if set(wanted.split()) <= set(run[0].split())]
        if not found:
            raise unknown("run", wanted, [label for label, _, _ in known])
        out.update({run[0]: run for run in found})
    return [run for run in known if run[0] in out]


def _assignment(text: str) -> tuple[str, Value]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must read like kd_weight=10, not {text!r}")
    return name, read_value(value, f"--set {name}")


def measure(asked: argparse.Namespace) -> Figures:
    """The shares and weights of every term, for every run."""
    spec = DataSpec(asked.data, root=asked.root, per_class=asked.per_class)
    data, figures = load(spec), Figures()
    with tempfile.TemporaryDirectory() as folder:
        for label, method, hp in chosen(asked.run):
            print(f"terms: {label}", file=sys.stderr)
            configuration = Configuration(
                method,
                spec,
                parse_scenario(asked.scenario),
                hp={**hp, **dict(asked.set or ())},
                recipe={"epochs": asked.epochs},
                net=asked.net,
            )
            figures[label] = term_shares(configuration, data, store=CheckpointStore(Path(folder)))
    return figures


def show(figures: Figures) -> None:
    """A table: a row a term."""
    from rich.console import Console
    from rich.table import Table

    table = Table("run", "phase", "term", title="share of each term in the gradient's norms, second task")
    for column in ("share", "weight"):
        table.add_column(column, justify="right")
    before = ("", "")
    for run, phases in figures.items():
        for phase, terms in phases.items():
            for term, values in terms.items():
                named = [run if run != before[0] else "", phase if (run, phase) != before else ""]
                table.add_row(*named, term, f"{values['share']:.4f}", f"{values['weight']:.4g}")
                before = (run, phase)
    Console().print(table)
