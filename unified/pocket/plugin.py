"""The pocket model's plug-in: plain words become the captions and prompts of its training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from unified.pocket.captions import read_caption
from unified.pocket.forms import FORMS_FILE
from unified.pocket.known_subjects import FILE_NAME, KnownSubjects, describe
from unified.tasks.asking import Inputs
from unified.tasks.defaults import pocket_forms
from unified.tasks.size_rule import SizeRule
from unified.tasks.task import Verb
from unified.tasks.task_plugin import Reading
from unified.tasks.task_table import Tasks
from unified_data.document import Document
from unified_data.pocket.scenes import SIDE
from unified_data.pocket.speech import DEFAULT_VOICE, VOICES
from unified_data.pocket.subjects import load_subjects

__all__ = ["PocketPlugin", "pocket_tasks", "save_subjects"]


# Seeds change what an article's pictures show; its sentences the model recites. Two seeds gave
# other captions in 12 of 12 subjects (10 at 0.5 and 0.9), and 63 of 64 articles kept to their
# subject, beside 20 of 20 at 0. Without `top_p`, at 1.0, sentences became untrue.
_WRITING = {"temperature": 0.7, "top_p": 0.95}


class PocketPlugin:
    """Reads what someone wants against the subjects of a model (subjects.json); without them words
    stay as they are. See `unified.tasks.task_plugin.TaskPlugin`."""

    files = (FILE_NAME, FORMS_FILE)

    def read(self, verb: Verb, inputs: Inputs, directory: Path) -> Reading:
        """The nearest caption for `draw`, the prompt of a plan for `write`; a note where they say
        something else than was asked for.

        Raises UnknownSubjectError, naming the nearest subjects, for what the model does not know.
        """
        if verb == "speak" and isinstance(inputs.text, str):
            return Reading(replace(inputs, text=" ".join(inputs.text.split())))
        known = KnownSubjects.load(directory) if verb in ("draw", "write") else None
        if known is None:
            return Reading(inputs)
        words: Any = inputs.text  # of any type until `prompt` has looked at it
        if verb == "draw":
            caption = read_caption(words, known)
            notes = () if caption.note is None else (caption.note,)
            return Reading(replace(inputs, text=caption.text), notes)
        from unified.pocket.article_plan import plan_article  # no other verb needs it

        plan = plan_article(words, known, inputs.images, inputs.sounds != 0)
        sounds = 1 if plan.narration else 0
        asked = replace(inputs, text=plan.prompt, images=plan.num_pictures, sounds=sounds)
        return Reading(asked, plan.notes, plan)

    def finish(self, verb: Verb, reading: Reading, document: Document) -> tuple[str, ...]:
        """What an article was to hold and does not."""
        if reading.plan is None:
            return ()
        from unified.pocket.article import shortfall
        from unified.pocket.article_plan import ArticlePlan

        assert isinstance(reading.plan, ArticlePlan)
        note = shortfall(reading.plan, document)
        return () if note is None else (note,)

    def subjects(self, directory: Path) -> list[dict[str, Any]] | None:
        """Name, kind, glyph, ... of every subject; None where the model does not say."""
        known = KnownSubjects.load(directory)
        return None if known is None else [describe(subject) for subject in known.subjects]


def save_subjects(directory: Path) -> None:
    """Write the world's subjects into the folder of a model that was trained on it."""
    KnownSubjects.of(load_subjects()).save(directory)


def pocket_tasks() -> Tasks:
    """The tasks of models of the pocket world: pictures of 96x96 pixels, three voices."""
    missing = [("video", "read"), ("video", "make"), ("box", "read"), ("box", "make")]
    forms = pocket_forms(SizeRule((SIDE, SIDE), fixed=True))
    tasks = forms.without_media(dict.fromkeys(missing, "the pocket world has none"))
    tasks = Tasks({verb: tasks[verb] for verb in tasks.able if verb != "ground"})
    speak = replace(tasks.task("speak"), voices=tuple(VOICES), voice=DEFAULT_VOICE)
    write = replace(tasks.task("write"), sampling={"text": _WRITING})
    return tasks.with_entries({"speak": speak, "write": write})
