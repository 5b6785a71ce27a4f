"""A repetition penalty on sound: where the model or its task declares one, and nowhere else."""

from dataclasses import replace

import pytest

from unified import Sampling, SpanSampling, UnifiedModel
from unified.tasks.penalties import check_penalties
from unified.tasks.task import SlotPart, Task, TextPart
from unified_data.document import Document, Slot, Text

PENALIZED = Sampling(audio=SpanSampling(repetition_penalty=1.3), max_audio_frames=1)
SOUND = {"audio": "audio"}


def test_orpheus_declares_one_and_users_may_change_it(opened):
    model = opened["orpheus"]
    own = (model.sampling,)
    for penalty in (1.0, 1.1, 1.3):
        audio = replace(model.sampling.audio, repetition_penalty=penalty)
        check_penalties(replace(model.sampling, audio=audio), own, SOUND)


@pytest.mark.parametrize("kind", ["emu3", "liquid", "chameleon", "janus", "apertus"])
def test_a_model_that_declares_none_refuses_it_in_one_line(kind, opened):
    model = opened[kind]
    role = "response" if "response" in model.grammar.roles else None
    document = Document((Text("a fox"), Slot("text", role=role)))
    with pytest.raises(ValueError, match=r"audio\.repetition_penalty is 1\.3, expected 1") as error:
        list(model.stream([document], PENALIZED))
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match=r"audio\.repetition_penalty is 1\.3"):
        list(model.stream([document, document], [model.sampling, PENALIZED]))


def test_a_task_declares_it_too(small_model):
    speak = Task("speak", (TextPart("{text}", "prompt"), SlotPart("audio", "response")))
    settings = {"audio.repetition_penalty": 1.2, "max_audio_frames": 2, "max_ids": 60}
    model = small_model(speak)
    with pytest.raises(ValueError, match="neither the model nor its task declares"):
        model.speak("hello", settings=settings)
    declared = replace(speak, sampling={"audio": {"repetition_penalty": 1.1}})
    waveform, _ = small_model(declared).speak("hello", settings=settings)
    assert waveform.size


@pytest.fixture
def small_model(cli_llm, tiny_tokenizers):
    """Makes a small model that speaks by a task."""

    def build(task):
        media = {f"{each.modality}_tokenizer": each for each in tiny_tokenizers}
        model = UnifiedModel.extend(cli_llm, format="pocket", max_grid=4, **media)
        model.tasks = model.tasks.with_entries({"speak": task})
        return model

    return build


def test_kinds_of_spans_are_checked_by_their_modality():
    penalized = SpanSampling(repetition_penalty=1.2)
    sampling = Sampling(spans={"sketch": penalized, "voice": penalized})
    kinds = {"sketch": "image", "voice": "audio", "thought": "text"}
    with pytest.raises(ValueError, match=r"sketch\.repetition_penalty is 1\.2.*without"):
        check_penalties(sampling, (sampling,), kinds)
    voiced = Sampling(spans={"voice": penalized, "thought": penalized})
    check_penalties(voiced, (voiced,), kinds)
    with pytest.raises(ValueError, match=r"voice\.repetition_penalty is 1\.2"):
        check_penalties(voiced, (Sampling(),), kinds)
