"""One run: its tasks in order, each trained and evaluated, shared and resumed through checkpoints.

Order of a task: begin, phases, end, evaluation. `cl_core.training.learner` trains the phases. The base
checkpoint holds the network of the first task and the record of its training, for all runs of a base family;
every method runs its own `end` and evaluation after it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping

import torch

from cl_core.hparams import Value, to_dict
from cl_core.images.dataset import Data
from cl_core.images.view import View
from cl_core.method import METHODS, Method
from cl_core.rng import Streams
from cl_core.task import Task
from cl_core.training import adaptive, chf, shared_base
from cl_core.training.adaptive_options import Adaptive, Proposer
from cl_core.training.allocator import keep_freed_memory
from cl_core.training.base_checkpoint import train_or_load
from cl_core.training.captured import Graphs
from cl_core.training.checkpoint_keys import (
    base_checkpoint_key,
    epoch_checkpoint_key,
    numerics_digest,
    resume_checkpoint_key,
    task_checkpoint_key,
)
from cl_core.training.checkpoints import Checkpoint, CheckpointStore, ResumeCheckpoints, network_digest
from cl_core.training.checks import check
from cl_core.training.configuration import Configuration
from cl_core.training.device import on_stream, own_stream, peak_memory, resolve_device
from cl_core.training.epoch_checkpoint import EpochCheckpoints
from cl_core.training.evaluation import Evaluation, evaluate, teacher_agreement
from cl_core.training.events import Watch, ignore
from cl_core.training.flops import flops_of
from cl_core.training.learner import Learner, first_state
from cl_core.training.optimiser import warm_up
from cl_core.training.result import Learnt, TaskResult
from cl_core.training.task_checkpoint import train_or_take
from cl_core.training.task_end import end_task
from cl_core.training.task_start import TaskStart


class Training:
    """One run, task by task.

        training = Training(configuration, data)
        while not training.finished:
            result = training.next_task()

    With a `store` the first task is shared with every run of its base family, unless `share` is off. With
    `reuse` later tasks are shared there with runs that have trained alike so far. With `resume` the run
    continues after its resume checkpoint, or inside a task (see `ResumeCheckpoints`). All give the numbers of
    an undisturbed run. With `measure` off nothing is evaluated, so that all training rows may be trained on
    and the test split stays sealed; the network is the same. `watch` is called with each event of the
    training. `proposer` gives the values of each attempt at a task where the configuration is adaptive. On a
    GPU, `capture` replays steps as CUDA graphs; the numbers are the same without. Raises BadRequest before
    any work.
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
        proposer: Proposer | None = None,
        reuse: CheckpointStore | None = None,
        capture: bool = True,
    ) -> None:
        check(configuration, data, measure)
        self.configuration, self.data, self.store = configuration, data, store
        self.device, self.precision = resolve_device(configuration.device, configuration.precision)
        if self.device.type == "cpu":
            keep_freed_memory()
        else:  # the same bits twice: cuDNN may not choose its kernels by timing them
            torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False
            short = self.precision == "tf32"
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = short
        if configuration.threads is not None:
            torch.set_num_threads(configuration.threads)
        warm_up(self.device)
        self._stream = own_stream(self.device)
        self.method = METHODS[configuration.method](configuration.hp)
        self.base_recipe, self.increment_recipe = configuration.recipes(data, self.method)
        self.sizes = configuration.scenario.sizes(data.num_classes)
        self.tasks = configuration.until or len(self.sizes)  # those of the scenario, or its first ones
        self.order = configuration.order(data.num_classes, data.class_names)
        self.view = View(data, self.order, configuration.validation, self.device)
        self.numerics = numerics_digest(configuration)
        self.state = first_state(configuration, self.method, self.view)
        record = Graphs(self.device) if capture and self._stream is not None else None
        self.learner = Learner(
            self.method, self.state, self.view, self.precision, self.tasks, watch, record=record
        )
        self.done = 0
        self._resume_checkpoints, self._share, self._measure, self._reuse = resume, share, measure, reuse
        self._proposer = proposer
        self._resume()

    @property
    def finished(self) -> bool:
        """Tell whether every task has been trained."""
        return self.done == self.tasks

    def task(self, index: int) -> Task:
        """Return a task of the run, with its rows and recipe."""
        sizes = self.sizes[: index + 1]
        rows = self.view.rows(range(sum(sizes[:-1]), sum(sizes)))
        recipe = self.method.schedule(self.increment_recipe, index) if index else self.base_recipe
        return Task(index, sizes, rows, recipe)

    def changed(self, index: int, values: Mapping[str, Value]) -> tuple[Method, Task]:
        """Return the method and a later task under other values: "hp.kd_weight", "recipe.lr"."""
        configuration = self.configuration.with_values(values)
        method = METHODS[configuration.method](configuration.hp)
        recipe = method.schedule(configuration.recipes(self.data, method)[1], index)
        return method, dataclasses.replace(self.task(index), recipe=recipe)

    def next_task(self) -> TaskResult:
        """Train and evaluate the next task. Raises RunError where a loss is not finite, and TaskLeft."""
        with on_stream(self._stream):
            return self._next_task()

    def _next_task(self) -> TaskResult:
        index, framework = self.done, self.configuration.framework()
        self._save_epochs(self.resume_checkpoint_key(index))
        task, g = self.task(index), Streams(self.configuration.seed, index)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        if framework is not None and index and not self.method.restarts:
            learnt = chf.learn_task(framework, self.learner, task, g, self.configuration.hp)
            return self._evaluated(learnt, shared=False)
        adaptation = self.configuration.adaptation()
        if adaptation is not None and index and not self.method.restarts:
            return self._evaluated(self._adapted(adaptation, index, g), shared=False)
        if index:
            trained, shared = train_or_take(self.learner, task, g, self._reuse, self.task_key(index))
        else:
            store = self.store if self._share else None
            if self.configuration.shared_base:
                plain = shared_base.plain_learner(self.learner, self.configuration)
                trained, shared = shared_base.learn_first_task(
                    self.learner, plain, task, g, store, self.base_key()
                )
            else:
                trained, shared = train_or_load(self.learner, task, g, store, self.base_key())
        trained += end_task(self.learner, task, g)
        return self._evaluated(Learnt(self.method, task, trained), shared)

    def _adapted(self, options: Adaptive, index: int, g: Streams) -> Learnt:
        if self._proposer is None:
            raise ValueError("task-wise adaptation needs a proposer")
        return adaptive.learn_adaptively(
            options.attempts,
            lambda values: self.changed(index, values),
            self._proposer,
            TaskStart(self.learner, g),
        )

    def train_base(self) -> None:
        """Train and publish the base checkpoint, unless the store has it."""
        if self.store is None:
            raise ValueError("a base checkpoint needs a store")
        self._save_epochs(self.base_key())
        learner = self.learner
        if self.configuration.shared_base:
            learner = shared_base.plain_learner(learner, self.configuration)
        with on_stream(self._stream):
            g = Streams(self.configuration.seed, 0)
            train_or_load(learner, self.task(0), g, self.store, self.base_key())
        self._forget_epochs()

    def _evaluated(self, learnt: Learnt, shared: bool) -> TaskResult:
        method, task, trained, note, attempts = learnt
        self.state.check_kept(type(method))
        splits = ["val"] if self.configuration.validation and self._measure else []
        splits += ["test"] if self.configuration.unsealed and self._measure else []
        agreement = teacher_agreement(self.state, task, self.view, "val") if "val" in splits else None
        self.state.drop_local()
        evaluations: list[Evaluation] = []
        for split in splits:
            evaluations += evaluate(method, self.state, task, self.view, split)
        self.done += 1
        answering = method.answering(self.state)
        exemplars = sum(len(m) for m in self.state.memories.values())
        exemplar_bytes = exemplars * self.view.image_bytes
        return TaskResult(
            task=task.index,
            network=network_digest(self.state.network_tensors()),
            checkpoint=self.resume_checkpoint_key(task.index) if task.index else self.base_key(),
            classes=task.new,
            images=trained.images,
            seconds=trained.seconds,
            numerics=self.numerics,
            shared=shared,
            exemplars=exemplars,
            exemplar_bytes=exemplar_bytes,
            kept_bytes=exemplar_bytes + self.state.kept_bytes(),
            parameters=sum(net.answering_parameters() for net in answering),
            flops=flops_of(answering, self.data.shape),
            peak_memory_bytes=peak_memory(self.device),
            note="; ".join(filter(None, (method.note(task), note))) or None,
            teacher_agreement=agreement,
            hp=method.values(),
            recipe=to_dict(task.recipe),
            phases=trained.phases,
            evaluations=tuple(evaluations),
            attempts=json.dumps([dataclasses.asdict(one) for one in attempts]) if attempts else None,
        )

    # Checkpoints

    def base_key(self) -> str:
        """Return the address of the base checkpoint."""
        return base_checkpoint_key(self.configuration, self.data, self.numerics)

    def task_key(self, task: int) -> str:
        """Return the address of the training of a later task."""
        return task_checkpoint_key(self.configuration, self.data, self.numerics, task)

    def resume_checkpoint_key(self, task: int) -> str:
        """Return the address of this run's resume checkpoint after `task`."""
        scope = self._resume_checkpoints.scope if self._resume_checkpoints else ""
        return resume_checkpoint_key(self.configuration, self.data, self.numerics, task, scope)

    def keep_resume_checkpoint(self) -> None:
        """Save the resume checkpoint of the last finished task, once its rows are written."""
        if self._resume_checkpoints is None:
            return
        store = self._resume_checkpoints.store
        store.save(self.resume_checkpoint_key(self.done - 1), Checkpoint(self.state.tensors(), {}))
        self._forget_epochs()
        if self.done > 1:
            store.remove(self.resume_checkpoint_key(self.done - 2))

    def forget_resume_checkpoints(self) -> None:
        """Remove this run's resume checkpoints; the base checkpoint stays."""
        self._forget_epochs()
        if self._resume_checkpoints is not None:
            for task in range(self.tasks):
                self._resume_checkpoints.store.remove(self.resume_checkpoint_key(task))

    def _save_epochs(self, identity: str) -> None:
        """Save the next task, of which `identity` is everything that decides it, at ends of epochs."""
        own = self._resume_checkpoints
        if own is not None and own.every is not None:
            key = epoch_checkpoint_key(own.scope)
            saves = EpochCheckpoints(own.store, key, identity, own.every, own.ends)
            self.learner = dataclasses.replace(self.learner, saves=saves)

    def _forget_epochs(self) -> None:
        own = self._resume_checkpoints
        if own is not None:  # an earlier command may have saved epochs, also where this one does not
            own.store.remove(epoch_checkpoint_key(own.scope))

    def _resume(self) -> None:
        if self._resume_checkpoints is None:
            return
        for task in reversed(range(self.tasks)):
            checkpoint = self._resume_checkpoints.store.load(self.resume_checkpoint_key(task))
            if checkpoint is not None:
                self.state.restore(checkpoint.tensors, sum(self.sizes[: task + 1]))
                self.done = task + 1
                return
