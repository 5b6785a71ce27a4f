"""Quantizers: what every kind promises, revival that works, and settings that cannot be."""

import copy

import pytest
import torch

from unified_tokenizers.quantizers import CodeRows, Quantizer, QuantizerConfig

CONFIGS = {
    "vq": {"kind": "vq", "codes": 24, "dim": 3},
    "cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3},
    "simvq": {"kind": "simvq", "codes": 24, "dim": 3},
    "fsq": {"kind": "fsq", "levels": (5, 4, 3)},
    "lfq": {"kind": "lfq", "codes": 32},
    "bsq": {"kind": "bsq", "codes": 32},
    "residual vq": {"kind": "vq", "codes": 24, "dim": 3, "depth": 3},
    "residual cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3, "depth": 2},
    "grouped cosine": {"kind": "cosine-vq", "codes": 24, "dim": 3, "groups": 3},
    "residual fsq": {"kind": "fsq", "levels": (5, 2, 3), "depth": 3},
    "residual simvq": {"kind": "simvq", "codes": 24, "dim": 3, "depth": 2},
    "grouped residual vq": {"kind": "vq", "codes": 24, "dim": 3, "depth": 2, "groups": 2},
    "grouped residual fsq": {"kind": "fsq", "levels": (4, 3), "depth": 2, "groups": 3},
    "grouped lfq": {"kind": "lfq", "codes": 16, "groups": 2},
}
EVERY = pytest.mark.parametrize("name", list(CONFIGS))


def vectors(config: QuantizerConfig, *shape: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, config.width, generator=rng)


def quantizer_named(name: str) -> Quantizer:
    """A quantizer that has seen a few batches."""
    torch.manual_seed(3)
    quantizer = Quantizer(QuantizerConfig(**CONFIGS[name]))
    for seed in range(3):
        quantizer(vectors(quantizer.config, 2, 90, seed=seed + 10))
    return quantizer.eval()


@EVERY
def test_codes_are_in_range_and_give_back_the_values(name):
    quantizer = quantizer_named(name)
    config = quantizer.config
    values, codes, _ = quantizer(vectors(config, 2, 150))
    assert codes.dtype == torch.int64
    assert (
        codes.shape
        == (2, 150, len(config.codebook_sizes))
        == (2, 150, config.depth * config.groups)
    )
    for level, size in enumerate(config.codebook_sizes):
        assert codes[..., level].min() >= 0
        assert codes[..., level].max() < size
        assert len(codes[..., level].unique()) > size / 3
    torch.testing.assert_close(quantizer.values_of(codes), values, atol=2e-6, rtol=0)


@EVERY
def test_a_batch_gives_what_each_gives_alone(name):
    quantizer = quantizer_named(name)
    batch = vectors(quantizer.config, 3, 37)
    together = quantizer(batch).codes
    for row in range(3):
        assert torch.equal(quantizer(batch[row : row + 1]).codes[0], together[row])


@EVERY
def test_bfloat16_around_it_changes_no_code(name):
    quantizer = quantizer_named(name)
    batch = vectors(quantizer.config, 2, 400).bfloat16()
    plain = quantizer(batch.float())
    with torch.autocast("cpu", torch.bfloat16):
        inside = quantizer(batch)
        values = quantizer.values_of(inside.codes)
    assert torch.equal(plain.codes, inside.codes)
    assert values.dtype == inside.values.dtype == torch.float32
    assert torch.equal(values, quantizer.values_of(plain.codes))


@EVERY
def test_a_saved_one_gives_the_same_codes(name):
    quantizer = quantizer_named(name)
    other = Quantizer(quantizer.config).eval()
    other.load_state_dict(copy.deepcopy(quantizer.state_dict()))
    batch = vectors(quantizer.config, 1, 60)
    assert torch.equal(other(batch).codes, quantizer(batch).codes)


@EVERY
def test_a_gradient_reaches_the_vectors(name):
    quantizer = quantizer_named(name).train()
    batch = vectors(quantizer.config, 2, 30).requires_grad_()
    values, _, loss = quantizer(batch)
    (values.square().sum() + loss).backward()
    assert batch.grad is not None
    assert batch.grad.isfinite().all()
    assert batch.grad.abs().sum() > 0
    assert (loss == 0) == (quantizer.config.kind == "fsq")


@pytest.mark.parametrize("name", ["vq", "fsq", "simvq"])
def test_every_residual_codebook_brings_the_values_nearer(name):
    torch.manual_seed(0)
    batch = 0.5 * vectors(QuantizerConfig(**CONFIGS[name]), 4, 200)
    errors = []
    for depth in (1, 2, 3):
        quantizer = Quantizer(QuantizerConfig(**CONFIGS[name], depth=depth))
        for _ in range(20):
            quantizer(batch)
        errors.append(float((quantizer.eval()(batch).values - batch).square().mean()))
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("kind", ["vq", "cosine-vq"])
def test_revived_codes_survive_the_next_step_and_get_used(kind):
    """What is to be coded moves to another place: the codes left behind follow it."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)
    here, there = torch.tensor([4.0, 0.5, 0, 0]), torch.tensor([-1.0, 4.0, 0, 0])

    def batch(centre: torch.Tensor) -> torch.Tensor:
        return centre + torch.randn(2, 256, 4, generator=rng)

    def used(quantizer: Quantizer) -> set[int]:
        quantizer.eval()
        codes = torch.cat([quantizer(batch(there)).codes for _ in range(4)])
        quantizer.train()
        return set(codes.flatten().tolist())

    quantizers = [
        Quantizer(QuantizerConfig(kind, codes=64, dim=4, decay=0.8, revive=revive))
        for revive in (0.0, 0.2)
    ]
    for quantizer in quantizers:
        for _ in range(5):
            quantizer(batch(here))
    left = [used(quantizer) for quantizer in quantizers]
    assert all(len(codes) < 50 for codes in left)
    for _ in range(20):
        for quantizer in quantizers:
            quantizer(batch(there))
    without, with_revival = (used(quantizer) for quantizer in quantizers)
    assert len(with_revival) >= 60
    assert len(with_revival) > len(without) + 5
    # One by one: where a code was put it stays for the next step, up to what it learns there.
    quantizer = quantizers[1]
    (codebook,) = quantizer._codebooks()
    codebook.cluster_size[0, :7] = 0
    codebook.embed_avg[0, :7] = 0
    codebook.embed[0, :7] = -there / there.norm()
    quantizer(batch(there))
    revived = codebook.embed[0, :7].clone()
    quantizer(batch(there))
    assert (codebook.embed[0, :7] - revived).norm(dim=1).max() < 1.5
    assert (codebook.embed[0, :7] @ there > 0).all()
    assert set(range(7)) <= used(quantizer)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
@pytest.mark.parametrize("kind", ["vq", "cosine-vq"])
def test_a_codebook_larger_than_the_batch_gets_used_whatever_the_scale(kind, scale):
    """Half of all vectors nearly alike, as a plain ground's are; 48 at a time for 256 codes; and
    they move, as an encoder's do while it learns. With a decay of 0.99 and a `revive` of 0.1 half
    of the codes are left behind."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(1)

    def batch(number: int, step: int) -> torch.Tensor:
        vectors = torch.randn(1, number, 3, generator=rng)
        vectors[:, ::2] = torch.tensor([1.0, 0, 0]) + 0.01 * vectors[:, ::2]
        return scale * (vectors + torch.tensor([0.0, 0.005, 0]) * step)

    quantizer = Quantizer(QuantizerConfig(kind, codes=256, dim=3))
    for step in range(200):
        quantizer(batch(48, step))
    codes = quantizer.eval()(batch(4_000, 200)).codes
    assert len(codes.unique()) >= 0.66 * 256


def test_rows_of_all_codes_add_up():
    rows = CodeRows((3, 5), 4)
    codes = torch.tensor([[2, 0], [0, 4]])
    table = rows.weight.detach()
    expected = torch.stack([table[2] + table[3], table[0] + table[7]])
    torch.testing.assert_close(rows(codes).detach(), expected)
    assert set(rows.state_dict()) == {"weight"}


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"kind": "vqq", "codes": 8, "dim": 2}, "kind 'vqq', expected one of vq, cosine-vq"),
        ({"kind": "vq", "codes": 8}, "kind 'vq' has dim 0, expected some"),
        ({"kind": "vq", "dim": 8}, "kind 'vq' has codes 0, expected some"),
        ({"kind": "fsq", "levels": [5, 4], "codes": 20}, "has codes 20, expected none"),
        ({"kind": "fsq"}, r"has levels \(\), expected some"),
        ({"kind": "fsq", "levels": [5, 2]}, r"levels are \[5, 2\], expected at least 3 each"),
        ({"kind": "fsq", "levels": [5, 1], "depth": 2}, "expected at least 2 each"),
        (
            {"kind": "fsq", "levels": [4] * 16},
            "codebook of 4,294,967,296 codes, expected 2 to 1,04",
        ),
        ({"kind": "lfq", "codes": 24}, "lfq has 24 codes, expected a power of two"),
        ({"kind": "bsq", "codes": 16, "depth": 2}, "no residual form"),
        ({"kind": "simvq", "codes": 8, "dim": 2, "depth": 0}, "depth 0 and 1 groups"),
        ({"kind": "vq", "codes": 8, "dim": 2, "size": 3}, "unknown entry size; expected some of"),
        (["vq"], "quantizer holds list, expected a mapping"),
    ],
)
def test_settings_that_cannot_be_are_refused(entries, reason):
    with pytest.raises(ValueError, match=reason):
        QuantizerConfig.parse(entries)


def test_settings_of_another_type_are_refused():
    with pytest.raises(TypeError, match="expected integers"):
        QuantizerConfig("vq", codes=8.0, dim=2)
