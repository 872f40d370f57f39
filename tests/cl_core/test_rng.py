"""Streams: a draw depends on the seed and the names of its purpose alone."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from cl_core.rng import Streams, stream
from cl_core.seeds import numpy_stream

PART = st.one_of(st.integers(0, 50), st.text("abcxyz", min_size=1, max_size=4))
NAMES = st.lists(PART, min_size=1, max_size=4).map(tuple)


@given(seed=st.integers(0, 2**40), names=NAMES)
def test_a_stream_is_the_same_whenever_it_is_asked_for(seed: int, names: tuple[str | int, ...]) -> None:
    first = torch.rand(3, generator=stream(seed, *names))
    torch.rand(100, generator=stream(seed, "another"))
    assert torch.equal(torch.rand(3, generator=stream(seed, *names)), first)
    assert (numpy_stream(seed, *names).random(3) == numpy_stream(seed, *names).random(3)).all()


@given(a=st.tuples(st.integers(0, 99), NAMES), b=st.tuples(st.integers(0, 99), NAMES))
def test_other_names_or_seeds_are_other_streams(
    a: tuple[int, tuple[str | int, ...]], b: tuple[int, tuple[str | int, ...]]
) -> None:
    same = [str(x) for x in (a[0], *a[1])] == [str(x) for x in (b[0], *b[1])]
    first, second = (torch.rand(4, generator=stream(seed, *names)) for seed, names in (a, b))
    assert torch.equal(first, second) == same


def test_the_streams_of_a_task_are_named_after_it() -> None:
    g = Streams(7, 2)
    assert g("herding", 3).initial_seed() == stream(7, "task", 2, "herding", 3).initial_seed()
    assert Streams(7, 1)("herding", 3).initial_seed() != g("herding", 3).initial_seed()


def test_drawing_leaves_the_global_generators_alone() -> None:
    before, other = torch.get_rng_state(), np.random.get_state()
    torch.rand(5, generator=stream(0, "a"))
    numpy_stream(0, "a").random(5)
    assert torch.equal(before, torch.get_rng_state())
    assert (other[1] == np.random.get_state()[1]).all()  # type: ignore[index]


def test_streams_stay_what_they_were() -> None:
    # A change here makes every published number irreproducible.
    assert stream(0, "init").initial_seed() == 3330654677893223573
    assert numpy_stream(0, "class-order").permutation(6).tolist() == [0, 5, 1, 3, 4, 2]


def test_the_streams_of_a_part_are_those_of_its_full_name() -> None:
    g = Streams(3, 1)
    drawn = torch.rand(4, generator=g.at("train", 0, 5)("noise"))
    assert torch.equal(drawn, torch.rand(4, generator=g("train", 0, 5, "noise")))
    assert not torch.equal(drawn, torch.rand(4, generator=g.at("train", 0, 6)("noise")))
