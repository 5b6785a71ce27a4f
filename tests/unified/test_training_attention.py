"""Attention by documents: that of each document alone, whatever else is in its row."""

import pytest
import torch
from torch.nn import functional as F

from unified.training import document_attention as module
from unified.training.document_attention import document_attention

SPANS = [(0, 5), (5, 6), (6, 25), (25, 42), (42, 47)]
TOTAL = 53


def inputs(heads, key_heads, seed=0):
    rng = torch.Generator().manual_seed(seed)
    shapes = [(heads, TOTAL, 8), (key_heads, TOTAL, 8), (key_heads, TOTAL, 8)]
    return [torch.randn(shape, generator=rng, requires_grad=True) for shape in shapes]


def alone(q, k, v, scale):
    """Each document by itself, by torch."""
    shared = len(q) // len(k)
    out = torch.zeros_like(q)
    for start, stop in SPANS:
        part = [x[:, start:stop] for x in (q, k, v)]
        part[1:] = [x.repeat_interleave(shared, dim=0) for x in part[1:]]
        out[:, start:stop] = F.scaled_dot_product_attention(*part, is_causal=True, scale=scale)
    return out


@pytest.mark.parametrize(("heads", "key_heads"), [(3, 3), (4, 2), (6, 1)])
@pytest.mark.parametrize(("queries", "together"), [(3, 1), (256, 1), (256, 31)])
def test_it_is_attention_inside_each_document(heads, key_heads, queries, together, monkeypatch):
    """Whole, in pieces of four queries, and with short documents together."""
    monkeypatch.setattr(module, "QUERIES", queries)
    monkeypatch.setattr(module, "ALIGNED", 2)
    monkeypatch.setattr(module, "TOGETHER", together)
    spans = torch.tensor([*SPANS, (0, 0), (0, 0)], dtype=torch.int32)
    tensors = inputs(heads, key_heads)
    actual = document_attention(*tensors, spans, 0.4)
    expected = alone(*tensors, 0.4)
    torch.testing.assert_close(actual, expected)
    assert (actual[:, 47:] == 0).all()
    upstream = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1))
    for first, other in zip(
        torch.autograd.grad((actual * upstream).sum(), tensors),
        torch.autograd.grad((expected * upstream).sum(), tensors),
    ):
        torch.testing.assert_close(first, other)


def test_it_traces_as_torch_asks_of_an_operator():
    spans = torch.tensor(SPANS, dtype=torch.int32)
    torch.library.opcheck(
        document_attention,
        (*inputs(4, 2), spans, 0.3),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )
