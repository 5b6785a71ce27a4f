"""Broken media files: what the one reader makes of them, beside what is certain.

Sound files of every kind are broken by seeded mutations and read. Each must be read, or refused
with a ValueError. A failure is another exception, a hang, a crash of the process, more than a
gigabyte, and a wrong value: where a kind has checksums over its content (PNG, FLAC with MD5, Ogg)
the array that comes out of a changed file must be the one of the whole file.
"""

from __future__ import annotations

import faulthandler
import io
import json
import os
import random
import resource
import signal
import struct
import sys
import traceback
import zlib
from collections import Counter
from typing import Any

import numpy as np
import soundfile
from _fuzz_inputs import break_bytes, break_media
from PIL import Image as PillowImage

from unified_base.images import decode_image
from unified_base.sounds import conform, decode_audio

SECONDS = 10.0
MEMORY = 1 << 30
_CHUNK = 500
_CHECKED = ("png", "flac", "ogg", "opus")
"""Kinds whose checksums cover what the array is made of."""


class _Hang(BaseException):
    """Raised by the watchdog; nothing catches it on its way."""


def measure(count: int, seed: int = 0) -> dict[str, Any]:
    """Read that many broken files.

    reader_cases; reader_failures; reader_refused; reader_by_kind: cases read, refused and failed by
    kind; reader_examples: the first failures, each to be run again by `reproduce`.
    """
    kinds: dict[str, Counter[str]] = {}
    failures: list[dict[str, Any]] = []
    done = 0
    while done < count:
        part = _in_child(done, min(count, done + _CHUNK), seed)
        for kind, counts in part["kinds"].items():
            kinds.setdefault(kind, Counter()).update(counts)
        failures += part["failures"]
        done = part["next"]
        if done % 2_000 == 0:
            print(f"{done:,} media files, {len(failures)} failures", file=sys.stderr, flush=True)
    return {
        "reader_cases": done,
        "reader_failures": len(failures),
        "reader_refused": sum(counts["refused"] for counts in kinds.values()),
        "reader_by_kind": {kind: dict(kinds[kind]) for kind in sorted(kinds)},
        "reader_examples": failures[:20],
    }


def reproduce(case: int, seed: int = 0) -> tuple[str, bytes, str]:
    """Source, bytes and outcome of one case, read in this process."""
    sources = sound_files(seed)
    name, data = _case(sources, case, seed)
    return name, data, _outcome(name, data, _read(name, sources[name]))


def sound_files(seed: int = 0) -> dict[str, bytes]:
    """Small sound files of every kind and variant, by a name that ends in the kind."""
    rng = np.random.default_rng(seed)
    files: dict[str, bytes] = {}
    for name, form, mode, options in _PICTURES:
        pixels = rng.integers(0, 256, (17, 23, 3), dtype=np.uint8)
        picture = PillowImage.fromarray(pixels)
        if mode == "I;16":
            picture = PillowImage.fromarray(pixels[:, :, 0].astype(np.uint16) * 257)
        elif mode in ("RGBA", "LA"):
            picture = picture.convert(mode)
            picture.putalpha(PillowImage.fromarray(pixels[:, :, 1]))
        else:
            picture = picture.convert(mode)
        buffer = io.BytesIO()
        picture.save(buffer, form, **options)
        files[name] = buffer.getvalue()
    for name, form, subtype in _SOUNDS:
        wave = rng.uniform(-0.5, 0.5, (2_500, 2 if "stereo" in name else 1)).astype(np.float32)
        buffer = io.BytesIO()
        soundfile.write(buffer, wave, 16_000, format=form, subtype=subtype)
        files[name] = buffer.getvalue()
    files["rgb16.png"] = _rgb16(rng)
    files["twice.ogg"] = files["vorbis.ogg"] * 2
    files["twice.mp3"] = files["mono.mp3"] * 2
    files["bare.mp3"] = files["mono.mp3"][_first_frame(files["mono.mp3"]) :]
    return files


_EXIF = b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0"
_PICTURES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("rgb.png", "PNG", "RGB", {}), ("palette.png", "PNG", "P", {"transparency": 3}),
    ("alpha.png", "PNG", "RGBA", {}), ("grey16.png", "PNG", "I;16", {}),
    ("grey_alpha.png", "PNG", "LA", {}), ("bits.png", "PNG", "1", {"transparency": 0}),
    ("grey.png", "PNG", "L", {"transparency": 7}), ("exif.png", "PNG", "RGB", {"exif": _EXIF}),
    ("base.jpg", "JPEG", "RGB", {"quality": 90}), ("exif.jpg", "JPEG", "RGB", {"exif": _EXIF}),
    ("progressive.jpg", "JPEG", "RGB", {"progressive": True}),
    ("cmyk.jpg", "JPEG", "CMYK", {}), ("grey.jpg", "JPEG", "L", {"progressive": True}),
    ("lossless.webp", "WEBP", "RGBA", {"lossless": True}), ("lossy.webp", "WEBP", "RGB", {}),
    ("exif.webp", "WEBP", "RGB", {"exif": _EXIF}), ("still.gif", "GIF", "P", {}),
    ("clear.gif", "GIF", "P", {"transparency": 1}), ("rgb.bmp", "BMP", "RGB", {}),
    ("palette.bmp", "BMP", "P", {}),
)  # fmt: skip
_SOUNDS = (
    ("pcm16.wav", "WAV", "PCM_16"), ("stereo.wav", "WAV", "PCM_24"), ("float.wav", "WAV", "FLOAT"),
    ("ulaw.wav", "WAV", "ULAW"), ("ima.wav", "WAV", "IMA_ADPCM"), ("ms.wav", "WAV", "MS_ADPCM"),
    ("gsm.wav", "WAV", "GSM610"), ("large.rf64", "RF64", "PCM_16"), ("wide.w64", "W64", "PCM_16"),
    ("pcm.aiff", "AIFF", "PCM_16"), ("float.aiff", "AIFF", "FLOAT"), ("pcm.au", "AU", "PCM_16"),
    ("pcm.caf", "CAF", "PCM_16"), ("mono.flac", "FLAC", "PCM_16"),
    ("stereo.flac", "FLAC", "PCM_24"),
    ("vorbis.ogg", "OGG", "VORBIS"), ("stereo.ogg", "OGG", "VORBIS"),
    ("speech.opus", "OGG", "OPUS"),
    ("mono.mp3", "MP3", None), ("stereo.mp3", "MP3", None),
)  # fmt: skip


def _rgb16(rng: np.random.Generator) -> bytes:
    """A PNG of 16 bits a channel with a transparent colour, which Pillow cannot write."""
    pixels = rng.integers(0, 1 << 16, (11, 13, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    clear = pixels[4, 5].astype(">u2").tobytes()
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 13, 11, 16, 2, 0, 0, 0)), (b"tRNS", clear),
              (b"IDAT", zlib.compress(rows)), (b"IEND", b""))  # fmt: skip
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def _first_frame(data: bytes) -> int:
    """Where the frame after an MP3's Xing frame begins."""
    return data.index(data[:2], 4)


def _case(sources: dict[str, bytes], case: int, seed: int) -> tuple[str, bytes]:
    rng = random.Random(f"{seed}:{case}")
    name = rng.choice(sorted(sources))
    data = sources[name]
    kind_of_damage = rng.random()
    if kind_of_damage < 0.3:  # one bit, anywhere
        at = rng.randrange(len(data))
        return name, data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind_of_damage < 0.5:  # near the front, where headers are
        at = rng.randrange(min(64, len(data)))
        size = rng.choice((1, 2, 4, 8))
        value = rng.choice((b"\xff" * 8, b"\0" * 8, b"\x7f" + b"\xff" * 7, rng.randbytes(8)))
        return name, data[:at] + value[:size] + data[at + size :]
    if kind_of_damage < 0.6:
        return name, data[: rng.randrange(len(data))]
    if kind_of_damage < 0.65:  # another's bytes in the middle
        other = sources[rng.choice(sorted(sources))]
        at = rng.randrange(len(data))
        return name, data[:at] + other[rng.randrange(len(other)) :]
    return name, (break_media if kind_of_damage < 0.9 else break_bytes)(data, rng)


def _is_picture(name: str) -> bool:
    return name.endswith((".png", ".jpg", ".webp", ".gif", ".bmp"))


def _read(name: str, data: bytes) -> np.ndarray:
    if _is_picture(name):
        return decode_image(data, name)
    waveform, rate = decode_audio(data, name)
    if waveform.shape[0] <= 2 and abs(waveform).max() < 1e30:
        try:
            conform(waveform, rate, 24_000, 1)
        except ValueError as error:
            _expect("resample" in str(error) or "samples at" in str(error), str(error))
    return waveform


def _outcome(name: str, data: bytes, whole: np.ndarray) -> str:
    """ "read" or "refused"; AssertionError for a wrong value."""
    try:
        array = _read(name, data)
    except ValueError as error:
        _expect(name in str(error), f"without the file's name: {error}")
        _expect(len(str(error)) < 600, "a reason without end")
        return "refused"
    if _is_picture(name):
        _expect(array.dtype == np.uint8, str(array.dtype))
        _expect(array.shape[2] == 3, str(array.shape))
    else:
        _expect(array.dtype == np.float32, str(array.dtype))
        _expect(bool(np.isfinite(array).all()), "NaN")
    if name.endswith(_CHECKED) and not _made_anew(name, data):
        _expect(array.shape == whole.shape, f"shape {array.shape}, expected {whole.shape}")
        _expect(np.array_equal(array, whole), "other values")
    return "read"


def _expect(holds: bool, problem: str) -> None:
    if not holds:
        raise AssertionError(problem)


def _made_anew(name: str, data: bytes) -> bool:
    """Whether a mutation may have left every checksum right: a new content, not a damaged one."""
    if name.endswith(".png"):
        at = 8
        while at + 12 <= len(data):
            end = at + 12 + int.from_bytes(data[at : at + 4], "big")
            if data[end - 4 : end] != struct.pack(">I", zlib.crc32(data[at + 4 : end - 4])):
                return False
            at = end
            if data[at - 8 : at - 4] == b"IEND":
                return True
        return False
    # A FLAC's header has no checksum; without its MD5, or as another kind, it says something else.
    if name.endswith(".flac"):
        return data[:4] != b"fLaC" or not data[26:42].strip(b"\0") or data[4:8] != b"\0\0\0\x22"
    return data[:4] != b"OggS"


def _in_child(begin: int, end: int, seed: int) -> dict[str, Any]:
    """Run cases in a process of their own, so that a crash is one failure and not the end."""
    inside, outside = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(inside)
        code = 1
        faulthandler.disable()  # a crash is told by its exit code
        stderr = os.dup(2)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # the MP3 library writes what it meets there
        try:
            with open(outside, "w") as pipe:
                _chunk(begin, end, seed, pipe)
            code = 0
        except BaseException:
            os.write(stderr, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(outside)
    position, kinds, failures, whole = begin, {}, [], False
    with open(inside) as pipe:
        for line in pipe:  # "case N" before each case, and what there is to tell after it
            if line.startswith("case "):
                position = int(line[5:])
            else:
                row = json.loads(line)
                kinds, whole = row.get("kinds", kinds), "kinds" in row
                failures += [row["failure"]] if "failure" in row else []
    _, status = os.waitpid(child, 0)
    if whole and status == 0:
        return {"kinds": kinds, "failures": failures, "next": end}
    error = f"the process ended with {os.waitstatus_to_exitcode(status)}"
    failures.append({"case": position, "seed": seed, "error": error})
    return {"kinds": {}, "failures": failures, "next": position + 1}


def _chunk(begin: int, end: int, seed: int, pipe: Any) -> None:
    sources = sound_files(seed)
    arrays = {name: _read(name, data) for name, data in sources.items()}
    kinds: dict[str, Counter[str]] = {}

    def alarm(*_: object) -> None:
        raise _Hang(f"took longer than {SECONDS:g} s")

    signal.signal(signal.SIGALRM, alarm)
    # The processor's time: others may run beside this.
    start = _peak()
    for case in range(begin, end):
        pipe.write(f"case {case}\n")
        pipe.flush()
        name, data = _case(sources, case, seed)
        error = ""
        signal.setitimer(signal.ITIMER_REAL, 6 * SECONDS)
        faulthandler.dump_traceback_later(12 * SECONDS, exit=True, file=2)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        try:
            outcome = _outcome(name, data, arrays[name])
        except BaseException as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]
            error = f"{type(problem).__name__}: {str(problem)[:200]} ({where.name})"
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.cancel_dump_traceback_later()
        if resource.getrusage(resource.RUSAGE_SELF).ru_utime - before > SECONDS:
            error = error or f"took longer than {SECONDS:g} s"
        if _peak() - start > MEMORY:
            error = error or f"memory grew by {(_peak() - start) / 1e6:.0f} MB"
        kind = name.rpartition(".")[2]
        kinds.setdefault(kind, Counter())["failed" if error else outcome] += 1
        if error:
            failure = {"case": case, "seed": seed, "source": name, "error": error}
            pipe.write(json.dumps({"failure": failure}) + "\n")
    pipe.write(json.dumps({"kinds": kinds}) + "\n")


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]))))
