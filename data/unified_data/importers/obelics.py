"""OBELICS: web pages as parallel lists `images` and `texts`, exactly one of the two at each place.

Laurençon et al. 2023, https://arxiv.org/abs/2306.16527. Images are file names. An address is not
fetched: the file HOST/PATH below the images' folder is taken, as `wget -x` leaves it, or else the
file of the path's last part, unless two addresses would share it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from unified_base.text import quoted
from unified_data.importers.builder import DocumentBuilder, Sample, Skipped
from unified_data.importers.media_folder import MediaFolder
from unified_data.importers.records import IDS, Build, expect, read_records


def read(source: Path, images: Path | None = None) -> Iterator[Sample | Skipped]:
    """The documents, without roles. source: JSONL, or a folder of it."""
    folder = MediaFolder(images or (source if source.is_dir() else source.parent))
    return read_records(source, images, builder_of(folder))


def builder_of(folder: MediaFolder) -> Build:
    """What puts the document of one record together, its pictures from a folder."""
    addresses: dict[str, str] = {}

    def build(record: dict[str, Any], builder: DocumentBuilder) -> None:
        names, texts = expect(record, "images", list), expect(record, "texts", list)
        builder.ignore_others(record, (*IDS, "images", "texts"))
        if len(names) != len(texts):
            raise ValueError(f"it has {len(names)} images and {len(texts)} texts in parallel")
        for index, (name, text) in enumerate(zip(names, texts)):
            if (name is None) == (text is None):
                raise ValueError(f"place {index} has not exactly one of an image and a text")
            if name is None:
                builder.text(text)
            else:
                builder.image(_local_name(name, folder, addresses))

    return build


def _local_name(name: Any, folder: MediaFolder, addresses: dict[str, str]) -> Any:
    """The file that an address stands for, where there is one; any other name as it is."""
    if not isinstance(name, str) or not name.lower().startswith(("http://", "https://")):
        return name
    try:
        parts = urlsplit(name)
        whole = f"{parts.hostname}{unquote(parts.path)}"
    except ValueError:
        raise ValueError(f"{quoted(name)} is no address") from None
    last = whole.rpartition("/")[2]
    if folder.has(whole):
        return whole
    if last and folder.has(last):
        if addresses.setdefault(last, name) != name:
            raise ValueError(
                f"{quoted(name)} would share the file {quoted(last)} with another address"
            )
        return last
    return name
