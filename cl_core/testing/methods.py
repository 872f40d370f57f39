"""The contracts of a method: its declaration, then tiny runs with every option of its choices."""

from __future__ import annotations

import dataclasses
import io
import math
import random
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cl_core.contract import contracts_of
from cl_core.hparams import Value, hparams
from cl_core.images.view import View
from cl_core.method import METHODS, Loss, Phase
from cl_core.model.model import load_model, save_model
from cl_core.state import State, same_tensors
from cl_core.task import Batch, Task, Term
from cl_core.testing import small
from cl_core.testing.method_declaration import DECLARATION_CONTRACTS
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints, network_digest
from cl_core.training.trainer import Training

OPTIMIZERS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.05},
    "adam": {"optimizer": "adam", "lr": 0.01, "weight_decay": 0.05},
    "adamw": {"optimizer": "adamw", "lr": 0.01, "weight_decay": 0.05},
}
ODD_SPLITS: tuple[dict[str, Any], ...] = (
    {"base": 2, "increments": [1, 1, 3]},
    {"base": 1, "increments": [4, 2]},
    {"base": 0, "increment": 1},
    {"base": 6, "increments": [1]},
)


def equal_runs_give_equal_bits_and_another_seed_gives_others(method: str) -> None:
    for hp in small.variants(method):
        first, again = small.run(method, hp), small.train(small.configuration(method, hp))
        assert again.traces == first.traces, f"two runs with {hp} differ"
        for a, b in zip(first.states, again.states, strict=True):
            assert same_tensors(a, b), f"two runs with {hp} keep other tensors"
    other = small.train(small.configuration(method, seed=1))
    for one, zero in zip(other.results, small.run(method).results, strict=True):
        assert one.network != zero.network, f"seed 1 gives the network of seed 0 in task {one.task}"


def it_neither_reads_nor_moves_the_global_generators(method: str) -> None:
    kept = torch.get_rng_state(), np.random.get_state(), random.getstate()
    try:
        torch.manual_seed(99)
        np.random.seed(99)
        random.seed(99)
        before = torch.get_rng_state(), str(np.random.get_state()), random.getstate()
        traces = small.train(small.configuration(method)).traces
        assert torch.equal(before[0], torch.get_rng_state()), "it moves torch's generator"
        assert before[1] == str(np.random.get_state()), "it moves NumPy's generator"
        assert before[2] == random.getstate(), "it moves Python's generator"
        assert traces == small.run(method).traces, "it depends on a global generator: draw from `g`"
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])
        random.setstate(kept[2])


def a_run_resumed_after_any_task_equals_the_straight_one(method: str) -> None:
    for hp in small.variants(method):
        for done in (1, 2, 3) if not hp else (2,):
            with tempfile.TemporaryDirectory() as folder:
                _resume(method, hp, done, CheckpointStore(Path(folder)))


def _resume(method: str, hp: dict[str, Value], done: int, store: CheckpointStore) -> None:
    straight, settings = small.run(method, hp), small.configuration(method, hp)
    first = Training(settings, small.data(), store, ResumeCheckpoints(store))
    results = []
    for _ in range(done):
        results.append(first.next_task())
        first.keep_resume_checkpoint()
    second = Training(settings, small.data(), store, ResumeCheckpoints(store))
    assert second.done == done
    assert second.state.head.seen == sum(small.SIZES[:done])
    assert same_tensors(second.state.tensors(), straight.states[done - 1]), f"{hp}: what is kept differs"
    while not second.finished:
        results.append(second.next_task())
    assert [small.trace(r) for r in results] == straight.traces, f"{hp}: resumed after task {done - 1}"


def a_run_left_inside_its_tasks_equals_the_straight_one(method: str) -> None:
    said = redirect_stderr(io.StringIO())  # a line for each continued task
    with tempfile.TemporaryDirectory() as folder, said:
        run, left = small.train_in_pieces(small.configuration(method), CheckpointStore(Path(folder)))
        assert left >= 6, "it is left at the end of each epoch"
        assert run.traces == small.run(method).traces, "a task that continues inside differs"
        for one, straight in zip(run.states, small.run(method).states, strict=True):
            assert same_tensors(one, straight), "what is kept differs"


def a_shared_first_task_changes_nothing(method: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        # Published by another method of the family, where it has one, or by the first variant.
        Training(small.configuration("finetune"), small.data(), store).train_base()
        for hp in small.variants(method):
            settings, straight = small.configuration(method, hp), small.run(method, hp).traces
            run = small.train(settings, store=store)
            if not run.results[0].shared:
                assert run.traces == straight, f"{hp}: publishing the first task changes the run"
                run = small.train(settings, store=store)
                assert [r.shared for r in run.results] == [True, False, False]
            assert run.traces == straight, f"{hp}: a run that takes the first task over differs"


def a_run_that_takes_trained_tasks_over_equals_one_alone(method: str) -> None:
    known = hparams(METHODS[method].HP)
    late = [hp for hp in small.variants(method) if not all(known[name].trains(1) for name in hp)]
    with tempfile.TemporaryDirectory() as folder:
        store = CheckpointStore(Path(folder))
        for hp in [{}, *late, {}]:
            alone = small.run(method, hp)
            run = small.train(small.configuration(method, hp), reuse=store)
            taken = [r.task for r in run.results if r.shared]
            assert run.traces == alone.traces, f"{hp}: the run differs, with tasks {taken} taken over"
            for own, other in zip(run.states, alone.states, strict=True):
                assert same_tensors(own, other), f"{hp}: what is kept differs, with tasks {taken} taken over"
        assert taken == [1, 2], "a run that trains as another does not take its tasks over"


def pixels_outside_the_task_and_memory_do_not_matter_unless_it_restarts(method: str) -> None:
    for hp in small.variants(method):
        source = small.copied(small.data())
        training = Training(small.configuration(method, hp), source)
        noise, clean = np.random.default_rng(0), source.train.x.copy()
        val = training.view.rows(range(small.CLASSES), "val").numpy()
        traces = []
        while not training.finished:
            memory = [m.ids() for m in training.state.memories.values()]
            allowed = torch.cat([training.task(training.done).rows, *memory]).numpy()
            source.train.x[:] = noise.integers(0, 256, clean.shape, dtype=np.uint8)
            for rows in (allowed, val):
                source.train.x[rows] = clean[rows]
            traces.append(small.trace(training.next_task()))
        same = traces == small.run(method, hp).traces
        assert same != METHODS[method].restarts, f"{hp}: it reads images that it may not keep"


def it_trains_on_tasks_of_one_class_and_on_a_base_smaller_than_an_increment(method: str) -> None:
    for hp in small.variants(method):
        for split in ODD_SPLITS if not hp else ODD_SPLITS[:1]:
            finished = small.train(small.configuration(method, hp, split, recipe={"epochs": 1}))
            seen = 0
            for result, size in zip(finished.results, finished.training.sizes, strict=True):
                seen += size
                assert all(math.isfinite(p.value) for p in result.phases), f"{hp} on {split}"
                for evaluation in result.evaluations:
                    assert evaluation.confusion.shape == (seen, seen)
                    assert np.isfinite(evaluation.mean_true_score).all(), f"{hp} on {split}"
                if result.task and size == 1:
                    assert not finished.states[result.task - 1]["net.head.weight"][seen - 1].any()
                    norm = result.evaluations[0].weight_norm[seen - 1]
                    assert norm > 0, f"{hp} on {split}: the rows of a class that comes alone do not learn"
                    learnt = [p.value for p in result.phases if p.term in ("ce", "bce")]
                    assert all(v > 1e-3 for v in learnt), "one new class must not be learnt for nothing"


def rows_of_unseen_classes_stay_zero_in_every_head(method: str) -> None:
    for optimizer, recipe in OPTIMIZERS.items():
        finished = small.run(method, recipe=recipe)
        side = finished.training.method.base().side_heads
        heads = {"net.head": 1, **{f"net.side.{name}": rows for name, rows in side.items()}}
        for t, state in enumerate(finished.states):
            for head, per_class in heads.items():
                opened = sum(small.SIZES[: t + 1]) * per_class
                for name in (f"{head}.weight", f"{head}.bias"):
                    if name in state:
                        assert len(state[name]) == small.CLASSES * per_class
                        assert not state[name][opened:].any(), f"{name} after task {t} with {optimizer}"
                        assert state[name][:opened].any(), f"{name} after task {t} with {optimizer}"
            for name, rows in state.items():
                if name.startswith("nets.") and name.split(".")[2] == "head":
                    unseen = rows[sum(small.SIZES[: t + 1]) :]
                    assert not unseen.any(), f"{name} after task {t} with {optimizer}"


def scores_cover_the_seen_classes_and_the_primary_rule_is_among_them(method: str) -> None:
    for hp in small.variants(method):
        training = Training(small.configuration(method, hp, recipe={"epochs": 1}), small.data())
        while not training.finished:
            task = training.task(training.done)
            training.next_task()
            training.state.net.eval()
            with torch.no_grad():
                scores = training.method.scores(training.state, training.view.images(task.rows[:5]), task)
            assert training.method.primary() in scores, f"{training.method.primary()!r} gives no scores"
            for name, value in scores.items():
                assert value.shape == (5, task.seen), f"{name}: {list(value.shape)} for {task.seen} classes"
                assert value.isfinite().all(), f"{name} is not finite"


def _watch(training: Training, watched: Callable[[Phase], Loss]) -> None:
    """Replace the loss of every phase by the one that `watched` returns for it."""

    def adapt(phase: Phase) -> Phase:
        return dataclasses.replace(phase, loss=watched(phase))

    training.learner = dataclasses.replace(training.learner, adapt=adapt)


def _called_twice(phase: Phase) -> Loss:
    def loss(s: State, batch: Batch, task: Task) -> dict[str, Term]:
        generator, before = torch.get_rng_state(), network_digest(s.net.state_dict())
        terms, again = phase.loss(s, batch, task), phase.loss(s, batch, task)
        assert terms.keys() == again.keys()
        for name, term in terms.items():
            assert torch.equal(term.value, again[name].value), f"{name!r} is not deterministic"
        assert torch.equal(generator, torch.get_rng_state()), "loss draws: draw in augment"
        if not phase.train_mode:
            assert network_digest(s.net.state_dict()) == before, "loss changes the network"
        return terms

    return loss


def every_loss_is_deterministic_and_draws_nothing(method: str) -> None:
    for hp in small.variants(method):
        training = Training(small.configuration(method, hp, recipe={"epochs": 1}), small.data())
        _watch(training, _called_twice)
        while not training.finished:
            assert training.next_task().phases, "no phase has a term"


def the_rows_of_a_batch_name_its_images(method: str) -> None:
    for hp in small.variants(method):
        training = Training(small.configuration(method, hp, recipe={"epochs": 1}), small.data())
        phases: list[tuple[Phase, set[int]]] = []  # with the rows that their losses were given

        def named(phase: Phase, view: View = training.view, phases: list[Any] = phases) -> Loss:
            read: set[int] = set()
            phases.append((phase, read))

            def loss(s: State, batch: Batch, task: Task) -> dict[str, Term]:
                assert batch.rows.shape == batch.y.shape == (len(batch.x),), "an image without a row id"
                assert batch.rows.dtype == torch.int64, f"row ids are {batch.rows.dtype}"
                theirs = batch.rows >= 0
                labels = view.labels(batch.rows[theirs])
                assert torch.equal(batch.y[theirs], labels), "a row id names an image of another class"
                assert (batch.rows[~theirs] == -1).all(), "an image that the method made has the row id -1"
                read.update(batch.rows[theirs].tolist())
                return phase.loss(s, batch, task)

            return loss

        _watch(training, named)
        while not training.finished:
            training.next_task()
        for phase, read in phases:
            wanted = [set(source.ids.tolist()) for source in phase.rows]
            assert read <= set().union(*wanted), "a batch names rows that the phase does not train on"
            assert not wanted or wanted[0] <= read, "a row of the phase is in no batch"


def numbers_stay_finite_and_weights_float32_under_bfloat16(method: str) -> None:
    settings = small.configuration(method, precision="bfloat16", recipe={"epochs": 1})
    finished = small.train(settings)
    assert all(math.isfinite(p.value) for result in finished.results for p in result.phases)
    for name, tensor in finished.states[-1].items():
        if name.startswith(("net.", "kept.")):
            assert tensor.isfinite().all(), name
            kinds = (torch.float32, torch.int64, torch.uint8)  # uint8: pixels of stored images
            assert tensor.dtype in kinds, f"{name} is {tensor.dtype}"
    plain = [result.network for result in small.run(method).results]
    assert [result.network for result in finished.results] != plain, "bfloat16 changes nothing"


def a_saved_model_gives_the_scores_of_the_training(method: str) -> None:
    run = small.run(method)
    x = small.data().test.x[:20]  # type: ignore[union-attr]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.safetensors"
        save_model(path, run.training, {})
        found = load_model(path, own_code=True).scores(x)
    training = run.training
    training.state.net.eval()
    view, task = training.view, training.task(len(small.SIZES) - 1)
    rows = torch.arange(20)
    with torch.no_grad():
        expected = training.method.scores(training.state, view.images(rows, "test"), task)
    own = expected[training.method.primary()].float().numpy()
    assert found.tobytes() == own.tobytes(), "name in answers_with what scores reads of State.kept"


METHOD_CONTRACTS = (*DECLARATION_CONTRACTS, *contracts_of(globals()))
