"""Fused attention: that of each document alone in float64, within what bfloat16 can hold."""

import pytest
import torch
from torch.nn import functional as F

from unified.training import document_attention
from unified.training.fused_attention import _attention, fused_attention, is_fused

pytestmark = pytest.mark.skipif(
    not is_fused(torch.zeros(1, dtype=torch.bfloat16)), reason="no avx512_bf16"
)

LENGTH = 131
SPANS = [(0, 5), (5, 6), (6, 25), (25, 120), (131, 180), (180, 262)]  # 11 left over in the first
BOUND = 0.01


def inputs(heads, key_heads, channels, seed=0):
    """Queries, keys and values (2, heads, L, C) in bfloat16, as projections have them."""
    rng = torch.Generator().manual_seed(seed)
    shapes = [(2, LENGTH, number, channels) for number in (heads, key_heads, key_heads)]
    return [torch.randn(s, generator=rng).bfloat16().transpose(1, 2) for s in shapes]


def alone(q, k, v, scale):
    """Each document by itself, by torch: (2, L, H, C)."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    out = torch.zeros_like(q)
    for start, stop in SPANS:
        row, first = divmod(start, LENGTH)
        part = [x[row, :, first : first + stop - start] for x in (q, k, v)]
        attended = F.scaled_dot_product_attention(*part, is_causal=True, scale=scale)
        out[row, :, first : first + stop - start] = attended
    return out.transpose(1, 2)


def close(actual, expected):
    return (actual.double() - expected).abs().max() <= BOUND * expected.abs().max()


def spans():
    return torch.tensor([*SPANS, (0, 0), (0, 0)], dtype=torch.int32)


@pytest.mark.parametrize(
    ("heads", "key_heads", "channels"), [(3, 3, 8), (4, 2, 64), (6, 1, 40), (2, 1, 7)]
)
@pytest.mark.parametrize("contiguous", [False, True])
def test_it_is_attention_inside_each_document(heads, key_heads, channels, contiguous):
    tensors = inputs(heads, key_heads, channels)
    if contiguous:  # other strides, same numbers
        tensors = [x.contiguous() for x in tensors]
    single = [x.clone().requires_grad_() for x in tensors]
    double = [x.double().requires_grad_() for x in tensors]
    actual, expected = fused_attention(*single, spans(), 0.4), alone(*double, 0.4)
    assert close(actual, expected)
    assert (actual[0, 120:] == 0).all()
    upstream = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    for ours, other in zip(
        torch.autograd.grad((actual * upstream).sum(), single),
        torch.autograd.grad((expected * upstream.double()).sum(), double),
    ):
        assert close(ours, other)
        assert (ours[0, :, 120:] == 0).all()


def test_its_bits_do_not_depend_on_the_threads_nor_on_other_documents():
    def both(count, last):
        torch.set_num_threads(count)
        tensors = [x.requires_grad_() for x in inputs(4, 2, 16, seed=3)]
        shortened = spans()
        shortened[5, 1] = last
        out = fused_attention(*tensors, shortened, 0.25)
        return [out, *torch.autograd.grad(out.float().square().sum(), tensors)]

    before = torch.get_num_threads()
    try:
        whole, threads, shorter = both(1, 262), both(3, 262), both(2, 200)
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(whole, threads))
    assert torch.equal(whole[0][0], shorter[0][0])
    assert torch.equal(whole[0][1, :69], shorter[0][1, :69])
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[1:], shorter[1:]))


def test_it_is_what_transformers_gets_in_bfloat16_and_only_there(monkeypatch):
    tensors = inputs(2, 2, 8)
    out, _ = document_attention.attend(torch.nn.Module(), *tensors, None, 0.3, spans())
    assert torch.equal(out, fused_attention(*tensors, spans(), 0.3))
    plain = [x.float() for x in tensors]
    expected, _ = document_attention.attend(torch.nn.Module(), *plain, None, 0.3, spans())
    assert expected.dtype == torch.float32
    assert close(out, expected.double())


def test_it_traces_as_torch_asks_of_an_operator():
    torch.library.opcheck(
        _attention,
        (*(x.requires_grad_() for x in inputs(4, 2, 8)), spans(), 0.3),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
