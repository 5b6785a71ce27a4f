"""Pairs are laid out by the model's tasks: trained on the very ids that the model is asked with."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tokenizers import AddedToken
from unified import TextTokenizer
from unified.dataloading import Loader, Source, validation_sequences
from unified.dataloading.pairs_as_tasks import lay_out_by_task, verb_of
from unified.formats.chat_format import chat_format
from unified.models.extend import _sequencer
from unified.tasks.asking import Inputs, ask_document
from unified.tasks.defaults import default_tasks
from unified.tasks.task import MediaPart, Refusal, SlotPart, Task, TextPart
from unified_data.document import Audio, Image, Text

# In the manner of ChatML.
TEMPLATE = """
{%- for m in messages -%}
  {{- '<|im_start|>' + m.role + '\n' -}}
  {%- if m.role == 'assistant' -%}
    {%- generation -%}{{ m.content + '<|im_end|>' }}{%- endgeneration -%}
  {%- else -%}{{ m.content + '<|im_end|>' }}{%- endif -%}
  {{- '\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"""


def chat_tokenizer():
    backend = TextTokenizer.train(["Draw a picture: a cat", "user\n\nassistant\n"] * 6, 330)
    backend = backend._tokenizer
    backend.encode_special_tokens = False
    markers = ("<|im_start|>", "<|im_end|>")
    backend.add_special_tokens([AddedToken(name, special=True) for name in markers])
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE}
    return TextTokenizer(backend, {"tokenizer_config.json": json.dumps(config).encode()})


@pytest.fixture(scope="module")
def sequencers(tiny_sequencer, tiny_tokenizers):
    text = chat_tokenizer()
    chat = _sequencer(chat_format(text), text, text.size + 3, *tiny_tokenizers, 9)
    return {"pocket": tiny_sequencer, "chat": chat}


@pytest.fixture(scope="module")
def media(tiny_tokenizers):
    image, audio = tiny_tokenizers
    rng = np.random.default_rng(3)
    height, width = 2 * image.stride, 3 * image.stride
    pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    wave = rng.normal(0, 0.1, (1, 4 * audio.hop)).astype(np.float32)
    return Image(pixels), Audio(wave, audio.sample_rate)


def pairs(sequencer, media):
    """A stored pair, and what a user says to ask for its answer, by verb."""
    image, audio = media
    drawn, spoken = (sequencer.code_segment(segment) for segment in media)

    def prompt(segment):
        return replace(segment, role="prompt", loss=0.0)

    def response(segment):
        return replace(segment, role="response", loss=1.0)

    cat, answer = Text("a cat on a blue ground"), response(Text("two cats"))
    return {
        "draw": ([prompt(cat), response(drawn)], Inputs(text=cat.text)),
        "speak": ([prompt(cat), response(spoken)], Inputs(text=cat.text)),
        "describe": ([prompt(drawn), answer], Inputs(image=image)),
        "ask": (
            [prompt(drawn), prompt(Text("What is it?")), answer],
            Inputs(image=image, question="What is it?"),
        ),
        "listen": ([prompt(spoken), answer], Inputs(audio=audio)),
    }


def asked_ids(sequencer, task, inputs):
    *segments, slot = ask_document(task, inputs)
    return sequencer.encode_prefix(segments, slot).ids


def documents(sequence):
    for start, stop in zip(sequence.starts, sequence.starts[1:]):
        yield sequence.labels[start:stop], sequence.loss_weights[start:stop]


VERBS = ("draw", "describe", "ask", "speak", "listen")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", ["pocket", "chat"])
def test_the_prompt_ids_of_training_are_those_of_asking(
    name, verb, sequencers, media, write_codes, tmp_path
):
    sequencer = sequencers[name]
    tasks = default_tasks(sequencer.grammar.format)
    stored, inputs = pairs(sequencer, media)[verb]
    folder = write_codes(tmp_path / "codes", {"pairs": [stored]})
    asked = asked_ids(sequencer, tasks.task(verb), inputs)
    source = Source(str(folder), epochs=1)
    # With a worker once: what it is sent does not depend on the verb.
    workers = int(verb == "draw")
    with Loader({"s": source}, sequencer, 300, 1, workers=workers, tasks=tasks) as loader:
        (sequence,) = loader
    ((ids, loss_weights),) = documents(sequence)
    assert ids[: len(asked)].tolist() == asked.tolist()
    assert not loss_weights[: len(asked)].any()
    counted = loss_weights[len(asked) :] > 0
    assert counted[:-1].all()  # what ends the last turn of ChatML, a line break, is not answered
    (validated,) = validation_sequences(source, sequencer, 300, tasks=tasks)
    np.testing.assert_array_equal(validated.labels, sequence.labels)
    # The words are not those of the pair: without the task it would be asked otherwise.
    (plain,) = validation_sequences(replace(source, tasks=False), sequencer, 300, tasks=tasks)
    changed = plain.labels.tolist() != sequence.labels.tolist()
    assert changed == (verb in ("draw", "speak") or (name == "chat" and verb != "ask"))


def test_only_shards_of_captions_are_laid_out_unless_a_source_says_so(
    tiny_sequencer, media, write_codes, tmp_path
):
    tasks = default_tasks(tiny_sequencer.grammar.format)
    stored, _ = pairs(tiny_sequencer, media)["draw"]
    folder = write_codes(tmp_path / "codes", {"coco": [stored], "sharegpt": [stored]})

    def labels(shard, **changes):
        source = Source(f"{folder}/{shard}.tar", **changes)
        (sequence,) = validation_sequences(source, tiny_sequencer, 200, tasks=tasks)
        return sequence.labels.tolist()

    assert labels("coco") == labels("coco", tasks=True) == labels("sharegpt", tasks=True)
    assert labels("sharegpt") == labels("sharegpt", tasks=False) == labels("coco", tasks=False)
    assert labels("coco") != labels("sharegpt")


def test_a_reversed_pair_is_described_and_a_lost_prompt_is_the_tasks(
    tiny_sequencer, media, write_codes, tmp_path
):
    tasks = default_tasks(tiny_sequencer.grammar.format)
    both = pairs(tiny_sequencer, media)
    image_first = [*reversed(both["draw"][0])]
    described = [replace(s, role=r, loss=w) for s, r, w in
                 zip(image_first, ("prompt", "response"), (0.0, 1.0))]  # fmt: skip
    folder = write_codes(tmp_path / "codes", {"pairs": [both["draw"][0]]})
    other = write_codes(tmp_path / "other", {"pairs": [described]})

    def labels(where, **changes):
        source = Source(str(where), epochs=1, **changes)
        (sequence,) = Loader({"s": source}, tiny_sequencer, 200, 1, tasks=tasks)
        return sequence.labels[: sequence.num_ids].tolist()

    assert labels(folder, orders="reversed") == labels(other)
    whole, dropped = labels(folder), labels(folder, drop_prompt=1.0)
    assert len(dropped) < len(whole)
    assert dropped[-8:] == whole[-8:]


def test_what_is_no_pair_or_of_no_task_stays_as_it_is(tiny_sequencer, media):
    tasks = default_tasks(tiny_sequencer.grammar.format)
    drawn, _ = (tiny_sequencer.code_segment(segment) for segment in media)
    text = Text("a", "prompt", 0.0)
    article = [text, Text("b", "response"), replace(drawn, role="response")]
    assert verb_of(article, 1) is None
    assert lay_out_by_task(article, 1, tasks, 4) is None
    refused = tasks.with_entries({"draw": Refusal("draw", "it cannot")})
    assert lay_out_by_task([text, replace(drawn, role="response")], 1, refused, 4) is None


def test_words_that_say_a_size_say_that_of_the_picture(tiny_sequencer, media):
    stride = tiny_sequencer.image_tokenizer.stride
    drawn, _ = (tiny_sequencer.code_segment(segment) for segment in media)
    parts = (TextPart("{width}x{height}: {text}", "prompt"), SlotPart("image", "response"))
    tasks = default_tasks(tiny_sequencer.grammar.format)
    tasks = tasks.with_entries({"draw": Task("draw", parts)})
    pair = [Text("a", "prompt", 0.0), replace(drawn, role="response")]
    segments, num_prompt = lay_out_by_task(pair, 1, tasks, stride)
    assert (segments[0].text, num_prompt) == (f"{3 * stride}x{2 * stride}: a", 1)


def test_a_run_does_not_go_on_with_other_tasks(tiny_sequencer, media, write_codes, tmp_path):
    stored, _ = pairs(tiny_sequencer, media)["describe"]
    folder = write_codes(tmp_path / "codes", {"pairs": [stored]})
    tasks = default_tasks(tiny_sequencer.grammar.format)
    asked = (MediaPart("image", "prompt"), TextPart("Say!", "prompt"), SlotPart("text", "response"))
    other = tasks.with_entries({"describe": Task("describe", asked)})
    state = Loader({"s": Source(str(folder))}, tiny_sequencer, 200, 1, tasks=tasks).state()
    with pytest.raises(ValueError, match="the saved state of the data has tasks "):
        Loader({"s": Source(str(folder))}, tiny_sequencer, 200, 1, tasks=other).load_state([state])
