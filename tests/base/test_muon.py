"""Muon in float32: the same steps as torch's, without its rounding."""

import pytest
import torch

from unified_base.training import muon, precision
from unified_base.training.muon import Muon, orthogonalized


def trained(optimizer_of, steps=4):
    torch.manual_seed(3)
    matrices = [torch.nn.Parameter(torch.randn(*shape)) for shape in ((12, 7), (5, 9))]
    optimizer = optimizer_of(matrices)
    for step in range(steps):
        torch.manual_seed(step)
        for matrix in matrices[: 1 if step == 2 else 2]:  # the other has no gradient once
            matrix.grad = torch.randn_like(matrix)
        optimizer.step()
        optimizer.zero_grad()
    return matrices, optimizer


def torchs(matrices):
    return torch.optim.Muon(matrices, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


def ours(matrices):
    return Muon(matrices, lr=0.02, weight_decay=0.1)


@pytest.mark.parametrize("quick", [True, False])
def test_steps_are_those_of_torch(quick, monkeypatch):
    monkeypatch.setattr(precision, "processor_has", {"avx512bf16": quick}.get)
    assert muon.multiplies_bfloat16("cpu") is quick
    expected, theirs = trained(torchs)
    actual, mine = trained(ours)
    for matrix, other in zip(actual, expected):
        if quick:
            assert torch.equal(matrix, other)
        # A step is of about 0.02; bfloat16 has 8 bits.
        torch.testing.assert_close(matrix, other, rtol=0, atol=2e-3)
        assert quick or not torch.equal(matrix, other)
        pair = (mine.state[matrix]["momentum_buffer"], theirs.state[other]["momentum_buffer"])
        torch.testing.assert_close(*pair)


def test_singular_values_come_near_one_and_directions_stay():
    torch.manual_seed(0)
    matrix = torch.randn(9, 14)
    result = orthogonalized(matrix, (3.4445, -4.775, 2.0315), 5, 1e-7)
    values = torch.linalg.svdvals(result)
    assert 0.5 < values.min() <= values.max() < 1.5
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    inside = left.T @ result @ right.T
    torch.testing.assert_close(inside, torch.diag(inside.diagonal()), rtol=0, atol=1e-4)


def test_a_kernel_is_stepped_as_the_matrix_of_its_outputs(monkeypatch):
    monkeypatch.setattr(precision, "processor_has", {}.get)
    torch.manual_seed(1)
    value, gradient, other = torch.randn(6, 3, 2, 2), torch.randn(6, 3, 2, 2), torch.randn(4, 5)
    kernel, matrix = torch.nn.Parameter(value.clone()), torch.nn.Parameter(other.clone())
    optimizer = Muon([matrix], lr=0.02, weight_decay=0.1, kernels=[kernel])
    flat = torch.nn.Parameter(value.flatten(1).clone())
    alone = Muon([flat], lr=0.02, weight_decay=0.1)
    kernel.grad, flat.grad = gradient, gradient.flatten(1)
    optimizer.step()
    alone.step()
    assert torch.equal(kernel.flatten(1), flat)
    assert torch.equal(matrix, other)  # without a gradient
