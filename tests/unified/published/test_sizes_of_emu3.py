"""The sizes that Emu3 draws are those of transformers' own processor, whatever the proportion."""

import pytest
import transformers

from unified.tasks.size_rule import SizeRule

AREA, STRIDE = 720 * 720, 8
RATIOS = ["1:1", "4:3", "3:4", "16:9", "9:16", "3:2", "2:3", "21:9", "9:21", "5:4", "100:1"]
calculate = transformers.Emu3Processor.calculate_generate_size


def processors_size(ratio, area=AREA, stride=STRIDE):
    """Width and height in pixels; the processor works out both in codes."""
    rows, columns = calculate(None, ratio, area, stride)
    return columns * stride, rows * stride


@pytest.mark.parametrize("ratio", RATIOS)
def test_the_authors_ratios_can_be_had(ratio):
    rule = SizeRule((720, 720), multiple_of=STRIDE, max_area=AREA)
    size = processors_size(ratio)
    assert rule.choose(size) == size
    assert rule.nearest(size) == size
    # From a larger picture of the same proportion, by the processor's arithmetic.
    width, height = map(int, ratio.split(":"))
    assert rule.nearest((width * 720, height * 720)) == size


def test_a_size_above_the_area_by_rounding_alone_is_allowed_and_the_next_is_not():
    rule = SizeRule((720, 720), multiple_of=STRIDE, max_area=AREA)
    assert processors_size("16:9") == (960, 544)
    assert AREA < 960 * 544
    assert rule.choose("960x544") == (960, 544)
    with pytest.raises(ValueError, match="at most 518,400 pixels before sides are rounded"):
        rule.choose("968x544")
    exact = SizeRule(max_area=100)
    assert exact.choose("10x10") == (10, 10)
    with pytest.raises(ValueError, match="at most 100 pixels; the nearest is"):
        exact.choose("11x10")


@pytest.mark.parametrize("ratio", RATIOS)
def test_a_least_area_is_before_rounding_too(ratio):
    rule = SizeRule(multiple_of=STRIDE, min_area=AREA)
    size = processors_size(ratio)
    assert rule.choose(size) == size
    with pytest.raises(ValueError, match="at least 518,400 pixels before sides are rounded"):
        rule.choose("704x704")


@pytest.mark.parametrize("ratio", RATIOS)
def test_emu3_draws_every_ratio(ratio, opened):
    """The tiny codec has fewer pixels a code than the published one; its area is as much less."""
    model = opened["emu3"]
    rule = model.tasks.task("draw").size
    width, height = processors_size(ratio, rule.max_area, rule.multiple_of)
    request = model.request("draw", text="a fox", size=(width, height))
    slot = request.document.segments[-1]
    assert (slot.width, slot.height) == (width, height)
