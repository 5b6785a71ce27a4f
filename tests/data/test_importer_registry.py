"""Importers of others: by entry point of an installed distribution, and registered."""

import json
import sys

import numpy as np
import pytest

from unified_base.images import encode_png
from unified_data.document import Image, Text
from unified_data.importers import Sample, importer, importer_registry, register_importer
from unified_data.importers.builder import DocumentBuilder
from unified_data.importers.import_shards import SKIPPED, import_shards
from unified_data.shards import read_shards

PIXELS = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
MODULE = '''
"""Lines "NAME.png<tab>caption", by a package of somebody else."""

from unified_data.importers import Skipped
from unified_data.importers.builder import DocumentBuilder, make_key


def read(source, images=None):
    for number, line in enumerate(source.read_text().splitlines()):
        name, _, caption = line.partition("\\t")
        folder = source.parent
        builder = DocumentBuilder(make_key(number), lambda name: (folder / name).read_bytes())
        try:
            builder.text(caption, "prompt")
            builder.image(name, "response")
            yield builder.sample()
        except (ValueError, OSError) as error:
            yield Skipped.because(make_key(number), error)


nothing = None
'''


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(importer_registry, "_registered", {})


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """install(distribution, name, value): a distribution on the path, as an installer leaves it."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "tab_captions.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(site))

    def install(distribution, name, value):
        info = site / f"{distribution}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text(f"[unified.importers]\n{name} = {value}\n")

    yield install
    sys.modules.pop("tab_captions", None)


def source_of(folder):
    folder.mkdir()
    (folder / "a.png").write_bytes(encode_png(PIXELS))
    (folder / "x.tsv").write_text("a.png\ta cat\nb.png\ta dog\n")
    return folder / "x.tsv"


def test_an_installed_distribution_brings_a_kind(tmp_path, installed):
    installed("tab-captions", "tab-captions", "tab_captions:read")
    report = import_shards("tab-captions", source_of(tmp_path / "in"), tmp_path / "out")
    assert (report["kind"], report["samples"], report["skipped"]) == ("tab-captions", 1, 1)
    ((key, document),) = read_shards(tmp_path / "out", kinds=["tab-captions"])
    assert key == "000000000"
    assert document.segments == (Text("a cat", "prompt", 0.0), Image(PIXELS, "response"))
    assert "b.png" in json.loads((tmp_path / "out" / SKIPPED).read_text())["reason"]


def test_the_kinds_that_there_are_name_those_of_others(installed, registered):
    installed("tab-captions", "tab-captions", "tab_captions:read")
    register_importer("mine", lambda source, images: iter(()))
    with pytest.raises(ValueError, match=r"no kind 'x' .*parquet, mine, tab-captions; an importer"):
        importer("x")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("tab_captions:nothing", "is no importer"),
        ("tab_captions:missing", "cannot import the importer tab_captions:missing"),
        ("no_such_module:read", "cannot import the importer no_such_module:read"),
    ],
)
def test_an_entry_point_that_is_no_importer_is_one_line(installed, value, reason):
    installed("tab-captions", "tab", value)
    with pytest.raises(ValueError, match=reason) as caught:
        importer("tab")
    assert "\n" not in str(caught.value)


def test_one_name_of_two_distributions_is_refused(installed):
    installed("one", "tab", "tab_captions:read")
    installed("two", "tab", "tab_captions:nothing")
    with pytest.raises(ValueError, match="2 installed packages have an entry point 'tab'"):
        importer("tab")


def test_a_registered_importer_is_checked_sample_by_sample(tmp_path, registered):
    def read(source, images):
        builder = DocumentBuilder("good", lambda name: b"")
        builder.text("a text")
        yield builder.sample()
        yield Sample("odd", {"segments": [{"type": "image", "file": "odd.0.png"}]}, {})

    register_importer("mine", read)
    register_importer("mine", read)
    report = import_shards("mine", tmp_path, tmp_path / "out")
    assert (report["samples"], report["skipped"]) == (1, 1)
    row = json.loads((tmp_path / "out" / SKIPPED).read_text())
    assert row["key"] == "odd"
    assert "media file 'odd.0.png' is not in the shard" in row["reason"]


def test_what_is_no_sample_ends_the_import_and_leaves_nothing(tmp_path, registered):
    register_importer("mine", lambda source, images: iter([("key", {})]))
    with pytest.raises(ValueError, match=r"importer of 'mine' yielded \('key', \{\}\), expected a"):
        import_shards("mine", tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("kind", "read", "reason"),
    [
        ("coco", print, "is one of this package's"),
        ("taken", repr, "registered already"),
        ("Upper", print, "lower-case"),
        ("a/b", print, "lower-case"),
        ("x" * 49, print, "at most 48"),
        (7, print, "is 7, expected"),
        ("mine", None, "is None, expected read"),
    ],
)
def test_a_name_or_a_reader_that_cannot_be_is_refused(registered, kind, read, reason):
    register_importer("taken", print)
    with pytest.raises(ValueError, match=reason):
        register_importer(kind, read)
