"""The draw: exact at the sizes of published vocabularies, whatever the noise and the parameters."""

from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chisquare

from unified.engine.sampler import Guidance, SpanSampling, choose, distribution, draw, guide
from unified.engine.speculative import Drafter, DraftToken

SIZES = (1_920, 32_768, 152_000)
CUTS = {
    "none": SpanSampling(0.9),
    "top-k": SpanSampling(0.9, top_k=700),
    "top-p": SpanSampling(0.9, top_p=0.8),
    "min-p": SpanSampling(0.9, min_p=0.01),
    "all": SpanSampling(0.7, top_k=900, top_p=0.95, min_p=0.002),
}


def some_logits(size, seed=0):
    """Like a model's: a few likely columns, in no order, among many that are not."""
    return (np.random.default_rng(seed).standard_normal(size) * 2.5 - 3).astype(np.float32)


def exact(logits, sampling):
    """The probabilities in float64, cut after cut, by plain definitions."""
    scores = logits.astype(np.float64) / sampling.temperature
    weights = np.exp(scores - scores.max())
    if sampling.top_k is not None:
        weights[weights < np.sort(weights)[-min(sampling.top_k, len(weights))]] = 0
    if sampling.top_p < 1:
        order = np.argsort(-weights, kind="stable")
        before = np.cumsum(weights[order]) - weights[order]
        weights[order[before >= sampling.top_p * weights.sum()]] = 0
    weights[weights < sampling.min_p] = 0
    return weights / weights.sum()


def fits(columns, chances, bins=25):
    """Chi-squared over bins of about the same probability; nothing of probability 0 came."""
    assert (chances[columns] > 0).all()
    order = np.argsort(-chances)
    edges = np.searchsorted(np.cumsum(chances[order]), np.arange(1, bins) / bins) + 1
    edges = np.unique([0, *edges, len(chances)])
    rank = np.empty(len(chances), np.int64)
    rank[order] = np.arange(len(chances))
    seen = np.histogram(rank[columns], edges)[0]
    wanted = np.array([chances[order[a:b]].sum() for a, b in pairwise(edges)]) * len(columns)
    assert (wanted[:-1] > 5).all()
    if wanted[-1] <= 5:
        seen, wanted = ([*each[:-2], each[-2] + each[-1]] for each in (seen, wanted))
    assert chisquare(seen, np.array(wanted) * (sum(seen) / sum(wanted))).pvalue > 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cut", CUTS)
def test_choices_have_the_exact_distribution(size, cut):
    logits, rng = some_logits(size), np.random.default_rng(1)
    rows = 100
    tiled = np.tile(logits, (rows, 1))
    number = 5 if size > 100_000 else 20
    columns = [choose(tiled, CUTS[cut], [rng] * rows) for _ in range(number)]
    fits(np.concatenate(columns), exact(logits, CUTS[cut]))


@pytest.mark.parametrize("size", [1, 3, 255, 256, 257, 512, 513, *SIZES, 300_000])
def test_a_draw_has_the_distribution_of_its_weights(size):
    """Many more draws: of a flat half, of a few likely ones, and of columns of weight 0."""
    rng = np.random.default_rng(2)
    weights = np.exp(some_logits(size, 3))
    weights[rng.random(size) < 0.3] = 0
    weights[size // 2 :] = weights[size // 2 :].mean()
    weights[-1] = max(weights.max(), 1.0)
    rows = 20 if size > 10_000 else 200
    tiled = np.tile(weights, (rows, 1))
    columns = np.concatenate([draw(tiled, [rng] * rows) for _ in range(3_000 // rows)])
    if size > 3:
        fits(columns, weights.astype(np.float64) / weights.sum(dtype=np.float64))
    assert (weights[columns] > 0).all()


def test_a_million_draws_hold_no_column_below_e_to_the_minus_30():
    """At 300 columns, all but a few of them 31 to 60 nats below the best; then with those cut."""
    rng, rows, size = np.random.default_rng(4), 10_000, 300
    logits = -rng.uniform(31, 60, size).astype(np.float32)
    likely = [5, 200, 299]
    logits[likely] = [0, -1, -0.5]
    for sampling in (SpanSampling(1.0), SpanSampling(1.0, min_p=1e-15)):
        tiled = np.tile(logits, (rows, 1))
        weights = distribution(tiled, sampling)
        seen = np.zeros(size, np.int64)
        for _ in range(50):
            seen += np.bincount(draw(weights, [rng] * rows), minlength=size)
        assert seen.sum() == 500_000
        assert set(np.flatnonzero(seen)) == set(likely)


class Mocked(np.random.Generator):
    """A generator whose noise is one number, or one of several in turn."""

    def __init__(self, *values):
        super().__init__(np.random.PCG64(0))
        self.values = values

    def standard_exponential(self, size=None, dtype=np.float64, *_, **__):
        return np.resize(np.array(self.values, dtype), size)

    def random(self, size=None, dtype=np.float64, *_, **__):
        return min(max(self.values[0], 0.0), np.nextafter(1.0, 0.0))


SMALL, LARGE = np.finfo(np.float64).smallest_subnormal, np.finfo(np.float64).max
EXTREMES = [(0.0,), (SMALL,), (LARGE,), (0.0, LARGE), (LARGE, SMALL), (0.0, 1.0), (1.0, LARGE)]


@pytest.mark.parametrize("noise", EXTREMES)
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("size", [2, 1_920, 32_768])
def test_noise_at_its_extremes_gives_a_legal_choice(noise, cut, size):
    logits = some_logits(size)
    logits[::2] = -np.inf
    chances = exact(logits, CUTS[cut])
    tiled = np.tile(logits, (3, 1))
    for column in choose(tiled, CUTS[cut], [Mocked(*noise) for _ in range(3)]):
        assert chances[column] > 0


@pytest.mark.parametrize("noise", EXTREMES)
@pytest.mark.parametrize("size", [2, 1_920, 32_768])
def test_noise_at_its_extremes_gives_legal_drafts(noise, size):
    """A draft that the decoder rules out now is never kept, and another legal one drawn."""
    rng, ranges = np.random.default_rng(7), ((10, 10 + size),)
    sampling = SpanSampling(1.0, top_k=max(1, size // 3))
    before, now, after = (distribution(some_logits(size, s)[None], sampling)[0] for s in range(3))
    for drafted in rng.choice(np.flatnonzero(before), 5):
        drafter = Drafter(
            tokens=[DraftToken(10 + int(drafted), ranges, before)], next_ranges=ranges
        )
        chosen, accepted = drafter.verify({0: now, 1: after}, Mocked(*noise))
        assert now[chosen[0] - 10] > 0
        assert all(after[id - 10] > 0 for id in chosen[1:])
        assert accepted == ([10 + drafted] if len(chosen) == 2 else [])


@pytest.mark.parametrize("size", SIZES)
def test_what_drafts_settle_has_the_exact_distribution(size):
    """A draft by one distribution, verified by another: the outcome is drawn by the other. Some
    columns have probability 0 before, some now."""
    rng, ranges = np.random.default_rng(8), ((0, size),)
    before = distribution(some_logits(size, 0)[None], SpanSampling(1.0, top_k=size // 2))[0]
    mixed = 0.6 * some_logits(size, 0) + 0.4 * some_logits(size, 1)
    now = distribution(mixed[None], SpanSampling(1.0, top_k=size // 2))[0]
    settled = []
    for _ in range(2_000 if size < 100_000 else 1_000):
        (drafted,) = draw(before[None], [rng])
        chosen, _ = Drafter(tokens=[DraftToken(drafted, ranges, before)]).verify({0: now}, rng)
        settled.append(chosen[0])
    fits(np.array(settled), now.astype(np.float64) / now.sum(dtype=np.float64))


@pytest.mark.parametrize("size", [7, 600, 152_000])
def test_extreme_parameters_choose_what_they_say(size):
    logits, generator = some_logits(size), np.random.default_rng(0)
    best = int(logits.argmax())

    def chosen(sampling, number=20):
        return set(choose(np.tile(logits, (number, 1)), sampling, [generator] * number))

    for sampling in (
        SpanSampling(1e-6),
        SpanSampling(1e6, top_k=1),
        SpanSampling(1e6, top_p=1e-50),
        SpanSampling(1e6, top_p=5e-324),
        SpanSampling(1.0, min_p=1.0),
        SpanSampling(1e-6, top_k=10**9, top_p=1 - 1e-16, min_p=5e-324),
    ):
        assert chosen(sampling) == {best}
    assert len(chosen(SpanSampling(1e6, top_k=10**9), 60)) > min(size - 1, 50)


@pytest.mark.parametrize("size", [2, 900, 32_768])
def test_equal_logits_are_equally_likely_and_ties_at_a_cut_stay(size):
    flat, rng = np.full((40, size), -7e37, np.float32), np.random.default_rng(0)
    for sampling in (SpanSampling(1e-6), SpanSampling(1.0, top_k=1), SpanSampling(1.0, top_p=0.3)):
        np.testing.assert_allclose(distribution(flat, sampling), 1 / size, rtol=1e-5)
        columns = np.concatenate([choose(flat, sampling, [rng] * 40) for _ in range(10)])
        halves = np.bincount(columns >= size // 2)
        assert abs(halves[0] - 200) < 60


def test_columns_that_the_decoder_rules_out_are_never_chosen():
    logits = np.full((50, 5_000), -np.inf, np.float32)
    logits[:, 4_321] = -3e37
    logits[:, 17] = -3e37
    rng = np.random.default_rng(0)
    assert set(choose(logits, SpanSampling(1.0), [rng] * 50)) == {17, 4_321}
    assert set(choose(logits, SpanSampling(), [rng] * 50)) == {17}
    guided = guide(Guidance(3.0), logits, {"unconditional": np.zeros_like(logits)})
    assert (np.isneginf(guided) == np.isneginf(logits)).all()
    other = guide(Guidance(3.0), np.zeros_like(logits), {"unconditional": logits})
    assert np.isfinite(other).all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [[0, np.nan], [0, np.inf], [-np.inf, -np.inf]])
def test_logits_that_are_no_numbers_are_refused(temperature, bad):
    """Even where a cut would leave them out, and in one row of several."""
    logits = np.zeros((3, 2_000), np.float32)
    logits[1] = bad[0]
    logits[1, 777] = bad[1]
    sampling = SpanSampling(temperature, top_k=3)
    for ask in (
        lambda: choose(logits, sampling, [np.random.default_rng(0)] * 3),
        lambda: distribution(logits, sampling),
    ):
        with pytest.raises(ValueError, match="not numbers; its weights are damaged"):
            ask()


def test_a_row_chooses_alone_what_it_chooses_in_any_batch():
    rng = np.random.default_rng(5)
    logits = (rng.standard_normal((7, 32_768)) * 3).astype(np.float32)
    for sampling in CUTS.values():
        together = choose(logits, sampling, [np.random.default_rng(s) for s in range(7)])
        alone = [
            choose(logits[s : s + 1], sampling, [np.random.default_rng(s)])[0] for s in range(7)
        ]
        assert together == alone
