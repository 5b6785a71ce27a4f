"""Checksums of files, and JSON files that carry their own.

A sealed JSON file begins with the entry "sealed" and ends with the SHA-256 of all its bytes before
that entry, so that one changed bit anywhere in it is noticed. Files without these entries, written
before there were checksums, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unified_base.files import open_regular, read_bytes
from unified_base.structured import MAX_JSON, parse_json

__all__ = ["SEAL", "file_sha256", "parse_sealed", "read_sealed", "sealed_json"]

SEAL = "sealed"
_END = re.compile(rb',\n"sha256": "([0-9a-f]{64})"\n}\n\Z')


def file_sha256(path: str | Path, what: str = "file") -> str:
    """The SHA-256 of a regular file, in hexadecimal. It is read once: about 1 GB a second.

    Raises:
        ValueError: it cannot be read.
    """
    with open_regular(path, what) as file:
        try:
            digest = hashlib.sha256()
            while data := file.read(1 << 20):
                digest.update(data)
            return digest.hexdigest()
        except OSError as error:
            raise ValueError(f"cannot read {what} {path}: {error.strerror}") from None


def sealed_json(entries: Mapping[str, Any], indent: int | None = None) -> bytes:
    """The bytes of a JSON file with a checksum of its own.

    entries: JSON values, without the names "sealed" and "sha256". indent: as of `json.dumps`.
    """
    assert not {SEAL, "sha256"} & entries.keys()
    text = json.dumps({SEAL: "sha256", **entries}, indent=indent, ensure_ascii=False)
    body = text.removesuffix("}").rstrip().encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(body).hexdigest()
    return body + f',\n"sha256": "{digest}"\n}}\n'.encode()


def parse_sealed(
    data: bytes, name: str, limit: int = MAX_JSON, constants: bool = False
) -> tuple[Any, bool]:
    """The JSON value of a file's bytes without the entries of the seal, and whether it had one.

    name: of the file, for errors. limit: as of `parse_json`. constants: NaN and infinity, which
    JSON does not have, may stand in it.

    Raises:
        ValueError: it is not JSON, or its checksum is not that of its content.
    """
    value = parse_json(data, name, limit, constants)
    end = _END.search(data)
    if not isinstance(value, dict) or (SEAL not in value and end is None):
        return value, False
    if end is None or hashlib.sha256(data[: end.start()]).hexdigest() != end[1].decode():
        raise ValueError(
            f"{name} does not have the checksum it was written with: it has been damaged, or"
            f" changed by hand (then take the entries {SEAL!r} and 'sha256' out)"
        )
    return {key: entry for key, entry in value.items() if key not in (SEAL, "sha256")}, True


def read_sealed(
    path: str | Path, limit: int = MAX_JSON, constants: bool = False
) -> tuple[Any, bool]:
    """As `parse_sealed`, of a regular file.

    Raises:
        ValueError: it cannot be read, or as `parse_sealed` does.
    """
    return parse_sealed(read_bytes(path, "file", limit), str(path), limit, constants)
