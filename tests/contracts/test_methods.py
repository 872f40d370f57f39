"""The contracts of every method: a new file in cl_core/methods is tested here without a further line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cl_core.rng
from cl_core.errors import BadRequest, NonFiniteLoss
from cl_core.hparams import from_dict, hparams
from cl_core.images.data_spec import DataSpec
from cl_core.images.view import Store, View
from cl_core.memory import Budget
from cl_core.method import METHODS, Method
from cl_core.task import Batch, Task
from cl_core.testing import METHOD_CONTRACTS, Contract
from cl_core.testing.methods import OPTIMIZERS
from cl_core.testing.small import pair, training_phases
from cl_core.training import trainer
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints, network_digest
from cl_core.training.checks import check
from cl_core.training.events import Event
from cl_core.training.trainer import Training
from search.commands.stored_cards import PARADIGMS
from tests import tiny

METHOD_NAMES = METHODS.names()
VARIANTS = tiny.variants()
HYPERPARAMETERS = [(m, name) for m in METHOD_NAMES for name in hparams(METHODS[m].HP)]

every_method = pytest.mark.parametrize("method", METHOD_NAMES)
every_variant = pytest.mark.parametrize(("method", "hp"), VARIANTS)
every_hyperparameter = pytest.mark.parametrize(("method", "name"), HYPERPARAMETERS)


@pytest.mark.parametrize("contract", METHOD_CONTRACTS, ids=lambda contract: contract.__name__)
@every_method
def test_a_method_keeps_its_contracts(method: str, contract: Contract) -> None:
    contract(method)


# What a method is


@every_method
def test_a_method_of_ours_has_a_place_in_the_survey_s_taxonomy(method: str) -> None:
    assert METHODS[method].paradigm in (*PARADIGMS, "generated data")
    assert METHODS[method].restarts == (method == "joint")
    for param in hparams(METHODS[method].HP).values():
        assert not param.stability or param.acts_from == 1, (
            "what holds to the past acts from the second task on"
        )


@every_method
def test_a_method_that_distils_says_which_weight_holds_it_to_the_past(method: str) -> None:
    # BiC's weight follows from the numbers of classes; replay has one where a loss is chosen.
    weights = [p.name for p in hparams(METHODS[method].HP).values() if p.stability]
    assert weights or not METHODS[method].teacher  # without a teacher, stored answers may hold to the past
    assert set(weights) >= {name for name in hparams(METHODS[method].HP) if name == "kd_weight"}


# Equal runs are equal bit for bit


@every_method
def test_no_stream_is_named_after_a_method(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: set[str] = set()
    seed = cl_core.rng.seed_of

    def note(number: int, names: tuple[str | int, ...]) -> int:
        drawn.update(str(name) for name in names)
        return seed(number, names)

    monkeypatch.setattr(cl_core.rng, "seed_of", note)
    tiny.train(tiny.configuration(method))
    assert {"init", "head", "permutation", "crop", "flip"} <= drawn
    assert not [name for name in drawn if any(known in name for known in METHOD_NAMES)]


# Resume checkpoints and base checkpoints


@every_method
def test_a_run_keeps_one_resume_checkpoint_and_forgets_it_at_the_end(method: str, tmp_path: Path) -> None:
    training = tiny.train(tiny.configuration(method), store=CheckpointStore(tmp_path), resume=True).training
    base = f"{training.base_key()}.safetensors"
    names = {p.name for p in tmp_path.rglob("*.safetensors")}
    assert names == {base, f"{training.resume_checkpoint_key(2)}.safetensors"}
    training.forget_resume_checkpoints()
    assert {p.name for p in tmp_path.rglob("*.safetensors")} == {base}


def test_methods_of_one_family_share_one_base_network(tmp_path: Path) -> None:
    families: dict[str, set[str]] = {}
    keys: dict[str, set[str]] = {}
    for method, hp in VARIANTS:
        finished = tiny.run(method, json.loads(hp))
        base = finished.training.method.base()
        family = json.dumps([base.key(), dict(base.recipe)], sort_keys=True)
        families.setdefault(family, set()).add(finished.results[0].network)
        keys.setdefault(family, set()).add(finished.training.base_key())
    assert all(len(digests) == 1 for digests in families.values()), families
    assert all(len(found) == 1 for found in keys.values()), keys
    assert len({next(iter(found)) for found in keys.values()}) == len(keys)


# One first task for all methods


def _backbone(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: t for name, t in state.items() if name.startswith("net.backbone.")}


def _same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def plain_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store with the first task of fine-tuning."""
    folder = tmp_path_factory.mktemp("plain")
    Training(tiny.configuration("finetune"), tiny.data(), CheckpointStore(folder)).train_base()
    return folder


@every_variant
def test_with_a_shared_base_every_method_begins_from_one_backbone(
    method: str, hp: str, plain_base: Path
) -> None:
    plain, tasks = tiny.run("finetune"), None if hp == "{}" else 2
    settings = tiny.configuration(method, json.loads(hp), shared_base=True, until=tasks)
    own = tiny.train(settings)
    assert _same(_backbone(own.states[0]), _backbone(plain.states[0]))
    assert own.training.base_key() == plain.training.base_key()
    assert dict(own.results[0].recipe) == dict(plain.results[0].recipe)
    family = own.training.method.base()
    if (family.family, family.head) == ("plain", "linear"):
        assert own.results[0].network == plain.results[0].network
        assert training_phases(own.results[0]) == list(plain.results[0].phases)
    else:
        assert own.results[0].network != plain.results[0].network
        alone = {p.phase for p in training_phases(tiny.run(method, json.loads(hp)).results[0])}
        heads = {f"{phase}-heads" for phase in alone}
        assert {p.phase for p in training_phases(own.results[0])} == {"train"} | heads
        keys = [(p.phase, p.epoch, p.term) for p in own.results[0].phases]
        assert len(keys) == len(set(keys))
    assert all(p.requires_grad for p in own.training.state.net.parameters())
    if method != "joint":
        assert not _same(_backbone(own.states[1]), _backbone(own.states[0]))
    again = tiny.train(settings, store=CheckpointStore(plain_base))
    assert [r.shared for r in again.results] == [True, False, False][:tasks]
    assert again.traces == own.traces
    assert [p.stem for p in plain_base.rglob("*.safetensors")] == [plain.training.base_key()]


@pytest.mark.parametrize("done", [1, 2])
@every_method
def test_with_a_shared_base_a_resumed_run_equals_the_straight_one(
    method: str, done: int, tmp_path: Path
) -> None:
    settings = tiny.configuration(method, shared_base=True)
    straight, store = tiny.train(settings), CheckpointStore(tmp_path)
    first = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    for _ in range(done):
        first.next_task()
        first.keep_resume_checkpoint()
    second = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    assert second.done == done
    assert [tiny.trace(second.next_task()) for _ in range(done, 3)] == straight.traces[done:]


@every_hyperparameter
def test_with_a_shared_base_a_hyperparameter_of_the_first_task_acts_on_heads_alone(
    method: str, name: str
) -> None:
    if hparams(METHODS[method].HP)[name].acts_from:
        return
    for values in pair(method, name)[1]:
        finished = tiny.train(tiny.configuration(method, values, shared_base=True, until=1))
        assert _same(_backbone(finished.states[0]), _backbone(tiny.run("finetune").states[0]))


# Which rows are read


class _Reader:
    """Notes the training rows whose pixels are read outside evaluation, and whose rows are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: set[int] = set()
        self.on = True
        gather, stream = Store.gather, Store.stream

        def noted_gather(store: Store, rows: torch.Tensor) -> torch.Tensor:
            self._note(rows)
            return gather(store, rows)

        def noted_stream(store: Store, ids: torch.Tensor) -> Any:
            self._note(torch.cat(list(ids)))
            return stream(store, ids)

        def unnoted(evaluate: Callable[..., Any]) -> Callable[..., Any]:
            def quietly(*args: Any) -> Any:
                self.on = False
                try:
                    return evaluate(*args)
                finally:
                    self.on = True

            return quietly

        monkeypatch.setattr(Store, "gather", noted_gather)
        monkeypatch.setattr(Store, "stream", noted_stream)
        for name in ("evaluate", "teacher_agreement"):
            monkeypatch.setattr(trainer, name, unnoted(getattr(trainer, name)))

    def _note(self, rows: torch.Tensor) -> None:
        if self.on:
            self.rows.update(rows.flatten().tolist())


def _allowed(training: Training) -> torch.Tensor:
    """Rows that the next task may read: its own and those in memory."""
    memory = [m.ids() for m in training.state.memories.values()]
    return torch.cat([training.task(training.done).rows, *memory])


@every_variant
def test_only_joint_reads_rows_outside_its_task_and_memory_and_none_reads_validation_rows(
    method: str, hp: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = _Reader(monkeypatch)
    training = Training(tiny.configuration(method, json.loads(hp), recipe={"epochs": 1}), tiny.data())
    outside = set()
    val = set(training.view.rows(range(tiny.CLASSES), "val").tolist())
    assert len(val) == tiny.CLASSES * tiny.VAL
    while not training.finished:
        allowed = set(_allowed(training).tolist())
        own = set(training.task(training.done).rows.tolist())
        reader.rows.clear()
        training.next_task()
        outside |= reader.rows - allowed
        assert own <= reader.rows, "the reader must see what is read"
        assert not reader.rows & val
        for memory in training.state.memories.values():
            assert not set(memory.ids().tolist()) & val
    assert bool(outside) == (method == "joint")


# Splits at the edges


@every_variant
def test_the_least_number_of_images_a_class_is_enough_to_train_and_fewer_are_refused(
    method: str, hp: str
) -> None:
    least = METHODS[method].images_a_class

    def settings(images: int) -> Any:  # one row of each class is held out
        spec = DataSpec("synthetic", classes=7, per_class=1 + images)
        return tiny.configuration(method, json.loads(hp), spec=spec, recipe={"epochs": 1, "batch": 4})

    finished = tiny.train(settings(least), tiny.data(7, 1 + least))
    assert len(finished.results) == 3
    if least > 1:
        with pytest.raises(BadRequest, match=f"{method} needs {least} training images of every class"):
            Training(settings(least - 1), tiny.data(7, least))


# Head rows


@every_variant
def test_no_loss_reads_logits_beyond_the_seen_classes(method: str, hp: str) -> None:
    straight = tiny.run(method, json.loads(hp))
    training = Training(tiny.configuration(method, json.loads(hp)), tiny.data())
    begin = type(training.method).begin

    def poisoned(self: Method, s: Any, task: Task, *rest: Any) -> None:
        begin(self, s, task, *rest)
        tiny.set_rows(s, task.seen, 1e38)  # a logit of it is infinite

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(training.method), "begin", poisoned)
        for t, expected in enumerate(straight.results):
            result = training.next_task()
            assert result.phases == expected.phases
            assert [tiny.counts(e) for e in result.evaluations] == straight.traces[t]["evaluations"]


@pytest.mark.parametrize(
    ("method", "hp", "optimizer"),
    [(m, hp, kind) for m, hp in VARIANTS for kind in OPTIMIZERS if kind == "adam" or hp == "{}"],
)
def test_a_phase_changes_only_what_it_names(method: str, hp: str, optimizer: str) -> None:
    before: dict[str, torch.Tensor] = {}
    phases = []

    def watch(event: Event) -> None:
        net, phase = event.state.net, event.phase
        if event.kind == "phase begins":
            before.clear()
            before.update((name, t.clone()) for name, t in net.state_dict().items())
        if event.kind != "phase ends":
            return
        names = {id(p): name for name, p in net.named_parameters()}
        open_names = set(names.values())
        if phase.params is not None:
            open_names = {names[id(p)] for p in phase.params if id(p) in names}
        buffers = {name for name, _ in net.named_buffers()}
        head = {names[id(rows)] for rows in net.head.rows()}
        for name, value in net.state_dict().items():
            free = phase.train_mode if name in buffers else name in open_names
            if not free:
                assert torch.equal(value, before[name]), f"{name} moved in phase {phase.name}"
            elif phase.head_rows and name in head:
                start, stop = phase.head_rows
                assert torch.equal(value[:start], before[name][:start])
                assert torch.equal(value[stop:], before[name][stop:])
                assert not torch.equal(value[start:stop], before[name][start:stop])
        phases.append(phase.name)

    recipe = {**OPTIMIZERS[optimizer], "epochs": 1}
    tiny.train(tiny.configuration(method, json.loads(hp), recipe=recipe), watch=watch)
    assert len(phases) >= 3


# Scores and counts


@every_variant
def test_confusion_counts_sum_to_the_split_for_every_task_and_classifier(method: str, hp: str) -> None:
    for result in tiny.run(method, json.loads(hp)).results:
        seen = sum(tiny.SIZES[: result.task + 1])
        found = {(e.split, e.classifier) for e in result.evaluations}
        classifiers = {c for _, c in found}
        assert found == {(s, c) for s in ("val", "test") for c in classifiers}
        assert len(found) == len(result.evaluations)
        for e in result.evaluations:
            rows = tiny.VAL if e.split == "val" else tiny.TEST
            assert e.confusion.shape == (seen, seen)
            assert (e.confusion.sum(axis=1) == rows).all()
            assert (np.diag(e.confusion) <= e.correct_within_task).all()
            assert (e.correct_within_task <= rows).all()
        for split in ("val", "test"):
            assert sum(e.primary for e in result.evaluations if e.split == split) == 1


@every_variant
def test_what_is_kept_is_counted(method: str, hp: str) -> None:
    finished = tiny.run(method, json.loads(hp))
    for result, state in zip(finished.results, finished.states, strict=True):
        exemplars = sum(len(t) for name, t in state.items() if name.startswith("memory."))
        kept = sum(t.numel() * t.element_size() for name, t in state.items() if name.startswith("kept."))
        assert result.exemplars == exemplars
        assert result.exemplar_bytes == exemplars * 192
        decoder = [t for name, t in state.items() if name.startswith("net.decoder.")]
        kept += sum(t.numel() * t.element_size() for t in decoder if t.is_floating_point())
        assert result.kept_bytes == exemplars * 192 + kept


@every_method
def test_exemplars_stay_within_the_budget_and_leave_no_class_out(method: str) -> None:
    cls = METHODS[method]
    if not issubclass(cls.HP, Budget):
        assert all(r.exemplars == 0 for r in tiny.run(method).results)
        return
    for budget, limit in (("per_class", None), ("total", 48), ("bytes", 48)):
        finished = tiny.run(method, {"budget": budget})
        for t, state in enumerate(finished.states):
            seen = sum(tiny.SIZES[: t + 1])
            each = dict.fromkeys(range(seen), 0)
            rows: list[int] = []
            for name, ids in state.items():
                if name.startswith("memory."):
                    each[int(name.rsplit(".", 1)[1])] += len(ids)
                    rows += ids.tolist()
                if name == "kept.labels":  # of images that are no rows of the data set
                    for c in ids.tolist():
                        each[c] += 1
            assert len(rows) == len(set(rows)), "no image is stored twice"
            assert min(each.values()) >= 1
            assert max(each.values()) - min(each.values()) <= 1
            if limit is None:
                assert max(each.values()) <= 10
            else:
                assert sum(each.values()) <= limit


@every_method
def test_too_small_a_memory_is_refused_before_any_work(method: str) -> None:
    if not issubclass(METHODS[method].HP, Budget):
        return
    cases: list[tuple[dict[str, Any], str]] = [
        ({"budget": "total", "exemplars_total": 6}, "exemplars_total"),
        ({"budget": "bytes", "exemplars_bytes": 6 * 192}, "exemplars_bytes"),
    ]
    for hp, name in cases:
        with pytest.raises(BadRequest, match=f"{name} must leave every class") as caught:
            check(tiny.configuration(method, hp), tiny.data())
        assert "\n" not in str(caught.value)
        remedy = int(str(caught.value).rsplit("set it to ", 1)[1].split()[0])
        check(tiny.configuration(method, {**hp, name: remedy}), tiny.data())
        with pytest.raises(BadRequest, match=name):
            check(tiny.configuration(method, {**hp, name: remedy - 1}), tiny.data())


# Losses, teachers, numbers


@pytest.mark.parametrize("only", ["new samples", "old samples", "one sample", "one class"])
@every_method
def test_a_batch_of_one_kind_alone_trains_with_finite_terms(
    method: str, only: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(tiny.configuration(method, recipe={"epochs": 1}), tiny.data())
    epoch = View.epoch
    reduced = 0

    def reduced_epoch(self: View, *args: Any) -> Any:
        nonlocal reduced
        old = sum(tiny.SIZES[: training.done])
        for batch in epoch(self, *args):
            keep = {
                "new samples": batch.y >= old,
                "old samples": batch.y < old,
                "one sample": torch.arange(len(batch.y)) == 0,
                "one class": batch.y == batch.y[:1],
            }[only]
            if keep.any() and not keep.all():
                reduced += 1
                batch = Batch(batch.x[keep], batch.y[keep], rows=batch.rows[keep])
            yield batch

    monkeypatch.setattr(View, "epoch", reduced_epoch)
    while not training.finished:
        assert all(np.isfinite(p.value) for p in training.next_task().phases)
    replays = any(len(memory) for memory in training.state.memories.values()) or method == "joint"
    assert (reduced > 0) == (replays or only in ("one sample", "one class"))


@every_variant
def test_the_teacher_is_the_previous_network_and_never_moves(method: str, hp: str) -> None:
    before = ""
    teachers = []

    def watch(event: Event) -> None:
        nonlocal before
        task, teacher = event.task, event.state.teacher
        assert (teacher is not None) == (task.index > 0 and METHODS[method].teacher)
        if teacher is None:
            return
        if event.kind == "phase begins":
            before = network_digest(teacher.state_dict())
        if event.kind != "phase ends":
            return
        event.state.net.train()
        teacher.train()
        assert not any(module.training for module in teacher.modules())
        assert not any(p.requires_grad or p.grad is not None for p in teacher.parameters())
        assert network_digest(teacher.state_dict()) == before
        out = teacher(event.view.images(task.rows[:3]))
        assert out.logits.shape == (3, task.old)
        assert not out.logits.requires_grad
        teachers.append((task.index, network_digest(teacher.net.state_dict())))

    finished = tiny.train(tiny.configuration(method, json.loads(hp), recipe={"epochs": 1}), watch=watch)
    for index, digest in teachers:
        state = finished.states[index - 1].items()
        net = {name.removeprefix("net."): tensor for name, tensor in state if name.startswith("net.")}
        assert digest == network_digest(net)
    assert bool(teachers) == finished.training.method.teacher
    assert finished.training.state.teacher is None
    assert not finished.training.state.local
    assert not finished.training.state.modules


@every_method
def test_a_loss_that_is_not_finite_fails_the_run_and_names_the_term(method: str) -> None:
    recipe = {"optimizer": "sgd", "lr": 100.0, "weight_decay": 1.0, "epochs": 30, "schedule": "constant"}
    training = Training(tiny.configuration(method, recipe=recipe), tiny.data())

    def to_the_end() -> None:
        while not training.finished:
            training.next_task()

    with pytest.raises(NonFiniteLoss) as caught:
        to_the_end()
    message = str(caught.value)
    assert "\n" not in message
    for part in ("became", "task", "phase", "epoch", "lower the learning rate"):
        assert part in message
    terms = {p.term for result in tiny.run(method).results for p in result.phases}
    assert any(repr(term) in message for term in terms)


@every_method
def test_the_recorded_recipe_is_the_one_in_force(method: str) -> None:
    used: dict[int, list[Any]] = {}

    def watch(event: Event) -> None:
        used.setdefault(event.task.index, []).append(event.phase.recipe)

    recipe = {"epochs": 1, "base": {"lr": 0.03}, "increment": {"lr": 0.07}}
    finished = tiny.train(tiny.configuration(method, recipe=recipe), watch=watch)
    for result in finished.results:
        recorded = from_dict(type(used[0][0]), result.recipe)
        assert recorded in used[result.task]
        assert {p.learning_rate for p in result.phases if p.phase == "train"} == {recorded.lr}


@every_method
def test_images_are_counted_in_every_pass_over_them(method: str) -> None:
    rows = 3 * tiny.TRAIN  # 42 rows in steps of 16, 16 and 10, twice
    assert rows == 42
    first = tiny.run(method).results[0]
    passes = {(p.phase, p.epoch) for p in first.phases}
    assert {epoch for phase, epoch in passes if phase == "train"} == {0, 1}
    assert first.images == len(passes) * 42
