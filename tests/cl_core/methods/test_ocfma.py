"""OCFMA: the head that is generated for each image, the autoencoder, and what the previous solver gives."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from cl_core.blocks.wae import SCALES, mmd
from cl_core.methods.ocfma import OCFMA
from cl_core.nets.adapted import AdaptedNetwork
from cl_core.nets.network import Frozen, Network
from cl_core.state import State
from cl_core.task import Batch, Task
from cl_core.training.optimisation import rows_to_keep
from tests import tiny

LATENT, SHAPE, SHARED, OWN, WIDTH = 4, (3, 3, 3), 4, 2, 16  # of `tiny.DIM` features


def _adapted(plain: Network, seed: int, seen: int) -> AdaptedNetwork:
    made = AdaptedNetwork(plain, OWN / tiny.DIM, LATENT, WIDTH, 8)
    made.draw(torch.Generator().manual_seed(seed))
    made.scale((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    made.head.open(0, seen, torch.Generator().manual_seed(seed))
    return made.eval()


def _net(seed: int, seen: int) -> AdaptedNetwork:
    return _adapted(tiny.linear_state(tiny.task(seen), {}, seed).net, seed, seen)


def _state(task: Task, old: int = 1) -> State:
    state = State(_net(0, task.seen), lambda: _net(0, 0), ())
    if task.index:
        state.teacher = Frozen(_net(old, task.old))
    return state


def _terms(state: State, task: Task, labels: list[int], phase: str = "loss", **hp: Any) -> tuple[Batch, Any]:
    method = OCFMA({"latent": LATENT, **hp})
    b = tiny.drawn_batch(method, state, task, labels)
    return b, (method.loss if phase == "loss" else method.hp.wae_loss)(state, b, task)


# The head


def test_the_generator_gives_different_weights_for_different_images() -> None:
    net = _net(0, 5)
    made = net.head.generated(net.encoder(tiny.normal(1, 2, *SHAPE)))
    assert made.shape == (2, 5, OWN)
    assert made.abs().max() < 1
    assert (made[0] - made[1]).abs().max() > 1e-3


def test_logits_are_those_of_the_shared_weights_and_of_those_generated_for_the_image() -> None:
    net = _net(0, 5)
    x = tiny.normal(1, 3, *SHAPE)
    with torch.no_grad():
        out = net(x)
        for i, image in enumerate(x):
            own = net.head.generated(net.encoder(image[None]))[0]  # [5, OWN]
            f = out.features[i]
            expected = net.head.weight[:5] @ f[:SHARED] + own @ f[SHARED:] + net.head.bias[:5]
            assert out.logits[i].tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_defect_official_pgma_gives_an_image_weights_generated_for_others_of_its_batch() -> None:
    # It joins the parts of the weights along the batch, where it must along the features.
    net = _net(0, 5)
    x = tiny.normal(1, 4, *SHAPE)
    with torch.no_grad():
        together = net(x).logits
        alone = torch.cat([net(image[None]).logits for image in x])
    assert torch.allclose(together, alone, atol=1e-5)


def test_generated_rows_of_unseen_and_of_kept_classes_stay_as_they_are() -> None:
    net = _net(0, 5)
    assert all(not rows[5:].any() for rows in net.head.rows())
    kept = rows_to_keep(net, (3, 5))
    assert [tuple(rows.shape) for rows, *_ in kept] == [(8, SHARED), (8,), (8, OWN, WIDTH), (8, OWN)]


def test_parameters_are_counted_without_unseen_rows_and_decoder_and_the_decoder_is_kept() -> None:
    net = _net(0, 5)
    answering = (net.backbone, net.encoder, net.head.hidden)
    rows = 5 * (SHARED + 1 + OWN * WIDTH + OWN)
    assert net.answering_parameters() == sum(p.numel() for m in answering for p in m.parameters()) + rows
    assert net.kept_bytes() == 4 * sum(p.numel() for p in net.decoder.parameters()) > 0
    assert _state(tiny.task(5)).kept_bytes() == net.kept_bytes()


# The autoencoder


def test_made_images_have_the_range_of_the_data() -> None:
    net = _net(0, 5)
    pixels = net.decode(5 * tiny.normal(1, 6, LATENT)) * net.decoder.std + net.decoder.mean
    assert pixels.shape == (6, *SHAPE)
    assert 0 <= pixels.min() < pixels.max() <= 1


def test_mmd_by_hand_on_two_embeddings_of_unequal_weight_and_two_normal_numbers() -> None:
    codes, prior = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]])
    expected = 0.0
    for scale in SCALES:
        k = {d: 2 * scale / (2 * scale + d * d) for d in (0, 1, 2, 3)}
        across = 0.25 * (k[0] + k[3]) / 2 + 0.75 * (k[1] + k[2]) / 2
        expected += k[1] + k[3] - 2 * across
    assert mmd(codes, prior, torch.tensor([0.25, 0.75])).item() == pytest.approx(expected, rel=1e-5)


def test_mmd_is_about_zero_for_normal_embeddings_and_large_for_others() -> None:
    prior, equal = tiny.normal(1, 400, LATENT), torch.full((400,), 1 / 400)
    assert abs(mmd(tiny.normal(2, 400, LATENT), prior, equal).item()) < 0.02
    assert mmd(tiny.normal(2, 400, LATENT) + 2, prior, equal).item() > 0.5
    assert mmd(tiny.normal(2, 400, LATENT) / 9, prior, equal).item() > 0.5


def test_the_terms_of_the_autoencoder_by_hand_old_and_new_classes_counting_by_their_number() -> None:
    task = tiny.task(3, 1)
    state = _state(task)
    b, terms = _terms(state, task, [3, 3], "wae_loss", replay_ratio=1.5)
    net = state.net
    assert isinstance(net, AdaptedNetwork)
    assert b.rows.tolist() == [0, 1, -1, -1, -1]
    codes = net.encoder(b.x)
    errors = ((net.decode(codes) - b.x) * net.decoder.std).square().sum(dim=(1, 2, 3))
    expected = 0.25 * errors[:2].mean() + 0.75 * errors[2:].mean()
    assert terms["reconstruction"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    weights = torch.tensor([1 / 8, 1 / 8, 1 / 4, 1 / 4, 1 / 4])
    expected = mmd(codes, b.drawn["prior"], weights)
    assert terms["match"].value.item() == pytest.approx(expected.item(), rel=1e-4)
    assert (terms["reconstruction"].weight, terms["match"].weight) == (1.0, OCFMA({}).hp.match_weight)


def test_zero_weight_leaves_the_generated_weights_untouched_by_old_answers() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, terms = _terms(state, task, [3, 4])
    assert torch.autograd.grad(terms["kd"].value, [state.net.head.made_weight])[0].any()  # type: ignore[list-item, union-attr]
    _, off = _terms(state, task, [3, 4], distill=False)
    assert "kd" not in off


def test_the_autoencoder_trains_alone_and_the_solver_does_not_move_it() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    net = state.net
    assert isinstance(net, AdaptedNetwork)
    for phase, moved in (("wae_loss", {"encoder", "decoder"}), ("loss", {"backbone", "head", "encoder"})):
        net.zero_grad(set_to_none=True)
        _, terms = _terms(state, task, [3, 4], phase)
        sum(term.value for term in terms.values()).backward()
        parts = {name.split(".")[0] for name, p in net.named_parameters() if p.grad is not None}
        assert parts == moved
    trained = {p.phase.name: {id(q) for q in p.phase.params or ()} for p in tiny.phases("ocfma")}
    assert trained.keys() == {"autoencoder", "train"}
    for p in tiny.phases("ocfma"):
        parts = ("encoder", "decoder") if p.phase.name == "autoencoder" else ("backbone", "head")
        for name, before in p.before.items():
            if not name.startswith(tuple(f"net.{part}" for part in parts)):
                assert torch.equal(p.after[name], before), f"{p.phase.name} moves {name}"


# The solver


def test_a_made_image_is_decoded_by_the_previous_network_and_answered_by_the_previous_solver() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b, _ = _terms(state, task, [3, 4])
    assert state.teacher is not None
    assert torch.allclose(b.drawn["answers"], state.teacher(b.x[2:]).logits, atol=1e-5)
    assert b.drawn["answers"].shape == (2, 3)
    assert b.y[2:].tolist() == b.drawn["answers"].argmax(dim=1).tolist()
    other, _ = _terms(_state(task, old=2), task, [3, 4])
    assert not torch.equal(b.x[2:], other.x[2:])


def test_the_terms_of_the_solver_by_hand() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    net = state.net
    assert isinstance(net, AdaptedNetwork)
    b, terms = _terms(state, task, [3, 4], temperature=3.0, kd_weight=0.5)
    z, again = net(b.x).logits, net(net.decode(net.encoder(b.x[:2]))).logits
    among_new = F.cross_entropy(z[:2, 3:], torch.tensor([0, 1]))
    assert terms["ce"].value.item() == pytest.approx(among_new.item(), rel=1e-5)
    among_all = F.cross_entropy(again, torch.tensor([3, 4]))
    assert terms["reconstructed"].value.item() == pytest.approx(among_all.item(), rel=1e-5)
    p = (b.drawn["answers"] / 3).softmax(dim=1)
    expected = -9 * (p * (z[2:] / 3).log_softmax(dim=1)[:, :3]).sum(dim=1).mean()
    assert terms["kd"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert [term.weight for term in terms.values()] == pytest.approx([1 / 5, 1 / 5, 0.5 * 3 / 5])


def test_as_official_all_classes_are_compared_in_the_images_as_they_are() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    b, terms = _terms(state, task, [3, 4], reconstruct=False)
    expected = F.cross_entropy(state.net(b.x[:2]).logits, b.y[:2])
    assert terms["ce"].value.item() == pytest.approx(expected.item(), rel=1e-5)
    assert {name: term.weight for name, term in terms.items()} == {"ce": 2 / 5, "kd": 3 / 5}


def test_real_images_of_new_classes_do_not_lower_the_logits_of_old_ones() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, terms = _terms(state, task, [3, 4])
    terms["ce"].value.backward()
    assert state.head.bias.grad is not None
    assert not state.head.bias.grad[:3].any()


def test_a_made_image_lowers_the_logits_of_new_classes() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    _, terms = _terms(state, task, [3, 4])
    terms["kd"].value.backward()
    assert state.head.bias.grad is not None
    assert (state.head.bias.grad[3:5] > 0).all()


def test_without_distillation_nothing_of_the_previous_network_is_read() -> None:
    task = tiny.task(3, 2)
    state = _state(task)
    state.teacher = None
    b, terms = _terms(state, task, [3, 4], distill=False)
    assert b.rows.tolist() == [0, 1]
    assert {name: term.weight for name, term in terms.items()} == {"ce": 0.5, "reconstructed": 0.5}


def test_the_decoder_is_kept_and_counted_and_no_row_is() -> None:
    finished = tiny.run("ocfma")
    net = finished.training.state.net
    assert isinstance(net, AdaptedNetwork)
    numbers = sum(p.numel() for p in net.decoder.parameters())
    assert [result.kept_bytes for result in finished.results] == [4 * numbers] * 3
    assert [result.exemplars for result in finished.results] == [0] * 3
