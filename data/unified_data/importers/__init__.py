"""Importers: documents from the forms that data comes in, one file a kind.

Each kind's `read(source, images)` yields a `Sample` or a `Skipped` for every document of the
source; `import_shards.import_shards` writes them into shards. What a source says is never trusted:
names may not leave its folder, nothing is fetched, every picture and sound is decoded first.

An importer of others joins by an entry point of an installed distribution in the group
`unified.importers`, or by `register_importer`. Its `read` makes samples with
`builder.DocumentBuilder`, which proves media to be sound; see `importer_registry`.
"""

from unified_data.importers.builder import Sample, Skipped
from unified_data.importers.importer_registry import KINDS, Read, importer, register_importer

__all__ = ["KINDS", "Read", "Sample", "Skipped", "importer", "register_importer"]
