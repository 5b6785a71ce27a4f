"""Numbers, texts and lists that no folder of codes should hold: refused by their key."""

import json

import pytest

from unified.dataloading import Source
from unified.dataloading.coded_shard import read_beside
from unified.dataloading.source_samples import SourceSamples
from unified.dataloading.stored_codes import StoredCodes
from unified_base.checksums import read_sealed

HUGE = 10**30


@pytest.fixture
def folder(tmp_path, write_codes, random_documents):
    return write_codes(tmp_path / "codes", {"a": random_documents(3), "b": random_documents(2)})


def samples_of(folder, tiny_sequencer):
    return SourceSamples("s", Source(str(folder)), tiny_sequencer.vocabulary)


@pytest.mark.parametrize("samples", [10**6, 2**63, HUGE])
def test_a_count_that_no_shard_holds_is_refused_by_shard_and_key(folder, tiny_sequencer, samples):
    assert len(samples_of(folder, tiny_sequencer)) == 5
    index, _ = read_sealed(folder / "index.json")
    index["shards"][0]["samples"] = samples
    (folder / "index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=r"source s: shard .*a\.tar: its .* index\.json says \d+"):
        samples_of(folder, tiny_sequencer)


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ({"codes": HUGE}, "codes is 1000000000"),
        ({"codes": {"image": HUGE}}, r"codes\.image is 1000000000"),
        ({"codes": {"x" * 100_000: {}}}, r"in codes\.xxx"),
        ({"fit": HUGE}, "fit is 1000000000"),
        ({"fit": 0}, "fit is 0"),
        ({"round_trip": 1}, "round_trip is 1"),
        ({"sizes": [HUGE]}, r"codes\.image.*codebook_sizes"),
        ({"sizes": [7] * 1_000}, r"codes\.image.*codebook_sizes"),
        ({"sizes": []}, r"codes\.image.*codebook_sizes"),
        ({"sizes": [7.0]}, r"codes\.image.*codebook_sizes"),
        ({"fingerprint": "x" * 100_000}, r"codes\.image: fingerprint is"),
        ({"dtype": HUGE}, r"codes\.image\.dtype is 1000000000"),
    ],
)
def test_whose_codes_a_folder_holds_is_refused_by_its_key(entries, reason):
    entry = {"fingerprint": "f", "codebook_sizes": entries.get("sizes", [7]), "dtype": "uint16"}
    entry |= {name: value for name, value in entries.items() if name in entry}
    whole = {"codes": {"image": entry}, "round_trip": False, "fit": None}
    rest = {name: value for name, value in entries.items() if name in whole}
    with pytest.raises(ValueError, match=reason) as refusal:
        StoredCodes.from_json({**whole, **rest}, "index.json")
    assert len(str(refusal.value)) < 700


def test_what_lies_beside_codes_counts_only_where_all_of_it_is_sound(tmp_path):
    shard = {"file": "a.tar", "split": "train", "kind": "x", "samples": 3, "bytes": 9}
    sound = {"from": {}, "shard": shard, "left_out": {"samples": 1, "reasons": ["x"]}}
    path = tmp_path / "a.json"

    def read(text):
        path.write_text(text)
        return read_beside(path)

    assert read(json.dumps(sound)) == sound
    for changes in (
        {"shard": {**shard, "samples": "3"}}, {"shard": {**shard, "file": "../a.tar"}},
        {"shard": 7}, {"from": 7}, {"left_out": 7}, {"left_out": {"samples": HUGE, "reasons": []}},
        {"left_out": {"samples": "1", "reasons": ["x"]}},
    ):  # fmt: skip
        assert read(json.dumps({**sound, **changes})) is None
    for text in ("", "[]", "[" * 100_000, '{"from": ' + "1" * 400 + "}"):
        assert read(text) is None
