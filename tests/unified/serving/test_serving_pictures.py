"""POST /v1/images/generations, by the official client: the pictures of `draw`, to the bit."""

from __future__ import annotations

import base64
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from unified_base.images import decode_image, encode_png


def _pixels(data):
    return decode_image(base64.b64decode(data), "answer")


@pytest.fixture(scope="module")
def cats(pocket):
    """What Python draws, with the seeds 3 and 4."""
    return pocket.draw("a cat", n=2, seed=3)


def test_pictures_are_those_of_draw_with_the_same_seeds(client, cats, picture_ids):
    answer = client.images.generate(model="pocket", prompt="a cat", n=2, extra_body={"seed": 3})
    files = [base64.b64decode(entry.b64_json) for entry in answer.data]
    assert files == [encode_png(pixels) for pixels in cats]  # the bytes of `unified draw`
    assert [entry.seed for entry in answer.data] == [3, 4]
    assert (answer.size, answer.output_format, answer.warnings) == ("96x96", "png", [])
    usage = answer.usage
    assert usage.output_tokens_details.image_tokens == 2 * picture_ids
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_many_at_once_get_what_each_gets_alone(client, pocket):
    """Different verbs share the passes of the decoder."""
    words = ["a cat", "a dog", "an owl", "a fox"]
    alone = {text: encode_png(pocket.draw(text, seed=7)[0]) for text in words}
    answer = pocket.ask(pocket.draw("a cat", seed=3)[0], "What is this?", seed=5)
    picture = base64.b64encode(encode_png(pocket.draw("a cat", seed=3)[0])).decode()

    def draw(text):
        drawn = client.images.generate(prompt=text, extra_body={"seed": 7})
        return base64.b64decode(drawn.data[0].b64_json) == alone[text]

    def ask(_):
        content = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{picture}"}},
        ]
        messages = [{"role": "user", "content": content}]
        done = client.chat.completions.create(model="pocket", messages=messages, seed=5)
        return done.choices[0].message.content == answer

    with ThreadPoolExecutor(8) as pool:
        asked = pool.map(ask, range(3))
        assert all(pool.map(draw, words))
        assert all(asked)


def test_a_stream_shows_the_rows_so_far_in_the_size_of_the_whole(client, cats):
    events = list(
        client.images.generate(
            prompt="a cat", stream=True, partial_images=3, extra_body={"seed": 3}
        )
    )
    *partial, last = events
    assert [event.type for event in partial] == ["image_generation.partial_image"] * 3
    assert [event.partial_image_index for event in partial] == [0, 1, 2]
    assert last.type == "image_generation.completed"
    assert last.seed == 3
    assert np.array_equal(_pixels(last.b64_json), cats[0])
    assert last.usage.output_tokens > 0
    grey = []
    for event in partial:
        pixels = _pixels(event.b64_json)
        assert pixels.shape == cats[0].shape
        rows = (pixels == 128).all(axis=(1, 2))
        assert rows[-1]
        assert not rows[0]
        grey.append(int(rows.sum()))
    assert grey == sorted(grey, reverse=True)
    assert len(set(grey)) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_as_many_partial_pictures_come_as_asked_for(client, number):
    events = list(client.images.generate(prompt="a cat", stream=True, partial_images=number))
    assert len(events) == number + 1


@pytest.mark.parametrize(("format", "compression"), [("webp", None), ("webp", 40), ("jpeg", 60)])
def test_other_files_of_the_same_picture(client, cats, format, compression):
    fields = {} if compression is None else {"output_compression": compression}
    answer = client.images.generate(
        prompt="a cat", output_format=format, response_format="url", **fields,
        extra_body={"seed": 3},
    )  # fmt: skip
    head, _, data = answer.data[0].url.partition(",")
    assert head == f"data:image/{format};base64"
    difference = np.abs(_pixels(data).astype(int) - cats[0])
    assert (difference.max() == 0) == (compression is None)
    assert difference.mean() < 20


def test_what_has_no_effect_is_said(client):
    answer = client.images.generate(prompt="a cat", quality="high", user="u1", moderation="low")
    assert [text.split(" has no effect")[0] for text in answer.warnings] == [
        "quality",
        "moderation",
        "user",
    ]
    calm = client.images.generate(prompt="a cat", quality="auto", size="auto", background="auto")
    assert calm.warnings == []


def test_words_that_the_model_reads_otherwise_are_told(client, pocket):
    answer = client.images.generate(prompt="a very fluffy cat")
    request = pocket.request("draw", text="a very fluffy cat")
    assert answer.warnings == list(request.notes)
    assert answer.data[0].revised_prompt == request.inputs.text


def test_without_a_seed_each_time_another(client):
    seeds = {client.images.generate(prompt="a cat").data[0].seed for _ in range(2)}
    assert len(seeds) == 2


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"size": "1024x1024"}, "size", ["1024x1024", "96x96"]),
        ({"size": "large"}, "size", ["WIDTHxHEIGHT"]),
        ({"n": 0}, "n", ["greater than or equal to 1"]),
        ({"n": 17}, "n", ["at most 16"]),
        ({"n": 2, "stream": True}, "n", ["expected 1"]),
        ({"partial_images": 2}, "partial_images", ["stream"]),
        ({"output_format": "gif"}, "output_format", ["'png', 'webp' or 'jpeg'"]),
        ({"output_compression": 50}, "output_compression", ["PNG"]),
        ({"background": "transparent"}, "background", ["opaque"]),
        ({"prompt": "quantum chromodynamics"}, "prompt", ["chromodynamics"]),
        ({"prompt": " "}, "prompt", ["empty"]),
        ({"extra_body": {"seed": -1}}, "seed", ["greater than or equal to 0"]),
        ({"extra_body": {"seed": "3"}}, "seed", ["valid integer"]),
        ({"extra_body": {"steps": 20}}, "steps", ["unknown field", "partial_images"]),
        ({"extra_body": {"temperature": -1.0}}, "temperature", ["-1.0", "1e+06"]),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(client, refused, fields, param, words):
    refused(lambda: client.images.generate(**{"prompt": "a cat", **fields}), param, *words)


def test_another_model_is_not_there(client, refused):
    error = refused(
        lambda: client.images.generate(prompt="a cat", model="gpt-image-1"),
        "model", "gpt-image-1", "pocket", status=404,
    )  # fmt: skip
    assert error.code == "model_not_found"
