"""The trainer: it owns every loop. Tasks x phases x steps, evaluation, and the boundary of a task.

Order of a task: begin, phases, end, evaluation. The first task of a base family is a shared checkpoint: its
network and the rows of its training come from the store when they are there; every method runs its own
`end` and evaluation after it. With `shared_base` that checkpoint is the plain one for all methods.
"""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from cl_core.errors import NonFiniteLoss
from cl_core.images.augment import Draws, draw
from cl_core.images.dataset import Augment, Data
from cl_core.images.view import View
from cl_core.method import METHODS, Method, Phase
from cl_core.nets.network import Network, build_network
from cl_core.recipe import recipe_dict
from cl_core.rng import Streams
from cl_core.state import State
from cl_core.task import Task
from cl_core.training.allocator import keep_freed_memory
from cl_core.training.checkpoint_keys import base_checkpoint_key, numerics_digest, resume_checkpoint_key
from cl_core.training.checkpoints import Checkpoint, CheckpointStore, ResumeCheckpoints, network_digest
from cl_core.training.checks import check
from cl_core.training.chf import Learnt, accuracy_on_new_classes, learn_task
from cl_core.training.chf_options import CHF
from cl_core.training.configuration import Configuration
from cl_core.training.device import peak_memory, resolve_device
from cl_core.training.evaluation import evaluate, teacher_agreement
from cl_core.training.events import Event, Watch, ignore
from cl_core.training.optimisation import epoch_rows, make_optimizer, rows_to_keep, warm_up
from cl_core.training.result import PhaseValue, TaskResult, Trained
from cl_core.training.shared_base import frozen_backbone, on_heads, takes_the_head
from cl_core.training.terms import objective
from cl_core.training.weights import load_init


class Training:
    """One run, task by task.

        training = Training(configuration, data)
        while not training.finished:
            result = training.next_task()

    With a `store` the first task is shared with every run of its base family, unless `share` is off, and with
    `resume` the run continues from its last saved boundary; both give the numbers that an undisturbed run
    gives. With `measure` off nothing is evaluated, so that all training rows may be trained on and the test
    split stays sealed; the network is the same. `watch` is called with each event of the training. Raises
    BadRequest before any work.
    """

    def __init__(
        self,
        configuration: Configuration,
        data: Data,
        store: CheckpointStore | None = None,
        resume: ResumeCheckpoints | None = None,
        share: bool = True,
        measure: bool = True,
        watch: Watch = ignore,
    ) -> None:
        check(configuration, data, measure)
        self.configuration, self.data, self.store = configuration, data, store
        self.device, self.precision = resolve_device(configuration.device, configuration.precision)
        if self.device.type == "cpu":
            keep_freed_memory()
        else:  # the same bits twice: cuDNN may not choose its kernels by timing them
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
        if configuration.threads is not None:
            torch.set_num_threads(configuration.threads)
        warm_up(self.device)
        self.method: Method = METHODS[configuration.method](configuration.hp)
        self.framework = configuration.framework()
        self.base_recipe, self.increment_recipe = configuration.recipes(data, self.method)
        self.sizes = configuration.scenario.sizes(data.num_classes)
        self.order = configuration.order(data.num_classes, data.class_names)
        self.view = View(data, self.order, configuration.validation, self.device)
        self.numerics = numerics_digest(configuration)
        self.state: State = self.method.build(self._make_network)
        self.done = 0
        self.watch = watch
        self._boundaries, self._share, self._measure = resume, share, measure
        self._resume()

    @property
    def tasks(self) -> int:
        """Tasks that this run trains: those of the scenario, or its first ones (`until`)."""
        return self.configuration.until or len(self.sizes)

    @property
    def finished(self) -> bool:
        """Whether every task has been trained."""
        return self.done == self.tasks

    # Keys

    def base_key(self) -> str:
        """The address of the first task's checkpoint."""
        return base_checkpoint_key(self.configuration, self.data, self.numerics)

    def resume_checkpoint_key(self, task: int) -> str:
        """The address of this run's own boundary after `task`."""
        scope = self._boundaries.scope if self._boundaries else ""
        return resume_checkpoint_key(self.configuration, self.data, self.numerics, task, scope)

    # One task

    def next_task(self) -> TaskResult:
        """Train and evaluate the next task. Raises RunError where a loss is not finite."""
        index = self.done
        task = self._task(index)
        g = Streams(self.configuration.seed, index)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if self.framework is not None and index and not self.method.restarts:
            learnt, shared = self._learn_by_framework(self.framework, task, g), False
        else:
            trained, shared = self._train_task(task, g)
            self.method.end(self.state, task, self.view, g)
            learnt = Learnt(self.method, task, trained)
        method, task, trained, note = learnt
        self.state.check_kept(type(method))
        splits = ["val"] if self.configuration.validation and self._measure else []
        splits += ["test"] if self.configuration.unsealed and self._measure else []
        agreement = teacher_agreement(self.state, task, self.view, "val") if "val" in splits else None
        self.state.drop_local()
        evaluations = [e for split in splits for e in evaluate(method, self.state, task, self.view, split)]
        self.done += 1
        exemplars = sum(len(m) for m in self.state.memories.values())
        exemplar_bytes = exemplars * self.view.image_bytes
        return TaskResult(
            task=index,
            network=network_digest(self.state.net.state_dict()),
            checkpoint=self.resume_checkpoint_key(index) if index else self.base_key(),
            classes=task.new,
            images=trained.images,
            seconds=trained.seconds,
            shared=shared,
            exemplars=exemplars,
            exemplar_bytes=exemplar_bytes,
            kept_bytes=exemplar_bytes + self.state.kept_bytes(),
            peak_memory_bytes=peak_memory(self.device),
            note="; ".join(filter(None, (method.note(task), note))) or None,
            teacher_agreement=agreement,
            hp=method.values(),
            recipe=recipe_dict(task.recipe),
            phases=trained.phases,
            evaluations=tuple(evaluations),
        )

    def train_base(self) -> None:
        """Train and publish the first task's checkpoint, unless it stands already."""
        if self.store is None:
            raise ValueError("a base checkpoint needs a store")
        training = self._plain() if self.configuration.shared_base else self
        training._train_task(self._task(0), Streams(self.configuration.seed, 0))

    def keep_resume_checkpoint(self) -> None:
        """Save the last finished task as the point to resume from, once its rows are written."""
        if self._boundaries is None:
            return
        self._boundaries.store.save(
            self.resume_checkpoint_key(self.done - 1), Checkpoint(self.state.tensors(), {})
        )
        if self.done > 1:
            self._boundaries.store.remove(self.resume_checkpoint_key(self.done - 2))

    def forget_resume_checkpoints(self) -> None:
        """Remove this run's own boundaries; the shared base checkpoint stays."""
        if self._boundaries is not None:
            for task in range(self.tasks):
                self._boundaries.store.remove(self.resume_checkpoint_key(task))

    def _task(self, index: int) -> Task:
        sizes = self.sizes[: index + 1]
        rows = self.view.rows(range(sum(sizes[:-1]), sum(sizes)))
        recipe = self.method.schedule(self.increment_recipe, index) if index else self.base_recipe
        return Task(index, sizes, rows, recipe)

    def _train_task(self, task: Task, g: Streams) -> tuple[Trained, bool]:
        if self.configuration.shared_base and not task.index:
            return self._take_over(task, g)
        self.method.begin(self.state, task, self.view, g)
        if task.index or self.store is None or not self._share:
            return self._train(task, g), False
        key = self.base_key()
        with self.store.lock(key):
            checkpoint = self.store.load(key)
            if checkpoint is None:
                trained = self._train(task, g)
                self.store.save(key, Checkpoint(_on_cpu(self.state.net.state_dict()), trained.to_meta()))
                return trained, False
        self.state.net.load_state_dict(checkpoint.tensors)
        return Trained.from_meta(checkpoint.meta), True

    def _learn_by_framework(self, framework: CHF, task: Task, g: Streams) -> Learnt:
        start = {name: t.clone() for name, t in self.state.tensors().items()}

        def learn(method: Method, task: Task) -> Trained:
            self.state.drop_local()
            self.state.restore({name: t.clone() for name, t in start.items()}, task.old)
            beside = copy.copy(self)
            beside.method = method
            trained = beside._train_task(task, g)[0]
            method.end(self.state, task, self.view, g)
            return trained

        def accuracy(method: Method, task: Task) -> float:
            return accuracy_on_new_classes(method, self.state, task, self.view)

        return learn_task(framework, self.method, task, learn, accuracy, self.configuration.hp)

    def _plain(self) -> Training:
        """Fine-tuning beside this run: the same images and recipe, a network of its own."""
        plain = copy.copy(self)
        plain.configuration = self.configuration.plain()
        plain.method = METHODS["finetune"]()
        plain.state = plain.method.build(plain._make_network)
        return plain

    def _take_over(self, task: Task, g: Streams) -> tuple[Trained, bool]:
        plain, net = self._plain(), self.state.net
        trained, shared = plain._train_task(task, g)
        self.method.begin(self.state, task, self.view, g)
        if takes_the_head(self.method):
            net.load_state_dict(plain.state.net.state_dict())
            return trained, shared
        net.backbone.load_state_dict(plain.state.net.backbone.state_dict())
        with frozen_backbone(net):
            heads = self._train(task, g, heads_alone=True)
        return trained + heads, shared

    def _train(self, task: Task, g: Streams, heads_alone: bool = False) -> Trained:
        started = time.perf_counter()
        values: list[PhaseValue] = []
        images = 0
        for whole in self.method.phases(self.state, task, self.view, g):
            phase = on_heads(whole, self.state.net) if heads_alone else whole
            if phase is None:
                continue
            images += self._train_phase(phase, task, g, values)
        return Trained(tuple(values), images, time.perf_counter() - started)

    def _train_phase(self, phase: Phase, task: Task, g: Streams, values: list[PhaseValue]) -> int:
        """Train one phase; appends a value for each epoch and term, and returns the number of images.

        A value is the mean over the epoch's images: a step counts by how many it has.
        """
        net, recipe = self.state.net, phase.recipe
        params = list(phase.params) if phase.params is not None else list(net.parameters())
        optimizer = make_optimizer(params, recipe)
        kept_rows = rows_to_keep(net, phase.head_rows)
        net.train(phase.train_mode)
        images = 0
        event = Event("phase begins", task, self.tasks, phase, 0, self.state, self.view)
        self.watch(event)
        for epoch in range(recipe.epochs):
            purpose = (phase.name, epoch)
            rows_of = epoch_rows(phase.rows, recipe, g, purpose)
            passed = sum(map(len, rows_of.steps))
            augment = self.data.augment if phase.augment else Augment()
            draws: Draws = draw(augment, passed, g, purpose, self.device)
            rate = recipe.learning_rate(epoch)
            for group in optimizer.param_groups:
                group["lr"] = rate
            total: Tensor | None = None
            for step, batch in enumerate(self.view.epoch(rows_of.steps, draws)):
                width = len(batch.y)
                if phase.augment:
                    batch = self.method.augment(self.state, batch, task, g.at(*purpose, step))
                with self._autocast():
                    terms = phase.loss(self.state, batch, task)
                total_loss = objective(terms, phase.loss)
                optimizer.zero_grad(set_to_none=True)
                total_loss.backward()
                if phase.on_grad is not None:
                    phase.on_grad(params, epoch, width, g(*purpose, step, "gradient"))
                optimizer.step()
                for rows, before, start, stop in kept_rows:
                    with torch.no_grad():
                        rows[:start] = before[:start]
                        rows[stop:] = before[stop:]
                seen = width * torch.stack([t.value.detach().float() for t in terms.values()])
                total = seen if total is None else total + seen
            assert total is not None
            images += rows_of.images
            for (name, term), mean in zip(terms.items(), (total / passed).tolist(), strict=True):
                if not math.isfinite(mean):
                    raise NonFiniteLoss(
                        f"every loss term must stay finite: {name!r} became {mean} in task {task.index}, "
                        f"phase {phase.name!r}, epoch {epoch}; lower the learning rate or the weight"
                    )
                values.append(PhaseValue(phase.name, epoch, name, mean, float(term.weight), rate))
            self.watch(event._replace(kind="epoch ends", epoch=epoch + 1))
        # The last step may have broken what no loss has seen yet.
        for name, tensor in net.state_dict().items():
            if not tensor.isfinite().all():
                raise NonFiniteLoss(
                    f"every weight must stay finite: {name!r} did not in task {task.index}, phase "
                    f"{phase.name!r}; lower the learning rate or the weight"
                )
        self.watch(event._replace(kind="phase ends", epoch=recipe.epochs))
        return images

    def _autocast(self) -> contextlib.AbstractContextManager[Any]:
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    # State

    def _make_network(self) -> Network:
        base = self.method.base()
        net = build_network(
            self.configuration.net or self.data.net,
            self.data.shape,
            self.data.num_classes,
            base.head,
            base.last_relu or self.configuration.shared_base,
            self.configuration.seed,
            base.side_heads,
        )
        if self.configuration.init:
            load_init(net, self.configuration.init)
        net.to(memory_format=torch.channels_last)
        return net.to(self.device)

    def _resume(self) -> None:
        if self._boundaries is None:
            return
        for task in reversed(range(self.tasks)):
            checkpoint = self._boundaries.store.load(self.resume_checkpoint_key(task))
            if checkpoint is not None:
                self.state.restore(checkpoint.tensors, sum(self.sizes[: task + 1]))
                self.done = task + 1
                return


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().cpu().contiguous() for name, t in tensors.items()}
