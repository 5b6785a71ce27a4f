"""Pictures of an index in the place of drawn ones: where they fit better, as learnt and told."""

import json

import numpy as np
import pytest
from small_tower import COLOURS, ENTRIES, fill, run, small_tower, square

from unified import UnifiedModel
from unified.matching.build_index import build_index
from unified.matching.fetch_learning import learn_choice, texts_with_pictures
from unified.matching.fetching import features_of, fetch_pictures, text_of_picture
from unified.matching.media_index import MediaIndex
from unified.matching.tower import Tower
from unified.matching.tower_training import train
from unified_base.images import save_png
from unified_data.document import Document, Image, Text

NOISE = np.random.default_rng(3).integers(0, 255, (24, 40, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A tower, an index of red and green squares, none blue, and pictures that it does not hold."""
    path = tmp_path_factory.mktemp("home")
    fill(path / "data", 19)
    config = run(path / "data", path / "run", steps=60, validate_every=60, tower=ENTRIES["clip"])
    folder = train(config).rename(path / "tower")
    (path / "known").mkdir()
    for at in range(6):
        save_png(path / "known" / f"{at}.png", square(("red", "green")[at % 2], 50 + at))
    build_index(path / "index", [path / "known"], Tower.from_pretrained(folder), str(folder))
    return path


@pytest.fixture
def index(home):
    return MediaIndex.open(home / "index")


def blue(text, number):
    """Whatever is asked for, a blue square is drawn."""
    return square("blue", 400 + number)


def learnt(index, home, number=18):
    pairs = texts_with_pictures([str(home / "data")], number)
    return learn_choice(index, pairs, blue)


def test_it_fetches_where_the_index_had_the_better_picture(index, home):
    choice, examples = learnt(index, home)
    assert [example.fetch for example in examples] == ["blue" not in e.text for e in examples]
    assert (choice.examples, choice.fetched) == (18, 12)
    assert choice.right == 18  # each by a choice that had not seen it
    # Texts and drawings that were in no example.
    for name in COLOURS:
        text = f"a {name} square"
        features, _ = features_of(index, text, blue(text, 77))
        assert (choice.probability(features) > 0.5) == (name != "blue")


def test_the_weights_are_where_the_penalised_likelihood_has_no_slope(index, home):
    choice, examples = learnt(index, home)
    scaled = (np.array([e.features for e in examples]) - choice.mean) / np.array(choice.scale)
    shares = np.array([choice.probability(e.features) for e in examples])
    off = shares - np.array([e.fetch for e in examples])
    np.testing.assert_allclose(scaled.T @ off + np.array(choice.weights), 0, atol=1e-6)
    assert abs(off.sum()) < 1e-4


def test_an_article_has_the_fetched_picture_in_the_place_of_the_drawn_one(index, home):
    choice, _ = learnt(index, home)
    own = Image(NOISE, "prompt")
    article = Document((
        Text("Squares.", "prompt"), own,
        Text("# Red\n![a red square]"), Image(square("blue", 8), loss=0.5),
        Text("and then\na blue square\n\n"), Image(square("blue", 9)), Image(NOISE),
    ))  # fmt: skip
    document, fetched, notes = fetch_pictures(article, index, choice)
    assert [(each.segment, each.text) for each in fetched] == [(3, "a red square")]
    assert fetched[0].hit == index.search_text("a red square", 1)[0]
    np.testing.assert_array_equal(document.segments[3].pixels, fetched[0].hit.read().array)
    assert document.segments[3].loss == 0.5
    others = [at for at in range(7) if at != 3]
    assert [document.segments[at] for at in others] == [article.segments[at] for at in others]
    assert notes == ("picture 3 has no text before it, so it stays as it was drawn",)
    long = Document((Text("red " * 40), Image(NOISE)))
    same, none, (note,) = fetch_pictures(long, index, choice)
    assert (same, none) == (long, ())
    assert "picture 1 stays as it was drawn" in note
    assert text_of_picture((Text("![ ]"), Image(NOISE)), 1) is None


def test_what_cannot_be_learnt_from_is_refused(index, home, tmp_path):
    with pytest.raises(ValueError, match="there are 7 pictures with a text, expected 10"):
        learnt(index, home, 7)
    red = (("a red square", square("red", 200 + number)) for number in range(12))
    with pytest.raises(ValueError, match=r"in all 12 examples the index has .* nothing to choose"):
        learn_choice(index, red, blue)
    (tmp_path / "same").mkdir()
    save_png(tmp_path / "same" / "a.png", square("red", 50))
    (tmp_path / "same" / "a.txt").write_text("a red square")
    with pytest.raises(ValueError, match="is itself in the index"):
        learn_choice(index, texts_with_pictures([str(tmp_path / "same")], 1), lambda *_: NOISE)
    small_tower(seed=1).save_pretrained(tmp_path / "other")
    build_index(tmp_path / "by", [home / "known"], small_tower(seed=1), str(tmp_path / "other"))
    choice, _ = learnt(index, home)
    with pytest.raises(ValueError, match="was built by"):
        fetch_pictures(
            Document((Text("a"), Image(NOISE))), MediaIndex.open(tmp_path / "by"), choice
        )


def test_the_commands_learn_and_write_with_what_was_learnt(home, index, tmp_path, unified, refused):
    """Of half of the texts the true picture is what the model draws, of half what is fetched."""
    data, output = tmp_path / "data", tmp_path / "choice.json"
    pocket = UnifiedModel.from_pretrained("pocket")
    data.mkdir()
    for number, name in enumerate(("cat", "dog", "car", "fox", "owl") * 2):
        (hit,) = index.search_text(name, 1)
        fetched = square("red" if "024".count(hit.where.file[-5]) else "green", number)
        picture = fetched if number % 2 else pocket.draw(name, seed=50)[0]
        save_png(data / f"{number}.png", picture)
        (data / f"{number}.txt").write_text(name)
    arguments = ("tower", "choose", data, "--index", home / "index", "-o", output, "--json")
    code, out, err = unified(*arguments, on="pocket")
    assert code == 0, err
    told = json.loads(out)
    assert (told["examples"], told["fetched"]) == (10, 5)
    certain = json.loads(output.read_text())
    certain |= {"weights": [0.0, 0.0, 0.0], "bias": 9.0}  # whatever is drawn
    output.write_text(json.dumps(certain))
    page = tmp_path / "cat.html"
    command = ("write", "The cat", "-o", page, "--images", 1, "--no-audio", "--fetch", output)
    code, out, err = unified(*command, "--json", on="pocket")
    assert code == 0, err
    (fetched,) = json.loads(out)["fetched"]
    assert fetched["file"].startswith(str(home / "known"))
    assert fetched["file"] in err
    output.write_text(json.dumps(certain | {"mean": [0.0]}))
    refused(unified(*command, on="pocket"), "mean has 1 numbers, expected 3")
