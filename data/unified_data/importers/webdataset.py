"""WebDataset's tar files: neighbouring members of one name before the first dot are a sample.

The text is the sample's .txt or .caption, or of its .json the field `text` or `caption`, or the
conversation in `messages` or `conversations`, with the sample's media in the places of <image> and
<audio>. Only pictures, sounds, .txt, .caption and .json are looked at: nothing is chosen by what a
member claims to be, no pickle is opened. A class number (.cls) is counted and not taken, as are
other fields of the .json.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unified_base.structured import parse_json
from unified_base.tar_members import Member, scan_members
from unified_base.text import quoted
from unified_data.document import check_file_name
from unified_data.importers.builder import (
    MAX_TOTAL,
    DocumentBuilder,
    Sample,
    Skipped,
    make_key,
    media_kind,
)
from unified_data.importers.conversation import add_turns, refuse_fields, turns_of
from unified_data.importers.embedded import MAX_MEDIA
from unified_data.importers.folder import CLASSES, TEXTS, text_of
from unified_data.importers.records import kind_of, open_source, source_files
from unified_data.importers.sharegpt import REFUSED

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
    with open_source(path) as file:
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
                    stem = quoted(_stem(members[0].name))
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
    classes: list[str] = []
    total = 0
    for member in members:
        name = member.name
        check_file_name(name)
        if member.kind != "file":
            raise ValueError(f"member {quoted(name)} is a {member.kind}, expected a regular file")
        if name in contents:
            raise ValueError(f"member {quoted(name)} is there twice")
        if name.lower().endswith(CLASSES):
            classes.append(name)
            continue
        if not (media_kind(name) or name.lower().endswith((*TEXTS, ".json"))):
            raise ValueError(f"member {quoted(name)} is no text, JSON, picture or sound")
        total += member.size
        if member.size > MAX_MEDIA or total > MAX_TOTAL:
            raise ValueError(
                f"member {quoted(name)} is {member.size:,} bytes long, which is too much"
            )
        contents[name] = read(member.offset, member.size)
    media = {kind: [n for n in contents if media_kind(n) == kind] for kind in ("image", "audio")}
    builder = DocumentBuilder(key, lambda name: _member(contents, name))
    for name in classes:
        builder.ignore(f".{name.rpartition('.')[2].lower()}")
    text, turns = _words(contents, builder)
    if turns is not None:
        add_turns(builder, turns, media)
        return builder.sample()
    if not text:
        raise ValueError(f"it has no text{', but a class number' if classes else ''}")
    if not any(media.values()):
        raise ValueError("it has no picture or sound")
    builder.text(text, "prompt")
    for kind, names in media.items():
        for name in names:
            getattr(builder, kind)(name, "response")
    return builder.sample()


def _member(contents: dict[str, bytes], name: str) -> bytes:
    if name not in contents:
        raise ValueError(f"there is no member {quoted(name)}")
    return contents[name]


def _words(contents: dict[str, bytes], builder: DocumentBuilder) -> tuple[str, Any]:
    """The text of a sample, "" where there is none, or the turns of its conversation."""
    text = text_of({n: data for n, data in contents.items() if n.lower().endswith(TEXTS)})
    names = [name for name in contents if name.lower().endswith(".json")]
    if len(names) > 1:
        raise ValueError(f"it has {quoted(names[0])} and {quoted(names[1])}, expected one .json")
    if not names:
        return text, None
    record = parse_json(contents[names[0]], quoted(names[0]))
    record = {"text": record} if isinstance(record, str) else record
    if not isinstance(record, dict):
        raise ValueError(f"{quoted(names[0])} is {kind_of(record)}, expected an object or a text")
    refuse_fields(record, REFUSED)
    talks = [name for name in _TURNS if record.get(name) is not None]
    fields = [name for name in ("text", "caption") if record.get(name) not in (None, "")]
    if talks:
        if text or fields:
            raise ValueError(f"it has {quoted(talks[0])} and a text; keep one of them")
        builder.ignore_others(record, (*_TURNS, "system"), "json.")
        return "", turns_of(record)
    used = () if text else fields[:1]
    builder.ignore_others(record, used, "json.")
    if not used:
        return text, None
    if not isinstance(record[used[0]], str):
        raise ValueError(f"the text in {quoted(names[0])} is no text")
    return record[used[0]].strip(), None


_TURNS = ("messages", "conversations")
