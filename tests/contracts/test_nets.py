"""The contracts of every backbone, and refusals of own nets."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cl_core.errors import BadRequest
from cl_core.nets.network import HEADS, NETS, Frozen, LinearHead, Network, Shape, build_network
from cl_core.testing import NET_CONTRACTS, Contract, check_net
from cl_core.training.checkpoints import network_digest
from tests import tiny

NET_NAMES = NETS.names()
SHAPES: list[Shape] = [(3, 8, 8), (1, 8, 8), (3, 16, 16), (1, 28, 28), (3, 32, 32), (3, 64, 64)]

every_net = pytest.mark.parametrize("net", NET_NAMES)


def _build(net: str, shape: Shape = (3, 8, 8), last_relu: bool = True, seed: int = 0) -> Network:
    return build_network(net, shape, 7, "linear", last_relu, seed)


def _images(shape: Shape, count: int = 2) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def _answer(net: nn.Module, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.no_grad():
        out = net.eval()(x)
    return out if isinstance(out, tuple) else (out, ())


@pytest.mark.parametrize("contract", NET_CONTRACTS, ids=lambda contract: contract.__name__)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_net
def test_a_net_keeps_its_contracts(net: str, shape: Shape, contract: Contract) -> None:
    contract(net, shape)


@every_net
def test_a_net_of_ours_gives_maps_of_which_the_last_enters_the_pooling(net: str) -> None:
    assert list(inspect.signature(NETS[net]).parameters) == ["shape", "last_relu"]
    features, maps = _answer(_build(net).backbone, _images((3, 8, 8)))
    assert maps
    assert torch.allclose(maps[-1].mean(dim=(2, 3)), features, atol=1e-6)


def test_resnet18_takes_images_of_224_pixels_with_the_standard_stem() -> None:
    features, maps = _answer(_build("resnet18", (3, 224, 224)).backbone, _images((3, 224, 224), 1))
    assert features.shape == (1, 512)
    assert [tuple(m.shape[1:]) for m in maps] == [(64, 56, 56), (128, 28, 28), (256, 14, 14), (512, 7, 7)]


@every_net
def test_without_the_last_relu_features_are_signed(net: str) -> None:
    x = _images((3, 16, 16), 4)
    with_relu, maps = _answer(_build(net, (3, 16, 16)).backbone, x)
    assert (with_relu >= 0).all()
    assert all((m >= 0).all() for m in maps)
    without, signed = _answer(_build(net, (3, 16, 16), last_relu=False).backbone, x)
    assert (without < 0).any()
    assert (signed[-1] < 0).any()
    assert all((m >= 0).all() for m in signed[:-1])
    assert torch.equal(signed[-1].relu(), maps[-1])


@every_net
def test_no_two_layers_start_alike(net: str) -> None:
    weights = [p for p in _build(net).backbone.parameters() if p.ndim == 4]
    for i, a in enumerate(weights):
        for b in weights[:i]:
            assert a.shape != b.shape or not torch.equal(a, b)


@every_net
def test_a_network_answers_for_the_seen_classes_alone(net: str) -> None:
    built = _build(net).eval()
    for seen in (2, 5):
        built.head.open(0, seen, torch.Generator().manual_seed(0))  # type: ignore[operator]
        out = built(_images((3, 8, 8)))
        assert out.logits.shape == (2, seen)
        assert out.logits.dtype == out.features.dtype == torch.float32


def _parameters(net: str, shape: Shape) -> int:
    return sum(p.numel() for p in _build(net, shape).backbone.parameters())


def test_resnet32_has_its_published_number_of_parameters() -> None:
    assert _parameters("resnet32", (3, 32, 32)) == 463_504


def test_convnet_has_its_documented_number_of_parameters() -> None:
    # 3 -> 64 -> 64 -> 64 with 3x3 kernels and no bias, and three BatchNorms.
    assert _parameters("convnet", (3, 32, 32)) == 9 * (3 * 64 + 64 * 64 * 2) + 3 * 2 * 64 == 75_840


def test_resnet18_with_the_standard_stem_computes_what_torchvision_s_does() -> None:
    from torchvision.models import resnet18

    ours = _build("resnet18", (3, 96, 96)).backbone
    theirs = resnet18(weights=None)
    theirs.fc = nn.Identity()  # type: ignore[assignment]
    assert sum(p.numel() for p in ours.parameters()) == sum(p.numel() for p in theirs.parameters())

    def key(name: str) -> str:
        name = name.replace("stem.0", "conv1").replace("stem.1", "bn1").replace("shortcut", "downsample")
        parts = name.split(".")
        return f"layer{int(parts[1]) + 1}." + ".".join(parts[2:]) if parts[0] == "stages" else name

    theirs.load_state_dict({key(name): t for name, t in ours.state_dict().items()})
    x = _images((3, 96, 96))
    features, _ = _answer(ours, x)
    with torch.no_grad():
        expected = theirs.eval()(x)
    assert torch.allclose(features, expected, rtol=1e-4, atol=1e-5)


def test_resnet32_has_shortcuts_without_parameters() -> None:
    names = [name for name, _ in _build("resnet32").backbone.named_parameters()]
    assert not [name for name in names if "shortcut" in name]
    assert len([name for name in names if "conv" in name]) == 30


# Heads


@pytest.mark.parametrize("head", HEADS)
def test_opening_rows_leaves_the_others_as_they_are(head: str) -> None:
    made = HEADS[head](4, 6)
    made.open(0, 2, torch.Generator().manual_seed(0))  # type: ignore[operator]
    before = [rows.detach().clone() for rows in made.rows()]  # type: ignore[operator]
    assert all(not rows[2:].any() for rows in before)
    assert all(rows[:2].all() for rows in before[:2])  # weight and bias; a token's rows may be zero
    made.open(2, 5, torch.Generator().manual_seed(1))  # type: ignore[operator]
    assert made.seen == 5
    for number, (rows, old) in enumerate(zip(made.rows(), before, strict=True)):  # type: ignore[operator]
        assert torch.equal(rows[:2], old[:2])
        assert not rows[5:].any()
        if number < 2:
            assert rows[2:5].all()
            assert (rows.abs() <= 0.5).all()  # 1 / sqrt(4)
    width = 8 if head == "tokens" else 4  # the embeddings of two tokens
    assert made(torch.randn(3, width, generator=torch.Generator().manual_seed(2))).shape == (3, 5)


def test_the_linear_head_is_torch_s_linear_layer() -> None:
    head = HEADS["linear"](4, 3)
    head.open(0, 3, torch.Generator().manual_seed(0))  # type: ignore[operator]
    linear = nn.Linear(4, 3)
    linear.load_state_dict(head.state_dict())
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(head(x), linear(x))


def test_the_cosine_head_depends_on_directions_alone() -> None:
    head = HEADS["cosine"](4, 3)
    head.open(0, 3, torch.Generator().manual_seed(0))  # type: ignore[operator]
    x = torch.randn(5, 4, generator=torch.Generator().manual_seed(1))
    expected = head(x)
    assert (expected.abs() <= 1).all()
    assert torch.allclose(head(7 * x), expected, atol=1e-6)
    with torch.no_grad():
        head.weight.mul_(3)  # type: ignore[operator]
        assert torch.allclose(head(x), expected, atol=1e-6)
        head.eta.fill_(2.5)  # type: ignore[operator]
    assert torch.allclose(head(x), 2.5 * expected, atol=1e-6)


def test_a_frozen_network_is_a_copy_that_stays_as_it_was() -> None:
    built = _build("convnet-small")
    built.head.open(0, 7, torch.Generator().manual_seed(0))  # type: ignore[operator]
    frozen = Frozen(built.train())
    before = network_digest(frozen.net.state_dict())
    assert before == network_digest(built.state_dict())
    frozen.train()
    built(_images((3, 8, 8), 4)).logits.sum().backward()
    out = frozen(_images((3, 8, 8), 4))
    assert network_digest(frozen.net.state_dict()) == before != network_digest(built.state_dict())
    assert not any(m.training for m in frozen.modules())
    assert not out.logits.requires_grad
    assert not out.logits.is_inference()
    assert built.training
    assert all(p.requires_grad for p in built.parameters())


# Nets of your own

OWN = '''
import torch
from torch import nn

NUMBER = 3

class Flat(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.layer = nn.Linear(shape[0] * shape[1] * shape[2], 5)
    def forward(self, x):
        return self.layer(x.flatten(1))

def good(shape, last_relu): return Flat(shape)
def maps(shape, last_relu): return nn.Conv2d(shape[0], 4, 3)
def nothing(shape, last_relu): return None
def takes_no_arguments(): return None
def silent(shape, last_relu): raise AssertionError
def talkative(shape, last_relu): raise KeyError("first line\\nsecond line")
def wrong_channels(shape, last_relu): return nn.Sequential(nn.Conv2d(17, 4, 3), nn.Flatten())
class Odd(Flat):
    def forward(self, x):
        return super().forward(x), "maps"
def odd_maps(shape, last_relu): return Odd(shape)
def fine(shape, last_relu):
    """One layer."""
    return nn.Sequential(Flat(shape), nn.ReLU() if last_relu else nn.Identity())
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_nets.py").write_text(OWN)
    (tmp_path / "broken_nets.py").write_text("def oops(:\n    pass\n")
    (tmp_path / "angry_nets.py").write_text("raise RuntimeError('not today\\nnor tomorrow')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)


@pytest.mark.usefixtures("own")
def test_a_net_of_one_s_own_needs_no_packaging() -> None:
    finished = tiny.train(tiny.configuration("finetune", net="own_nets:good"))
    assert finished.states[-1]["net.head.weight"].shape == (tiny.CLASSES, 5)
    sys.modules.pop("own_nets")


@pytest.mark.usefixtures("own")
def test_the_contracts_take_a_net_of_one_s_own_that_gives_features_alone() -> None:
    check_net("own_nets:fine", (3, 8, 8))
    with pytest.raises(AssertionError) as caught:
        check_net("own_nets:good", (3, 8, 8))
    head, first, second = str(caught.value).splitlines()
    assert head == "own_nets:good breaks 2 of 7 contracts:"
    assert first.startswith("  it has a docstring: ")
    assert second.startswith("  features are signed without the last relu and only then: ")
    assert "nets.py:" in second
    assert second.endswith("AssertionError: last_relu leaves negative features")


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("net", "told"),
    [
        ("own_nets:maps", r"features \[B, D\] or .*, not \[1, 4, 6, 6\]: pool and flatten.*own_nets.py:15"),
        ("own_nets:odd_maps", r"maps as a tuple of tensors, not str: .*own_nets.py:24"),
        ("own_nets:nothing", r"returns an nn.Module, not NoneType \(.*own_nets.py:16\)"),
        ("own_nets:takes_no_arguments", r"must take \(shape, last_relu\), not \(\) \(.*own_nets.py:17\)"),
        ("own_nets:silent", r"3x8x8: .*own_nets.py:18: AssertionError"),
        ("own_nets:talkative", "first line"),
        ("own_nets:wrong_channels", "3x8x8"),
        ("own_nets:NUMBER", "must be a function, not int"),
        ("own_nets:missing", "missing"),
        ("no_such_module:make", "no_such_module"),
        ("broken_nets:oops", "broken_nets"),
        ("angry_nets:make", "not today"),
        ("own_nets:not a name", "module:attribute"),
        ("../own_nets:good", "module:attribute"),
        ("resnet31", "did you mean 'resnet32'"),
    ],
)
def test_a_net_that_does_not_work_is_refused_in_one_line(net: str, told: str) -> None:
    with pytest.raises(BadRequest, match=told) as caught:
        tiny.train(tiny.configuration("finetune", net=net))
    assert "\n" not in str(caught.value)
    sys.modules.pop("own_nets", None)


@every_net
def test_side_heads_change_nothing_in_the_net_beside_them(net: str) -> None:
    plain = _build(net)
    beside = build_network(net, (3, 8, 8), 7, "linear", True, 0, {"rotated": 3})
    assert network_digest(beside.backbone.state_dict()) == network_digest(plain.backbone.state_dict())
    side = beside.side["rotated"]
    assert isinstance(side, LinearHead)
    side.open(2, 4, torch.Generator().manual_seed(0))
    assert side.weight.shape[0] == 21
    opened = side.weight.detach().any(dim=1)
    assert opened.tolist() == [6 <= row < 12 for row in range(21)]
    assert side(torch.zeros(2, side.weight.shape[1])).shape == (2, 12)
    assert beside.heads() == [beside.head, side]
