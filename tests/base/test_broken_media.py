"""Broken media files, as `benchmarks/faults.py` makes them by the thousand: a few of them here."""

import zlib
from pathlib import Path
from types import SimpleNamespace

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_no_broken_file_crashes_hangs_or_gives_a_wrong_value(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from _fault_media import measure

    report = measure(200, seed=9)
    assert report["reader_cases"] == 200
    assert report["reader_failures"] == 0, report["reader_examples"]
    assert 50 < report["reader_refused"] < 200


def test_a_wrong_value_counts_as_a_failure(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import _fault_media

    from unified_base import image_png

    # Without the look at checksums: what the measure is there to see.
    blind = SimpleNamespace(crc32=lambda data: _AnyChecksum(zlib.crc32(data)))
    monkeypatch.setattr(image_png, "zlib", blind)
    report = _fault_media.measure(300, seed=9)
    errors = [failure["error"] for failure in report["reader_examples"]]
    assert any("other values" in error for error in errors), errors


class _AnyChecksum(int):
    """A number that differs from no other."""

    def __ne__(self, other):
        return False

    __eq__ = int.__eq__
    __hash__ = int.__hash__
