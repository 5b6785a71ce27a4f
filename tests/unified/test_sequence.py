"""Documents to ids and back, with real quantisation by tiny deterministic tokenizers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unified.formats.grammar import Grammar
from unified.formats.load import load_format
from unified.sequence.sequencer import Sequencer
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Audio, Document, Image, Slot, Text
from unified_tokenizers.base import Codes


class GreyPatches:
    """Pictures by the nearest of 8 greys to the mean of each 3x3 patch."""

    stride, codebook_sizes, fingerprint, modality = 3, (8,), "grey", "image"

    def encode(self, pixels):
        means = torch.nn.functional.avg_pool2d(pixels.float().mean(1, keepdim=True), 3)
        return Codes((means * 7 / 255).round().long(), tuple(pixels.shape[2:]))

    def decode(self, codes):
        assert codes.size == tuple(3 * side for side in codes.codes.shape[2:])
        grey = codes.codes.float() / 7
        return grey.repeat_interleave(3, 2).repeat_interleave(3, 3).expand(-1, 3, -1, -1)


class TwoStep:
    """Sound by the mean of every 4 samples: 8 coarse steps, then 4 finer ones in the remainder."""

    hop, sample_rate, codebook_sizes, fingerprint, modality = 4, 100, (8, 4), "two", "audio"

    def encode(self, waveform):
        missing = -waveform.shape[2] % 4
        means = torch.nn.functional.pad(waveform, (0, missing)).unflatten(2, (-1, 4)).mean(3)
        step = ((means[:, 0] + 1) * 15.5).round().long()
        return Codes(torch.stack([step // 4, step % 4], 1), (waveform.shape[2],))

    def decode(self, codes):
        step = codes.codes[:, :1] * 4 + codes.codes[:, 1:]
        return (step.float() / 15.5 - 1).repeat_interleave(4, 2)


TEXT = TextTokenizer.train(["a panda. "] * 5, 270)
VOCABULARY = Vocabulary.build(
    TEXT.size,
    TEXT.size + 3,
    load_format("pocket").markers,
    6,
    image=((8,), "grey"),
    audio=((8, 4), "two"),
    text_fingerprint=TEXT.fingerprint,
)
GRAMMAR = Grammar.load("pocket", VOCABULARY)
SEQUENCER = Sequencer(VOCABULARY, GRAMMAR, TEXT, GreyPatches(), TwoStep())
M = VOCABULARY.marker


@st.composite
def documents(draw):
    """Documents whose media the tokenizers can say exactly: decoded from drawn codes."""
    segments, role = [], None
    for _ in range(draw(st.integers(0, 5))):
        role = draw(st.sampled_from([role, "prompt", "response"]))
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        kind = draw(st.sampled_from(["text", "image", "audio"]))
        if kind == "text":
            characters = st.characters(exclude_categories=["Cs"]) | st.sampled_from("<image>")
            segments.append(Text(draw(st.text(characters, min_size=1, max_size=9)), role))
        elif kind == "image":
            grid = draw(st.tuples(st.integers(1, 6), st.integers(1, 6)))
            pixels = SEQUENCER.decode_image(rng.integers(0, 8, (1, *grid)))
            segments.append(Image(pixels, role))
        else:
            codes = np.stack([rng.integers(0, n, draw(st.just(5))) for n in (8, 4)])
            segments.append(Audio(SEQUENCER.decode_audio(codes), 100, role))
    return Document(tuple(segments))


@settings(deadline=None, max_examples=60)
@given(documents())
def test_decode_of_encode_is_the_document(document):
    sequence = SEQUENCER.encode(document)
    GRAMMAR.validate(sequence.ids)
    assert SEQUENCER.decode(sequence.ids) == document
    lengths = {len(a) for a in (sequence.ids, sequence.modality, sequence.loss, sequence.segment)}
    assert lengths == {len(sequence.ids)}


@settings(deadline=None, max_examples=100)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text("<>/imageospd|"))
def test_user_text_never_becomes_another_kind_of_id(text, markup):
    for user in (text + markup, f"<image>{text}</image>", "<eos><pad></audio>"):
        if user:
            sequence = SEQUENCER.encode(Document((Text(user),)))
            assert (sequence.ids[1:-1] < VOCABULARY.text_size).all()
            assert (sequence.modality[1:-1] == 1).all()


def test_loss_weights_fall_on_what_is_to_be_learnt():
    prompt = Text("a", role="prompt", loss=0.0)
    picture = Image(np.zeros((3, 6, 3), np.uint8), role="response", loss=0.5)
    sequence = SEQUENCER.encode(Document((prompt, picture, Text("b", role="response"))))
    ids = [VOCABULARY.describe(int(id)).split(" (")[0] for id in sequence.ids]
    assert list(zip(ids, sequence.loss.tolist(), sequence.modality.tolist())) == [
        ("<bos>", 0.0, 0),
        ("<prompt>", 0.0, 0),
        (f"text code {TEXT.encode('a')[0]}", 0.0, 1),
        ("<response>", 0.0, 0),
        ("<image>", 0.5, 0),
        ("size code 0", 0.5, 0),
        ("size code 1", 0.5, 0),
        ("image.0 code 0", 0.5, 2),
        ("image.0 code 0", 0.5, 2),
        ("</image>", 0.5, 0),
        (f"text code {TEXT.encode('b')[0]}", 1.0, 1),
        ("<eos>", 1.0, 0),
    ]
    assert sequence.segment.tolist() == [-1, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, -1]
    assert (sequence.loss.dtype, sequence.ids.dtype) == (np.float32, np.int64)


def test_a_prefix_ends_where_its_slot_begins():
    prompt = Text("a", role="prompt")
    a = TEXT.encode("a")
    ids = SEQUENCER.encode_prefix([prompt], Slot("image", role="response")).ids.tolist()
    assert ids == [M("<bos>"), M("<prompt>"), *a, M("<response>")]
    ids = SEQUENCER.encode_prefix([prompt], Slot("text", role="prompt")).ids.tolist()
    assert ids == [M("<bos>"), M("<prompt>"), *a, M("<text>")]
    assert SEQUENCER.encode_prefix([]).ids.tolist() == [M("<bos>")]


def test_slots_are_kept_by_code_and_refused_by_encode():
    slot = Slot("image", height=6, width=3)
    document = Document((Text("a"), slot))
    coded = SEQUENCER.code(document)
    assert coded[1] is slot
    assert coded[0].ids == tuple(TEXT.encode("a"))
    assert SEQUENCER.image_grid(slot.height, slot.width) == (2, 1)
    with pytest.raises(ValueError, match=r"slots at segments \[1\]"):
        SEQUENCER.encode(document)


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Image(np.zeros((4, 6, 3), np.uint8)), "segment 0: .*6x4 pixels .*multiples of 3"),
        (Audio(np.zeros((2, 8), np.float32), 100), "2 channels at 100 Hz, expected 1"),
        (Audio(np.zeros((1, 8), np.float32), 99), "99 Hz, expected 1 channel at 100 Hz"),
        (Image(np.zeros((21, 3, 3), np.uint8)), r"h must be in 1\.\.6"),
    ],
)
def test_media_that_do_not_fit_are_refused(segment, message):
    with pytest.raises(ValueError, match=message):
        SEQUENCER.encode(Document((segment,)))


def test_a_sequencer_refuses_tokenizers_of_another_vocabulary():
    class Other(GreyPatches):
        fingerprint = "other"

    class Bigger(GreyPatches):
        codebook_sizes = (9,)

    with pytest.raises(ValueError, match="fingerprint other, the vocabulary was made for grey"):
        Sequencer(VOCABULARY, GRAMMAR, TEXT, Other())
    with pytest.raises(ValueError, match=r"codebooks of \(9,\) codes"):
        Sequencer(VOCABULARY, GRAMMAR, TEXT, Bigger())
    with pytest.raises(ValueError, match="text tokenizer has 256 ids, the vocabulary"):
        Sequencer(VOCABULARY, GRAMMAR, TextTokenizer.train(["a"], 256))
    zebra = TextTokenizer.train(["a zebra. "] * 5, 270)
    assert zebra.size == TEXT.size
    with pytest.raises(ValueError, match=f"{zebra.fingerprint}, .* made for {TEXT.fingerprint}"):
        Sequencer(VOCABULARY, GRAMMAR, zebra)
    with pytest.raises(ValueError, match="no image tokenizer"):
        Sequencer(VOCABULARY, GRAMMAR, TEXT).encode(Document((Image(np.zeros((3, 3, 3), "u1")),)))
