"""ConViT's blocks, and the head that grows by a token a task."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cl_core.nets.attention import PatchBlock, TokenBlock, by_head, deviation, offsets
from cl_core.nets.network import build_network
from cl_core.nets.task_tokens import TokenHead
from tests import tiny


def _head(dim: int, *sizes: int, classes: int = 9) -> TokenHead:
    head, start = TokenHead(dim, classes), 0
    for t, size in enumerate(sizes):
        head.open(start, start + size, torch.Generator().manual_seed(t))
        start += size
    return head


def test_offsets_of_patches_by_hand() -> None:
    # Patches 0 1 / 2 3: from the first to the last, one column, one row, squared distance two.
    found = offsets(2, 2)
    assert found[0].tolist() == [[0, 0, 0], [1, 0, 1], [0, 1, 1], [1, 1, 2]]
    assert torch.equal(found[..., :2], -found[..., :2].transpose(0, 1))


def test_each_head_begins_by_looking_at_a_neighbour_of_its_own() -> None:
    block = PatchBlock(18, 9, (5, 5))
    with torch.no_grad():
        places = F.softmax(block.positions(block.offsets).movedim(2, 0), dim=-1)
    looks = places[:, 12].argmax(dim=1)  # from the patch in the middle of 5 x 5
    assert looks.tolist() == [6, 7, 8, 11, 12, 13, 16, 17, 18]


def test_a_closed_gate_leaves_attention_to_positions_alone() -> None:
    block = PatchBlock(8, 4, (2, 3)).eval()
    x = tiny.normal(0, 2, 6, 8)
    with torch.no_grad():
        block.gate.fill_(100.0)  # all positions
        before = block(x)
        block.query_key.weight.add_(1.0)
        assert torch.equal(block(x), before)
        block.gate.fill_(0.0)
        assert not torch.equal(block(x), before)


def test_weights_begin_as_large_as_in_the_paper_relative_to_the_width() -> None:
    assert deviation(384) == 0.02
    assert deviation(96) == 0.04


def _as_in_the_paper(block: TokenBlock, token: Tensor, patches: Tensor) -> Tensor:
    """The block for one token [D]: attention of the token to itself and the patches [B, P, D]."""
    z = torch.cat([token.expand(len(patches), 1, -1), patches], dim=1)
    inside = block.norm1(z)
    q, k, v = (by_head(part(inside), block.heads) for part in (block.query, block.key, block.value))
    weights = F.softmax(q[:, :, :1] @ k.mT / q.shape[-1] ** 0.5, dim=-1)
    x = token + block.project((weights @ v).transpose(1, 2).flatten(2))
    return x + block.mlp(block.norm2(x))


def test_all_tokens_at_once_give_what_each_gives_alone() -> None:
    block = TokenBlock(12, 3)
    tokens, patches = tiny.normal(0, 4, 12), tiny.normal(1, 2, 5, 12)
    with torch.no_grad():
        for p in block.parameters():
            p.add_(0.1 * tiny.normal(2, *p.shape))
        together = block(tokens, patches)
        alone = torch.cat([_as_in_the_paper(block, token, patches) for token in tokens], dim=1)
    assert torch.allclose(together, alone, atol=1e-5)


def test_there_are_as_many_logits_as_classes_and_each_classifier_reads_its_own_token() -> None:
    head = _head(4, 3, 2, 1)
    embeddings = tiny.normal(0, 2, 12)
    with torch.no_grad():
        before = head(embeddings)
        embeddings[:, 4:8] += tiny.normal(1, 2, 4)  # of the second task
        after = head(embeddings)
    assert before.shape == (2, 6)
    assert (before != after).all(dim=0).tolist() == [False, False, False, True, True, False]


def test_a_new_token_and_classifier_leave_the_old_logits_as_they_are() -> None:
    head, last = _head(8, 3, 2), tiny.normal(0, 4, 8, 3, 3)
    with torch.no_grad():
        before = head(head.embed(last))
        head.open(5, 7, torch.Generator().manual_seed(9))
        after = head(head.embed(last))
    assert after.shape == (4, 7)
    assert torch.allclose(after[:, :5], before, atol=1e-6)
    assert torch.equal(head.scales.any(dim=1), torch.tensor([1, 0, 0, 1, 0, 1, 0, 0, 0], dtype=torch.bool))


def test_a_head_knows_its_tasks_from_its_tensors_alone() -> None:
    head, fresh, x = _head(4, 3, 1, 2), TokenHead(4, 9), tiny.normal(0, 2, 12)
    fresh.load_state_dict(head.state_dict())
    fresh.seen = 6
    copied = copy.deepcopy(fresh)
    assert fresh.first == copied.first == [0, 3, 4]
    with torch.no_grad():
        assert torch.equal(fresh(x), head(x))
        assert torch.equal(copied(x), head(x))


@pytest.mark.parametrize(("tasks", "millions"), [(10, 10.73), (20, 10.74), (50, 10.77)])
def test_the_paper_s_network_has_its_published_number_of_parameters(tasks: int, millions: float) -> None:
    # Of 10, 20 and 50 steps of CIFAR-100, cut after two digits.
    net = build_network("convit", (3, 32, 32), 100, "tokens", False, 0)
    head, each = net.head, 100 // tasks
    assert isinstance(head, TokenHead)
    for t in range(tasks):
        head.open(each * t, each * t + each, torch.Generator().manual_seed(t))
    assert net.answering_parameters() // 10_000 == round(100 * millions)
