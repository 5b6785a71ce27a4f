"""WebDataset's tar files: neighbouring members of one name before the first dot are a sample.

The text is the sample's .txt, or of its .json the field `text` or `caption`, or the conversation in
`messages` or `conversations`, with the sample's media in the places of <image> and <audio>. Only
pictures, sounds, .txt and .json are looked at: nothing is chosen by what a member claims to be, no
pickle is opened.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_base.structured import parse_json
from unified_base.tar_members import Member, scan_members
from unified_data.document import check_file_name
from unified_data.importers.builder import (
    MAX_MEDIA,
    MAX_TOTAL,
    DocumentBuilder,
    Sample,
    Skipped,
    make_key,
    media_kind,
    shown,
)
from unified_data.importers.conversation import add_turns
from unified_data.importers.source import source_files

_MAX_MEMBERS = 1_000


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """One document a sample. source: an uncompressed tar file, or a folder of them.

    A text is prompt and the media response; a conversation has roles by who speaks.
    """
    if images is not None:
        raise ValueError("tar files hold their own media; leave --images out")
    number = 0
    for path in source_files(source, (".tar",)):
        for result in _read_tar(path, number):
            yield result
            number += 1


def _read_tar(path: Path, number: int) -> Iterator[Sample | Skipped]:
    with open(path, "rb", buffering=0) as file:
        fd = file.fileno()

        def read(offset: int, count: int) -> bytes:
            return os.pread(fd, count, offset)

        if read(257, 5) != b"ustar":
            raise ValueError(f"{path} is not an uncompressed tar file; unpack it first")
        members: list[Member] = []
        size = os.fstat(fd).st_size
        problem: str | None = None
        scan = scan_members(read, 0, size)
        while True:
            try:
                member = next(scan, None)
            except ValueError as error:
                problem, member = str(error), None
            if member is not None and member.kind == "folder":
                continue  # it holds nothing
            if members and (member is None or _stem(member.name) != _stem(members[0].name)):
                key = make_key(number, _stem(members[0].name))
                try:
                    result: Sample | Skipped = _document(key, members, read)
                except ValueError as error:
                    stem = shown(_stem(members[0].name))
                    result = Skipped.because(key, f"{path.name} sample {stem}: {error}")
                yield result
                number += 1
                members = []
            if member is None:
                break
            if len(members) <= _MAX_MEMBERS:  # one too many says that there are more
                members.append(member)
        if problem is not None:
            yield Skipped.because(make_key(number), f"{path.name}: {problem}")


def _stem(name: str) -> str:
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _document(key: str, members: list[Member], read: Any) -> Sample:
    if len(members) > _MAX_MEMBERS:
        raise ValueError(f"it has more than {_MAX_MEMBERS:,} members")
    contents: dict[str, bytes] = {}
    total = 0
    for member in members:
        name = member.name
        check_file_name(name)
        if member.kind != "file":
            raise ValueError(f"member {shown(name)} is a {member.kind}, expected a regular file")
        if name in contents:
            raise ValueError(f"member {shown(name)} is there twice")
        if not (media_kind(name) or name.lower().endswith((".txt", ".json"))):
            raise ValueError(f"member {shown(name)} is no text, JSON, picture or sound")
        total += member.size
        if member.size > MAX_MEDIA or total > MAX_TOTAL:
            raise ValueError(
                f"member {shown(name)} is {member.size:,} bytes long, which is too much"
            )
        contents[name] = read(member.offset, member.size)
    media = {kind: [n for n in contents if media_kind(n) == kind] for kind in ("image", "audio")}
    builder = DocumentBuilder(key, lambda name: _member(contents, name))
    text, turns = _words(contents)
    if turns is not None:
        add_turns(builder, turns, media["image"], media["audio"])
        return builder.sample()
    if text is None or not text.strip():
        raise ValueError("it has no text")
    if not any(media.values()):
        raise ValueError("it has no picture or sound")
    builder.text(text.strip(), "prompt")
    for kind, names in media.items():
        for name in names:
            getattr(builder, kind)(name, "response")
    return builder.sample()


def _member(contents: dict[str, bytes], name: str) -> bytes:
    if name not in contents:
        raise ValueError(f"there is no member {shown(name)}")
    return contents[name]


def _words(contents: dict[str, bytes]) -> tuple[str | None, Any]:
    """The text of a sample, or the turns of its conversation."""
    text: str | None = None
    for name, data in contents.items():
        if name.lower().endswith(".txt"):
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise ValueError(f"{shown(name)} is not UTF-8: {error.reason}") from None
    for name, data in contents.items():
        if not name.lower().endswith(".json"):
            continue
        record = parse_json(data, shown(name))
        if not isinstance(record, dict):
            record = {"text": record}
        turns = record.get("messages", record.get("conversations"))
        if turns is not None:
            return None, turns
        if text is None:
            text = record.get("text", record.get("caption"))
            if text is not None and not isinstance(text, str):
                raise ValueError(f"the text in {shown(name)} is no text")
    return text, None
