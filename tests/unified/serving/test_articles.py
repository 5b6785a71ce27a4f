"""/v1/articles with the shipped model: articles that are written, changed segment by segment, and
read in every form."""

from __future__ import annotations

import base64
import io
import time
from dataclasses import replace

import numpy as np
import soundfile
from article_api import ASKED, of_type

from unified_base.images import decode_image, encode_png
from unified_base.sounds import encode_wav
from unified_data.document import Audio, Document, Image, Slot, Text

# Written.


def test_an_article_is_what_the_model_writes_by_itself(api, told, written, pocket):
    alone = pocket.write(ASKED["prompt"], audio=False, seed=3)
    assert api.document(written) == alone
    assert told[0]["type"] == "article.created"
    assert told[0]["seed"] == 3
    assert told[-1]["type"] == "article.completed"
    for index, segment in enumerate(alone.segments[1:], 1):
        kinds = [e["type"] for e in told if e.get("segment") == index]
        assert (kinds[0], kinds[-1]) == ("segment.started", "segment.done")
        if isinstance(segment, Text):
            deltas = [e["delta"] for e in of_type(told, "segment.text") if e["segment"] == index]
            assert "".join(deltas) == segment.text
            assert len(deltas) > 3
    rows = of_type(told, "segment.rows")
    assert [(e["first"], e["rows"]) for e in rows] == [(0, 24), (24, 48), (48, 72), (72, 96)]
    assert decode_image(base64.b64decode(rows[0]["png"]), "rows").shape == (24, 96, 3)
    view = api.json("GET", f"/v1/articles/{written}")
    assert (view["status"], view["title"], view["seed"]) == ("completed", "The giant panda", 3)
    (entry,) = api.json("GET", "/v1/articles?q=Panda&limit=1")["articles"]
    assert entry["pictures"] == 1
    assert api.request("GET", entry["thumbnail_url"])[0] == 200


def test_narration_is_told_while_it_is_spoken_and_served_as_wav(api):
    told = api.events("POST", "/v1/articles", {"prompt": "The cat. No pictures", "seed": 1})
    (done,) = [e for e in of_type(told, "segment.done") if e["kind"] == "audio"]
    joined = b"".join(base64.b64decode(e["pcm16"]) for e in of_type(told, "segment.sound"))
    assert len(of_type(told, "segment.sound")) > 1
    assert done["audio"]["transcript"]
    status, headers, content = api.request("GET", done["audio"]["url"])
    assert (status, headers["Content-Type"]) == (200, "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(content), dtype="int16")
    assert samples.tobytes() == joined
    assert rate == of_type(told, "segment.sound")[0]["sample_rate"]
    head = api.request("GET", done["audio"]["url"], headers={"Range": "bytes=4-9"})
    assert (head[0], head[2], head[1]["Content-Range"]) == (
        206, content[4:10], f"bytes 4-9/{len(content)}")  # fmt: skip
    late = api.request("GET", done["audio"]["url"], headers={"Range": f"bytes={len(content)}-"})
    assert late[0] == 416


def test_whole_it_is_the_article_itself(api, written):
    view = api.json("POST", "/v1/articles", {**ASKED, "stream": False})
    assert view["status"] == "completed"
    assert api.document(view["id"]) == api.document(written)


def test_a_picture_of_another_decoder_is_read_at_the_model_s_own_size(api, article):
    """A decoder to twice the side stands in for the diffusion decoder, which takes long to load."""
    api.desk.decoders._redraw["diffusion-2x"] = lambda codes: np.zeros((192, 192, 3), np.uint8)
    record = api.library.load(article)
    api.library.save(replace(record, wishes=replace(record.wishes, decoder="diffusion-2x")))
    index = api.index(article, "image")
    api.change(article, index, action="regenerate", seed=11)
    segment = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert (segment["image"]["width"], segment["alternatives"]) == (192, 1)
    api.change(article, index + 1, action="regenerate", seed=5)
    assert api.document(article).segments[index].pixels.shape == (192, 192, 3)


# Changed.


def test_a_picture_anew_leaves_the_rest_and_its_seed_repeats_it(api, article, written, pocket):
    before = api.document(article)
    index = api.index(article, "image")
    body = {"action": "regenerate", "seed": 4, "temperature": 20.0}
    told = api.change(article, index, **body)
    assert told[0] == {
        "type": "article.changing", "id": article, "segment": index, "seed": 4,
        "action": "regenerate", "rest": False, "notes": [],
    }  # fmt: skip
    after = api.document(article)
    others = [i for i in range(len(before)) if i != index]
    assert [after.segments[i] for i in others] == [before.segments[i] for i in others]
    assert after.segments[index] != before.segments[index]
    other = api.copy(written)
    api.change(other, index, **body)
    assert api.document(other) == after
    slot = Slot("image", height=96, width=96, role="response")
    request = pocket.request("write", text="The giant panda", settings={"image.temperature": 20.0})
    asked = Document((*before.segments[:index], slot))
    assert (
        pocket.generate(asked, 1, 4, request.sampling)[0].segments[index] == after.segments[index]
    )
    # The one before is an alternative, and comes back.
    segment = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert segment["alternatives"] == 1
    content = api.request("GET", segment["alternative_urls"][0])[2]
    assert np.array_equal(decode_image(content, "x"), before.segments[index].pixels)
    path = f"/v1/articles/{article}/segments/{index}"
    api.json("PATCH", path, {"action": "choose", "alternative": 0})
    assert api.document(article) == before


def test_a_block_of_a_text_anew_leaves_the_others(api, article):
    segments = api.json("GET", f"/v1/articles/{article}")["segments"]
    index, text, blocks = (segments[-1][name] for name in ("index", "text", "blocks"))
    number = next(i for i, each in enumerate(blocks) if each["block"] == "paragraph")
    start, stop = blocks[number]["start"], blocks[number]["stop"]
    own = {"action": "edit", "text": f"{text[:start]}My own words.{text[stop:]}"}
    api.json("PATCH", f"/v1/articles/{article}/segments/{index}", own)
    told = api.change(article, index, action="regenerate", block=number, seed=2)
    after = api.json("GET", f"/v1/articles/{article}")["segments"][index]
    assert "My own words." not in after["text"]
    assert after["text"].startswith(text[:start])
    assert after["text"].endswith(text[stop:])
    assert len(after["blocks"]) == len(blocks)
    (begun,) = of_type(told, "segment.started")
    deltas = "".join(event["delta"] for event in of_type(told, "segment.text"))
    assert begun["text"] == text[:start]
    assert deltas.strip() == after["blocks"][number]["text"]


def test_the_same_once_more_is_no_version(api, article):
    index = api.index(article, "text")
    seed = {"action": "regenerate", "seed": 8}
    api.change(article, index, **seed)
    number = api.json("GET", f"/v1/articles/{article}")["versions"]["number"]
    told = api.change(article, index, **seed)
    assert "the same came out again" in told[-1]["warnings"][0]
    assert api.json("GET", f"/v1/articles/{article}")["versions"]["number"] == number


def test_an_edited_text_is_kept_or_gone_on_from(api, article, pocket):
    before = api.document(article)
    index = api.index(article, "text")
    path = f"/v1/articles/{article}/segments/{index}"
    text = "# The giant panda\n\n## Food\n\nIt eats bamboo."
    api.json("PATCH", path, {"action": "edit", "text": text})
    edited = api.document(article)
    assert edited.segments[index].text == text
    assert edited.segments[index + 1 :] == before.segments[index + 1 :]
    told = api.change(article, index, action="edit", text=text, then="rewrite", seed=6)
    assert told[0]["rest"] is True
    rewritten = api.document(article)
    assert rewritten.segments[index].text.startswith(text)
    assert sum(isinstance(segment, Image) for segment in rewritten) == 1
    # It is what the model makes of that document.
    request = pocket.request("write", text=ASKED["prompt"], sounds=0)
    asked = (*before.segments[:index], Text(text, "response"), *request.document.segments[-1:])
    (alone,) = pocket.generate(Document(asked), 1, 6, request.sampling)
    joined = "".join(s.text for s in alone.segments[index:] if isinstance(s, Text))
    ours = "".join(s.text for s in rewritten.segments[index:] if isinstance(s, Text))
    assert ours == joined
    # And back, and forth.
    for step, document in (("undo", edited), ("undo", before), ("redo", edited),
                           ("redo", rewritten)):  # fmt: skip
        api.json("POST", f"/v1/articles/{article}/{step}")
        assert api.document(article) == document
    refused = api.json("POST", f"/v1/articles/{article}/redo", status=409)
    assert refused["error"]["code"] == "nothing_to_redo"


def test_an_own_picture_is_gone_on_from(api, article):
    index = api.index(article, "image")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    media = base64.b64encode(encode_png(pixels)).decode()
    told = api.change(article, index, action="replace", media=media, then="continue", seed=1)
    assert "fitted into 96x96" in told[0]["notes"][0]
    document = api.document(article)
    assert np.array_equal(document.segments[index].pixels, pixels)  # as it was brought
    assert len(document) > index + 1
    before = document
    path = f"/v1/articles/{article}/segments/{index}"
    url = f"data:image/png;base64,{media}"
    view = api.json("PATCH", path, {"action": "replace", "media": url})
    assert view["segments"][index]["alternatives"] == 1
    assert api.document(article) == before


def test_what_was_deleted_comes_back(api, article):
    answer = api.json("DELETE", f"/v1/articles/{article}")
    assert answer["deleted"] is True
    assert answer["undo_until"] > time.time()
    refused = api.json("GET", f"/v1/articles/{article}", status=404)
    assert refused["error"]["code"] == "article_not_found"
    assert api.json("POST", f"/v1/articles/{article}/restore")["id"] == article
    assert api.json("GET", f"/v1/articles/{article}")["status"] == "completed"


def test_a_file_of_an_article(api, written):
    path = f"/v1/articles/{written}/export"
    status, headers, content = api.request("POST", path, {"format": "html"})
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert headers["Content-Disposition"].startswith('attachment; filename="The-giant-panda.html"')
    assert b"The giant panda" in content
    refused = api.json("POST", path, {"format": "exe"}, status=400)
    assert refused["error"]["param"] == "format"


def test_a_sound_of_ones_own(api):
    told = api.events("POST", "/v1/articles", {"prompt": "The cat. No pictures", "seed": 1})
    id = told[0]["id"]
    index = api.index(id, "audio")
    sound = Audio(np.sin(np.arange(4_000, dtype=np.float32) / 9)[None] * 0.5, 8_000)
    media = base64.b64encode(encode_wav(sound.waveform, 8_000)).decode()
    told = api.change(id, index, action="replace", media=media, then="continue", seed=1)
    assert any("resampled from 8,000" in note for note in told[0]["notes"])
    segment = api.json("GET", f"/v1/articles/{id}")["segments"][index]
    assert segment["audio"]["seconds"] == 0.5
