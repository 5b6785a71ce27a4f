"""Parameters x bad values: each is accepted where it is right, or refused by one ValueError that
names the parameter, the value and what was expected.

A new parameter of Python joins by a line in `PARAMETERS`, one of the command line in `OPTIONS`.
"""

import inspect
import warnings
from dataclasses import fields

import numpy as np
import pytest

from unified.engine.request import CodedSlot, Request, Sampling
from unified.engine.sampler import Guidance, LevelSampling, SpanSampling
from unified.formats.limits import Limits
from unified_data.document import Audio, Document, Slot, Text

VALUES = {
    "None": None,
    "text": "much",
    "empty text": "",
    "number as text": "3",
    "bytes": b"3",
    "1e-45": 1e-45,
    "1e-50": 1e-50,
    "10^19": 10**19,
    "10^400": 10**400,
    "10^5000": 10**5000,
    "1e300": 1e300,
    "NaN": float("nan"),
    "inf": float("inf"),
    "-inf": -float("inf"),
    "NaN of numpy": np.float32("nan"),
    "True": True,
    "True of numpy": np.bool_(True),
    "-1": -1,
    "-1 of numpy": np.int64(-1),
    "-0.5": -0.5,
    "half": np.float32(0.5),
    "3": 3,
    "3 of numpy": np.int64(3),
    "3 of uint8": np.uint8(3),
    "3.0": 3.0,
    "complex": 1j,
    "list": [1],
    "nested list": [[[3]]],
    "list of NaN": [float("nan"), 2],
    "list of texts": ["text"],
    "tuple": (2, 3),
    "array": np.array([2, 3]),
    "array of one": np.array(3),
    "dict": {},
    "set": {3},
    "object": object(),
    "class": int,
    "function": len,
}
# What is right, by the names above.
WHOLE = {"3", "3 of numpy", "3 of uint8"}
POSITIVE = WHOLE | {"3.0", "half"}
FLAG = {"True", "True of numpy"}
PAIR = {"tuple", "array"}
TEXTS = {"list of texts"}
WORDS = {"text", "empty text", "number as text"}
NONE = {"None"}

DOCUMENT = Document((Text("a cat", "prompt"), Slot("text", role="response")))
LEAST = Sampling(max_text_ids=1)


def sampling(name):
    return lambda value: SpanSampling(**{"temperature": 1.0, name: value})


def of(cls, name, **others):
    return lambda value: cls(**{**others, name: value})


# (as it is called in messages, what takes it, which values are right)
PARAMETERS = {
    "SpanSampling.temperature": (sampling("temperature"), POSITIVE),
    "SpanSampling.top_k": (sampling("top_k"), WHOLE | NONE),
    "SpanSampling.top_p": (sampling("top_p"), {"1e-45", "1e-50", "half"}),
    "SpanSampling.min_p": (sampling("min_p"), {"1e-45", "1e-50", "half"}),
    "SpanSampling.repetition_penalty": (sampling("repetition_penalty"), POSITIVE),
    "SpanSampling.guidance": (sampling("guidance"), set()),
    "SpanSampling.draft_tokens": (sampling("draft_tokens"), WHOLE),
    "SpanSampling.levels": (sampling("levels"), set()),
    "SpanSampling.ends_likeliest": (sampling("ends_likeliest"), FLAG),
    "SpanSampling.repetition_window": (sampling("repetition_window"), WHOLE | NONE),
    "SpanSampling.window_repeats": (sampling("window_repeats"), WHOLE),
    "LevelSampling.temperature": (of(LevelSampling, "temperature"), POSITIVE | NONE),
    "LevelSampling.top_k": (of(LevelSampling, "top_k"), WHOLE | NONE),
    "LevelSampling.top_p": (of(LevelSampling, "top_p"), {"1e-45", "1e-50", "half"} | NONE),
    "LevelSampling.min_p": (of(LevelSampling, "min_p"), {"1e-45", "1e-50", "half"} | NONE),
    "LevelSampling.repetition_penalty": (of(LevelSampling, "repetition_penalty"), POSITIVE | NONE),
    "LevelSampling.repetition_window": (of(LevelSampling, "repetition_window"), WHOLE | NONE),
    "LevelSampling.window_repeats": (of(LevelSampling, "window_repeats"), WHOLE | NONE),
    "Guidance.scale": (of(Guidance, "scale"), POSITIVE | {"1e-45", "1e-50"}),
    "Guidance.top_k": (of(Guidance, "top_k"), WHOLE | NONE),
    "Guidance.image_scale": (of(Guidance, "image_scale"), POSITIVE | {"1e-45", "1e-50"}),
    "Guidance.formula": (of(Guidance, "formula"), set()),
    "Sampling.top_logprobs": (of(Sampling, "top_logprobs"), WHOLE | NONE),
    "Sampling.text": (of(Sampling, "text"), set()),
    "Sampling.image": (of(Sampling, "image"), set()),
    "Sampling.audio": (of(Sampling, "audio"), set()),
    "Sampling.spans": (of(Sampling, "spans"), {"dict"}),
    "Sampling.max_ids": (of(Sampling, "max_ids"), WHOLE | NONE),
    "Sampling.max_audio_frames": (of(Sampling, "max_audio_frames"), WHOLE | NONE),
    "Sampling.max_text_ids": (of(Sampling, "max_text_ids"), WHOLE | NONE),
    "Sampling.max_repeats": (of(Sampling, "max_repeats"), WHOLE),
    "Sampling.max_thought_ids": (of(Sampling, "max_thought_ids"), WHOLE | NONE),
    "Sampling.thought_ends": (of(Sampling, "thought_ends"), TEXTS),
    "Sampling.calls": (of(Sampling, "calls"), FLAG),
    "Sampling.stop": (of(Sampling, "stop"), TEXTS),
    "Sampling.max_rows": (of(Sampling, "max_rows"), WHOLE),
    "Limits.max_ids": (of(Limits, "max_ids"), WHOLE | NONE),
    "Limits.num_images": (of(Limits, "num_images"), WHOLE | NONE),
    "Limits.num_audios": (of(Limits, "num_audios"), WHOLE | NONE),
    "Limits.allow": (of(Limits, "allow"), TEXTS | NONE),
    "Limits.image_grid": (of(Limits, "image_grid"), PAIR | NONE),
    "Limits.min_audio_frames": (of(Limits, "min_audio_frames"), WHOLE),
    "Limits.max_audio_frames": (of(Limits, "max_audio_frames"), WHOLE | NONE),
    "Limits.roles": (of(Limits, "roles"), FLAG),
    "Limits.single": (of(Limits, "single"), FLAG),
    "Limits.spans": (of(Limits, "spans"), {"dict"}),
    "Limits.calls": (of(Limits, "calls"), WORDS | NONE),
    "Limits.role": (of(Limits, "role"), WORDS | NONE),
    "Limits.stop": (of(Limits, "stop", single=True, allow=("text",)), WHOLE | NONE),
    "Request.seed": (of(Request, "seed", segments=(CodedSlot("text"),)), WHOLE),
    "Slot.height": (of(Slot, "height", modality="image", width=3), WHOLE),
    "Slot.width": (of(Slot, "width", modality="image", height=3), WHOLE),
    "Slot.num_images": (of(Slot, "num_images", modality="any"), WHOLE | NONE),
    "Slot.num_audios": (of(Slot, "num_audios", modality="any"), WHOLE | NONE),
    "Slot.modality": (of(Slot, "modality"), set()),
    "Slot.role": (of(Slot, "role", modality="any"), NONE),
    "Slot.loss": (of(Slot, "loss", modality="any"), POSITIVE | {"1e-45", "1e-50"}),
}  # fmt: skip
MODEL = {
    "generate.document": (lambda m, v: m.generate(v, sampling=LEAST), set()),
    "generate.n": (lambda m, v: m.generate(DOCUMENT, n=v, sampling=LEAST), WHOLE),
    "generate.seed": (lambda m, v: m.generate(DOCUMENT, seed=v, sampling=LEAST), WHOLE),
    "generate.sampling": (lambda m, v: m.generate(DOCUMENT, sampling=v), NONE),
    "sample.n": (lambda m, v: m.sample(DOCUMENT, n=v, sampling=LEAST), WHOLE),
    "stream.documents": (lambda m, v: list(m.stream(v)), set()),
    "stream.documents[0]": (lambda m, v: list(m.stream([v])), set()),
    "stream.seeds": (lambda m, v: list(m.stream([DOCUMENT], LEAST, v)), NONE | {"list"}),
    "stream.seeds[0]": (lambda m, v: list(m.stream([DOCUMENT], LEAST, [v])), WHOLE),
    "stream.sampling": (lambda m, v: list(m.stream([DOCUMENT], v)), NONE),
    "stream.sampling[0]": (lambda m, v: list(m.stream([DOCUMENT], [v])), set()),
    "stream.negative": (
        lambda m, v: list(m.stream([DOCUMENT], LEAST, negative=v)),
        NONE | {"text", "empty text", "number as text"},
    ),
    "draw.text": (lambda m, v: m.draw(v), set()),
    "draw.n": (lambda m, v: m.draw("a cat", n=v), WHOLE),
    "draw.seed": (lambda m, v: m.draw("a cat", seed=v), WHOLE),
    "speak.text": (lambda m, v: m.speak(v, sampling=Sampling(max_audio_frames=1)),
                   {"text", "number as text"}),
    "speak.voice": (lambda m, v: m.speak("a cat", v), {"None"}),
    "describe.question": (
        lambda m, v: m.describe(np.zeros((96, 96, 3), np.uint8), v, sampling=LEAST),
        NONE | {"text", "number as text"},
    ),
    "describe.pixels": (lambda m, v: m.describe(v), set()),
    "listen.rate": (lambda m, v: m.listen(np.zeros(9, np.float32), v), set()),
    "listen.waveform": (lambda m, v: m.listen(v, 16_000), {"half"}),
    "write.prompt": (lambda m, v: m.write(v), set()),
    "write.images": (lambda m, v: m.write("The cat. Its looks", v, audio=False),
                     WHOLE | NONE),
    "write.audio": (lambda m, v: m.write("The cat. Its looks", 0, v), FLAG),
    "write.seed": (lambda m, v: m.write("The cat. Its looks", 0, False, v), WHOLE),
    "use_diffusion.steps": (lambda m, v: m.use_diffusion(steps=v), WHOLE),
    "use_diffusion.scale": (lambda m, v: m.use_diffusion(scale=v), set()),
    "use_diffusion.seed": (lambda m, v: m.use_diffusion(seed=v), WHOLE),
}  # fmt: skip


# Texts of which the refusal says something else: a subject that is not known, no voice.
TOLD_OTHERWISE = {"draw.text", "write.prompt", "speak.voice"}


def check(name, value, right, call):
    word = name.rpartition(".")[2]
    if right:
        call()
        return
    with pytest.raises(ValueError, match=r".") as refused:
        call()
    message = str(refused.value)
    if name in TOLD_OTHERWISE and isinstance(value, str):
        return
    assert word in message
    assert "\n" not in message
    assert len(message) < 300
    assert "expected" in message or "empty" in message


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_are_right_or_refused_by_name(name, value):
    call, right = PARAMETERS[name]
    check(name, VALUES[value], value in right, lambda: call(VALUES[value]))


@pytest.mark.parametrize("name", PARAMETERS)
def test_what_numpy_gives_becomes_a_plain_number(name):
    """So that it can be written as JSON, hashed and compared."""
    call, right = PARAMETERS[name]
    for value in right & {"3 of numpy", "half", "True of numpy", "3 of uint8"}:
        stored = getattr(call(VALUES[value]), name.rpartition(".")[2])
        assert type(stored) in (int, float, bool)


@pytest.mark.parametrize("cls", [SpanSampling, LevelSampling, Guidance, Sampling, Limits])
def test_every_field_is_in_the_matrix(cls):
    assert {f"{cls.__name__}.{field.name}" for field in fields(cls)} <= PARAMETERS.keys()


def test_every_seed_and_number_of_a_model_is_in_the_matrix():
    from unified.models.model import UnifiedModel

    verbs = (
        "generate", "sample", "stream", "draw", "speak", "describe", "ask", "listen", "write",
        "use_diffusion",
    )  # fmt: skip
    for verb in verbs:
        for parameter in inspect.signature(getattr(UnifiedModel, verb)).parameters:
            if parameter in ("n", "seed", "seeds", "steps", "scale", "images", "audio", "rate"):
                # All go through `generate`; the seeds and numbers of these are tried there.
                shared = parameter in ("seed", "n") and verb in (
                    "speak", "describe", "ask", "listen", "sample",
                )  # fmt: skip
                assert shared or f"{verb}.{parameter}" in MODEL


@pytest.fixture(scope="module")
def model(cli_model):
    from unified.models.model import UnifiedModel

    return UnifiedModel.from_pretrained(cli_model)


@pytest.mark.parametrize("name", MODEL)
def test_what_a_model_is_asked_is_right_or_refused_by_name(model, name):
    call, right = MODEL[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for value in VALUES:
            check(name, VALUES[value], value in right, lambda v=value: call(model, VALUES[v]))


def test_documents_take_numbers_of_numpy():
    sound = Audio(np.zeros((1, 5), np.float32), np.int64(16_000))
    assert type(sound.sample_rate) is int


SAMPLING_FILES = {
    "image.temperature": {"image": {"temperature": "hot"}},
    "text.top_k": {"text": {"top_k": [3]}},
    "image.guidance.scale": {"image": {"guidance": {"scale": float("nan")}}},
    "image.guidance": {"image": {"guidance": 3}},
    "image": {"image": "warm"},
    "spans": {"spans": [1]},
    "max_ids": {"max_ids": 10**19},
    "max_text_ids": {"max_text_ids": "all"},
    "max_repeats": {"max_repeats": 1},
    "stop": {"stop": [3]},
    "sampling": ["text"],
}


@pytest.mark.parametrize("name", SAMPLING_FILES)
def test_parameters_of_a_models_file_are_refused_with_their_path(name):
    with pytest.raises(ValueError, match=name.rpartition(".")[2]) as refused:
        Sampling.from_json(SAMPLING_FILES[name])
    assert str(refused.value).startswith("sampling")
    assert "\n" not in str(refused.value)


WORDS = ("", "much", "1e-45", "1" + "0" * 19, "1" + "0" * 400, "nan", "-inf", "-1", "0.5", "None",
         "[1]", "\x1b[31m")  # fmt: skip
NO_NUMBERS = ("", "much", "nan", "-1", "None", "[1]", "\x1b[31m")
DRAW = ("draw", "a cat", "-o", "{out}.png")
WRITE = ("write", "The cat. Its looks", "-o", "{out}.html", "--no-audio")
SAMPLE = ("sample", "{document}", "-o", "{out}.json")
BUILD = ("data", "build", "pocket", "-o", "{out}")
SHOW = ("data", "show", "{out}", "-o", "{out}.html")
# (command, option, words that are wrong)
OPTIONS = [
    (DRAW, "--seed", WORDS),
    (DRAW, "-n", WORDS),
    ((*DRAW, "--decoder", "diffusion"), "--steps", WORDS),
    (("describe", "{picture}"), "--seed", WORDS),
    (("describe", "{picture}"), "--max-text-ids", WORDS),
    (("describe", "{picture}"), "--max-repeats", WORDS),
    (("speak", "A cat.", "-o", "{out}.wav"), "--seed", WORDS),
    (WRITE, "--images", WORDS),
    (WRITE, "--seed", WORDS),
    (WRITE, "--max-repeats", WORDS),
    (SAMPLE, "-n", WORDS),
    (SAMPLE, "--max-text-ids", WORDS),
    (BUILD, "--seed", NO_NUMBERS),
    (BUILD, "--scale", NO_NUMBERS),
    (BUILD, "--workers", NO_NUMBERS),
    (SHOW, "-n", NO_NUMBERS),
    (SHOW, "--seed", NO_NUMBERS),
    (("estimate", "{out}.yaml"), "--share", NO_NUMBERS),
    (("estimate", "{out}.yaml"), "--devices", NO_NUMBERS),
]


@pytest.mark.parametrize(("command", "option", "wrong"), OPTIONS, ids=lambda x: str(x)[:30])
def test_options_are_refused_by_name(unified, picture, tmp_path, command, option, wrong):
    document = tmp_path / "slots.json"
    document.write_text('{"segments": [{"type": "slot", "modality": "text"}]}')
    places = {"out": tmp_path / "out", "picture": picture, "document": document}
    command = [part.format(**places) for part in command]
    model = {"on": None} if command[0] in ("data", "estimate") else {}
    for word in wrong:
        words = [option, word] if option == "-n" else [f"{option}={word}"]
        code, out, err = unified(*command, *words, **model)
        assert (code, out) == (2, ""), (word, err)
        assert "Traceback" not in err
        # Of `--images` the message of the plan says "pictures".
        assert option in err or "pictures" in err or "images" in err, (word, err)
        assert "\x1b" not in err
        assert not list(tmp_path.glob("out*"))
