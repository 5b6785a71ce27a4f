"""The world's pictures: styles, colours, grounds, tints, writing, and what is painted where."""

import colorsys

import numpy as np
import pytest
from PIL import Image

from unified_data.pocket.subjects import load_subjects
from unified_data.world.colours import (
    COLOURS,
    TINTS,
    clear_colour,
    colour_name,
    nearest_colour,
    sample_colour,
)
from unified_data.world.composing import KINDS_OF_SCENE, compose_scene
from unified_data.world.free_scene import FreeScene, Lettering, Thing
from unified_data.world.glyphs import TILE, body_of, stranger_tile, styles_folder, styles_of, tile
from unified_data.world.ground import GROUND_NAMES, PATTERNS, Ground, paint_ground, random_ground
from unified_data.world.lettering import LETTERS, writing_mask
from unified_data.world.painting import SIDE, paint
from unified_data.world.style_names import (
    HELD_OUT_STYLE,
    STRANGERS,
    STYLES,
    TRAIN_STYLES,
    WHOLE_STYLES,
)
from unified_data.world.unknowns import TEXTURES, paint_unknown, strangers_of
from unified_data.world.wear import worn

GREY = Ground("plain", (120, 120, 120))


def alone(name="fox", style="noto", x=0.5, y=0.5, scale=0.5, ground=GREY, shadow=0.0, **rest):
    return FreeScene((Thing(name, style, x, y, scale, **rest),), ground, None, shadow)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_draws_its_subjects_and_none_like_another(style):
    names = [s.name for s in load_subjects() if style in styles_of(s.name)]
    pictures = [np.asarray(tile(name, style)) for name in names]
    if style in WHOLE_STYLES:
        assert len(names) == len(load_subjects())
        pictures += [np.asarray(stranger_tile(number, style)) for number in range(len(STRANGERS))]
    assert len(names) > 200
    assert all(picture.shape == (TILE, TILE, 4) for picture in pictures)
    assert all((picture[..., 3] > 128).mean() > 0.06 for picture in pictures)
    small = [
        np.asarray(Image.fromarray(picture).resize((8, 8))).astype(int).ravel()
        for picture in pictures
    ]
    away = np.abs(np.array(small)[:, None] - np.array(small)[None]).mean(-1)
    assert (away + 99 * np.eye(len(small))).min() > 4


def test_the_styles_differ_from_each_other_and_are_small_files():
    for subject in load_subjects()[::17]:
        first, *others = (
            np.asarray(tile(subject.name, style)).astype(int) for style in styles_of(subject.name)
        )
        assert all(np.abs(first - other).mean() > 5 for other in others)
    sizes = [path.stat().st_size for path in styles_folder().iterdir()]
    assert max(sizes) < 800_000
    assert HELD_OUT_STYLE not in TRAIN_STYLES
    assert {*TRAIN_STYLES, HELD_OUT_STYLE} == {*STYLES}
    assert HELD_OUT_STYLE in WHOLE_STYLES


@pytest.mark.parametrize("name", COLOURS)
def test_a_colour_of_a_name_is_called_by_it(name):
    rng = np.random.default_rng(1)
    colours = [sample_colour(rng, name) for _ in range(200)]
    assert {colour_name(colour) for colour in colours} == {name}
    assert len(set(colours)) > 20
    assert nearest_colour(TINTS[name]) == name


def test_a_colour_of_no_name_is_called_nothing():
    rng = np.random.default_rng(1)
    colours = [sample_colour(rng, None) for _ in range(300)]
    assert {colour_name(colour) for colour in colours} == {None}
    assert np.ptp([colorsys.rgb_to_hsv(*colour)[0] for colour in colours]) > 0.9
    with pytest.raises(ValueError, match="colour 'teal' has no name here, expected one of white"):
        sample_colour(rng, "teal")


def test_what_people_would_call_otherwise_is_not_clear():
    assert clear_colour((220, 20, 20)) == "red"
    assert clear_colour((235, 90, 20)) is None  # red or orange
    assert clear_colour((60, 60, 200)) == "blue"


@pytest.mark.parametrize("name", [*GROUND_NAMES, None])
def test_a_ground_of_a_name_is_called_by_it_and_painted_in_its_colours(name):
    rng = np.random.default_rng(2)
    kinds = set()
    for _ in range(30):
        ground = random_ground(rng, name)
        assert ground.name == name
        kinds.add(ground.kind)
        painted = paint_ground(ground, 24)
        low, high = (np.array(end) for end in
                     (np.min(ground.colours, 0), np.max(ground.colours, 0)))  # fmt: skip
        assert (painted >= low - 0.51).all()
        assert (painted <= high + 0.51).all()
    assert kinds == ({name} if name in PATTERNS else {"plain", "gradient", "cloudy"})


def test_a_ground_is_the_same_picture_at_other_sizes():
    rng = np.random.default_rng(3)
    for name in (*PATTERNS, "blue", None, None):
        ground = random_ground(rng, name)
        large = Image.fromarray(paint_ground(ground, 192).astype(np.uint8))
        small = paint_ground(ground, 96)
        away = np.abs(np.asarray(large.resize((96, 96), Image.Resampling.BOX)) - small)
        assert away.mean() < 4, ground


@pytest.mark.parametrize("style", TRAIN_STYLES)
def test_a_tint_becomes_the_main_colour(style):
    tinted = [
        s.name
        for s in load_subjects()
        if style in styles_of(s.name) and body_of(s.name, style) is not None
    ]
    assert len(tinted) > 60
    for name in tinted:
        plain = np.asarray(tile(name, style)).astype(int)
        body = body_of(name, style).weight * plain[..., 3] / 255
        for tint in ("red", "blue", "white", "black"):
            picture = np.asarray(tile(name, style, tint)).astype(int)
            assert (picture[..., 3] == plain[..., 3]).all()
            mean = (picture[..., :3] * body[..., None]).sum((0, 1)) / body.sum()
            away = {each: np.abs(mean - TINTS[each]).sum() for each in ("red", "blue", "white",
                                                                        "black")}  # fmt: skip
            assert min(away, key=away.get) == tint, (name, tint, mean)
            outside = (body_of(name, style).weight == 0) & (plain[..., 3] == 255)
            assert (picture == plain)[outside].all()


def test_what_has_no_main_colour_is_not_tinted():
    assert body_of("pizza", "noto") is None
    with pytest.raises(ValueError, match="'pizza' in style 'noto' cannot be made 'blue'"):
        tile("pizza", "noto", "blue")
    with pytest.raises(ValueError, match="no glyph of 'unicorn'"):
        tile("unicorn", "noto")
    with pytest.raises(ValueError, match="no thing 'fox' in style 'crayon'"):
        Thing("fox", "crayon", 0.5, 0.5, 0.5)


@pytest.mark.parametrize(("x", "y", "scale"), [(0.3, 0.7, 0.4), (0.71, 0.26, 0.5), (0.5, 0.5, 1)])
def test_a_thing_is_painted_where_it_is_and_nowhere_else(x, y, scale):
    changed = np.abs(paint(alone(x=x, y=y, scale=scale)).astype(int) - 120).max(-1) > 8
    rows, columns = np.nonzero(changed)
    for lines, centre in ((columns, x), (rows, y)):
        assert lines.min() >= (centre - scale / 2) * SIDE - 1.01
        assert lines.max() <= (centre + scale / 2) * SIDE + 0.01
    # A fox's head fills its square from side to side.
    assert np.ptp(columns) > 0.95 * scale * SIDE - 2


def test_a_place_between_pixels_is_kept():
    still = paint(alone(x=0.5)).astype(float)
    moved = paint(alone(x=0.5 + 1 / SIDE)).astype(float)
    half = paint(alone(x=0.5 + 0.5 / SIDE)).astype(float)
    np.testing.assert_allclose(moved[:, 1:], still[:, :-1], atol=1)
    assert np.abs(half - (still + moved) / 2).mean() < 1.5


def test_mirroring_and_turning():
    scene = alone("dolphin", scale=0.6)
    mirrored = alone("dolphin", scale=0.6, mirrored=True)
    np.testing.assert_allclose(paint(mirrored)[:, ::-1].astype(int), paint(scene), atol=2)
    turned = paint(alone("key", scale=0.6, turn=12)).astype(int)
    plain = Image.fromarray(paint(alone("key", scale=0.6)))
    # Pillow turns counter-clockwise, too.
    away = [
        np.abs(turned - np.asarray(plain.rotate(angle, Image.Resampling.BICUBIC)))[
            12:84, 12:84
        ].mean()
        for angle in (12, 0, -12)
    ]
    assert away[0] < 2
    assert min(away[1:]) > 5


def test_a_picture_of_another_size_shows_the_same():
    rng = np.random.default_rng(4)
    for kind in KINDS_OF_SCENE:
        scene = compose_scene(rng, kind)
        large = paint(scene, 192)
        assert large.shape == (192, 192, 3)
        small = np.asarray(Image.fromarray(large).resize((SIDE, SIDE), Image.Resampling.BOX))
        assert np.abs(small.astype(int) - paint(scene)).mean() < 5
    with pytest.raises(ValueError, match="side 4 is out of range, expected 8 to 1024"):
        paint(scene, 4)


def test_a_shadow_darkens_the_ground_below_and_to_the_right():
    bare, shaded = paint(alone()).astype(int), paint(alone(shadow=0.5)).astype(int)
    darker = (bare - shaded).max(-1) > 10
    assert not (shaded > bare + 1).any()
    rows, columns = np.nonzero(darker)
    assert rows.mean() > 52
    assert columns.mean() > 50


def test_every_thing_of_a_scene_can_be_seen():
    """Judged by painting each scene without one of its things."""
    rng = np.random.default_rng(5)
    for number in range(60):
        kind = ("single", "small", "two", "counted", "mixed")[number % 5]
        scene = compose_scene(rng, kind)
        whole = paint(scene).astype(int)
        for index, thing in enumerate(scene.things):
            rest = scene.things[:index] + scene.things[index + 1 :]
            without = paint(FreeScene(rest, scene.ground, None, scene.shadow)).astype(int)
            covered = (np.abs(whole - without).max(-1) > 40).sum()
            painted = (np.asarray(tile(thing.name, thing.style))[..., 3] > 128).mean()
            assert covered > 0.3 * painted * (thing.scale * SIDE) ** 2, (thing, scene.ground)


def test_writing_has_its_letters_and_can_be_read():
    masks = {letter: np.asarray(writing_mask(letter)).tobytes() for letter in LETTERS}
    assert len(set(masks.values())) == 36
    word = np.asarray(writing_mask("AB"))
    np.testing.assert_array_equal(word[:, :5], np.asarray(writing_mask("A")))
    np.testing.assert_array_equal(word[:, 6:], np.asarray(writing_mask("B")))
    scene = FreeScene((), Ground(), Lettering("I", 0.5, 0.5, 0.5, (10, 20, 30)))
    dark = (paint(scene) == (10, 20, 30)).all(-1)
    assert dark[:, SIDE // 2].sum() > 40  # the upright stroke
    for text in ("", "toad", "TOOLONG", "É"):
        with pytest.raises(ValueError, match="cannot be written"):
            Lettering(text, 0.5, 0.5, 0.1, (0, 0, 0))


def test_what_is_cut_off_or_too_much_is_refused():
    with pytest.raises(ValueError, match="cut off"):
        Thing("fox", "noto", 0.1, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"scale 1\.2"):
        Thing("fox", "noto", 0.5, 0.5, 1.2)
    with pytest.raises(ValueError, match="5 things, expected 4 or less"):
        FreeScene((Thing("fox", "noto", 0.5, 0.5, 0.2),) * 5)


def test_unknown_pictures_are_kept_apart_by_split():
    sets = [set(strangers_of(split)) for split in ("train", "steer", "heldout")]
    assert sorted(number for numbers in sets for number in numbers) == [*range(len(STRANGERS))]
    assert len(sets[0]) > 30
    assert sets[1]
    assert sets[2]
    for texture in TEXTURES.values():
        canvas = texture(np.random.default_rng(0), 33)
        assert canvas.shape == (33, 33, 3)
        assert canvas.min() >= -1
        assert canvas.max() <= 256
        assert canvas.std() > 10
    pictures = [paint_unknown(np.random.default_rng(seed), "heldout") for seed in range(20)]
    assert len({picture.tobytes() for picture in pictures}) == 20


def test_wear_leaves_half_as_they_are_and_the_rest_recognisable():
    scene = compose_scene(np.random.default_rng(0), "two")
    pixels = paint(scene)
    results = [worn(pixels, np.random.default_rng(seed)) for seed in range(80)]
    same = sum(np.array_equal(result, pixels) for result in results)
    assert 30 < same < 60
    assert max(np.abs(result.astype(int) - pixels).mean() for result in results) < 32
