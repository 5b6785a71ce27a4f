"""The loss among allowed ids: equal to the dense one, in any chunks, from any parts of a head."""

import pytest
import torch
from torch.nn import functional as F

from unified.training import loss as module
from unified.training.loss import Head, HeadPart, allowed_loss

TABLE = [((0, 20),), ((3, 4),), ((2, 5), (9, 17), (18, 20)), ((17, 20),)]
GROUPS = [(TABLE[0], 11), (TABLE[1], 4), (TABLE[2], 17), (TABLE[3], 9)]


@pytest.fixture
def case():
    """(features, head, bias, targets, weights, mask of what is not allowed)."""
    rng = torch.Generator().manual_seed(0)
    number = [number for number, (_, count) in enumerate(GROUPS) for _ in range(count)]
    mask = torch.full((4, 20), float("-inf"))
    for index, ranges in enumerate(TABLE):
        for start, stop in ranges:
            mask[index, start:stop] = 0
    mask = mask[number]
    features = torch.randn(41, 6, generator=rng, requires_grad=True)
    head = torch.randn(20, 6, generator=rng, requires_grad=True)
    bias = torch.randn(20, generator=rng, requires_grad=True)
    targets = torch.multinomial(mask.exp(), 1, generator=rng)[:, 0]
    weights = torch.rand(41, generator=rng) - 0.2  # of preferences some are negative
    return features, head, bias, targets, weights, mask


def dense(features, head, bias, targets, weights, mask, z_loss=0.0, softcap=None):
    logits = F.linear(features, head, bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    logits = logits + mask
    losses = F.cross_entropy(logits, targets, reduction="none")
    counted = mask.isfinite().sum(1) > 1  # where one id is allowed there is nothing to learn
    normaliser = torch.where(counted, logits.logsumexp(1), 0.0)
    return (weights * (losses + z_loss * normaliser.square())).sum(), losses


@pytest.mark.parametrize(("z_loss", "softcap"), [(0.0, None), (0.3, None), (0.2, 2.5)])
@pytest.mark.parametrize("chunk_bytes", [4 * 20 * 3, 1 << 20])
def test_loss_and_gradients_are_those_of_all_logits(
    case, z_loss, softcap, chunk_bytes, monkeypatch
):
    monkeypatch.setattr(module, "CHUNK_BYTES", chunk_bytes)
    monkeypatch.setattr(module, "FEWEST", 1)
    features, head, bias, targets, weights, _ = case
    expected, losses = dense(*case, z_loss, softcap)
    whole = Head((HeadPart(0, head, bias),), softcap)
    total, actual = allowed_loss(features, whole, targets, weights, GROUPS, z_loss)
    torch.testing.assert_close(total, expected)
    torch.testing.assert_close(actual, losses.detach())
    assert not actual.requires_grad
    assert (actual[11:15] == 0).all()
    inputs = [features, head, bias]
    for first, other in zip(
        torch.autograd.grad(3 * total, inputs), torch.autograd.grad(3 * expected, inputs)
    ):
        torch.testing.assert_close(first, other, rtol=1e-4, atol=1e-5)


def test_a_head_in_two_parts_is_the_head_and_a_frozen_part_gets_no_gradient(case):
    features, head, bias, targets, weights, _ = case
    whole = Head((HeadPart(0, head, bias),))
    total, losses = allowed_loss(features, whole, targets, weights, GROUPS)
    head_grad, feature_grad = torch.autograd.grad(total, [head, features])

    old = head.detach()[:13]
    new = head.detach()[13:].clone().requires_grad_()
    plain = bias.detach()
    split = Head((HeadPart(0, old, plain[:13]), HeadPart(13, new, plain[13:])))
    total, actual = allowed_loss(features, split, targets, weights, GROUPS)
    torch.testing.assert_close(actual, losses)
    new_grad, again = torch.autograd.grad(total, [new, features])
    torch.testing.assert_close(new_grad, head_grad[13:])
    torch.testing.assert_close(again, feature_grad)
    assert old.grad is None


def test_without_gradients_the_losses_are_the_same(case):
    features, head, bias, targets, weights, _ = case
    whole = Head((HeadPart(0, head, bias),))
    total, losses = allowed_loss(features, whole, targets, weights, GROUPS)
    with torch.no_grad():
        other, actual = allowed_loss(features, whole, targets, weights, GROUPS)
    assert not other.requires_grad
    assert torch.equal(other, total.detach())
    assert torch.equal(actual, losses)


@pytest.mark.parametrize("z_loss", [0.0, 0.3])
def test_in_bfloat16_it_is_that_of_float64_up_to_rounding(case, z_loss):
    """By one pass over the logits where the processor has these products."""
    halves = [x.detach().bfloat16().requires_grad_() for x in case[:3]]
    doubles = [x.detach().double().requires_grad_() for x in halves]
    targets, weights, mask = case[3:]
    expected, losses = dense(*doubles, targets, weights.double(), mask.double(), z_loss)
    whole = Head((HeadPart(0, *halves[1:]),))
    total, actual = allowed_loss(halves[0], whole, targets, weights, GROUPS, z_loss)
    torch.testing.assert_close(total.double(), expected, rtol=0.01, atol=0.01)
    torch.testing.assert_close(actual.double(), losses.detach(), rtol=0.02, atol=0.02)
    for ours, other in zip(
        torch.autograd.grad(total, halves), torch.autograd.grad(expected, doubles)
    ):
        assert (ours.double() - other).abs().max() <= 0.02 * other.abs().max()
    with torch.no_grad():
        again, same = allowed_loss(halves[0], whole, targets, weights, GROUPS, z_loss)
    assert torch.equal(again, total.detach())
    assert torch.equal(same, actual)
