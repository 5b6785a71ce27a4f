"""The formats of published models, against what their papers and code say of their sequences."""

from __future__ import annotations

import random

import numpy as np
import pytest

from unified.formats.coded import CodedAudio, CodedImage, CodedText, FrameDone, coded_media
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits
from unified.formats.load import load_format, shipped_formats
from unified.vocabulary.vocabulary import Block, Vocabulary

LEVELS = {
    ("pocket", "audio"): 3, ("pocket-together", "audio"): 3, ("grounded", "audio"): 3,
    ("tools", "audio"): 3, ("mio", "audio"): 4,
    ("orpheus", "audio"): 7, ("anygpt", "music"): 4, ("csm", "audio"): 32,
    ("qwen3-omni", "audio"): 16,
}  # fmt: skip


def vocabulary(name: str, codes: int = 50) -> Vocabulary:
    """A small one for a format: 40 text ids, among them those of its literals, and sizes to 40."""
    spec = load_format(name)
    blocks = [Block("text", 0, 40)]

    def add(block: str, size: int, **fields) -> None:
        blocks.append(Block(block, blocks[-1].stop, size, **fields))

    add("markers", len(spec.markers), symbols=spec.markers)
    add("size", 40)
    for kind, span in spec.spans.items():
        for level in range(span.num_codebooks or LEVELS.get((name, kind), 1)):
            add(f"{kind}.{level}", 1 if span.embeds else codes, level=level)
    literals = tuple((text, (20 + at,)) for at, text in enumerate(spec.literals))
    return Vocabulary(tuple(blocks), 40, 40, literals)


def grammar(name: str) -> Grammar:
    return Grammar.load(name, vocabulary(name))


def coded(
    compiled: Grammar, kind: str, grid: tuple[int, ...], seed: int = 0, role: str | None = None
):
    program = compiled.span_grammars[kind]
    sizes = [40 if block.name == "text" else block.size for block in program.blocks]
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(min(1, size - 1), size, size=grid) for size in sizes])
    if kind == "box":
        codes.sort()  # left <= right and top <= bottom
    return coded_media(program.modality, codes, role, kind=kind)


def words(compiled: Grammar, ids) -> list[str]:
    """Ids by the names of their markers, the texts of their literals, or their blocks."""
    literals = {ids: text for text, ids in compiled.vocabulary.literals}
    named = []
    for id in np.asarray(ids).tolist():
        block = compiled.vocabulary.block_of(id)
        if block.symbols is not None:
            named.append(compiled.vocabulary.symbol(id))
        else:
            named.append(literals.get((id,), block.name))
    return named


SPAN_LENGTHS = [
    ("chameleon", "image", (32, 32), 1026),
    ("anole", "image", (32, 32), 1026),
    # 768x512 pixels: 24x16 squares of 32 pixels, of 4 codes each, an end of line for 48 lines.
    ("lumina-mgpt", "image", (48, 32), 1 + 2 + 33 * 48 + 1),
    # 256x256 pixels at stride 8: the paper's 1 + x + 1 + 33 * 32 + 1 + 1, x = 5 for "32*32".
    ("emu3", "image", (32, 32), 1 + 5 + 1 + 33 * 32 + 1 + 1),
    ("emu3", "image", (90, 90), 1 + 5 + 1 + 91 * 90 + 1 + 1),
    ("emu3-chat", "image", (4, 3), 1 + 3 + 1 + 4 * 4 + 1 + 1),
    ("emu3.5", "image", (9, 100), 1 + 5 + 1 + 9 * 100 + 8 + 1),
    ("janus", "image", (24, 24), 577),
    ("janus", "seen", (24, 24), 578),
    ("llava", "image", (24, 24), 576),
    ("llava-onevision", "image", (7,), 7),
    ("janus-pro", "image", (24, 24), 577),
    ("liquid", "image", (32, 32), 1026),
    ("liquid-chat", "image", (32, 32), 1026),
    ("apertus-base", "image", (9, 100), 1 + 5 + 1 + 9 * 100 + 8 + 1),
    ("apertus", "image", (9, 10), 1 + 4 + 1 + 9 * 10 + 8 + 1),
    ("apertus", "audio", (40,), 42),
    ("seed-llama", "image", (32,), 34),
    ("anygpt", "image", (32,), 34),
    ("anygpt", "speech", (50,), 52),
    ("anygpt", "music", (50,), 202),
    ("mio", "image", (32,), 34),
    ("mio", "audio", (50,), 202),
    ("orpheus", "audio", (12,), 86),
    # A position of padding, and three steps more for the levels that are late.
    ("musicgen", "audio", (50,), 4 * 54),
    ("dia", "audio", (50,), 9 * (1 + 50 + 15 + 1)),
    ("higgs-audio-v2", "audio", (50,), 8 * (1 + 50 + 7 + 1) + 2),
    ("moshi", "audio", (50,), 17 * (1 + 50 + 1)),
    ("qwen3-omni", "audio", (50,), 16 * 50 + 2),
    ("csm", "audio", (50,), 32 * (50 + 1) + 2),
    ("pocket", "image", (8, 8), 68),
    ("pocket", "audio", (25,), 77),
    ("pocket-together", "image", (8, 8), 68),
    ("pocket-together", "audio", (25,), 77),
    ("grounded", "image", (8, 8), 68),
    ("grounded", "audio", (25,), 77),
    ("tools", "image", (8, 8), 68),
    ("tools", "audio", (25,), 77),
    ("grounded", "box", (4,), 6),
    ("grounded", "point", (2,), 4),
    # <video>, three sizes, a marker for each of three frames of 2x4 places, </video>.
    ("video", "video", (3, 2, 4), 1 + 3 + 3 * (1 + 2 * 4) + 1),
    # <image>, four sizes, a marker for each of 2x3 tiles of 4x5 places, </image>.
    ("tiles", "image", (2, 3, 4, 5), 1 + 4 + 2 * 3 * (1 + 4 * 5) + 1),
]


@pytest.mark.parametrize(("name", "kind", "grid", "length"), SPAN_LENGTHS)
def test_a_span_is_as_long_as_published_and_reads_back(name, kind, grid, length):
    compiled = grammar(name)
    role = "response" if "response" in compiled.roles else None
    before = CodedText((1, 2), "prompt" if role else None)
    media = coded(compiled, kind, grid, role=role)
    assert len(compiled.segment_ids(media)[0]) == length
    assert (
        compiled.span_grammars[kind].length(compiled.span_grammars[kind].fix_grid(grid)) == length
    )
    laid = compiled.serialize([before, media])
    assert compiled.parse(laid.ids) == (before, media)


def test_every_shipped_format_has_its_lengths_checked():
    assert {name for name, *_ in SPAN_LENGTHS} == set(shipped_formats())


def test_spans_are_laid_out_as_published():
    emu3 = grammar("emu3")
    in_words = words(emu3, emu3.serialize([CodedText((1,)), coded(emu3, "image", (2, 12))]).ids)
    row = ["image.0"] * 12 + ["<line>"]
    head = ["<bos>", "text", "<boi>", "2", "*", "1", "2", "<img>"]
    assert in_words == [*head, *row, *row, "<frame>", "<eoi>", "<eos>"]

    later = grammar("emu3.5")
    in_words = words(later, later.segment_ids(coded(later, "image", (2, 3)))[0])
    head = ["<boi>", "2", "*", "3", "<img>"]
    assert in_words == [*head, *["image.0"] * 3, "<line>", *["image.0"] * 3, "<eoi>"]

    lumina = grammar("lumina-mgpt")
    ids = lumina.segment_ids(coded(lumina, "image", (2, 6)))[0]
    line = ["image.0"] * 6 + ["<line>"]
    assert words(lumina, ids) == ["<boi>", "size", "size", *line, *line, "<eoi>"]
    assert (lumina.vocabulary.from_ids("size", ids[1:3]) + 1).tolist() == [1, 3]

    orpheus = grammar("orpheus")
    laid = orpheus.serialize(
        [CodedText((1, 2), "prompt"), coded(orpheus, "audio", (2,), role="response")]
    )
    assert words(orpheus, laid.ids) == [
        "<soh>", "<bos>", "text", "text", "<eot>", "<eoh>", "<soa>", "<sos>",
        *[f"audio.{slot}" for slot in range(7)] * 2, "<eos>", "<eoa>",
    ]  # fmt: skip

    mio = grammar("mio")
    in_words = words(mio, mio.segment_ids(coded(mio, "audio", (3,)))[0])
    assert in_words[1:-1] == [f"audio.{level}" for level in range(4) for _ in range(3)]


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 9])
def test_delayed_levels_come_one_step_after_the_other(frames):
    compiled = grammar("musicgen")
    media = coded(compiled, "audio", (frames,))
    ids = compiled.segment_ids(media)[0]
    steps = ids[4:].reshape(frames + 3, 4)
    for level in range(4):
        fill = compiled.vocabulary.marker(f"<pad.{level}>")
        column = steps[:, level]
        late = column[level : level + frames]
        assert compiled.vocabulary.from_ids(f"audio.{level}", late).tolist() == (
            media.codes[level].tolist()
        )
        assert (np.delete(column, range(level, level + frames)) == fill).all()
    # A frame is complete with its last level, three steps late.
    state, done = compiled.start(), []
    for at, id in enumerate(compiled.serialize([media]).ids.tolist()):
        done += [(at, event) for event in state.advance(id) if isinstance(event, FrameDone)]
    assert [event.frame for _, event in done] == list(range(frames))
    assert [at for at, _ in done] == [4 + 4 * (3 + frame) + 3 for frame in range(frames)]
    assert np.array_equal(np.stack([event.codes for _, event in done], 1), media.codes)


def test_published_vocabularies_have_their_sizes():
    emu3 = Vocabulary(
        (Block("text", 0, 184_622), Block("image.0", 151_854, 32_768, level=0)), 184_622, 184_622
    )
    assert emu3.size == 184_622
    assert emu3.text_ranges == ((0, 151_854),)
    later = Vocabulary(
        (Block("text", 0, 151_854), Block("image.0", 151_854, 131_072, level=0)), 151_854, 151_854
    )
    assert later.size == 282_926
    slots = [Block(f"audio.{k}", 128_266 + 4096 * k, 4096, level=k) for k in range(7)]
    names = load_format("orpheus").markers
    markers = (128_000, 128_009, *range(128_257, 128_264))
    orpheus = Vocabulary(
        (Block("text", 0, 128_266), Block.at("markers", markers, symbols=names), *slots),
        128_266,
        128_266,
    )
    assert orpheus.size == 156_938
    frame = [orpheus.to_ids(f"audio.{slot}", 17 + slot) for slot in range(7)]
    assert frame == [128_256 + 10 + slot * 4096 + 17 + slot for slot in range(7)]
    assert orpheus.marker("<soh>") == 128_259
    assert orpheus.marker("<eoa>") == 128_262


@pytest.mark.parametrize("name", shipped_formats())
def test_random_sequences_are_valid_and_within_their_budget(name):
    compiled = grammar(name)
    rng = random.Random(name)
    seen = set()
    for _ in range(25):
        most = rng.choice([4, 9, 40, 700, 1300])
        try:
            state = compiled.start(Limits(max_ids=most, roles=rng.random() < 0.7))
        except ValueError as error:
            assert "too small" in str(error)  # noqa: PT017
            continue
        ids = []
        while not state.finished:
            ids.append(rng.randrange(*rng.choice(state.allowed())))
            state.advance(ids[-1])
        assert len(ids) <= most
        seen.update(segment.kind for segment in compiled.parse(ids))
    written = {kind for kind, span in compiled.span_grammars.items() if not span.embeds}
    assert seen == {"text", *written}


def test_a_picture_begins_only_where_it_fits():
    """BOI is banned when fewer than 1,026 places remain (and the end of the document)."""
    compiled = grammar("chameleon")
    boi = compiled.vocabulary.marker("<boi>")
    for left, fits in ((1027, True), (1026, False)):
        state = compiled.start(Limits(max_ids=1 + left))
        state.advance(compiled.begin[0])
        assert any(start <= boi < stop for start, stop in state.allowed()) is fits


def test_a_size_in_digits_is_bounded_by_what_fits():
    compiled = grammar("emu3")
    state = compiled.start(Limits(max_ids=1 + 1 + 4 + 1 + 1 + 3 + 4 * 6 + 1))
    say = {text: ids[0] for text, ids in compiled.vocabulary.literals}
    for id in (*compiled.begin, compiled.vocabulary.marker("<boi>")):
        state.advance(id)

    def offered() -> set[str]:
        allowed = [id for start, stop in state.allowed() for id in range(start, stop)]
        return set(words(compiled, allowed))

    assert offered() == set("123456789")
    state.advance(say["4"])
    assert offered() == {"*"}
    state.advance(say["*"])
    assert offered() == set("12345")
    forced = compiled.start(Limits(image_grid=(12, 3)))
    for id in (*compiled.begin, compiled.vocabulary.marker("<boi>")):
        forced.advance(id)
    for text in ("1", "2", "*", "3"):
        assert forced.allowed() == ((say[text], say[text] + 1),)
        forced.advance(say[text])
    assert words(compiled, [forced.allowed()[0][0]]) == ["<img>"]


def test_a_picture_that_closes_is_the_last_thing():
    compiled = grammar("emu3")
    image = coded(compiled, "image", (2, 2))
    with pytest.raises(ValueError, match=r"segment 1 .*ends after its first image"):
        compiled.serialize([image, CodedText((1,))])
    with pytest.raises(ValueError, match="but the limits ask for 2"):
        compiled.start(Limits(num_images=2))
    state = compiled.start()
    for id in compiled.serialize([image], end=False).ids.tolist():
        state.advance(id)
    assert words(compiled, [id for start, _ in state.allowed() for id in [start]]) == ["<eos>"]


def test_roles_may_begin_with_one_marker_where_what_follows_tells_them_apart():
    liquid = grammar("liquid-chat")
    document = (CodedText((1,), "prompt"), CodedText((2,), "response"))
    ids = liquid.serialize(document).ids
    turn = ["<end_of_turn>", "\n", "<start_of_turn>"]
    assert words(liquid, ids) == [
        "<bos>", "<start_of_turn>", "user\n", "text", *turn, "model\n", "text", *turn[:2], "<eos>",
    ]  # fmt: skip
    assert liquid.parse(ids) == document
    with pytest.raises(ValueError, match="begin alike: nothing would tell which role comes"):
        Grammar.from_text(
            liquid.source.replace('{literal: "model\\n"}', '{literal: "user\\n"}'),
            liquid.vocabulary,
        )


def test_emu3_chat_reads_a_picture_before_its_question():
    """As transformers' Emu3Processor: h * (w + 1) ids between <img> and <frame>, then text."""
    chat, strict = grammar("emu3-chat"), grammar("emu3")
    document = [CodedText((1, 2)), coded(chat, "image", (2, 12)), CodedText((3,))]
    ids = chat.serialize(document).ids
    row = ["image.0"] * 12 + ["<line>"]
    assert words(chat, ids) == [
        "<bos>", "text", "text", "<boi>", "2", "*", "1", "2", "<img>", *row, *row, "<frame>",
        "<eoi>", "text", "<eos>",
    ]  # fmt: skip
    assert chat.parse(ids) == tuple(document)
    # One picture after a prompt is the same to both: the vocabularies have the same ids.
    drawn = document[:2]
    assert strict.serialize(drawn).ids.tolist() == chat.serialize(drawn).ids.tolist()
    with pytest.raises(ValueError, match="a document ends after its first image span; leave this"):
        strict.serialize(document)


def test_kinds_of_sound_are_told_apart():
    compiled = grammar("anygpt")
    speech, music = coded(compiled, "speech", (3,)), coded(compiled, "music", (3,), seed=1)
    assert compiled.parse(compiled.serialize([speech, music]).ids) == (speech, music)
    with pytest.raises(ValueError, match="no audio spans"):
        compiled.serialize([CodedAudio(np.zeros((1, 3), int))])
    only = compiled.start(Limits(allow=("music",)))
    only.advance(compiled.begin[0])
    assert words(compiled, [start for start, _ in only.allowed()]) == ["</s>", "<somu>"]


def test_roles_that_a_format_does_not_have_are_refused_by_name():
    with pytest.raises(ValueError) as refused:
        grammar("janus").serialize([CodedText((1,), "prompt")])
    assert str(refused.value) == (
        "segment 0 (text): format 'janus' has no roles; leave role 'prompt' out"
    )
    with pytest.raises(ValueError, match=r"'pocket' has no role 'user'; it has prompt, response"):
        grammar("pocket").serialize([CodedText((1,), "user")])
    state = grammar("janus").start()
    state.advance(grammar("janus").begin[0])
    with pytest.raises(ValueError, match="format 'janus' has no roles; leave role 'prompt' out"):
        state.segment_prefix("text", "prompt")


def test_what_a_format_cannot_say_is_refused():
    chameleon = grammar("chameleon")
    with pytest.raises(ValueError, match="two texts of a role; join them"):
        chameleon.serialize([CodedText((1,)), CodedText((2,))])
    with pytest.raises(ValueError, match="'prompt' cannot follow role 'response' in format"):
        chameleon.serialize([CodedText((1,), "response"), CodedText((2,), "prompt")])
    with pytest.raises(ValueError, match="a grid of 8x8; the format's grids are 32x32"):
        chameleon.serialize([CodedImage(np.zeros((1, 8, 8), int))])
    lumina = grammar("lumina-mgpt")
    with pytest.raises(
        ValueError, match=r"a grid of 3x4; the format's grids are \(2 times h\)x\(2 times w\)"
    ):
        lumina.serialize([CodedImage(np.zeros((1, 3, 4), int))])
