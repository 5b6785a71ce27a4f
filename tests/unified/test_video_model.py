"""Videos as ids: laid out, parsed, trained on, asked about and drawn; and pictures as tiles."""

import json

import numpy as np
import pytest
import torch

from unified.dataloading import Source
from unified.dataloading.tokenize import MediaEncoderSpec, tokenize_shards
from unified.engine.events import Done, MediaBegun, MediaCodes, MediaDone
from unified.engine.request import Sampling
from unified.formats.coded import CodedMedia, CodedText, RowDone, SpanBegin
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits, SpanLimits
from unified.formats.load import load_format
from unified.models.model import UnifiedModel
from unified.sequence.preprocess import fit_video
from unified.sequence.tiles import tile_document, untile_document
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.training.settings import ScheduleConfig
from unified_base.videos import load_video, save_video
from unified_data.document import Document, Image, Slot, Text, Video
from unified_data.shards import ShardWriter
from unified_tokenizers import FrameTokenizer, TiledTokenizer, VQImageTokenizer, VQVideoTokenizer
from unified_tokenizers.tokenizer_configs import ImageTokenizerConfig, VideoTokenizerConfig

TEXTS = ["it moves left", "it moves right"]
SMALL = {"encoder_depths": (1,), "encoder_width": 16, "decoder_width": 16,
         "decoder_depths": (1, 1, 1)}  # fmt: skip
DECODER = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "head_dim": 8, "intermediate_size": 24, "max_position_embeddings": 256,
}  # fmt: skip
FRAMES = np.random.default_rng(0).integers(0, 256, (5, 8, 12, 3), np.uint8)


def image_tokenizer() -> VQImageTokenizer:
    torch.manual_seed(0)
    return VQImageTokenizer(ImageTokenizerConfig(stride=4, **SMALL)).eval()


def causal() -> VQVideoTokenizer:
    torch.manual_seed(0)
    config = VideoTokenizerConfig(stride=4, group=2, frame_rate=2.0, **SMALL)
    return VQVideoTokenizer(config).eval()


def create(format: str, tokenizers: dict, **media) -> UnifiedModel:
    torch.manual_seed(0)
    return UnifiedModel.create(
        DECODER, text_tokenizer=TextTokenizer.train(TEXTS, 270), tokenizers=tokenizers,
        format=format, **media,
    )  # fmt: skip


@pytest.fixture(scope="module", params=["causal", "frames"])
def folder(request, tmp_path_factory):
    """A model of each kind of tokenizer, trained two steps."""
    root = tmp_path_factory.mktemp(request.param)
    tokenizer = causal() if request.param == "causal" else FrameTokenizer(image_tokenizer(), 2.0)
    create("video", {"video": tokenizer}).save_pretrained(root / "model")
    tokenizer.save_pretrained(root / "tokenizer")
    with ShardWriter(root / "shards", "train", "v") as writer:
        for number, text in enumerate(TEXTS):
            video = Video.at_rate(FRAMES[: 3 + 2 * number], 2.0, "prompt", 0.0)
            writer.write(f"d{number}", Document((video, Text(text, "response"))))
    spec = MediaEncoderSpec(others={"video": str(root / "tokenizer")})
    tokenize_shards(sorted((root / "shards").glob("*.tar")), root / "codes", spec)
    threads = torch.get_num_threads()
    sources = {"v": Source(str(root / "shards" / "*.tar"), 1.0),
               "c": Source(str(root / "codes" / "*.tar"), 1.0)}  # fmt: skip
    try:
        return train(
            TrainConfig(
                output=str(root / "run"), init_from=str(root / "model"), sources=sources,
                validation={}, steps=2, seq_len=128, global_batch_size=2, micro_batch_size=2,
                streams=2, optimizer=OptimizerConfig(lr=0.02), log_every=1, save_every=2,
                schedule=ScheduleConfig(warmup_steps=1), validate_every=2, threads=1,
                precision="float32",
            )
        )  # fmt: skip
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model(folder) -> UnifiedModel:
    return UnifiedModel.from_pretrained(folder)


@pytest.mark.parametrize(
    ("format", "kind", "grid"), [("video", "video", (3, 2, 4)), ("tiles", "image", (2, 3, 2, 1))]
)
def test_grids_of_more_axes_are_laid_out_parsed_and_sampled(format, kind, grid):
    sizes = ((5, 7), "fingerprint")
    others = {"others": {"video": sizes}} if format == "video" else {}
    vocabulary = Vocabulary.build(
        9, 9, load_format(format).markers, 5, image=sizes, audio=sizes, **others
    )
    grammar = Grammar.load(format, vocabulary)
    rng = np.random.default_rng(0)
    codes = np.stack([rng.integers(0, size, grid) for size in (5, 7)])
    segments = (CodedText((1, 2)), CodedMedia(codes, modality=kind, kind=kind), CodedText((3,)))
    serialized = grammar.serialize(segments)
    parsed = grammar.parse(serialized.ids)
    assert parsed[0] == segments[0]
    assert np.array_equal(parsed[1].codes, codes)
    events = list(grammar.events(serialized.ids))
    begun = next(e for e in events if isinstance(e, SpanBegin) and e.kind == kind)
    assert begun.grid == grid
    rows = [event for event in events if isinstance(event, RowDone)]
    assert [row.row for row in rows] == list(range(grid[0]))
    assert np.array_equal(np.stack([row.codes for row in rows], 1), codes)
    limits = Limits(max_ids=200, spans={kind: SpanLimits(count=1, grid=grid)})
    state = grammar.start(limits)
    while not state.finished:
        start, stop = state.allowed()[rng.integers(len(state.allowed()))]
        for event in state.advance(int(rng.integers(start, stop))):
            if isinstance(event, RowDone) and event.kind == kind:
                assert event.codes.shape[1:] == grid[1:]
    with pytest.raises(ValueError, match=f"grid of {len(grid) - 1} axes"):
        grammar.serialize((CodedMedia(codes[:, 0], modality=kind, kind=kind),))
    with pytest.raises(ValueError, match=r"must be\s+in 1\.\.5, found (6|9)"):
        grammar.serialize((CodedMedia(codes.repeat(3, 1), modality=kind, kind=kind),))


def test_a_video_is_its_ids(model):
    document = Document((Video.at_rate(FRAMES, 2.0, "prompt"), Text("left", "response")))
    ids = model.sequencer.encode(document).ids
    video, text = model.sequencer.decode(ids).segments
    assert (video.frames.shape, video.times.tolist()) == (FRAMES.shape, [0, 0.5, 1, 1.5, 2])
    assert text.text == "left"
    again = model.sequencer.encode(Document((video, text)))
    assert len(again.ids) == len(ids)
    for frames, rate, reason in (
        (FRAMES, 3.0, "3 frames a second, expected 2 at equal ones"),
        (FRAMES[:, :7], 2.0, "both sides must be multiples of 4"),
    ):
        with pytest.raises(ValueError, match=reason):
            model.sequencer.encode(Document((Video.at_rate(frames, rate),)))
    uneven = Video(FRAMES, np.array([0, 0.5, 1.0, 2.0, 2.5]))
    with pytest.raises(ValueError, match="at unequal steps"):
        model.sequencer.encode(Document((uneven,)))


def test_it_describes_videos_of_any_size_and_rate(model):
    strange = Video.at_rate(np.repeat(FRAMES, 2, 0)[:9, :, :10], 3.0)
    with pytest.warns(UserWarning, match="frames in") as told:
        first = model.describe(strange, max_text_ids=6)
    notes = " ".join(str(warning.message) for warning in told)
    assert "the video's 9 frames in 2.67 s became" in notes
    assert "every frame of 10x8 was fitted into" in notes
    exact = Video.at_rate(FRAMES, 2.0)
    assert model.ask(exact, "where?", max_text_ids=6) == model.ask(exact, "where?", max_text_ids=6)
    assert isinstance(first, str)
    long = Video.at_rate(np.zeros((300, 8, 8, 3), np.uint8), 2.0)
    with pytest.raises(ValueError, match=r"the video has 300 frames at 2 a second|has 299 frames"):
        model.describe(long)
    with pytest.raises(ValueError, match="to describe takes no picture"):
        model.describe(np.zeros((8, 8, 3), np.uint8))


def test_it_draws_videos_frame_by_frame(model):
    request = model.request("draw", text="it moves left", frames=3, size="12x8")
    events = list(model.stream([request.document], request.sampling, [5]))
    begun = next(event for event in events if isinstance(event, MediaBegun))
    t = 1 + 2 // model.sequencer.tokenizer("video").group
    assert (begun.modality, begun.grid) == ("video", (t, 2, 3))
    frames = [event.codes for event in events if isinstance(event, MediaCodes)]
    assert np.stack(frames, 1).shape == (1, t, 2, 3)
    video = next(event.segment for event in events if isinstance(event, MediaDone))
    assert next(e for e in events if isinstance(e, Done)).document.segments[-1] == video
    assert video.frames.shape == (3, 8, 12, 3)
    assert model.draw_video("it moves left", 3, seed=5, size=(12, 8)) == [
        Video(video.frames, video.times, "response")
    ]
    for call, reason in (
        (lambda: model.draw("a"), "say of how many frames"),
        (lambda: model.draw_video("a", 3), "give all of them, or none"),
        (lambda: model.draw_video("a", 0), "frames is 0"),
        (lambda: model.draw_video("a", 3, size="13x8"), "multiples of 4"),
    ):
        with pytest.raises(ValueError, match=reason):
            call()
    if t == 2:
        with pytest.raises(ValueError, match=r"does not divide into codes.*ask for 3 or 5"):
            model.draw_video("a", 4, size="12x8")


def test_any_interleaving_may_hold_videos(model):
    document = Document((Text("a", "prompt"), Slot("any", role="response")))
    for completed in model.generate(document, n=4, sampling=Sampling(max_ids=120)):
        assert {type(segment) for segment in completed} <= {Text, Video}


def test_a_model_of_pictures_sees_the_frames_with_their_times():
    model = create("pocket", {}, image_tokenizer=image_tokenizer())
    video = Video(FRAMES, np.array([0, 0.5, 1.25, 2, 3]))
    request = model.request("ask", video=video, question="where?")
    kinds = [type(segment) for segment in request.document]
    assert kinds == [*[Text, Image] * 5, Text, Slot]
    times = [segment.text for segment in request.document if isinstance(segment, Text)]
    assert times == ["0.0 s", "0.5 s", "1.2 s", "2.0 s", "3.0 s", "where?"]
    long = Video.at_rate(np.repeat(FRAMES, 6, 0), 2.0)
    request = model.request("describe", video=long)
    assert sum(isinstance(segment, Image) for segment in request.document) == 8
    assert "8 of the video's 30 frames are looked at" in request.notes
    with pytest.raises(ValueError, match="frames is 4, but to draw makes no videos here"):
        model.request("draw", text="a", frames=4)
    sound_only = create("pocket", {})
    with pytest.raises(ValueError, match="the model cannot describe"):
        sound_only.request("describe", video=video)


def test_videos_are_made_to_fit():
    times = np.arange(9) / 3
    frames, notes = fit_video(np.repeat(FRAMES, 2, 0)[:9], times, 2.0, 4, 8, 12)
    assert (frames.shape, len(notes)) == ((5, 8, 12, 3), 1)
    same, notes = fit_video(FRAMES, np.arange(5) / 2, 2.0, 4, 8, 12)
    assert np.array_equal(same, FRAMES)
    assert notes == ()
    with pytest.raises(ValueError, match=r"has 5 frames at 2 a second, expected 3 at most, 1.5 s"):
        fit_video(FRAMES, np.arange(5) / 2, 2.0, 1, 8, 12, most=3)


def test_the_commands_take_and_write_videos(folder, tmp_path, unified, refused):
    save_video(tmp_path / "a.mp4", FRAMES, np.arange(5) / 2)
    asked = ("describe", tmp_path / "a.mp4", "--max-text-ids", "5", "--json")
    code, out, err = unified(*asked, on=folder)
    assert code == 0, err
    assert "text" in json.loads(out)
    out_file = tmp_path / "b.gif"
    drawing = ("draw", "left", "--frames", "3", "--size", "12x8", "-o")
    code, out, err = unified(*drawing, out_file, on=folder)
    assert code == 0, err
    assert load_video(out_file)[0].shape[1:] == (8, 12, 3)
    code, out, err = unified(*drawing, tmp_path / "c.mp4", "-n", "2", on=folder)
    assert code == 0, err
    assert load_video(tmp_path / "c-2.mp4")[0].shape == (3, 8, 12, 3)
    refused(unified(*drawing, tmp_path / "b.png", on=folder), "a video")
    picture = ("describe", tmp_path / "a.png", "--frames", "3")
    refused(unified(*picture, on=folder), "--frames is of videos")
    (tmp_path / "d.mp4").write_bytes((tmp_path / "a.mp4").read_bytes()[:-9])
    refused(unified("describe", tmp_path / "d.mp4", on=folder), "is cut off")


def test_a_language_model_is_given_videos(cli_llm, folder, tmp_path, unified, refused):
    name = folder / "video_tokenizer"
    extended = ("extend", cli_llm, "--video", name, "--format", "video", "-o", tmp_path / "m")
    code, _, err = unified(*extended, on=None)
    assert code == 0, err
    model = UnifiedModel.from_pretrained(tmp_path / "m")
    assert model.sequencer.tokenizer("video").stride == 4
    image_tokenizer().save_pretrained(tmp_path / "image")
    frames = ("extend", cli_llm, "--video", tmp_path / "image", "--video-rate", "4", "--format",
              "video", "-o", tmp_path / "n")  # fmt: skip
    assert unified(*frames, on=None)[0] == 0
    model = UnifiedModel.from_pretrained(tmp_path / "n")
    assert model.sequencer.tokenizer("video").frame_rate == 4.0


def test_pictures_as_tiles_with_thumbnails(tmp_path):
    tokenizer = TiledTokenizer(image_tokenizer(), (8, 12), most=8)
    model = create("tiles", {}, image_tokenizer=tokenizer)
    model.save_pretrained(tmp_path / "model")
    model = UnifiedModel.from_pretrained(tmp_path / "model")
    tokenizer = model.sequencer.tokenizer("image")
    picture = np.random.default_rng(1).integers(0, 256, (30, 70, 3), np.uint8)
    document = Document((Text("look", "prompt"), Image(picture, "prompt")))
    tiled = tile_document(document, tokenizer)
    assert [s.pixels.shape for s in tiled.segments[1:]] == [(16, 48, 3), (8, 12, 3)]
    assert untile_document(tiled, tokenizer) == tile_document(document, tokenizer, thumbnails=False)
    sequence = model.sequencer.encode(tiled)
    decoded = model.sequencer.decode(sequence.ids)
    assert [s.pixels.shape for s in decoded.segments[1:]] == [(16, 48, 3), (8, 12, 3)]
    # Every tile where it was: as if it were a picture by itself.
    whole = decoded.segments[1].pixels
    for row in range(2):
        for column in range(4):
            there = slice(8 * row, 8 * row + 8), slice(12 * column, 12 * column + 12)
            alone = Document((Image(tiled.segments[1].pixels[there]),))
            own = model.sequencer.decode(model.sequencer.encode(alone).ids).segments[0].pixels
            assert np.array_equal(whole[there], own)
    with pytest.raises(ValueError, match="should be the thumbnail of the picture before it"):
        untile_document(Document(tiled.segments[:2]), tokenizer)
    assert isinstance(model.describe(picture, max_text_ids=4), str)
    (drawn,) = model.draw("a", size="24x16")
    assert drawn.shape == (16, 24, 3)
    with pytest.raises(ValueError, match="does not divide into tiles"):
        model.draw("a", size="28x16")
