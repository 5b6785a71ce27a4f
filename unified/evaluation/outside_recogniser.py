"""A recogniser from outside, pocketsphinx: which of several words does it hear in a sentence.

Left to write down what it hears, it gets nine in ten words of true espeak-ng speech wrong (two in
ten of a voice recorded from a person), so that it could judge nothing. Given the sentence with one
word open, and thirteen words to choose from, it is a judge that shares nothing with ours.
Huggins-Daines et al. (2006), "PocketSphinx"; its own American English model and dictionary.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np

from unified.evaluation.judges import words
from unified_base.sounds import conform
from unified_data.document import Audio

__all__ = ["NEEDED", "OutsideRecogniser"]

NEEDED = "the outside recogniser is pocketsphinx, which is not installed (the extra `measure`)"
"""Why there is no figure of it, where it is not installed."""
_RATE = 16_000


class OutsideRecogniser:
    """Chooses between words. Of words that its dictionary does not have it says nothing."""

    def __init__(self) -> None:
        """Raises ValueError where pocketsphinx is not installed."""
        if not self.installed():
            raise ValueError(NEEDED)
        from pocketsphinx import Decoder

        # With its usual beams most sentences of a synthetic voice end before their last word.
        self._decoder: Any = Decoder(
            samprate=_RATE, lm=None, loglevel="FATAL", bestpath=False, beam=1e-120, pbeam=1e-120,
            wbeam=1e-100,
        )  # fmt: skip

    @staticmethod
    def installed() -> bool:
        return find_spec("pocketsphinx") is not None

    def knows(self, word: str) -> bool:
        return word.isascii() and self._decoder.lookup_word(word) is not None

    def choice(self, sound: Audio, text: str, word: str, rivals: Sequence[str]) -> str | None:
        """Which of a word and its rivals stands at the word's place in what was said.

        "" where no such sentence fits the sound; None where it does not know the text's words.
        """
        spoken = words(text)
        choices = {word, *(rival for rival in rivals if self.knows(rival))}
        if word not in spoken or not all(map(self.knows, spoken)) or len(choices) < 2:
            return None
        index = spoken.index(word)
        before, behind = " ".join(spoken[:index]), " ".join(spoken[index + 1 :])
        rule = f"{before} <word> {behind}".strip()
        grammar = f"#JSGF V1.0; grammar one; public <said> = {rule}; "
        # Its search takes the words in this order; none of them wins for coming first.
        grammar += f"<word> = {' | '.join(sorted(choices))};"
        decoder = self._decoder
        decoder.add_jsgf_string("one", grammar)
        decoder.activate_search("one")
        wave = conform(sound.waveform, sound.sample_rate, _RATE, 1)[0]
        samples = np.rint(wave.clip(-1, 1) * 32767).astype("<i2")
        decoder.start_utt()
        decoder.process_raw(samples.tobytes(), False, True)
        decoder.end_utt()
        hypothesis = decoder.hyp()
        heard = words(hypothesis.hypstr) if hypothesis is not None else []
        return heard[index] if len(heard) == len(spoken) else ""
