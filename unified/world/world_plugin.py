"""The plug-in of models of the world: free words become what they were trained on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from unified.pocket.forms import FORMS_FILE
from unified.pocket.known_subjects import FILE_NAME
from unified.tasks.asking import Inputs
from unified.tasks.claims import Claims
from unified.tasks.task import Verb
from unified.tasks.task_plugin import Reading
from unified.world.drawing_en import read_english
from unified.world.drawing_zh import is_chinese, read_chinese
from unified.world.world_subjects import WorldSubjects
from unified.world.world_tasks import CHINESE_SPEAKER
from unified_base.arguments import prompt
from unified_data.document import Document
from unified_data.world.voices import SPEAKERS

__all__ = ["WorldPlugin", "save_subjects"]


class WorldPlugin:
    """Reads what someone wants against the subjects of a model (subjects.json); without them words
    stay as they are. See `unified.tasks.task_plugin.TaskPlugin`."""

    files = (FILE_NAME, FORMS_FILE)

    def read(self, verb: Verb, inputs: Inputs, directory: Path) -> Reading:
        """The nearest caption for `draw`, wish for `edit`, prompt for `write`, in the language of
        the words; for `ask` and `speak` what follows from their language.

        Raises UnknownSubjectError, naming the nearest subjects, for what the model does not know.
        """
        if verb == "ask":
            return self._question(inputs)
        if inputs.text is None:
            return Reading(inputs)
        if verb == "speak":
            return self._speech(inputs)
        known = WorldSubjects.load(directory) if verb in ("draw", "edit", "write") else None
        if known is None:
            return Reading(inputs)
        if verb == "write":
            return self._article(inputs, known)
        text = prompt("text", inputs.text, 'for example "a red fox on a blue ground"')
        if verb == "draw":
            read = read_chinese(text, known) if is_chinese(text) else read_english(text, known)
        else:
            from unified.world.edit_wishes import read_edit

            read = read_edit(text, known)
        return Reading(replace(inputs, text=read.text), read.notes)

    def _article(self, inputs: Inputs, known: WorldSubjects) -> Reading:
        from unified.world.article_wishes import read_article  # no other verb needs it
        from unified_data.world.wishes import NO_VOICE, canonical

        assert inputs.text is not None
        wishes, notes = read_article(inputs.text, known, inputs.images, inputs.sounds != 0)
        sounds = 0 if wishes.narration in (None, NO_VOICE) else 1
        asked = replace(inputs, text=canonical(wishes), images=wishes.pictures or 0, sounds=sounds)
        return Reading(asked, notes, wishes)

    def _question(self, inputs: Inputs) -> Reading:
        """A question in Chinese is answered in Chinese."""
        words = inputs.question
        if inputs.language is None and isinstance(words, str) and is_chinese(words):
            inputs = replace(inputs, language="zh")
        return Reading(inputs)

    def _speech(self, inputs: Inputs) -> Reading:
        """Chinese is said by a Chinese voice, and a voice says its own language."""
        if not isinstance(inputs.text, str):
            return Reading(inputs)
        text = " ".join(inputs.text.split())
        language = "zh" if is_chinese(text) else "en"
        voice = inputs.voice
        if voice is None and language == "zh":
            voice = CHINESE_SPEAKER
        speaker = SPEAKERS.get(str(voice or "").lower())
        notes: tuple[str, ...] = ()
        if speaker is not None and speaker.language != language:
            able = [name for name, each in SPEAKERS.items() if each.language == language]
            notes = (
                f"voice {speaker.name} speaks {speaker.language} and may not say this well;"
                f" of {language} are {', '.join(able)}",
            )
        return Reading(replace(inputs, text=text, voice=voice), notes)

    def finish(self, verb: Verb, reading: Reading, document: Document) -> tuple[str, ...]:
        """What an article was to be and is not."""
        if reading.plan is None:
            return ()
        from unified.world.article_wishes import what_is_missing
        from unified_data.world.wishes import Wishes

        assert isinstance(reading.plan, Wishes)
        return what_is_missing(reading.plan, document)

    def claims(self, text: str) -> Claims | None:
        """What a caption claims, as questions; None where a text is no caption of the world."""
        from unified.world.world_claims import world_claims

        return world_claims(text)

    def subjects(self, directory: Path) -> list[dict[str, Any]] | None:
        """Name, kind, Chinese name, ... of every subject; None where the model does not say."""
        known = WorldSubjects.load(directory)
        return None if known is None else known.describe()


def save_subjects(directory: Path) -> None:
    """Write the world's subjects into the folder of a model that was trained on it."""
    WorldSubjects.of_world().save(directory)
