"""Shares of the ids, nested, from the first stream to the last source that goes on."""

import numpy as np
import pytest

from unified.dataloading.mixing import Mixture
from unified.dataloading.source import Source

SOURCES = {
    "articles": Source(shards=("a.tar",), share=3),
    "speech": Source(
        share=1,
        sources={
            "say": Source(shards=("s.tar",), share=0.2),
            "hear": Source(
                share=0.8,
                sources={"far": Source(shards=("f.tar",)), "near": Source(shards=("n.tar",))},
            ),
        },
    ),
}
SHARES = {"articles": 0.75, "speech/say": 0.05, "speech/hear/far": 0.1, "speech/hear/near": 0.1}
SIZES = {"articles": 900, "speech/say": 30, "speech/hear/far": 200, "speech/hear/near": 90}


def served(mixture: Mixture, number: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    names = []
    for _ in range(number):
        name = mixture.next()
        assert name is not None
        mixture.serve(name, int(rng.integers(1, 2 * SIZES[name])))
        names.append(name)
    return names


def test_every_source_comes_to_its_share_of_the_ids_at_every_level():
    mixture = Mixture(SOURCES, seed=1, stream=0)
    served(mixture, 3000)
    total = sum(mixture.served.values())
    for name, share in SHARES.items():
        # No source is ahead or behind by more than two documents.
        assert abs(mixture.served[name] - share * total) < 4 * max(SIZES.values())
        assert mixture.served[name] / total == pytest.approx(share, abs=0.005)


def test_lanes_begin_with_different_sources_and_each_the_same_again():
    first = [served(Mixture(SOURCES, 1, stream), 20) for stream in range(12)]
    assert len({tuple(names[:4]) for names in first}) > 3
    assert first == [served(Mixture(SOURCES, 1, stream), 20) for stream in range(12)]
    assert first != [served(Mixture(SOURCES, 2, stream), 20) for stream in range(12)]


def test_a_source_that_has_ended_leaves_its_share_to_those_beside_it():
    mixture = Mixture(SOURCES, 1, 0)
    served(mixture, 100)
    mixture.end("speech/hear/far")
    before = mixture.served
    served(mixture, 3000)
    gained = {name: mixture.served[name] - before[name] for name in SHARES}
    total = sum(gained.values())
    assert gained["speech/hear/far"] == 0
    assert gained["articles"] / total == pytest.approx(0.75, abs=0.01)
    assert gained["speech/hear/near"] / total == pytest.approx(0.2, abs=0.01)


def test_a_group_ends_with_its_last_source_and_all_with_the_last_group():
    mixture = Mixture(SOURCES, 1, 0)
    for name in ("speech/hear/far", "speech/say", "speech/hear/near"):
        mixture.end(name)
    assert {mixture.next() for _ in range(5)} == {"articles"}
    mixture.end("articles")
    assert mixture.next() is None
