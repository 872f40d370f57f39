"""The contracts of a backbone, with images of one shape [C, H, W]."""

from __future__ import annotations

import torch
from torch import Tensor

from cl_core.contract import contracts_of
from cl_core.nets.network import NETS, Network, Shape, build_network
from cl_core.training.checkpoints import network_digest


def _build(net: str, shape: Shape, last_relu: bool = True, seed: int = 0) -> Network:
    return build_network(net, shape, 7, "linear", last_relu, seed)


def _images(shape: Shape, count: int = 4) -> Tensor:
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(0))


def _answer(net: str, shape: Shape, last_relu: bool = True) -> tuple[Tensor, tuple[Tensor, ...]]:
    with torch.no_grad():
        out = _build(net, shape, last_relu).eval().backbone(_images(shape))
    return out if isinstance(out, tuple) else (out, ())


def it_has_a_docstring(net: str, shape: Shape) -> None:
    assert NETS[net].__doc__, "the list of nets shows its first sentence"


def features_are_a_row_an_image_in_float32(net: str, shape: Shape) -> None:
    features, _ = _answer(net, shape)
    assert features.ndim == 2
    assert len(features) == 4, f"4 images give {len(features)} rows"
    assert features.dtype == torch.float32, str(features.dtype)
    assert features.std() > 0, "every feature is the same"


def maps_where_it_gives_them_hold_an_image_a_row_and_do_not_grow(net: str, shape: Shape) -> None:
    _, maps = _answer(net, shape)
    assert all(m.ndim == 4 and len(m) == 4 for m in maps), str([list(m.shape) for m in maps])
    sizes = [m.shape[2] for m in maps]
    assert sizes == sorted(sizes, reverse=True), f"sides of the maps: {sizes}"


def features_are_signed_without_the_last_relu_and_only_then(net: str, shape: Shape) -> None:
    assert (_answer(net, shape, last_relu=True)[0] >= 0).all(), "last_relu leaves negative features"
    assert (_answer(net, shape, last_relu=False)[0] < 0).any(), "no feature is negative without last_relu"


def an_image_is_seen_on_its_own_in_evaluation(net: str, shape: Shape) -> None:
    built, x = _build(net, shape).eval(), _images(shape)
    before = network_digest(built.state_dict())
    with torch.no_grad():
        whole, one = built(x).features, built(x[:1]).features
    assert torch.allclose(whole[:1], one, rtol=1e-4, atol=1e-5), "the other images of a batch matter"
    assert network_digest(built.state_dict()) == before, "evaluation changes the network"


def a_seed_decides_the_weights_and_the_global_generator_does_not(net: str, shape: Shape) -> None:
    before = torch.get_rng_state()
    first = network_digest(_build(net, shape).state_dict())
    assert torch.equal(before, torch.get_rng_state())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        assert network_digest(_build(net, shape).state_dict()) == first, "two nets of one seed differ"
    assert network_digest(_build(net, shape, seed=1).state_dict()) != first, "the seed does nothing"


def every_parameter_gets_a_gradient(net: str, shape: Shape) -> None:
    built = _build(net, shape).train()
    built.head.open(0, 7, torch.Generator().manual_seed(0))  # type: ignore[operator]
    built(_images(shape)).logits.square().sum().backward()
    for name, p in built.named_parameters():
        assert p.grad is not None, f"{name} gets none"
        assert p.grad.isfinite().all(), f"{name}'s is not finite"


NET_CONTRACTS = contracts_of(globals())
