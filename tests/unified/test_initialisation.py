"""How new rows begin: like the old ones, as far as the name of the way says."""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, PhiConfig, PhiForCausalLM

from unified.models.extend import begin_with
from unified.models.init_rows import NAMES, Moments, codebook_rows, fill_rows, new_rows, vectors_of
from unified.vocabulary.block import Block
from unified.vocabulary.vocabulary import Vocabulary
from unified_tokenizers.modules import BaseTokenizer

OLD, WIDTH = 300, 12


def old_rows(number=OLD, width=WIDTH, seed=0):
    """Rows with a mean and a covariance of their own."""
    torch.manual_seed(seed)
    return torch.randn(number, width) @ torch.randn(width, width) + 3 * torch.randn(width)


def covariance(rows):
    return torch.cov(rows.double().T, correction=0)


def begun(name, number=4000, **more):
    rows = torch.cat([old_rows(), torch.full((number, WIDTH), torch.nan)])
    like = Moments(rows[:OLD]) if name == "mean-covariance" else None
    torch.manual_seed(1)
    fill_rows(rows, OLD, name, like, **more)
    assert torch.equal(rows[:OLD], old_rows())
    return rows[OLD:]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("number", [5, 9000])  # fewer rows than numbers in one; several chunks
def test_moments_are_those_of_the_rows_as_they_are_stored(dtype, number):
    rows = old_rows(number).to(dtype)
    moments = Moments(rows)
    torch.testing.assert_close(moments.mean, rows.double().mean(0))
    torch.testing.assert_close(moments.covariance, covariance(rows), rtol=1e-4, atol=1e-4)


def test_rows_near_the_mean_have_the_shape_of_the_old_ones_a_hundred_thousandth_as_wide():
    new, old = begun("mean-covariance"), old_rows()
    torch.testing.assert_close(new.mean(0), old.mean(0), rtol=0, atol=0.01)
    expected = covariance(old)
    torch.testing.assert_close(
        1e5 * covariance(new), expected, rtol=0, atol=0.1 * expected.diag().max().item()
    )
    assert len(new.unique(dim=0)) == len(new)


def test_rows_near_the_mean_take_no_more_than_their_share_of_any_prediction():
    """Hewitt's argument; rows at zero take nearly all where old logits lie far below it."""
    old, near, zero = old_rows(), begun("mean-covariance", 100), begun("zero", 100)
    old += 9 * old.mean(0)  # as if all were of one mind
    near += 9 * old_rows().mean(0)

    def share(new, states):
        return torch.softmax(states @ torch.cat([old, new]).T, -1)[:, OLD:].sum(-1)

    below = -old.mean(0)[None] / old.mean(0).norm()
    for states in (torch.randn(50, WIDTH) * 5, below):
        assert share(near, states).max() <= 1.05 * 100 / (OLD + 100)
    assert share(zero, below) > 0.99


def test_zero_and_normal_are_what_they_say():
    assert not begun("zero").any()
    new = begun("normal", spread=0.3)
    assert abs(new.std().item() - 0.3) < 0.01
    assert abs(new.mean().item()) < 0.01


@pytest.mark.parametrize("size", [5, 12, 40])  # narrower and wider than the rows
def test_codebook_rows_keep_which_codes_are_near_at_the_old_mean_and_spread(size):
    torch.manual_seed(4)
    vectors, like = torch.randn(60, size), Moments(old_rows())
    rows = codebook_rows(vectors, 0, like)
    torch.testing.assert_close(rows.mean(0), like.mean.float(), atol=1e-3, rtol=0)
    variance = covariance(rows).trace()
    torch.testing.assert_close(variance, like.covariance.trace(), rtol=1e-4, atol=0)
    apart, theirs = torch.pdist(rows), torch.pdist(vectors)
    if size <= WIDTH:
        # One factor for all distances: nothing but turned and stretched.
        torch.testing.assert_close(apart / theirs, (apart / theirs)[:1].expand(len(apart)))
    else:
        assert torch.corrcoef(torch.stack([apart, theirs]))[0, 1] > 0.3


def test_codebook_rows_depend_on_the_level_and_on_no_seed():
    vectors, like = torch.eye(7), Moments(old_rows())
    torch.manual_seed(1)
    first = codebook_rows(vectors, 0, like)
    torch.manual_seed(2)
    assert torch.equal(codebook_rows(vectors, 0, like), first)
    assert not torch.isclose(codebook_rows(vectors, 1, like), first).all(1).any()
    with pytest.raises(ValueError, match="7 codes of codebook 1 have one and the same vector"):
        codebook_rows(torch.ones(7, 3), 1, like)


def models():
    torch.manual_seed(0)
    shape = {"vocab_size": 40, "hidden_size": 12, "intermediate_size": 8, "num_hidden_layers": 1,
             "num_attention_heads": 1, "initializer_range": 0.5}  # fmt: skip
    phi = PhiForCausalLM(PhiConfig(**shape))
    for parameter in phi.parameters():
        torch.nn.init.normal_(parameter)
    return phi, GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=12, n_layer=1, n_head=1))


@pytest.mark.parametrize("name", NAMES)
def test_embedding_head_and_its_bias_begin_in_the_same_way(name):
    block = Block("image.0", 42, 5, 0)
    vectors = {block: torch.randn(5, 3)}
    for model in models():
        model.resize_token_embeddings(50, mean_resizing=False)
        old = {n: p.detach().clone() for n, p in model.named_parameters()}
        new_rows(model, 40, name, vectors)
        tables = {id(t.weight): t.weight for t in
                  (model.get_input_embeddings(), model.get_output_embeddings())}  # fmt: skip
        for table in tables.values():
            mean, spread = table[:40].mean(0), table[:40].std()
            codes, others = table[42:47], torch.cat([table[40:42], table[47:]])
            if name == "codebook":
                assert codes.std() > 0.3 * spread
            if name in ("codebook", "mean-covariance"):
                torch.testing.assert_close(others, mean.expand(5, -1), atol=0.1, rtol=0)
            if name == "zero":
                assert not table[40:].any()
            if name == "normal":
                wanted = model.config.initializer_range
                assert 0.6 < table[40:].std() / wanted < 1.5
        bias = getattr(model.get_output_embeddings(), "bias", None)
        if bias is not None:
            at = bias[:40].mean() if name in ("codebook", "mean-covariance") else 0.0
            torch.testing.assert_close(bias[40:], torch.as_tensor(at).expand(10))
        for parameter_name, parameter in model.named_parameters():
            assert torch.equal(parameter[:40], old[parameter_name][:40])


def test_ways_that_cannot_be_gone_are_refused(tiny_tokenizers):
    phi, _ = models()
    phi.config.initializer_range = float("nan")
    with pytest.raises(ValueError, match="initializer_range nan, expected a number"):
        new_rows(phi, 30, "normal", {})
    with pytest.raises(ValueError, match="initialise is 'random', expected one of"):
        new_rows(phi, 30, "random", {})

    class Opaque(BaseTokenizer):
        codebook_sizes = (4,)

    with pytest.raises(ValueError, match="Opaque does not give the vectors of its codes"):
        vectors_of((), {"image": Opaque()})
    image, audio = tiny_tokenizers
    blocks = [Block("text", 0, 9), Block("image.0", 9, 12, 0), Block("audio.1", 30, 9, 1)]
    vectors = vectors_of(blocks, {"image": image, "audio": audio})
    assert [(block.name, len(v)) for block, v in vectors.items()] == [
        ("image.0", 12),
        ("audio.1", 9),
    ]
    assert not vectors_of(blocks, {"image": None})


def test_a_decoder_with_other_names_can_begin_with_another():
    """GPT-2 calls its embedding wte; rows of a block of another size are drawn anew."""

    def of(codes):
        vocabulary = Vocabulary.build(30, 32, ("<pad>",), 3, image=((codes,), "a"))
        torch.manual_seed(codes)
        return vocabulary, GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary.size, n_embd=12, n_layer=1, n_head=1)
        )

    (vocabulary, mine), (theirs, start) = of(9), of(7)
    begin_with(mine, vocabulary, start, theirs, ())
    new, old = mine.transformer.wte.weight, start.transformer.wte.weight
    assert torch.equal(new[:36], old[:36])  # text, padding, marker, sizes
    assert 0.3 < new[36:].std() / old.std() < 3
    assert mine.lm_head.weight is new
    assert torch.equal(mine.transformer.wpe.weight, start.transformer.wpe.weight)
