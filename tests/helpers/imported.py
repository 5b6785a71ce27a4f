"""Records for importers, and what becomes of them."""

import json
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from unified_base.images import load_image
from unified_data.document import Image, Text
from unified_data.importers import Sample, Skipped, importer
from unified_data.shards import document_of


def lines(path, *records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    return path


def outcomes(results: Iterable[Sample | Skipped]) -> Iterator:
    """Of each record its segments, or the reason why there are none."""
    for result in results:
        if isinstance(result, Sample):
            yield document_of(result.key, result.obj, result.media).segments
        else:
            yield result.reason


def asked(text, loss=0.0):
    return Text(text, "prompt", loss)


def answer(text, loss=1.0):
    return Text(text, "response", loss)


def pictured(folder, name, role="prompt"):
    return Image(load_image(folder / name), role, 0.0 if role == "prompt" else 1.0)


def table(path, rows, features=None, **options):
    """A file of rows, perhaps with features as Hugging Face's datasets writes them."""
    content = pa.Table.from_pylist(rows)
    if features is not None:
        about = json.dumps({"info": {"features": features}})
        content = content.replace_schema_metadata({"huggingface": about})
    pq.write_table(content, path, **options)
    return path


def ignored(kind, source, images=None):
    """Fields that were not taken over, of the first document."""
    return next(iter(importer(kind)(source, images))).ignored
