"""espeak-ng through its library: a text's sound and its phonemes, in this process.

A process of the command takes 15 ms of a core for a sentence, this 6. The library remembers: its
slow wavering of the pitch goes on from one sentence to the next, so that the same text would sound
otherwise after other texts. It is therefore opened anew for each text and closed again; then its
samples are those of the command, bit for bit (`tests/data/test_espeak.py`).
"""

from __future__ import annotations

import _ctypes
import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes.util import find_library
from functools import cache
from typing import Any, NamedTuple

import numpy as np

__all__ = ["ESPEAK_RATE", "EspeakSpeech", "VoiceSetting", "espeak_phonemes", "espeak_speech"]

ESPEAK_RATE = 22_050
"""Hz, of what espeak-ng says."""

_NAMES = ("libespeak-ng.so.1", "libespeak-ng.1.dylib")
_INSTALL = "install it with `apt-get install espeak-ng` or `brew install espeak-ng`"
# From speak_lib.h and espeak_ng.h.
_SYNCHRONOUS = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # parameters
_CHARACTERS = 1  # positions are counted in them
_UTF8, _END_PAUSE = 1, 0x1000
_IPA = 2  # of phonemes: how they are written

_opened = threading.Lock()
_Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


class VoiceSetting(NamedTuple):
    """How a text is said. voice: espeak-ng's name of language and variant; pace: words a minute;
    pitch: 0 to 99; range: of the pitch, 0 (monotone) to 99; 50 is plain."""

    voice: str
    pace: int = 175
    pitch: int = 50
    range: int = 50


class EspeakSpeech(NamedTuple):
    """What espeak-ng says of a text. samples: int16 (S,) at `ESPEAK_RATE`, empty where there is
    nothing to say. phonemes: as it writes them, a blank between clauses."""

    samples: np.ndarray
    phonemes: str


def espeak_speech(text: str, manner: VoiceSetting, ipa: bool) -> EspeakSpeech:
    """A text's sound and its phonemes.

    ipa: phonemes in IPA, otherwise in espeak-ng's own ASCII names. Its IPA of Chinese is of no use:
    version 1.51 writes the first and the fourth tone alike.

    Raises ValueError where espeak-ng is not installed, and for a voice that it does not have.
    """
    chunks: list[bytes] = []

    def take(samples: int | None, number: int, events: int | None) -> int:
        if samples and number > 0:
            chunks.append(ctypes.string_at(samples, 2 * number))
        return 0

    with _library() as library:
        callback = _Callback(take)
        library.espeak_SetSynthCallback(callback)
        _choose(library, manner)
        # Breath in whispering voices is noise of the C library's generator.
        ctypes.CDLL(None).srand(1)
        data = text.encode()
        status = library.espeak_Synth(
            data, len(data) + 1, 0, _CHARACTERS, 0, _UTF8 | _END_PAUSE, None, None
        )
        _check(status, f"says {text[:40]!r}")
        phonemes = _phonemes(library, text, ipa)
    return EspeakSpeech(np.frombuffer(b"".join(chunks), "<i2"), phonemes)


def espeak_phonemes(text: str, voice: str, ipa: bool) -> str:
    """A text's phonemes alone; see `espeak_speech`."""
    with _library() as library:
        _choose(library, VoiceSetting(voice))
        return _phonemes(library, text, ipa)


def _phonemes(library: Any, text: str, ipa: bool) -> str:
    clauses: list[str] = []
    library.espeak_TextToPhonemes.restype = ctypes.c_char_p
    rest = ctypes.c_char_p(text.encode())
    while rest.value is not None:  # moved on by a clause at a time
        clause = library.espeak_TextToPhonemes(ctypes.byref(rest), _UTF8, _IPA if ipa else 0)
        clauses.append((clause or b"").decode())
    return " ".join(clause.strip() for clause in clauses).strip()


def _choose(library: Any, manner: VoiceSetting) -> None:
    status = library.espeak_ng_SetVoiceByName(manner.voice.encode())
    _check(status, f"has the voice {manner.voice!r}")
    for parameter, value in zip((_RATE, _PITCH, _RANGE), manner[1:]):
        library.espeak_SetParameter(parameter, value, 0)


def _check(status: int, what: str) -> None:
    if status:
        raise ValueError(
            f"espeak-ng gave status {status:#x} where it was expected that it {what};"
            " is espeak-ng-data of the same version installed?"
        )


@contextmanager
def _library() -> Iterator[Any]:
    """The library as if nothing had been said before."""
    name = _file()
    with _opened:
        library = ctypes.CDLL(name)
        try:
            library.espeak_ng_InitializePath(None)
            _check(library.espeak_ng_Initialize(None), "finds its data")
            _check(library.espeak_ng_InitializeOutput(_SYNCHRONOUS, 0, None), "starts")
            yield library
        finally:
            library.espeak_ng_Terminate()
            _ctypes.dlclose(library._handle)
            if _is_loaded(name):
                # Initialized a second time it would wait forever.
                raise ValueError(
                    f"{name} stays loaded; something else in this process uses it. Speech can be"
                    " made in a process of its own"
                )


@cache
def _file() -> str:
    """The library's name. What it needs stays loaded from now on: only it is opened anew."""
    for name in (*_NAMES, find_library("espeak-ng")):
        if name is None:
            continue
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        _ctypes.dlclose(library._handle)
        _keep("libpcaudio.so.0")
        return name
    raise ValueError(f"speech needs espeak-ng, which is not installed; {_INSTALL}")


def _keep(name: str) -> None:
    with suppress(OSError):  # built without
        ctypes.CDLL(name)


def _is_loaded(name: str) -> bool:
    try:
        library = ctypes.CDLL(name, os.RTLD_NOLOAD | os.RTLD_LAZY)
    except OSError:
        return False
    _ctypes.dlclose(library._handle)
    return True


def _forget_lock() -> None:
    """In a forked process, whoever held the lock before."""
    global _opened
    _opened = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)
