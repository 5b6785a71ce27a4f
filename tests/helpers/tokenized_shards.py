"""Shards of small documents, and the codes that are stored for them."""

from pathlib import Path

import numpy as np

from unified.dataloading.stored_codes import read_stored_codes
from unified_data.document import Audio, Document, Image
from unified_data.shard_file import ShardFile
from unified_data.shards import ShardWriter, write_index


def write(folder: Path, kinds: dict[str, list[Document]]) -> list[Path]:
    infos = []
    for kind, documents in kinds.items():
        with ShardWriter(folder, "train", kind) as writer:
            for number, document in enumerate(documents):
                writer.write(f"k{number}", document)
        infos += writer.shards
    write_index(folder, infos)
    return [folder / info.file for info in infos]


def picture(seed: int, height: int = 48, width: int = 24) -> Image:
    rng = np.random.default_rng(seed)
    return Image(rng.integers(0, 256, (height, width, 3), dtype=np.uint8), "response")


def sound(seed: int, samples: int = 3200, rate: int = 16_000, channels: int = 1) -> Audio:
    rng = np.random.default_rng(seed)
    waveform = rng.uniform(-0.5, 0.5, (channels, samples)).astype(np.float32)
    return Audio(waveform, rate, "response", 0.5)


def stored(folder: Path, name: str) -> dict[str, list]:
    codes = read_stored_codes(folder)
    with ShardFile(folder / name) as shard:
        parts = [shard.parts(number) for number in range(len(shard))]
    return {key: codes.from_parts(key, obj, media) for key, obj, media in parts}


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.tar"))}
