"""The draw: exact at the sizes of published vocabularies, whatever the noise and the parameters."""

from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from scipy.stats import chi2_contingency, chisquare

from unified.engine.noise import Noise
from unified.engine.race import draw
from unified.engine.sampler import (
    ChoiceGroup,
    Guidance,
    SpanSampling,
    choose,
    choose_groups,
    choose_with_margins,
    guide,
)

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
    columns = [choose(tiled, CUTS[cut], [rng.standard_exponential] * rows) for _ in range(number)]
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
    columns = np.concatenate(
        [draw(tiled, [rng.standard_exponential] * rows) for _ in range(3_000 // rows)]
    )
    if size > 3:
        fits(columns, weights.astype(np.float64) / weights.sum(dtype=np.float64))
    assert (weights[columns] > 0).all()


@pytest.mark.slow
def test_a_million_draws_hold_no_column_below_e_to_the_minus_30():
    """At 300 columns, all but a few of them 31 to 60 nats below the best; then with those cut."""
    rng, rows, size = np.random.default_rng(4), 10_000, 300
    logits = -rng.uniform(31, 60, size).astype(np.float32)
    likely = [5, 200, 299]
    logits[likely] = [0, -1, -0.5]
    weights = np.exp(logits)
    for least in (0, 1e-15):
        tiled = np.tile(np.where(weights < least, 0, weights), (rows, 1))
        seen = np.zeros(size, np.int64)
        for _ in range(50):
            seen += np.bincount(draw(tiled, [rng.standard_exponential] * rows), minlength=size)
        assert seen.sum() == 500_000
        assert set(np.flatnonzero(seen)) == set(likely)


def extreme(*values):
    """Noise that is one number, or several in turn."""
    return lambda number: np.resize(np.array(values), number)


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
    for column in choose(tiled, CUTS[cut], [extreme(*noise)] * 3):
        assert chances[column] > 0


@pytest.mark.parametrize("size", [7, 600, 152_000])
def test_extreme_parameters_choose_what_they_say(size):
    logits, rng = some_logits(size), np.random.default_rng(0)
    best = int(logits.argmax())

    def chosen(sampling, number=20):
        tiled = np.tile(logits, (number, 1))
        return set(choose(tiled, sampling, [rng.standard_exponential] * number))

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
        columns = np.concatenate(
            [choose(flat, sampling, [rng.standard_exponential] * 40) for _ in range(10)]
        )
        halves = np.bincount(columns >= size // 2)
        assert abs(halves[0] - 200) < 60


def test_columns_that_the_decoder_rules_out_are_never_chosen():
    logits = np.full((50, 5_000), -np.inf, np.float32)
    logits[:, 4_321] = -3e37
    logits[:, 17] = -3e37
    rng = np.random.default_rng(0)
    assert set(choose(logits, SpanSampling(1.0), [rng.standard_exponential] * 50)) == {17, 4_321}
    assert set(choose(logits, SpanSampling(), [rng.standard_exponential] * 50)) == {17}
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
    for ask in (choose, choose_with_margins):
        with pytest.raises(ValueError, match="not numbers; its weights are damaged"):
            ask(logits, sampling, [np.random.default_rng(0).standard_exponential] * 3)


def test_a_row_chooses_alone_what_it_chooses_in_any_batch():
    rng = np.random.default_rng(5)
    logits = (rng.standard_normal((7, 32_768)) * 3).astype(np.float32)
    for sampling in CUTS.values():
        noise = [partial(Noise(seed).exponential, 5) for seed in range(7)]
        together = choose(logits, sampling, noise)
        alone = [choose(logits[s : s + 1], sampling, noise[s : s + 1])[0] for s in range(7)]
        assert together == alone


def test_groups_choose_together_what_each_chooses_alone():
    """Of more and fewer columns than a block, with and without margins; one of them damaged."""
    rng = np.random.default_rng(6)
    groups = []
    for number, (rows, size) in enumerate([(3, 1_920), (2, 200), (4, 5_000), (1, 257), (2, 2)]):
        logits = (rng.standard_normal((rows, size)) * 3).astype(np.float32)
        noise = [partial(Noise(number).exponential, row) for row in range(rows)]
        for sampling in (SpanSampling(0.8, top_k=40), SpanSampling()):
            groups.append(ChoiceGroup(logits, sampling, noise, margins=number % 2 == 0))
    damaged = ChoiceGroup(np.full((2, 300), np.nan, np.float32), SpanSampling(1.0), [None, None])
    *chosen, error = choose_groups([*groups, damaged])
    assert isinstance(error, ValueError)
    for (columns, margins), group in zip(chosen, groups):
        alone, own_margins = choose_with_margins(*group[:3])
        assert columns == alone
        if group.margins:
            np.testing.assert_array_equal(margins, own_margins)


def drawn(logits, sampling, seeds, positions):
    """A column for each seed at each position, with the noise of requests."""
    noises = [partial(Noise(seed).exponential, at) for seed in seeds for at in positions]
    columns = []
    for start in range(0, len(noises), 50):
        part = noises[start : start + 50]
        columns += choose(np.tile(logits, (len(part), 1)), sampling, part)
    return np.array(columns)


@pytest.mark.parametrize("size", [1_024, 8_192, 150_000])
@pytest.mark.parametrize("cut", ["none", "all"])
def test_the_noise_of_requests_gives_the_exact_distribution(size, cut):
    """Over the positions of one request, and over requests at one position."""
    logits = some_logits(size, 6)
    number = 500 if size > 100_000 else 1_500
    expected = exact(logits, CUTS[cut])
    fits(drawn(logits, CUTS[cut], [11], range(number)), expected)
    fits(drawn(logits, CUTS[cut], range(number), [400]), expected)


def test_choices_at_neighbouring_positions_and_seeds_are_independent():
    """Chi-squared over pairs of choices among four columns, and among 700 in three blocks."""
    for logits in (np.log(np.array([0.4, 0.3, 0.2, 0.1], np.float32)), some_logits(700, 1)):
        columns = drawn(logits, SpanSampling(1.0), range(60), range(80)).reshape(60, 80)
        if logits.size > 4:
            columns = np.argsort(np.argsort(-logits))[columns].clip(max=60) // 16
        for first, second in (
            (columns[:, :-1], columns[:, 1:]),
            (columns[:-1], columns[1:]),
            (columns[:-2], columns[2:]),
        ):
            pairs = np.zeros((4, 4))
            np.add.at(pairs, (first.ravel(), second.ravel()), 1)
            assert pairs.min() > 5
            assert chi2_contingency(pairs).pvalue > 1e-3


def test_noise_is_that_of_its_position_in_any_order():
    noise = Noise(3)
    forwards = [noise.exponential(at, 5) for at in range(9)]
    backwards = [noise.exponential(at, 12)[:5] for at in reversed(range(9))][::-1]
    np.testing.assert_array_equal(forwards, backwards)
    assert len(np.unique(forwards)) == 45
    assert not np.isin(Noise(4).exponential(0, 5), forwards).any()
    assert (Noise(2**63 - 1).exponential(2**31, 3) != noise.exponential(2**31, 3)).all()


@pytest.mark.parametrize("size", [2, 200, 256, 257, 1_920, 40_000])
@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0])
def test_a_choice_stays_while_logits_change_by_less_than_its_margin(size, temperature):
    rng, sampling = np.random.default_rng(9), SpanSampling(temperature)
    logits = np.stack([some_logits(size, seed) for seed in range(40)])
    noise = [partial(Noise(seed).exponential, 0) for seed in range(40)]
    columns, margins = choose_with_margins(logits, sampling, noise)
    assert columns == choose(logits, sampling, noise)
    assert (margins >= 0).all()
    most = margins[:, None] * (temperature or 1) / 2
    shift = rng.uniform(-1, 1, logits.shape) * most * 0.999
    assert choose((logits + shift).astype(np.float32), sampling, noise) == columns
    if size <= 256:  # in one race
        logits[np.arange(40), columns] -= most[:, 0] * 2.002 + 1e-3
        assert all(a != b for a, b in zip(choose(logits, sampling, noise), columns))
