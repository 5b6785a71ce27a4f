"""A modality of others joins by one entry of the table: `toy_actions`.

That file is all there is of it: documents, shards, training, sampling and saved models know it by
its name.
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import unified.sequence.modality as modality_table
import unified_data.segments as segments
from unified.dataloading import Source
from unified.engine.events import Done, MediaBegun, MediaCodes, MediaDone
from unified.engine.request import Sampling
from unified.engine.sampler import SpanSampling
from unified.formats.coded import CodedMedia, CodedText
from unified.formats.grammar import Grammar
from unified.formats.limits import Limits, SpanLimits
from unified.formats.modality_ids import MODALITIES
from unified.formats.parser import parse_format
from unified.models.model import UnifiedModel
from unified.sequence.inspect import inspect_document
from unified.sequence.modality import modality_of, registered_modalities
from unified.training.config import OptimizerConfig, TrainConfig
from unified.training.train import train
from unified.vocabulary.text_tokenizer import TextTokenizer
from unified.vocabulary.vocabulary import Vocabulary
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Document, Image, Slot, Text
from unified_data.segments import register_media
from unified_data.shards import ShardWriter, read_samples

TOY = Path(__file__).with_name("toy_actions.py")
_spec = importlib.util.spec_from_file_location("toy_actions", TOY)
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)
Actions, ActionsTokenizer, FORMAT, SIZES = toy.Actions, toy.ActionsTokenizer, toy.FORMAT, toy.SIZES
TEXTS = ["left", "right", "jump", "wait and jump"]


@pytest.fixture(scope="module", autouse=True)
def _registered():
    modality_table.register_modality(ENTRY)
    yield
    modality_table._table.pop("actions")
    segments._media.pop("actions")


def run_of(text: str) -> Actions:
    """What a text asks for: as many frames as it has letters, the stick by its first letter."""
    stick = "ljr".find(text[0]) % 3
    return Actions(np.array([[len(text) % 6, stick]] * len(text)), "response")


DOCUMENTS = [Document((Text(text, "prompt"), run_of(text))) for text in TEXTS]


@pytest.fixture(scope="module")
def begin(tmp_path_factory) -> Path:
    """The folder of a model with random weights."""
    folder = tmp_path_factory.mktemp("actions")
    (folder / "actions.yaml").write_text(FORMAT)
    torch.manual_seed(0)
    model = UnifiedModel.create(
        {
            "hidden_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "intermediate_size": 24,
            "max_position_embeddings": 128,
        },
        text_tokenizer=TextTokenizer.train(TEXTS, 260),
        tokenizers={"actions": ActionsTokenizer()},
        format=folder / "actions.yaml",
    )
    model.save_pretrained(folder / "model")
    return folder / "model"


@pytest.fixture(scope="module")
def trained(begin) -> UnifiedModel:
    """After 20 steps of the training that everybody's models have."""
    shards = begin.parent / "shards"
    with ShardWriter(shards, "train", "actions") as writer:
        for number, document in enumerate(DOCUMENTS):
            writer.write(f"d{number}", document)
    threads = torch.get_num_threads()
    try:
        folder = train(
            TrainConfig(
                output=str(begin.parent / "run"),
                init_from=str(begin),
                sources={"play": Source(str(shards / "*.tar"), 1.0)},
                validation={"play": Source(str(shards / "*.tar"))},
                steps=20,
                seq_len=64,
                global_batch_size=2,
                micro_batch_size=2,
                streams=2,
                optimizer=OptimizerConfig(lr=0.02),
                schedule=ScheduleConfig(warmup_steps=2),
                modality_weights={"actions": 2.0},
                log_every=5,
                save_every=20,
                validate_every=20,
                threads=1,
                precision="float32",
            )
        )
    finally:
        torch.set_num_threads(threads)
    return UnifiedModel.from_pretrained(folder)


def test_documents_of_it_go_through_json_and_shards(tmp_path):
    obj, media = DOCUMENTS[0].to_parts("x")
    assert obj["segments"][1] == {"type": "actions", "file": "x.1.frames", "role": "response"}
    assert Document.from_parts(obj, media.__getitem__) == DOCUMENTS[0]
    with ShardWriter(tmp_path, "train", "play") as writer:
        writer.write("a", DOCUMENTS[1])
    assert list(read_samples(next(tmp_path.glob("*.tar")))) == [("a", DOCUMENTS[1])]
    with pytest.raises(ValueError, match=r"type is 'depth', expected one of .*'actions'"):
        Document.from_parts({"segments": [{"type": "depth", "file": "x"}]}, media.__getitem__)
    with pytest.raises(ValueError, match="modality 'image' is that of Image already"):
        register_media(type("Other", (Actions,), {"modality": "image"}))
    with pytest.raises(ValueError, match="there is no modality 'depth'; there are text, image"):
        modality_of("depth")


def test_it_has_a_number_of_its_own_behind_those_that_were_there():
    assert [*registered_modalities()][:2] == ["image", "audio"]
    assert [*MODALITIES][:4] == ["marker", "text", "image", "audio"]
    assert [MODALITIES[name] for name in MODALITIES] == list(range(len(MODALITIES)))
    assert MODALITIES["actions"] >= 4
    assert "depth" not in MODALITIES


def test_the_grammar_lays_it_out_and_keeps_its_limits():
    vocabulary = Vocabulary.build(
        9, 9, parse_format(FORMAT).markers, 4, others={"actions": (SIZES, "actions")}
    )
    assert [block.name for block in vocabulary.blocks[3:]] == ["actions.0", "actions.1"]
    grammar = Grammar.from_text(FORMAT, vocabulary)
    segments = (CodedText((1,)), CodedMedia(np.array([[5, 0], [2, 1]]), modality="actions"))
    serialized = grammar.serialize(segments)
    assert grammar.parse(serialized.ids) == segments
    number = MODALITIES["actions"]
    assert serialized.modality.tolist() == [0, 1, 0, number, number, number, number, 0, 0]
    two = SpanLimits(count=1, min_frames=2, max_frames=2)
    state = grammar.start(Limits(max_ids=40, spans={"actions": two}))
    rng = np.random.default_rng(0)
    while not state.finished:
        start, stop = state.allowed()[rng.integers(len(state.allowed()))]
        events = state.advance(int(rng.integers(start, stop)))
        assert all(e.segment.codes.shape == (2, 2) for e in events if hasattr(e, "frames"))
    with pytest.raises(ValueError, match=r"spans\['actions'\]\.count is 1, but allow leaves out"):
        Limits(allow=("text",), spans={"actions": two})
    for wrong in ("ab", (), (0, 3), (2.5,), 4):
        with pytest.raises(ValueError, match=r"grid(\[0\])? is .*expected"):
            SpanLimits(grid=wrong)
    with pytest.raises(ValueError, match="there is no modality 'depth'"):
        Limits(spans={"depth": two})


@pytest.mark.parametrize(
    ("short", "spans"),
    [
        ({"num_images": 2}, {"image": SpanLimits(count=2)}),
        ({"image_grid": (2, 3)}, {"image": SpanLimits(grid=(2, 3))}),
        ({"num_audios": 1, "max_audio_frames": 4}, {"audio": SpanLimits(1, max_frames=4)}),
    ],
)
def test_short_names_of_limits_are_those_of_their_modality(short, spans):
    for modality in spans:
        assert Limits(**short).of(modality) == Limits(spans=spans).of(modality) == spans[modality]
    with pytest.raises(ValueError, match="give one of the two"):
        Limits(**short, spans={modality: SpanLimits(count=7) for modality in spans})


def test_a_model_of_it_is_trained_sampled_saved_and_reopened(begin, trained, tmp_path):
    before = UnifiedModel.from_pretrained(begin)
    assert before.vocabulary.hash == trained.vocabulary.hash
    losses = [float(model.sequencer and _loss(model)) for model in (before, trained)]
    assert losses[1] < 0.8 * losses[0]
    request = Document((Text("jump", "prompt"), Slot("actions", role="response")))
    sampling = Sampling(max_ids=40, spans={"actions": SpanSampling(temperature=1.0)})
    events = list(trained.stream([request], sampling, seeds=[3]))
    begun = next(event for event in events if isinstance(event, MediaBegun))
    assert (begun.modality, begun.grid) == ("actions", (None,))
    frames = [event.codes for event in events if isinstance(event, MediaCodes)]
    segment = next(event.segment for event in events if isinstance(event, MediaDone))
    done = next(event for event in events if isinstance(event, Done))
    assert done.document.segments[1] == segment
    assert isinstance(segment, Actions)
    assert segment.role == "response"
    assert np.array_equal(np.stack(frames), segment.frames)
    assert segment.frames.max(0)[0] < SIZES[0]
    assert segment.frames.max(0)[1] < SIZES[1]
    assert done.usage["actions_ids"] == segment.frames.size
    trained.save_pretrained(tmp_path / "again")
    again = UnifiedModel.from_pretrained(tmp_path / "again")
    assert isinstance(again.sequencer.tokenizer("actions"), ActionsTokenizer)
    assert again.generate(request, seed=3, sampling=sampling) == [done.document]


def _loss(model: UnifiedModel) -> torch.Tensor:
    """Mean loss of the documents' ids."""
    total = torch.zeros(())
    for document in DOCUMENTS:
        ids = torch.tensor(model.sequencer.encode(document).ids)[None]
        with torch.no_grad():
            total += model.hf(input_ids=ids, labels=ids).loss
    return total / len(DOCUMENTS)


def test_any_interleaving_may_hold_it_and_no_media_without_a_tokenizer(trained):
    request = Document((Text("jump", "prompt"), Slot("any", role="response")))
    for document in trained.generate(request, n=4, sampling=Sampling(max_ids=60)):
        assert {type(segment) for segment in document} <= {Text, Actions}
    with pytest.raises(ValueError, match="cannot make pictures: it has no image tokenizer"):
        trained.generate(Document((Slot("image"),)))
    with pytest.raises(ValueError, match="no image tokenizer; pictures cannot be coded"):
        trained.sequencer.encode(Document((Image(np.zeros((2, 2, 3), np.uint8)),)))


def test_it_is_looked_into_by_its_name(trained):
    inspection = inspect_document(DOCUMENTS[0], trained.sequencer)
    span = next(span for span in inspection.spans if span.kind == "actions")
    assert span.content == "4 frames, 2 levels"
    assert inspection.error is None


def test_a_model_of_an_installed_modality_reopens_in_a_process_that_imports_nothing(
    begin, tmp_path
):
    """By entry points, of the modality and of its tokenizer; without them in one line."""
    code = (
        "import sys\nfrom unified.models.model import UnifiedModel\n"
        "try:\n    model = UnifiedModel.from_pretrained(sys.argv[1])\n"
        "    print(type(model.sequencer.tokenizer('actions')).__name__)\n"
        "except ValueError as error:\n    print(error)\n"
    )
    site = tmp_path / "site"
    info = site / "toy_actions-1.dist-info"
    info.mkdir(parents=True)
    shutil.copy(TOY, site)

    def reopen() -> str:
        path = os.pathsep.join([str(site), *sys.path])
        done = subprocess.run(
            [sys.executable, "-c", code, str(begin)], capture_output=True, text=True, timeout=300,
            env={**os.environ, "PYTHONPATH": path},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout.strip()

    refused = reopen()
    expected = (
        "expected one of image, audio, box, point, video, label, state, points, region; others"
    )
    assert f"spans.actions.modality is 'actions', {expected}" in refused
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-actions\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[unified.modalities]\nactions = toy_actions\n"
        "[unified.tokenizers]\ntoy_actions = toy_actions:ActionsTokenizer\n"
    )
    assert reopen() == "ActionsTokenizer"


# Collected modules are imported before any test runs: the other tests of the process meet the
# table without this entry.
ENTRY = modality_table._table.pop("actions")
segments._media.pop("actions")
