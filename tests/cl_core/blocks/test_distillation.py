"""The standalone distillation losses: every one by finite differences, its invariances, its edges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from cl_core.blocks.distillation import DISTILLATIONS, Pair
from cl_core.blocks.losses import feature_distance
from cl_core.task import Out

OLD, SEEN, DIM = 3, 5, 6
LOGITS = [name for name, d in DISTILLATIONS.items() if d.level == "logits"]
FEATURES = ["feature-l2", "feature-cosine", "relation-distance", "relation-angle", "relation-prototype"]
MAPS = ["pod", "attention"]
every_loss = pytest.mark.parametrize("name", DISTILLATIONS)


def _out(seed: int, classes: int, batch: int = 4, dtype: torch.dtype = torch.float64) -> Out:
    """Logits, features and maps of two checkpoints, drawn independently of one another."""
    g = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    return Out(draw(batch, DIM), 2 * draw(batch, classes), (draw(batch, 2, 3, 4), draw(batch, 5, 2, 2)))


def _rows(seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(OLD, DIM, generator=g, dtype=torch.float64).to(dtype)


def _pair(seed: int = 0, batch: int = 4, dtype: torch.dtype = torch.float64) -> Pair:
    student, teacher = _out(seed, SEEN, batch, dtype), _out(seed + 10_000, OLD, batch, dtype)
    return Pair(student, teacher, _rows(seed + 1, dtype), _rows(seed + 2, dtype))


def _twins(batch: int = 4, dtype: torch.dtype = torch.float32) -> Pair:
    """A student that answers as its teacher does."""
    pair = _pair(0, batch, dtype)
    student = pair.student
    return pair._replace(teacher=student._replace(logits=student.logits[:, :OLD]), rows_old=pair.rows)


def _tensors(pair: Pair) -> tuple[Tensor, ...]:
    """All of the student that a loss may reach."""
    return (pair.student.logits, pair.student.features, pair.rows, *pair.student.maps)


def _with(pair: Pair, logits: Tensor, features: Tensor, rows: Tensor, *maps: Tensor) -> Pair:
    return pair._replace(student=Out(features, logits, maps), rows=rows)


def _gradients(name: str, pair: Pair) -> tuple[Tensor, tuple[Tensor, ...]]:
    """The loss and its gradient by everything of the student, zeros where it does not reach."""
    leaves = tuple(t.detach().clone().requires_grad_() for t in _tensors(pair))
    value = DISTILLATIONS[name].loss(_with(pair, *leaves))
    found = torch.autograd.grad(value, leaves, allow_unused=True)
    return value.detach(), tuple(
        torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, found, strict=True)
    )


def _value(name: str, pair: Pair) -> float:
    return float(DISTILLATIONS[name].loss(pair))


def _on_features(pair: Pair, change: Callable[[Tensor], Tensor]) -> Pair:
    return pair._replace(student=pair.student._replace(features=change(pair.student.features)))


def _on_maps(pair: Pair, change: Callable[[Tensor], Tensor]) -> Pair:
    return pair._replace(student=pair.student._replace(maps=tuple(map(change, pair.student.maps))))


def _scaled(out: Out, scale: float) -> Out:
    return Out(scale * out.features, scale * out.logits, tuple(scale * m for m in out.maps))


def _rotation(seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(DIM, DIM, generator=g, dtype=torch.float64))[0]


# Gradients


@every_loss
@pytest.mark.parametrize("seed", [0, 1])
def test_every_loss_agrees_with_finite_differences(name: str, seed: int) -> None:
    pair = _pair(seed)

    def loss(*leaves: Tensor) -> Tensor:
        # Those it does not reach enter with weight zero, so that finite differences must be zero there too.
        rest = torch.stack([leaf.sum() for leaf in leaves]).sum()
        return DISTILLATIONS[name].loss(_with(pair, *leaves)) + 0.0 * rest

    leaves = tuple(t.clone().requires_grad_() for t in _tensors(pair))
    assert torch.autograd.gradcheck(loss, leaves, eps=1e-6, atol=1e-7, rtol=1e-5)


def test_the_batch_norm_agrees_with_finite_differences() -> None:
    pair = _pair()
    f = pair.student.features.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda f: feature_distance(f, pair.teacher.features), (f,))


@every_loss
def test_a_loss_reaches_what_its_level_says_and_the_old_classes_alone(name: str) -> None:
    _, (logits, features, rows, *maps) = _gradients(name, _pair())
    assert bool(logits[:, :OLD].any()) == (name in LOGITS)
    assert not logits[:, OLD:].any(), "a new class's logit is distilled"
    assert bool(features.any()) == (name in FEATURES)
    assert bool(rows.any()) == (name == "relation-prototype")
    for gradient in maps:
        assert bool(gradient.any()) == (name in MAPS), "POD and AT take all maps"
    assert {*LOGITS, *FEATURES, *MAPS} == set(DISTILLATIONS)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_value_and_gradient_vanish_where_the_student_is_the_teacher(name: str, dtype: torch.dtype) -> None:
    value, gradients = _gradients(name, _twins(dtype=dtype))
    if name != "cross-entropy":  # whose value is then the teacher's entropy
        assert abs(float(value)) < 1e-6
    for gradient in gradients:
        assert torch.allclose(gradient, torch.zeros_like(gradient), atol=1e-6)


@every_loss
def test_a_loss_is_positive_where_the_student_is_another(name: str) -> None:
    assert _value(name, _pair()) > 1e-4


# Edges


@every_loss
@pytest.mark.parametrize("batch", [1, 2])
def test_the_smallest_batches_are_finite(name: str, batch: int) -> None:
    value, gradients = _gradients(name, _pair(0, batch, torch.float32))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)
    relation = DISTILLATIONS[name].kind == "relation"
    if relation and (batch == 1 or name == "relation-angle"):
        assert value == 0
        assert not any(g.any() for g in gradients)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_and_zero_inputs_are_finite(name: str, dtype: torch.dtype) -> None:
    pair = _pair(0, 4, dtype)
    for scale, scale_old in ((1e3, -1e3), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        student, teacher = _scaled(pair.student, scale), _scaled(pair.teacher, scale_old)
        value, gradients = _gradients(name, pair._replace(student=student, teacher=teacher))
        assert value.dtype == torch.float32
        assert value.isfinite()
        assert all(g.isfinite().all() for g in gradients)


@every_loss
def test_equal_samples_give_no_nan(name: str) -> None:
    pair = _pair(0, 1, torch.float32)
    student, teacher = (
        Out(o.features.repeat(4, 1), o.logits.repeat(4, 1), tuple(m.repeat(4, 1, 1, 1) for m in o.maps))
        for o in (pair.student, pair.teacher)
    )
    value, gradients = _gradients(name, pair._replace(student=student, teacher=teacher))
    assert value.isfinite()
    assert all(g.isfinite().all() for g in gradients)


@every_loss
def test_autocast_leaves_a_loss_in_float32(name: str) -> None:
    pair = _pair(0, 4, torch.float32)
    expected = DISTILLATIONS[name].loss(pair)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = DISTILLATIONS[name].loss(pair)
    assert found.dtype == torch.float32
    assert torch.equal(found, expected)


# Invariances (methods of the field, section 4.4): what a loss is blind to, and what it is not


@given(seed=st.integers(0, 10_000), shift=st.floats(-50, 50))
@settings(max_examples=20, deadline=None)
def test_probability_matching_is_blind_to_a_constant_a_sample(seed: int, shift: float) -> None:
    pair = _pair(seed)
    constant = shift * torch.linspace(0.5, 1.5, 4, dtype=torch.float64)[:, None]
    moved = pair._replace(student=pair.student._replace(logits=pair.student.logits + constant))
    for name in ("cross-entropy", "kl"):
        assert _value(name, moved) == pytest.approx(_value(name, pair), abs=1e-9)


@given(seed=st.integers(0, 10_000), log_scale=st.floats(-2, 2))
@settings(max_examples=20, deadline=None)
def test_cosine_relations_and_maps_are_blind_to_scale(seed: int, log_scale: float) -> None:
    pair, scale = _pair(seed), 10**log_scale
    scaled = _on_maps(_on_features(pair, lambda f: scale * f), lambda m: scale * m)
    for name in ("feature-cosine", "relation-distance", "relation-angle", "relation-prototype", *MAPS):
        assert _value(name, scaled) == pytest.approx(_value(name, pair), abs=1e-9)


def test_cosine_is_blind_to_every_sample_s_own_length_and_the_prototype_relation_to_its_prototypes_too() -> (
    None
):
    pair = _pair()
    lengths = torch.tensor([[0.1], [1.0], [3.0], [20.0]], dtype=torch.float64)
    moved = _on_features(pair, lambda f: lengths * f)._replace(rows=7 * pair.rows)
    for name in ("feature-cosine", "relation-prototype"):
        assert _value(name, moved) == pytest.approx(_value(name, pair), abs=1e-9)
    for name in ("relation-distance", "relation-angle"):
        assert _value(name, moved) != pytest.approx(_value(name, pair), abs=1e-3)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_distances_and_angles_are_blind_to_translation_and_to_a_rotation_of_one_side(seed: int) -> None:
    pair, rotation = _pair(seed), _rotation(seed)
    moved = _on_features(pair, lambda f: f @ rotation + 5.0)
    for name in ("relation-distance", "relation-angle"):
        assert _value(name, moved) == pytest.approx(_value(name, pair), abs=1e-9)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_every_feature_loss_is_blind_to_a_rotation_of_both_sides(seed: int) -> None:
    pair, rotation = _pair(seed), _rotation(seed)
    turned = Pair(
        pair.student._replace(features=pair.student.features @ rotation),
        pair.teacher._replace(features=pair.teacher.features @ rotation),
        pair.rows @ rotation,
        pair.rows_old @ rotation,
    )
    for name in FEATURES:
        assert _value(name, turned) == pytest.approx(_value(name, pair), abs=1e-9)
    distance, expected = feature_distance(*turned.features), feature_distance(*pair.features)
    assert torch.allclose(distance, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "seen_by"),
    [
        (
            lambda p: p._replace(student=p.student._replace(logits=p.student.logits + 1)),
            ["logit-l2", "logit-l1"],
        ),
        (lambda p: _on_features(p, lambda f: 3 * f), ["feature-l2"]),
        (lambda p: _on_features(p, lambda f: f + 5), ["feature-l2", "feature-cosine", "relation-prototype"]),
        (
            lambda p: _on_features(p, lambda f: f @ _rotation(0)),
            ["feature-l2", "feature-cosine", "relation-prototype"],
        ),
    ],
    ids=["constant", "scale", "translation", "rotation"],
)
def test_the_others_are_not_blind(change: Callable[[Pair], Pair], seen_by: list[str]) -> None:
    pair = _pair()
    changed = {name for name in DISTILLATIONS if abs(_value(name, change(pair)) - _value(name, pair)) > 1e-3}
    assert changed == set(seen_by)


def test_attention_is_blind_to_the_order_of_channels_and_pod_is_not() -> None:
    pair = _pair()
    moved = _on_maps(pair, lambda m: m.flip(1))
    assert _value("attention", moved) == pytest.approx(_value("attention", pair), abs=1e-12)
    assert _value("pod", moved) != pytest.approx(_value("pod", pair), abs=1e-3)


def test_attention_sees_where_and_pod_does_not_see_more_than_rows_and_columns() -> None:
    # Two bumps on one diagonal or on the other have equal sums of every row and column.
    a, b = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    a[0, 0, 0, 0] = a[0, 0, 1, 1] = b[0, 0, 0, 1] = b[0, 0, 1, 0] = 1.0
    pair = _pair(0, 1, torch.float32)
    pair = pair._replace(student=pair.student._replace(maps=(a,)), teacher=pair.teacher._replace(maps=(b,)))
    assert _value("pod", pair) == pytest.approx(0, abs=1e-7)
    assert _value("attention", pair) == pytest.approx(2.0)  # two orthogonal directions


@every_loss
def test_the_order_of_the_batch_does_not_matter(name: str) -> None:
    pair = _pair()
    order = torch.tensor([2, 0, 3, 1])

    def mixed(o: Out) -> Out:
        return Out(o.features[order], o.logits[order], tuple(m[order] for m in o.maps))

    moved = pair._replace(student=mixed(pair.student), teacher=mixed(pair.teacher))
    assert _value(name, moved) == pytest.approx(_value(name, pair), abs=1e-12)


@pytest.mark.parametrize("name", [n for n, d in DISTILLATIONS.items() if d.kind != "relation"])
def test_what_is_no_relation_is_a_mean_over_the_batch(name: str) -> None:
    pair = _pair()

    def twice(o: Out) -> Out:
        return Out(
            o.features.repeat(2, 1), o.logits.repeat(2, 1), tuple(m.repeat(2, 1, 1, 1) for m in o.maps)
        )

    doubled = pair._replace(student=twice(pair.student), teacher=twice(pair.teacher))
    assert _value(name, doubled) == pytest.approx(_value(name, pair), rel=1e-9)


# Cross-entropy and KL


@given(seed=st.integers(0, 10_000), temperature=st.floats(1, 5))
@settings(max_examples=25, deadline=None)
def test_cross_entropy_and_kl_have_one_gradient_at_equal_weight_and_temperature(
    seed: int, temperature: float
) -> None:
    pair = _pair(seed)._replace(temperature=temperature)
    (ce, *_), (kl, *_) = (_gradients(name, pair)[1] for name in ("cross-entropy", "kl"))
    assert torch.allclose(ce, kl, atol=1e-12)
    assert DISTILLATIONS["cross-entropy"].weight == DISTILLATIONS["kl"].weight
    # Without the factor it is the fourth part at T = 2: the named extra contrast.
    (bare, *_) = _gradients("cross-entropy", pair._replace(t_squared=False))[1]
    assert torch.allclose(temperature**2 * bare, kl, atol=1e-12)
    assert _value("kl", pair) == _value("kl", pair._replace(t_squared=False))


@pytest.mark.parametrize("name", ["logit-l2", "logit-l1", *FEATURES, *MAPS])
def test_the_temperature_is_that_of_the_probability_losses_alone(name: str) -> None:
    pair = _pair()
    changed = pair._replace(temperature=5.0, t_squared=False)
    assert _value(name, changed) == _value(name, pair)


def test_every_entry_says_where_it_and_its_weight_come_from() -> None:
    levels = {
        "logits": {"probability matching", "logit matching"},
        "features": {"instance feature", "hidden layer", "relation"},
    }
    for entry in DISTILLATIONS.values():
        assert entry.kind in levels[entry.level]
        assert entry.source
        assert entry.weight_source
        assert entry.weight > 0
