"""RPS-Net: its loss and controller by hand, what a path opens and trains, and how one is chosen."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.blocks.losses import kd
from cl_core.blocks.paths import HELD_OUT, divided, mean_accuracy, open_path, opened_modules
from cl_core.errors import BadRequest
from cl_core.images.dataset import Images
from cl_core.method import METHODS
from cl_core.model.model import load_model, save_model
from cl_core.nets.beside import layers_of
from cl_core.nets.network import NETS, Network, build_network
from cl_core.rng import Streams
from cl_core.task import Term
from cl_core.testing import small
from cl_core.training.checkpoints import CheckpointStore, ResumeCheckpoints
from cl_core.training.checks import check
from cl_core.training.trainer import Training
from tests import tiny

RPSNet = METHODS["rps_net"]
Tensors = dict[str, Tensor]


def _net(seed: int = 0) -> Network:
    return build_network("convnet-small", (3, 8, 8), 7, "linear", True, seed)


def _beside(state: Tensors) -> set[str]:
    return {name for name in state if ".beside." in name}


def _terms(z: Tensor, z_old: Tensor, labels: list[int], *sizes: int, **hp: Any) -> dict[str, Term]:
    state = tiny.fixed_state(z, z_old)
    return RPSNet(hp).loss(state, tiny.batch(labels), tiny.task(*sizes))


# The loss and its controller


def test_the_loss_by_hand_in_the_second_task() -> None:
    # At T = 2 the teacher says 3/4 and 1/4, the student 1/2 and 1/2: KL = 3/4 ln 3/2 - 1/4 ln 2.
    z, z_old = torch.tensor([[0.0, 0.0, math.log(2)]]), torch.tensor([[2 * math.log(3), 0.0]])
    terms = _terms(z, z_old, [2], 2, 1, kd_weight=3)
    assert terms["ce"].value.item() == pytest.approx(math.log(2))
    assert terms["kd"].value.item() == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2))
    assert terms["kd"].weight == 3


def test_the_controller_is_1_up_to_task_j_and_then_grows_by_gamma_a_task() -> None:
    method = RPSNet({"jump": 2, "rigidness": 2.5})
    assert [method.controller(t) for t in range(6)] == [1, 1, 1, 2.5, 5.0, 7.5]  # type: ignore[attr-defined]
    z, z_old = tiny.logits(0, 5), tiny.logits(1, 4)
    assert _terms(z, z_old, [4, 0, 1, 2], 1, 1, 1, 1, 1, jump=2)["kd"].weight == 5.0
    assert list(_terms(z, z_old, [4, 0, 1, 2], 2, 2, 1, distill=False)) == ["ce"]


def test_the_distillation_is_a_divergence_over_old_classes_alone() -> None:
    z, z_old = tiny.logits(0, 5).requires_grad_(), tiny.logits(1, 3)
    value = _terms(z, z_old, [3, 0, 4, 2], 3, 2)["kd"].value
    value.backward()  # type: ignore[no-untyped-call]
    assert value > 0
    assert z.grad is not None
    assert z.grad[:, :3].abs().min() > 0
    assert not z.grad[:, 3:].any()
    same = _terms(torch.cat([z_old, tiny.logits(2, 2)], dim=1), z_old, [3, 0, 4, 2], 3, 2)["kd"].value
    assert same.item() == pytest.approx(0, abs=1e-6)


# Paths and modules


@pytest.mark.parametrize("name", ["convnet-small", "resnet32"])
def test_a_net_without_modules_beside_its_layers_has_its_tensors_and_numbers(name: str) -> None:
    net = build_network(name, (3, 8, 8), 7, "linear", True, 0).eval()
    assert not _beside(net.state_dict())
    layers = layers_of(net)
    assert len(layers) == {"convnet-small": 3, "resnet32": 16}[name]
    x = tiny.normal(0, 2, 3, 8, 8)
    before = net(x).features
    for layer in layers:
        layer.open("3", torch.Generator().manual_seed(1))
    assert not torch.allclose(net(x).features, before)
    for layer in layers:
        del layer["3"]
    assert torch.equal(net(x).features, before)


@pytest.mark.parametrize("size", [8, 80])
@pytest.mark.parametrize("name", ["resnet32", "resnet32-projection", "resnet18"])
def test_a_module_beside_a_layer_has_the_shape_of_its_branch(name: str, size: int) -> None:
    if size > 8 and name != "resnet18":
        return
    net = NETS[name]((3, size, size), True).eval()
    whole = Network(net, torch.nn.Identity())
    opened = open_path(whole, 8, Streams(0, 1))
    assert opened.any()
    assert net(tiny.normal(0, 1, 3, size, size))[0].shape == (1, 512 if name == "resnet18" else 64)


def test_a_layer_adds_the_outputs_of_all_its_modules() -> None:
    net = _net().eval()
    first, x = layers_of(net)[0], tiny.normal(0, 2, 3, 8, 8)
    own = tiny.normal(1, 2, 32, 8, 8)
    assert first(x, own) is own
    for name in ("2", "5"):
        first.open(name, torch.Generator().manual_seed(int(name)))
    first.eval()
    assert torch.allclose(first(x, own), own + first["2"](x) + first["5"](x))
    assert not torch.equal(first["2"][0].weight, first["5"][0].weight)


def test_loading_a_state_opens_the_modules_that_it_has_and_closes_others() -> None:
    source, net = _net(), _net(1)
    open_path(source, 8, Streams(0, 1))
    open_path(net, 8, Streams(3, 1))
    generator = torch.get_rng_state()
    net.load_state_dict(source.state_dict())
    assert torch.equal(generator, torch.get_rng_state())
    assert net.state_dict().keys() == source.state_dict().keys()
    assert all(torch.equal(t, net.state_dict()[name]) for name, t in source.state_dict().items())
    net.load_state_dict(_net(1).state_dict())
    assert not _beside(net.state_dict())


def test_modules_stand_in_one_order_whichever_was_opened_first() -> None:
    # Else a run that continues would add their outputs in another order, and mistake one for the other.
    net, resumed, x = _net().eval(), _net(1).eval(), tiny.normal(0, 2, 3, 8, 8)
    for name in ("5", "2", "3"):
        for layer in layers_of(net):
            layer.open(name, torch.Generator().manual_seed(int(name)))
    resumed.load_state_dict(net.state_dict())
    assert list(net.state_dict()) == list(resumed.state_dict())
    with torch.no_grad():
        assert torch.equal(net(x).features, resumed(x).features)


def test_a_path_takes_one_module_a_layer_and_shares_those_of_earlier_paths() -> None:
    net, taken = _net(), [{0}, {0}, {0}]
    for seed in range(6):
        opened = open_path(net, 3, Streams(seed, 1)).tolist()
        for layer, m, numbers in zip(layers_of(net), opened, taken, strict=True):
            assert m not in numbers or m == 0
            numbers.add(m)
            assert {0, *map(int, layer)} == numbers
    assert taken == [{0, 1, 2}] * 3
    assert open_path(net, 3, Streams(9, 1)).tolist() == [0, 0, 0]
    assert opened_modules(net, torch.tensor([0, 2, 1])) == [layers_of(net)[1]["2"], layers_of(net)[2]["1"]]
    drawn = torch.stack([open_path(_net(), 8, Streams(seed, 1)) for seed in range(40)])
    assert set(drawn.flatten().tolist()) == set(range(8))


# What a path trains


def test_the_first_path_is_the_net_itself_and_trains_for_j_tasks() -> None:
    passed = tiny.phases("rps_net", {"jump": 2}, until=2)
    assert [p.phase.params for p in passed] == [None, None]
    assert not _beside(passed[1].after)
    finetune = tiny.run("finetune").results[0].network
    assert tiny.run("rps_net").results[0].network == finetune


def test_a_later_path_leaves_modules_of_older_ones_as_they_were_bit_for_bit() -> None:
    for passed in tiny.phases("rps_net", scenario={"base": 0, "increment": 2})[1:]:
        opened = _beside(passed.before) - _beside_of(passed.task.index)
        assert opened
        for name, tensor in passed.before.items():
            if name.startswith("net.backbone.") and name not in opened:
                assert torch.equal(tensor, passed.after[name]), f"{name} in task {passed.task.index}"
        moved = {name for name in opened if not torch.equal(passed.before[name], passed.after[name])}
        assert moved == opened
        assert not torch.equal(passed.before["net.head.weight"][:2], passed.after["net.head.weight"][:2])


def _beside_of(task: int) -> set[str]:
    """Return the modules that the run of the test above had opened before a task."""
    finished = tiny.train(tiny.configuration("rps_net", scenario={"base": 0, "increment": 2}, until=task))
    return _beside(finished.states[-1])


def test_the_modules_of_a_path_train_on_until_the_next_path() -> None:
    first, second = tiny.phases("rps_net", {"jump": 2}, scenario={"base": 0, "increment": 2}, until=4)[2:]
    opened = _beside(first.after)
    assert opened
    assert _beside(second.after) == opened
    assert all(not torch.equal(second.before[name], second.after[name]) for name in opened)


def test_the_modules_of_all_paths_grow_from_task_to_task_and_are_counted() -> None:
    finished = tiny.run("rps_net")
    grown = [_beside(state) for state in finished.states]
    assert grown[0] < grown[1] < grown[2]
    parameters = [result.parameters for result in finished.results]
    plain = [result.parameters for result in tiny.run("finetune").results]
    for state, names, ours, theirs in zip(finished.states, grown, parameters, plain, strict=True):
        weights = [state[name].numel() for name in names if name.endswith(("weight", "bias"))]
        assert ours == theirs + sum(weights)
    assert all(p.requires_grad for p in finished.training.state.net.parameters())


def test_with_one_module_a_layer_the_head_alone_trains_after_the_first_path() -> None:
    for passed in tiny.phases("rps_net", {"modules": 1})[1:]:
        moved = {n for n, t in passed.before.items() if not torch.equal(t, passed.after[n])}
        assert moved == {"net.head.weight", "net.head.bias"}


def test_the_teacher_has_the_modules_of_older_paths_alone() -> None:
    # The official teacher also has the new ones, which are untrained when the task begins.
    seen: list[tuple[set[str], set[str]]] = []

    def note(state: Any) -> None:
        if state.teacher is not None:
            seen.append((_beside(state.teacher.net.state_dict()), _beside(state.net.state_dict())))

    tiny.train(tiny.configuration("rps_net"), watch=lambda event: note(event.state))
    assert all(teacher < student for teacher, student in seen)


def test_a_path_may_begin_at_any_task_where_j_is_searched_task_by_task() -> None:
    class Listed:
        def propose(self, task: int, history: Any) -> Any:
            return {"hp.jump": 2}

    settings = tiny.configuration(
        "rps_net", {"jump": 5}, scenario={"base": 0, "increment": 2}, adaptive={"attempts": 2}
    )
    results = tiny.train(settings, proposer=Listed()).results
    assert len(results) == 4


# Candidates


def test_the_candidate_that_answers_held_out_rows_best_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    accuracies = {"train": 0.2, "candidate 2": 0.9, "candidate 3": 0.9}
    given = iter(accuracies.values())
    monkeypatch.setattr("cl_core.methods.rps_net.mean_accuracy", lambda *_: next(given))
    passed = tiny.phases("rps_net", {"candidates": 3}, until=2)[1:]
    assert [p.phase.name for p in passed] == list(accuracies)
    before = [{n: t for n, t in p.before.items() if n not in _beside(p.before)} for p in passed]
    for other in before[1:]:  # each begins from the network of the task before
        assert all(torch.equal(t, other[n]) for n, t in before[0].items() if n.startswith("net."))
    given = iter(accuracies.values())
    state = tiny.train(tiny.configuration("rps_net", {"candidates": 3}, until=2)).states[-1]
    best = {name: t for name, t in passed[1].after.items() if name.startswith("net.")}
    assert best.keys() == {name for name in state if name.startswith("net.")}
    assert all(torch.equal(t, state[name]) for name, t in best.items())


def test_candidates_are_compared_on_a_tenth_of_each_class_that_none_trains_on() -> None:
    run = tiny.run("rps_net")
    view, task = run.training.view, run.training.task(1)
    rows = torch.cat([task.rows, view.rows(range(3))[::4]])
    train, held = divided(rows, view, task, Streams(0, 1))
    assert sorted([*train.tolist(), *held.tolist()]) == sorted(rows.tolist())
    assert torch.bincount(view.labels(held)).tolist() == [
        max(1, int(HELD_OUT * n)) for n in (4, 3, 4, 14, 14)
    ]
    single, none = divided(view.rows([0])[:1], view, tiny.task(1), Streams(0, 0))
    assert (len(single), len(none)) == (1, 0)
    state = run.training.state
    z = state.net.eval()(view.images(held)).logits
    right = z.argmax(dim=1) == view.labels(held)
    each = [right[view.labels(held) == c].double().mean().item() for c in range(5)]
    assert mean_accuracy(state.net, view, held) == pytest.approx(sum(each) / 5)
    assert mean_accuracy(state.net, view, none) == 0


def test_a_run_with_candidates_continues_bit_for_bit_after_a_task_and_inside_it(tmp_path: Path) -> None:
    settings = tiny.configuration(
        "rps_net", {"candidates": 2, "jump": 2}, scenario={"base": 0, "increment": 2}
    )
    straight, store = tiny.train(settings), CheckpointStore(tmp_path)
    first = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    for _ in range(3):  # a path has just been chosen, and trains on in the next task
        first.next_task()
        first.keep_resume_checkpoint()
    second = Training(settings, tiny.data(), store, ResumeCheckpoints(store))
    assert second.done == 3
    assert tiny.trace(second.next_task()) == straight.traces[3]
    pieces, left = small.train_in_pieces(settings, CheckpointStore(tmp_path / "pieces"))
    assert left > 6
    assert pieces.traces == straight.traces


# Around the method


def test_a_net_that_takes_no_modules_is_refused_in_one_line() -> None:
    settings = tiny.configuration("rps_net", net="tests.tiny:plain_net")
    with pytest.raises(BadRequest, match="rps_net sets modules beside the layers") as caught:
        check(settings, tiny.data())
    assert "\n" not in str(caught.value)


def test_a_saved_model_has_the_modules_of_all_paths(tmp_path: Path) -> None:
    run = tiny.run("rps_net")
    save_model(tmp_path / "m.safetensors", run.training, {})
    model = load_model(tmp_path / "m.safetensors")
    images = tiny.data().test.x[:20]  # type: ignore[union-attr]
    with torch.no_grad():
        x = run.training.view.images(torch.arange(20), "test")
        expected = run.training.state.net.eval()(x).logits
    assert model.scores(images).tobytes() == expected.numpy().tobytes()


# Defects of others


def test_defect_official_rps_net_chooses_path_and_epoch_by_test_rows() -> None:
    # Other test images change no network here.
    data = tiny.data()
    assert data.test is not None
    other = dataclasses.replace(data, test=Images(255 - data.test.x, data.test.y))
    results = tiny.train(tiny.configuration("rps_net", {"candidates": 2}), other).results
    networks = [result.network for result in tiny.run("rps_net", {"candidates": 2}).results]
    assert [result.network for result in results] == networks


def test_defect_official_rps_net_distils_with_a_sum_that_is_no_divergence() -> None:
    z_old, labels = tiny.logits(1, 3), torch.tensor([3, 0, 4, 2])
    z = torch.cat([z_old, tiny.logits(2, 2)], dim=1)  # the student answers as the teacher does
    target = F.one_hot(labels, 5).float()
    target[:, :3] = z_old
    entries = F.kl_div(F.log_softmax(z / 2, dim=1), F.softmax(target / 2, dim=1), reduction="none")
    official = entries.clamp(min=0).sum() / 4
    assert official > 0.1
    assert _terms(z, z_old, labels.tolist(), 3, 2)["kd"].value.item() == pytest.approx(0, abs=1e-6)
    assert kd(z[:, :3], z_old, 2.0).item() == pytest.approx(0, abs=1e-6)
