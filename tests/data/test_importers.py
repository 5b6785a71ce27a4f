"""Importers: each kind's documents are what the source says, in order, with roles by its nature."""

import io
import json
import shutil
import tarfile

import numpy as np
import pytest
import soundfile

from unified_base.images import load_image
from unified_base.sounds import load_audio
from unified_data.document import Audio, Document, Image, Text
from unified_data.importers import KINDS, Sample, Skipped, importer
from unified_data.importers.import_shards import import_shards
from unified_data.shard_file import ShardFile
from unified_data.shards import document_of, read_index, read_shards


def results(kind, source, images=None):
    """Documents and skipped ones in order, by key."""
    documents = {}
    for result in importer(kind)(source, images):
        assert result.key not in documents
        if isinstance(result, Sample):
            documents[result.key] = document_of(result.key, result.obj, result.media)
        else:
            documents[result.key] = result
    return documents


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def asked(text):
    return Text(text, "prompt", 0.0)


def pictured(folder, name, role=None):
    return Image(load_image(folder / name), role, 0.0 if role == "prompt" else 1.0)


def sounding(folder, name, role=None):
    return Audio(*load_audio(folder / name), role, 0.0 if role == "prompt" else 1.0)


def test_obelics_interleaves_in_the_order_of_its_places(tmp_path, media_files):
    record = {
        "images": [None, "a.png", "b.jpg", None, None],
        "texts": ["Ä 🐼", None, None, "two", "three"],
        "metadata": "x",
    }
    documents = results("obelics", lines(tmp_path / "x.jsonl", record), media_files)
    assert documents["000000000"] == Document(
        (
            Text("Ä 🐼"),
            pictured(media_files, "a.png"),
            pictured(media_files, "b.jpg"),
            Text("two\n\nthree"),
        )
    )


def test_obelics_takes_a_file_for_an_address_but_one_file_for_one_address(tmp_path, media_files):
    (tmp_path / "h.org" / "p").mkdir(parents=True)
    shutil.copy(media_files / "b.jpg", tmp_path / "h.org" / "p" / "a b.png")
    shutil.copy(media_files / "a.png", tmp_path / "a.png")
    addresses = ("https://h.org/p/a%20b.png?x=1", "http://i.org/a.png", "http://j.org/a.png",
                 "http://i.org/a.png", "http://i.org/absent.png", "http://[/")  # fmt: skip
    records = [{"images": [address], "texts": [None]} for address in addresses]
    documents = list(results("obelics", lines(tmp_path / "x.jsonl", *records)).values())
    assert documents[0].segments == (pictured(media_files, "b.jpg"),)
    assert documents[1].segments == documents[3].segments == (pictured(media_files, "a.png"),)
    assert "share the file 'a.png' with another address" in documents[2].reason
    assert "nothing is fetched; download it first" in documents[4].reason
    assert "is no address" in documents[5].reason


def test_mmc4_puts_a_picture_before_its_sentence(tmp_path, media_files):
    record = {
        "text_list": ["One.", "Two.", "Three."],
        "image_info": [
            {"image_name": "c.webp", "matched_text_index": 2, "matched_sim": 0.3},
            {"image_name": "a.png", "matched_text_index": 0},
            {"image_name": "b.jpg", "matched_text_index": 2},
        ],
    }
    (document,) = results("mmc4", lines(tmp_path / "x.jsonl", record), media_files).values()
    a, b, c = (pictured(media_files, name) for name in ("a.png", "b.jpg", "c.webp"))
    assert document.segments == (a, Text("One. Two."), c, b, Text("Three."))


def test_comm_has_title_summary_and_steps(tmp_path, media_files):
    def text(content):
        return {"type": "text", "content": content}

    picture = {"type": "image", "image_path": "e.bmp", "url": None}
    steps = [[text("First. "), picture], [text("Then."), text("")]]
    record = {"data_id": "w/7", "title": "T", "summary_info": [text("S")], "step_info": steps}
    (tmp_path / "x.json").write_text(json.dumps([record, {"step_info": [[picture]]}]))
    documents = results("comm", tmp_path / "x.json", media_files)
    bmp = pictured(media_files, "e.bmp")
    assert documents["000000000-w-7"].segments == (Text("T\n\nS\n\nFirst."), bmp, Text("Then."))
    assert documents["000000001"].segments == (bmp,)


def test_llava_puts_pictures_in_their_places_with_roles(tmp_path, media_files):
    turns = [
        {"from": "human", "value": "<image>\nWhat is [this] {?"},
        {"from": "gpt", "value": 'A \\"cat\\", and<image>'},
        {"from": "human", "value": "Thanks"},
        {"from": "gpt", "value": "Sure"},
    ]
    records = [
        {"id": "a/1", "image": ["a.png", "d.gif"], "conversations": turns},
        {"id": 2, "conversations": turns[2:]},
    ]
    (tmp_path / "x.json").write_text("\ufeff " + json.dumps(records, indent=2), "utf-8")
    documents = results("llava", tmp_path / "x.json", media_files)
    assert documents["000000000-a-1"].segments == (
        pictured(media_files, "a.png", "prompt"),
        asked("What is [this] {?"),
        Text('A \\"cat\\", and', "response"),
        pictured(media_files, "d.gif", "response"),
        asked("Thanks"),
        Text("Sure", "response"),
    )
    assert documents["000000001-2"].segments == (asked("Thanks"), Text("Sure", "response"))


def test_sharegpt_has_system_pictures_and_sounds_in_text_or_parts(tmp_path, media_files):
    messages = [
        {"role": "user", "content": "See <image> hear <audio>."},
        {"role": "assistant", "content": [{"type": "text", "text": "This:"}, {"type": "image"}]},
        {"role": "user", "content": [{"type": "audio", "audio": "s.flac"}]},
        {"role": "assistant", "content": "ok"},
    ]
    record = {"system": "Be kind.", "messages": messages, "images": ["b.jpg", "a.png"],
              "audios": ["w.wav"]}  # fmt: skip
    (document,) = results("sharegpt", lines(tmp_path / "x.jsonl", record), media_files).values()
    assert document.segments == (
        asked("Be kind.\n\nSee "),
        pictured(media_files, "b.jpg", "prompt"),
        asked(" hear "),
        sounding(media_files, "w.wav", "prompt"),
        asked("."),
        Text("This:", "response"),
        pictured(media_files, "a.png", "response"),
        sounding(media_files, "s.flac", "prompt"),
        Text("ok", "response"),
    )


def test_coco_gives_one_document_a_caption(tmp_path, media_files):
    record = {
        "images": [{"id": 9, "file_name": "a.png"}, {"id": 8, "file_name": "b.jpg"}],
        "annotations": [
            {"id": 51, "image_id": 9, "caption": " a cat\n"},
            {"id": 52, "image_id": 9, "caption": "cats"},
            {"id": 53, "image_id": 7, "caption": "lost"},
        ],
    }
    (tmp_path / "captions.json").write_text(json.dumps(record))
    documents = results("coco", tmp_path / "captions.json", media_files)
    cat = pictured(media_files, "a.png", "response")
    assert documents["000000000-51"].segments == (asked("a cat"), cat)
    assert documents["000000001-52"].segments == (asked("cats"), cat)
    assert "there is no image 7" in documents["000000002-53"].reason
    assert "image 8 has no caption" in documents["000000003"].reason


def test_a_folder_pairs_files_of_one_name(tmp_path, media_files):
    (tmp_path / "in").mkdir()
    for name, copy in (("a.png", "in/cat.PNG"), ("s.flac", "in/cat.flac"), ("b.jpg", "dog.jpeg")):
        shutil.copy(media_files / name, tmp_path / copy)
    (tmp_path / "in" / "cat.txt").write_text("\ufeffa cat\n", "utf-8")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "alone.txt").write_text("x")
    documents = results("folder", tmp_path)
    assert [type(result) for result in documents.values()] == [Skipped] * 3 + [Document]
    assert documents["000000003-in-cat"].segments == (
        asked("a cat"),
        pictured(media_files, "a.png", "response"),
        sounding(media_files, "s.flac", "response"),
    )
    reasons = [result.reason for result in list(documents.values())[:3]]
    assert reasons == [
        "alone: it has 1 texts for 0 pictures and sounds",
        "dog: it has 0 texts for 1 pictures and sounds",
        "notes: 'notes.md' is no text, picture or sound",
    ]


def tar(path, members, form=tarfile.PAX_FORMAT):
    with tarfile.open(path, "w", format=form) as file:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), 1.5  # which makes a pax header
            file.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_webdataset_samples_are_members_of_one_name(tmp_path, media_files, form):
    png, flac, mp3 = ((media_files / n).read_bytes() for n in ("a.png", "s.flac", "m.mp3"))
    talk = {"messages": [{"role": "user", "content": "<image>?"},
                         {"role": "assistant", "content": "yes"}]}  # fmt: skip
    members = {
        "d/one.txt": b"a cat\n", "d/one.jpg": png, "d/one.json": b'{"caption": "unused"}',
        f"d/{'long' * 40}.json": b'{"caption": "a dog"}', f"d/{'long' * 40}.audio.flac": flac,
        "three.json": b'"purr"', "three.mp3": mp3,
        "four.json": json.dumps(talk).encode(), "four.0.png": png,
    }  # fmt: skip
    documents = list(results("webdataset", tar(tmp_path / "x.tar", members, form)).items())
    cat = pictured(media_files, "a.png", "response")
    assert documents[0] == ("000000000-d-one", Document((asked("a cat"), cat)))
    dog = Document((asked("a dog"), sounding(media_files, "s.flac", "response")))
    assert documents[1] == (f"000000001-d-{'long' * 11}lo", dog)
    assert documents[2][1] == Document((asked("purr"), sounding(media_files, "m.mp3", "response")))
    looked = pictured(media_files, "a.png", "prompt")
    assert documents[3][1] == Document((looked, asked("?"), Text("yes", "response")))


def test_pairs_are_rows_of_a_table(tmp_path, media_files):
    rows = (
        'text,image,audio,id,url\n"a, cat",a.png,,x/1,u\nmiaow,,s.flac,,u\nboth,a.png,s.flac,7,u\n'
    )
    (tmp_path / "x.csv").write_text("\ufeff" + rows + '\n"lost\n', "utf-8")
    cat, purr = (
        pictured(media_files, "a.png", "response"),
        sounding(media_files, "s.flac", "response"),
    )
    documents = results("pairs", tmp_path / "x.csv", media_files)
    assert documents["000000000-x-1"].segments == (asked("a, cat"), cat)
    assert documents["000000001"].segments == (asked("miaow"), purr)
    assert documents["000000002-7"].segments == (asked("both"), cat, purr)
    assert "x.csv row 4: it cannot be read: unexpected end of data" in documents["000000003"].reason
    table = lines(tmp_path / "x.jsonl", {"text": "both", "audio": "s.flac", "image": "a.png"})
    assert results("pairs", table, media_files)["000000000"].segments == (asked("both"), cat, purr)


def test_media_keeps_its_bytes_or_becomes_lossless(tmp_path, media_files):
    names = ("a.png", "b.jpg", "c.webp", "d.gif", "e.bmp", "s.flac", "w.wav", "o.ogg", "x.aiff")
    rows = [{"text": n, "audio" if n[0] in "swox" else "image": n} for n in names]
    import_shards("pairs", lines(tmp_path / "x.jsonl", *rows), tmp_path / "out", media_files)
    with ShardFile(tmp_path / "out" / "train-pairs-00000.tar") as shard:
        for i, name in enumerate(names):
            ((stored, data),) = shard.parts(i)[2].items()
            extension = name[2:]
            unchanged = extension in ("png", "jpg", "webp", "flac", "wav")
            assert (data == (media_files / name).read_bytes()) == unchanged
            other = {"gif": "png", "bmp": "png", "ogg": "wav", "aiff": "flac"}
            assert stored.endswith(f".1.{other.get(extension, extension)}")
    for (_, document), name in zip(read_shards(tmp_path / "out"), names):
        segment = document.segments[1]
        assert segment == (sounding if name[0] in "swox" else pictured)(
            media_files, name, "response"
        )


def test_a_sound_beyond_full_scale_is_scaled_and_counted(tmp_path):
    soundfile.write(tmp_path / "loud.wav", np.float32([0.5, -2.0]), 16000, subtype="FLOAT")
    source = lines(tmp_path / "x.jsonl", {"text": "x", "audio": "loud.wav"})
    assert import_shards("pairs", source, tmp_path / "out")["scaled"] == 1
    ((_, document),) = read_shards(tmp_path / "out")
    assert document.segments[1].waveform.tolist() == [[0.25, -1.0]]


def test_an_import_is_indexed_with_what_was_skipped(tmp_path, media_files):
    rows = [{"text": str(i), "image": "a.png" if i % 3 else "lost.png"} for i in range(7)]
    source = lines(tmp_path / "x.jsonl", *rows)
    seen = []
    report = import_shards("pairs", source, tmp_path / "out", media_files, "heldout",
                           progress=lambda *counts: seen.append(counts))  # fmt: skip
    about = {"kind": "pairs", "source": "x.jsonl", "samples": 4, "skipped": 3, "scaled": 0}
    size = (tmp_path / "out" / "heldout-pairs-00000.tar").stat().st_size
    assert report == {**about, "shards": 1, "bytes": size}
    index = read_index(tmp_path / "out")
    assert (index["imported"], index["counts"]) == (about, {"heldout": {"pairs": 4}})
    log = (tmp_path / "out" / "skipped.jsonl").read_text().splitlines()
    reason = "x.jsonl line 4: there is no file 'lost.png'"
    assert json.loads(log[1]) == {"key": "000000003", "reason": reason}
    assert seen == [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2), (4, 2), (4, 3)]
    texts = [document.segments[0].text for _, document in read_shards(tmp_path / "out")]
    assert texts == ["1", "2", "4", "5"]
    import_shards("pairs", source, tmp_path / "again", media_files, "heldout")
    for path in (tmp_path / "out").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_limit_counts_documents_and_every_kind_has_a_reader(tmp_path, media_files):
    rows = [{"text": str(i), "image": "a.png" if i else "lost.png"} for i in range(7)]
    source = lines(tmp_path / "x.jsonl", *rows)
    report = import_shards("pairs", source, tmp_path / "out", media_files, limit=3)
    assert (report["samples"], report["skipped"]) == (3, 1)
    assert all(callable(importer(kind)) for kind in KINDS)
    with pytest.raises(
        ValueError, match="there is no kind 'csv' to import, expected one of obelics"
    ):
        importer("csv")
