"""Location ids: places to the cells of a grid and back."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from unified_tokenizers import load_tokenizer
from unified_tokenizers.base import MediaTokenizer
from unified_tokenizers.locations import LocationTokenizer


@given(st.integers(1, 50), st.data())
def test_the_place_of_codes_has_these_codes_again(bins, data):
    code = st.integers(0, bins - 1)
    across, down = (sorted(data.draw(st.tuples(code, code))) for _ in range(2))
    codes = [across[0], down[0], across[1], down[1]]
    boxes = LocationTokenizer("box", bins)
    assert boxes.quantise(boxes.dequantise(codes), bins, bins).tolist() == codes
    points = LocationTokenizer("point", bins)
    assert points.quantise(points.dequantise(codes[:2]), bins, bins).tolist() == codes[:2]


@given(st.integers(1, 99), st.integers(0, 40), st.data())
def test_with_a_bin_a_pixel_no_edge_moves_by_more_than_half_of_one(side, more, data):
    edge = st.integers(0, side)
    across, down = (
        sorted(data.draw(st.tuples(edge, edge).filter(lambda pair: pair[0] != pair[1])))
        for _ in range(2)
    )
    at = across[0], down[0], across[1], down[1]
    tokenizer = LocationTokenizer("box", side + more)
    back = tokenizer.dequantise(tokenizer.quantise(at, side, side))
    moved = [abs(Fraction(b) * side / tokenizer.bins - a) for a, b in zip(at, back)]
    assert max(moved) <= Fraction(1, 2)
    if not more:
        assert back == at


def test_what_is_thinner_than_a_cell_is_the_cell_of_its_middle():
    tokenizer = LocationTokenizer("box", 10)
    assert tokenizer.quantise((41, 0, 43, 100), 100, 100).tolist() == [4, 0, 4, 9]
    assert tokenizer.quantise((99.9, 0, 100, 4), 100, 100).tolist() == [9, 0, 9, 0]
    # Whatever floats make of a third.
    assert tokenizer.quantise((0.1 * 3, 0, 1, 1), 1, 1).tolist() == [3, 0, 9, 9]


@pytest.mark.parametrize(
    ("kind", "at", "message"),
    [
        ("box", (0, 0, 0, 1), "is empty"),
        ("box", (0, 0, 1.01, 1), "leaves its picture of 1x1"),
        ("box", (-0.01, 0, 1, 1), "leaves its picture"),
        ("box", (0, 0, 1), "has 3 coordinates, expected 4"),
        ("point", (1, 0), "leaves its picture"),
        ("point", (0.5, -0.01), "leaves its picture"),
    ],
)
def test_nothing_is_clamped(kind, at, message):
    with pytest.raises(ValueError, match=message):
        LocationTokenizer(kind, 8).quantise(at, 1, 1)


def test_codes_of_no_place_are_refused():
    boxes = LocationTokenizer("box", 8)
    with pytest.raises(ValueError, match="expected left <= right and top <= bottom"):
        boxes.dequantise([3, 0, 2, 7])
    with pytest.raises(ValueError, match="expected 0 to 7"):
        boxes.dequantise([3, 0, 8, 7])
    with pytest.raises(ValueError, match="has 2 codes, expected 4"):
        boxes.dequantise([3, 0])
    for bins in (0, 1.5, True, 65_537):
        with pytest.raises(ValueError, match=r"bins is .*expected a whole number, 1 to 65,536"):
            LocationTokenizer("box", bins)
    with pytest.raises(ValueError, match="expected 'box' or 'point'"):
        LocationTokenizer("image", 8)


def test_it_is_a_tokenizer_that_saves_and_loads(tmp_path):
    tokenizer = LocationTokenizer("point", 12)
    assert isinstance(tokenizer, MediaTokenizer)
    tokenizer.save_pretrained(tmp_path / "t")
    again = load_tokenizer(tmp_path / "t", "point")
    assert (again.bins, again.fingerprint) == (12, tokenizer.fingerprint)
    assert again.fingerprint != LocationTokenizer("box", 12).fingerprint
    media = torch.tensor([[[3, 11]], [[0, 0]]])
    codes = again.encode(media)
    assert torch.equal(codes.codes, media)
    assert torch.equal(again.decode(codes), media.float())
    assert np.array_equal(again.encode_arrays(media.numpy()), media.numpy())
    (vectors,) = again.code_vectors()
    assert vectors.shape == (12, 16)
    near, far = (vectors[0] - vectors[1]).norm(), (vectors[0] - vectors[7]).norm()
    assert near < far
    (tmp_path / "t" / "config.json").write_text('{"model_type": "locations", "bins": 3}')
    with pytest.raises(ValueError, match="expected model_type, modality and bins"):
        load_tokenizer(tmp_path / "t")
