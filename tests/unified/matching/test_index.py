"""Indices: what they find, what a stop leaves, which towers they are for; the best of several."""

import json
import tarfile

import numpy as np
import pytest
from small_tower import fill, small_tower, square

from unified.matching import build_index as building
from unified.matching.best_of import rank
from unified.matching.build_index import build_index
from unified.matching.media_index import MediaIndex
from unified_base.images import load_image


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Pictures in a folder and in a shard, and two towers."""
    path = tmp_path_factory.mktemp("home")
    fill(path / "data", 5)
    with tarfile.open(path / "data" / "shard.tar", "w") as tar:
        for number in range(3):
            tar.add(path / "data" / f"{number:02d}.png", f"{number}.png")
    small_tower().save_pretrained(path / "tower")
    small_tower(seed=1).save_pretrained(path / "other")
    return path


def test_the_commands_find_pictures_by_words_and_by_a_picture(home, tmp_path, unified, refused):
    code, out, err = unified("index", home / "data", "-o", tmp_path / "index", "--tower",
                             home / "tower", "--json", on=None)  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["media"] == 8
    query = home / "data" / "01.png"
    code, out, err = unified("search", tmp_path / "index", query, "-n", 3, "--json", on=None)
    assert code == 0, err
    hits = json.loads(out)["hits"]
    # The same picture lies there twice: as a file and in the shard.
    same = {(hit["file"], hit["key"]) for hit in hits[:2]}
    assert same == {(str(query), None), ("1.png", "1")}
    assert hits[0]["score"] == pytest.approx(1, abs=1e-3)
    code, out, err = unified("search", tmp_path / "index", "a red square", on=None)
    assert code == 0, err
    scores = [float(line.split()[0]) for line in out.splitlines()]
    assert len(scores) == 8
    assert scores == sorted(scores, reverse=True)
    other = ("--tower", home / "other")
    for command, message in (
        (("search", tmp_path / "index", "a.wav"), "is a sound"),
        (("search", tmp_path / "index", "x", *other), "was built by a tower with the fingerprint"),
        (("index", home / "data", "-o", tmp_path / "index", *other), "give another folder"),
        (("search", home / "data", "x"), "it is no index"),
    ):
        refused(unified(*command, on=None), message)


def test_hits_are_those_of_a_plain_product_and_can_be_read(home, tmp_path):
    tower = small_tower()
    build_index(tmp_path / "index", [home / "data"], tower, "tower")
    index = MediaIndex.open(tmp_path / "index", tower)
    hits = index.search_text("a blue square", 4)
    pictures = [load_image(path) for path in sorted((home / "data").glob("*.png"))]
    scores = (
        tower.embed_pictures([*pictures, *pictures[:3]]) @ tower.embed_texts(["a blue square"])[0]
    )
    assert [hit.score for hit in hits] == pytest.approx(sorted(scores, reverse=True)[:4], abs=2e-3)
    assert {hit.read().array.shape for hit in hits} == {(20, 32, 3)}
    assert len(index.search_picture(square("red"), 99)) == len(index) == 8
    with pytest.raises(ValueError, match="count is 0"):
        index.search_text("a", 0)


def test_a_stop_loses_no_part_and_what_changed_alone_is_computed(home, tmp_path, monkeypatch):
    data = fill(tmp_path / "data", 7)
    monkeypatch.setattr(building, "_GROUP", 3)
    tower, folder = small_tower(), tmp_path / "index"
    compute = building._compute
    calls = []

    def stop_at_the_third(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*args)

    monkeypatch.setattr(building, "_compute", stop_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        build_index(folder, [data], tower, "tower")
    with pytest.raises(ValueError, match="its building was stopped"):
        MediaIndex.open(folder, tower)
    assert build_index(folder, [data], tower, "tower") == (7, 3, 1, 0)
    # A part that is torn is computed anew; other files' vectors go.
    (data / "06.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"1 media are broken, at most 0 may be"):
        build_index(folder, [data], tower, "tower")
    assert len(MediaIndex.open(folder, tower)) == 7  # as it was
    told = []
    report = build_index(folder, [data], tower, "tower", tell=told.append, max_broken=1)
    assert report == (6, 3, 1, 1)
    assert [str(medium).startswith(str(data / "06.png")) for medium in told] == [True]
    assert len(list(folder.glob("part-*"))) == 6
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="which is no part of an index"):
        build_index(tmp_path, [data], tower, "tower")


def test_an_index_that_is_torn_is_refused(home, tmp_path):
    tower = small_tower()
    build_index(tmp_path, [home / "data"], tower, "tower")
    listed = next(tmp_path.glob("part-*.json"))
    listed.write_text("[]")
    with pytest.raises(ValueError, match=r"has 0 entries, expected"):
        MediaIndex.open(tmp_path, tower)
    header = json.loads((tmp_path / "index.json").read_text())
    header["parts"][0]["name"] = "../part"
    (tmp_path / "index.json").write_text(json.dumps(header))
    with pytest.raises(ValueError, match="expected a name"):
        MediaIndex.open(tmp_path, tower)


def test_the_best_of_several_are_those_that_score_best(cli_model, home, tmp_path, unified, refused):
    from unified.models.model import UnifiedModel

    class Brightness:
        def scores(self, text, pictures):
            return [float(pixels.mean()) for pixels in pictures]

    model = UnifiedModel.from_pretrained(cli_model)
    several = model.draw("a fox", n=3, seed=5)
    best = model.draw("a fox", n=2, seed=5, best_of=3, scorer=Brightness())
    order = [several[each.number] for each in rank(Brightness(), "a fox", several)]
    assert all(np.array_equal(a, b) for a, b in zip(best, order[:2], strict=True))
    for change, message in (
        ({"n": 4}, "expected 4 or more"), ({"scorer": None}, "there is no scorer"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            model.draw("a fox", **{"best_of": 3, "scorer": Brightness(), **change})
    code, out, err = unified("draw", "a fox", "-o", tmp_path / "f.png", "--seed", 5, "--best-of", 3,
                             "--scorer", home / "tower", "--json")  # fmt: skip
    assert code == 0, err
    values = json.loads(out)
    wanted = rank(small_tower(), "a fox", several)
    assert values["seeds"] == [5 + wanted[0].number]
    assert np.array_equal(load_image(tmp_path / "f.png"), several[wanted[0].number])
    assert [each["seed"] for each in values["candidates"]] == [5 + each.number for each in wanted]
    command = ("draw", "a fox", "-o", tmp_path / "f.png", "--scorer", home / "tower")
    refused(unified(*command), "is for --best-of")
