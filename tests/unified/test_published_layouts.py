"""Formats of models with several codes a position, beside how transformers lays them out."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from unified.formats.coded import CodedAudio, CodedText, coded_media
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Block, Vocabulary

CODES = 11  # of a codebook; its begin, end and padding follow in a table, as published


def grammar(name: str, codebooks: int, specials: dict[str, tuple[int, ...]]) -> Grammar:
    """A format whose codebook k lies at ids `100 + 20 * k`, as a model's flat table would.

    specials: by the name of a marker its places among the rows of the levels, by level.
    """
    spec = load_format(name)
    ids = {
        f"<{marker}.{k}>": 100 + 20 * k + row
        for marker, rows in specials.items()
        for k, row in enumerate(rows)
    }
    others = iter(range(40, 100))
    at = tuple(ids.get(marker) or next(others) for marker in spec.markers)
    blocks = [Block("text", 0, 100 + 20 * codebooks), Block.at("markers", at, symbols=spec.markers)]
    blocks += [Block(f"audio.{k}", 100 + 20 * k, CODES, level=k) for k in range(codebooks)]
    literals = tuple((text, (20 + at,)) for at, text in enumerate(spec.literals))
    return Grammar(spec, Vocabulary(tuple(blocks), 40, 100 + 20 * codebooks, literals))


def table(compiled: Grammar, media, skip: int = 0) -> np.ndarray:
    """A span's positions of several ids, as (K, positions) rows of each level's own table."""
    ids, _, depth = compiled.segment_ids(media)
    number = compiled.num_together
    starts = np.flatnonzero(depth == 1) - 1
    columns = np.stack([ids[start : start + number] for start in starts], 1)
    assert (len(ids) - columns.size, depth.max() + 1) == (skip, number)
    return columns


def rows(columns: np.ndarray) -> torch.Tensor:
    return torch.tensor(columns - (100 + 20 * np.arange(len(columns)))[:, None])


def sound(levels: int, frames: int = 6) -> CodedAudio:
    return CodedAudio(np.random.default_rng(levels).integers(CODES, size=(levels, frames)))


def test_musicgen_as_its_delay_pattern_mask():
    from transformers.models.musicgen.modeling_musicgen import MusicgenForCausalLM

    compiled, media = grammar("musicgen", 4, {"pad": (CODES,) * 4}), sound(4)
    prompt = torch.cat([torch.full((4, 1), CODES), torch.tensor(media.codes)], 1)
    shaped = SimpleNamespace(num_codebooks=4, config=SimpleNamespace(audio_channels=1))
    _, expected = MusicgenForCausalLM.build_delay_pattern_mask(
        shaped, prompt, pad_token_id=CODES, max_length=media.codes.shape[1] + 4
    )
    assert torch.equal(rows(table(compiled, media)), expected)


def test_dia_as_its_processor_in_training():
    from transformers.models.dia.processing_dia import DiaProcessor

    eos, pad, bos = CODES, CODES + 1, CODES + 2
    specials = {"eos": (eos,) * 9, "pad": (pad,) * 9, "bos": (bos,) * 9}
    compiled, media = grammar("dia", 9, specials), sound(9, 7)
    ends = [torch.full((9, 1), bos), torch.tensor(media.codes), torch.full((9, 1), eos)]
    audio = torch.nn.functional.pad(torch.cat(ends, 1), (0, 15), value=pad).T[None]
    by = [0, 8, 9, 10, 11, 12, 13, 14, 15]
    places = DiaProcessor.build_indices(1, audio.shape[1], 9, by)
    expected = DiaProcessor.apply_audio_delay(audio, pad, bos, places)[0].T
    assert torch.equal(rows(table(compiled, media)), expected)


def test_higgs_as_its_processor():
    from transformers.models.higgs_audio_v2.processing_higgs_audio_v2 import HiggsAudioV2Processor

    bos, eos = CODES, CODES + 1
    compiled = grammar("higgs-audio-v2", 8, {"begin": (bos,) * 8, "end": (eos,) * 8})
    media = sound(8, 5)
    ends = [torch.full((8, 1), bos), torch.tensor(media.codes), torch.full((8, 1), eos)]
    processor = SimpleNamespace(audio_stream_bos_id=bos, audio_stream_eos_id=eos)
    expected = HiggsAudioV2Processor.build_delay_pattern(processor, torch.cat(ends, 1)[None])[0]
    assert torch.equal(rows(table(compiled, media, skip=2)), expected)
    spoken = coded_media("audio", media.codes, "response")
    in_turn = compiled.serialize([CodedText((1,), "scene"), CodedText((2,), "prompt"), spoken]).ids
    assert in_turn[-1] == compiled.vocabulary.marker("<eot>")
    assert compiled.parse(in_turn)[2].codes.tolist() == media.codes.tolist()


def test_moshi_as_its_delay_pattern_mask():
    from transformers.models.moshi.modeling_moshi import MoshiForConditionalGeneration

    compiled = grammar("moshi", 16, {})
    span = compiled.span_grammars["audio"]
    rng = np.random.default_rng(0)
    frames = 5
    voices = {name: rng.integers(CODES, size=(8, frames)) for name in ("speaker", "listener")}
    text = rng.integers(40, size=(1, frames))
    media = CodedAudio(span.join_streams({"text": text, **voices}))
    columns = table(compiled, media)
    vocabulary = compiled.vocabulary
    assert columns[0].tolist() == [
        vocabulary.marker("<text>"), *text[0].tolist(), vocabulary.marker("<text>"),
    ]  # fmt: skip
    for at, name in enumerate(("speaker", "listener")):
        begins = [vocabulary.marker(f"<{name}.{k}>") for k in range(8)]
        codebooks = [f"audio.{8 * at + k}" for k in range(8)]
        ids = np.stack([vocabulary.to_ids(b, c) for b, c in zip(codebooks, voices[name])])
        # The mask is made for one padding id; ours has one a level.
        padded = torch.cat([torch.full((8, 1), -7), torch.tensor(ids)], 1)[None]
        _, mask = MoshiForConditionalGeneration.build_delay_pattern_mask(
            None, padded, bos_token_id=-7, pad_token_id=-7, max_length=frames + 2
        )
        expected = np.where(mask[0].numpy() == -7, np.array(begins)[:, None], mask[0].numpy())
        np.testing.assert_array_equal(columns[1 + 8 * at : 9 + 8 * at], expected)


@pytest.fixture(scope="module")
def csm() -> Grammar:
    return grammar("csm", 3, {})


def test_csm_ends_a_sound_with_a_frame_of_zeros(csm):
    codes = np.array([[0, 4, 0, 0], [0, 0, 0, 5], [9, 0, 1, 0]])
    document = [CodedText((1, 2)), CodedAudio(codes), CodedText((3,)), CodedAudio(codes[:, :1])]
    laid = csm.serialize(document)
    bos, eos, end = (csm.vocabulary.marker(name) for name in ("<bos>", "<eos>", "<end>"))
    frames = [
        (csm.vocabulary.block(f"audio.{k}").start + row).tolist() for k, row in enumerate(codes)
    ]
    zeros = [csm.vocabulary.block(f"audio.{k}").start for k in range(3)]
    assert laid.ids.tolist() == [
        bos, 1, 2, eos, *np.stack(frames, 1).reshape(-1).tolist(), *zeros, bos,
        3, eos, *[row[0] for row in frames], *zeros, bos, end,
    ]  # fmt: skip
    assert laid.depth[4:19].tolist() == [0, 1, 2] * 5
    assert csm.parse(laid.ids) == tuple(document)
    silent = codes.copy()
    silent[:, 2] = 0
    with pytest.raises(ValueError, match=r"segment 0 \(audio\): frame 2 of audio codes is 0 in ev"):
        csm.serialize([CodedAudio(silent)])


@pytest.mark.parametrize("most", [10, 13, 16, 30])
def test_csm_keeps_limits_where_a_frame_may_be_the_last(csm, most):
    """Frames that are all zeros but for one level, under bounds of ids and of frames."""
    zeros = [csm.vocabulary.block(f"audio.{k}").start for k in range(3)]
    for seed in range(60):
        rng = np.random.default_rng(seed)
        limits = Limits(
            max_ids=most, num_audios=1, allow=("audio",), min_audio_frames=1 + seed % 2,
            max_audio_frames=4,
        )  # fmt: skip
        if most == 10 and seed % 2:
            with pytest.raises(ValueError, match="too small"):
                csm.start(limits)
            continue
        state, ids = csm.start(limits), []
        while not state.finished:
            choices = [id for start, stop in state.allowed() for id in range(start, stop)]
            few = [id for id in choices if id in zeros or id - 1 in zeros]
            ids.append(int(rng.choice(few if few and rng.random() < 0.9 else choices)))
            state.advance(ids[-1])
        (segment,) = csm.parse(ids)
        assert len(ids) <= most
        assert limits.min_audio_frames <= segment.codes.shape[1] <= 4
        assert csm.serialize([segment]).ids.tolist() == ids
