"""CSM and Higgs Audio v2 are trained: losses and gradients are those of transformers' own labels.

transformers' objects, inputs and labels; of their losses only the rows are taken that the grammar
allows, and the sum in place of the mean.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import codes_checkpoints as checkpoints
import numpy as np
import pytest
import torch
import transformers
from codes_checkpoints import CODES
from run_checkpoints import same, tensors
from together_cases import packed
from torch.nn import functional as F
from training_runs import check_close, torchrun

from tests.helpers.csm_checkpoint import LEVELS, make_csm
from tests.helpers.moshi_checkpoint import make_moshi
from tokenizers import Tokenizer
from unified import UnifiedModel
from unified.dataloading import Source
from unified.engine.request import Sampling
from unified.training.config import Lora, OptimizerConfig, TrainConfig
from unified.training.estimate import estimate_run, shape_of
from unified.training.initial_model import build_model
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import make_micro_batch
from unified.training.several_ids import DepthSubset
from unified.training.train import train
from unified.training.train_module import TrainModule
from unified.training.weights import choose_trained
from unified_base.training import loop
from unified_base.training.settings import ScheduleConfig
from unified_data.document import Audio, Document, Text
from unified_data.shards import ShardWriter

TEXTS = ["a red fox", "two owls and a lamp", "what is this?"]
SCENE = "\nAudio is recorded from a quiet room.\n"


@pytest.fixture(autouse=True, scope="module")
def _threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Folders of both models, each with its codec."""
    root = tmp_path_factory.mktemp("codes")
    make_csm(root / "csm")
    checkpoints.make_higgs(root / "plain")
    codec = checkpoints.save_higgs_codec(root / "codec")
    higgs = UnifiedModel.from_pretrained(root / "plain", audio_tokenizer=codec)
    higgs.save_pretrained(root / "higgs")
    return root


@pytest.fixture(scope="module")
def models(folders):
    return {kind: UnifiedModel.from_pretrained(folders / kind) for kind in ("csm", "higgs")}


def sound(frames, model, seed=0):
    """Noise of so many frames."""
    codec = model.audio_tokenizer
    wave = np.random.default_rng(seed).normal(0, 0.2, (1, frames * codec.hop))
    return Audio(wave.astype(np.float32), codec.sample_rate)


def lessons(kind, model):
    """(documents as they are stored, with codes; their sounds)."""
    documents, sounds = [], []
    for number, turns in enumerate((2, 1)):
        segments = [Text(SCENE, "scene", 0.0)] if kind == "higgs" else []
        for turn in range(turns):
            # The processor of Higgs Audio pads sounds of several lengths before it codes them.
            frames = 3 + number + 2 * turn if kind == "csm" else 3 + number
            heard = sound(frames, model, 7 * number + turn)
            sounds.append(heard.waveform)
            coded = model.sequencer.code_segment(heard)
            text = TEXTS[number + turn]
            if kind == "csm":
                segments += [Text(f"[{turn}]{text}"), coded]
            else:
                segments += [Text(text, "prompt", 0.0), replace(coded, role="response")]
        documents.append(segments)
    return documents, sounds


def restricted(logits, labels, rows):
    """The sum of the losses of labels that are not -100, among some rows."""
    learnt = labels != -100
    local = torch.searchsorted(rows, labels[learnt])
    return F.cross_entropy(logits[learnt][:, rows].float(), local, reduction="sum")


def csm_reference(hf, model, documents, sounds, left_out=()):
    """The sums of transformers' losses of all documents, with gradient: (backbone, depth decoder).

    left_out: (document, position) of frames whose first code alone is learnt.
    """
    tokens, config = model.text_tokenizer.tokens, hf.config
    rows = torch.arange(CODES)

    def of_backbone(logits, labels, vocab_size, **_):
        return restricted(logits[:, :-1], labels[:, 1:], rows)

    def of_depth(logits, labels, vocab_size, shift_labels, **_):
        return restricted(logits, shift_labels, rows)

    hf.loss_function, hf.depth_decoder.loss_function = of_backbone, of_depth
    sounds, backbone, depth = iter(sounds), 0, 0
    for number, segments in enumerate(documents):
        ids, waves, cutoffs = [], [], []
        for segment in segments:
            if isinstance(segment, Text):
                text = model.text_tokenizer.encode(segment.text)
                ids += [tokens["<|begin_of_text|>"], *text, tokens["<|end_of_text|>"]]
            else:
                ids += [config.audio_token_id] * segment.codes.shape[1] + [
                    config.audio_eos_token_id
                ]
                waves.append(next(sounds))
                cutoffs.append(sum(wave.shape[1] for wave in waves))
        ids = torch.tensor([ids])
        is_frame = (ids == config.audio_token_id) | (ids == config.audio_eos_token_id)
        labels = torch.where(is_frame, ids, -100)
        for document, position in left_out:
            if document == number:
                assert is_frame[0, position]
                labels[0, position] = -101
        values = torch.from_numpy(np.concatenate(waves, 1))[None]
        out = hf(
            input_ids=ids, input_values=values, input_values_cutoffs=torch.tensor([cutoffs]),
            labels=labels,
        )  # fmt: skip
        backbone, depth = backbone + out.backbone_loss, depth + out.depth_decoder_loss
    return backbone, depth


def higgs_reference(hf, folder, codec, documents, sounds):
    """The same of Higgs Audio. Level 0 learns its end, which its processor's labels leave out."""
    backend = Tokenizer.from_file(str(folder / "tokenizer.json"))
    processor = transformers.HiggsAudioV2Processor(
        transformers.DacFeatureExtractor(sampling_rate=24_000, hop_length=960),
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=backend, pad_token="<|end_of_text|>"
        ),
        codec, audio_stream_bos_id=CODES, audio_stream_eos_id=CODES + 1,
    )  # fmt: skip
    level = [0]

    def of_level(logits, labels, vocab_size, **_):
        codes, ends = torch.arange(CODES), torch.tensor([*range(CODES), CODES + 1])
        logits, before, labels = logits[:, :-1], labels[:, :-1], labels[:, 1:]
        level[0] += 1
        if level[0] > 1:
            return restricted(logits, labels, codes)
        begins = before == -100  # a sound of no frames has no end
        first = restricted(logits, labels.where(begins, -100), codes)
        return first + restricted(logits, labels.where(~begins, -100), ends)

    hf.loss_function = of_level
    sounds, total = iter(sounds), 0
    for segments in documents:
        words = (
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nGenerate audio"
            f" following instruction.\n\n<|scene_desc_start|>{SCENE}<|scene_desc_end|><|eot_id|>"
        )
        for segment in segments[1:]:
            if isinstance(segment, Text):
                words += "<|start_header_id|>user<|end_header_id|>\n\n"
                words += f"{segment.text}<|eot_id|>"
            else:
                words += "<|start_header_id|>assistant<|end_header_id|>\n\n<|audio_out_bos|>"
                words += "<|AUDIO_OUT|><|audio_eos|><|eot_id|>"
        heard = [next(sounds)[0] for segment in segments if not isinstance(segment, Text)]
        inputs = processor(words, heard, output_labels=True, return_tensors="pt")
        labels = inputs.pop("audio_labels")
        inputs.pop("labels")
        is_end = inputs["audio_input_ids"][..., 0] == CODES + 1
        begins = is_end & ~F.pad(is_end, (1, 0))[:, :-1]
        labels[..., 0] = torch.where(begins, CODES + 1, labels[..., 0])
        level[0] = 0
        total = total + hf(**inputs, audio_labels=labels).loss
    return total


def micro_batch_of(model, documents, module, **options):
    """All documents in one micro-batch of two sequences."""
    sequences = packed(model.grammar, documents, 220, model.text_tokenizer)
    factors = modality_factors({})
    return make_micro_batch(sequences, factors, writes=module.writes, **options)


def reference(kind, model, folders, documents, sounds):
    hf = copy.deepcopy(model.hf).eval()
    hf.set_attn_implementation("eager")
    if kind == "csm":
        return hf, sum(csm_reference(hf, model, documents, sounds))
    codec = transformers.HiggsAudioV2TokenizerModel.from_pretrained(folders / "codec").eval()
    return hf, higgs_reference(hf, folders / "plain", codec, documents, sounds)


def check_gradients(ours, other, tolerance=2e-4):
    """Every weight that transformers' loss reaches has the same gradient."""
    reached = 0
    for (name, parameter), theirs in zip(ours.named_parameters(), other.parameters()):
        if theirs.grad is None or not theirs.grad.any():
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        reached += 1
        bound = tolerance * float(theirs.grad.abs().max())
        torch.testing.assert_close(parameter.grad, theirs.grad, rtol=0, atol=bound, msg=name)
    return reached


@pytest.mark.parametrize("kind", ["csm", "higgs"])
def test_losses_and_gradients_are_those_of_transformers_labels(kind, models, folders):
    model = models[kind]
    documents, sounds = lessons(kind, model)
    hf, expected = reference(kind, model, folders, documents, sounds)
    decoder = copy.deepcopy(model.hf)
    module = TrainModule(decoder, None).train()
    micro_batch = micro_batch_of(model, documents, module)
    outcome = module(micro_batch)
    torch.testing.assert_close(outcome.total, expected, rtol=1e-5, atol=1e-3)
    outcome.total.backward()
    expected.backward()
    # But for the last layer's text side of Higgs Audio, whose hidden states predict nothing.
    assert check_gradients(decoder, hf) == {"csm": 43, "higgs": 28}[kind]
    assert micro_batch.num_ids > micro_batch.num_positions


def test_a_sixteenth_of_the_frames_is_learnt_as_transformers_labels_say(models):
    """-101: of a frame the first code alone."""
    model = models["csm"]
    documents, sounds = (lesson[:n] for lesson, n in zip(lessons("csm", model), (1, 2)))
    decoder = copy.deepcopy(model.hf)
    module = TrainModule(decoder, None).train()
    micro_batch = micro_batch_of(model, documents, module, subset=DepthSubset(1 / 16, 3))
    assert len(micro_batch.input_ids) == 1
    (several,) = micro_batch.deeper.several
    learnt = set(several.at[several.learnt].tolist())
    left_out = [(0, position) for position in several.at.tolist() if position not in learnt]
    assert len(learnt) == 1
    assert len(left_out) == len(several.at) - 1
    outcome = module(micro_batch)
    hf = copy.deepcopy(model.hf).eval()
    backbone, depth = csm_reference(hf, model, documents, sounds, left_out)
    expected = backbone + len(several.at) * depth
    torch.testing.assert_close(outcome.total, expected, rtol=1e-5, atol=1e-3)
    outcome.total.backward()
    expected.backward()
    check_gradients(decoder, hf)


def run_of(kind, folders, folder, **changes):
    """A run of two steps on two of the lessons, whose text has no loss."""
    model = UnifiedModel.from_pretrained(folders / kind)
    with ShardWriter(folder / "shards", "train", "lesson") as writer:
        for number in range(2):
            heard = sound(3 + number, model, number)
            if kind == "csm":
                segments = (Text(f"[0]{TEXTS[number]}", loss=0.0), heard)
            else:
                heard = replace(heard, role="response")
                segments = (
                    Text(SCENE, "scene", 0.0), Text(TEXTS[number], "prompt", 0.0), heard,
                )  # fmt: skip
            writer.write(f"d{number}", Document(segments))
    source = {"lesson": Source(str(folder / "shards" / "*.tar"))}
    return TrainConfig(
        output=str(folder / "whole"), sources=source,
        init_from=str(folders / kind), lora=Lora(rank=2, alpha=4.0), steps=2, seq_len=128,
        global_batch_size=1, streams=1, optimizer=OptimizerConfig(lr=0.01), save_every=1,
        schedule=ScheduleConfig(warmup_steps=1), threads=1, save_dtype="float32",
        precision="float32", **{"validation": source, **changes},
    )  # fmt: skip


RUNS = [
    ("csm", {"train": "full", "depth_fraction": 0.5}),
    ("csm", {"train": "depth"}),
    ("csm", {"train": "lora"}),
    ("higgs", {"train": "full"}),
    ("higgs", {"train": "lora"}),
]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        pytest.param(
            kind, changes, id=f"{kind} {changes['train']}",
            marks=pytest.mark.slow,
        )
        for kind, changes in RUNS
    ],
)  # fmt: skip
def test_a_run_is_resumed_exactly_and_its_model_reopens(
    kind, changes, models, folders, tmp_path, monkeypatch
):
    config = run_of(kind, folders, tmp_path, **changes)
    folder = train(config)
    weights = [t for n, t in tensors(config.output, 2).items() if n.startswith("weights/")]
    estimate = estimate_run(config, shape_of(config))
    assert estimate.trained == sum(weight.numel() for weight in weights)
    save = loop.save_checkpoint

    def save_and_stop(*arguments):
        save(*arguments)
        raise KeyboardInterrupt

    stopped = replace(config, output=str(tmp_path / "stopped"))
    with monkeypatch.context() as patched:
        patched.setattr(loop, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            train(stopped)
    torch.manual_seed(999)
    train(stopped, resume=True)
    same(tensors(config.output, 2), tensors(stopped.output, 2))

    kind_of_hf = type(models[kind].hf)
    hf, report = kind_of_hf.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    before, after = models[kind].hf.state_dict(), hf.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any("codec" in name for name in changed)
    own = {name for name in before if name.startswith("depth_decoder.")}
    if config.train == "depth":
        assert changed == own - {"depth_decoder.model.embed_tokens.weight"}
    else:
        assert any("self_attn.q_proj" in name for name in changed - own)
        assert (kind == "csm") == any("depth_decoder.codebooks_head" in name for name in changed)
        tables = {name for name in changed - own if "embed" in name}
        assert bool(tables) == (config.train == "full")
    card = (folder / "README.md").read_text("utf-8")
    levels = LEVELS if kind == "csm" else 8
    assert [f"| lesson/audio.{level} |" in card for level in range(levels + 1)] == [
        *[True] * levels, False,
    ]  # fmt: skip
    again = UnifiedModel.from_pretrained(folder)
    sampling = Sampling(max_audio_frames=2, max_ids=400)
    waveform, _ = again.speak("a fox", sampling=sampling)
    assert np.isfinite(waveform).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["csm", "higgs"])
def test_two_processes_with_parts_of_the_parameters_are_one(kind, folders, tmp_path):
    """FSDP2: the tied table of CSM, and both feed-forward parts of Higgs Audio; one process has no
    sequence of its own where the data is uneven."""
    config = run_of(kind, folders, tmp_path, validation={}, parallel="fsdp")
    config = replace(config, global_batch_size=2, streams=2, output=str(tmp_path / "two"))
    single = replace(config, output=str(tmp_path / "one"))
    train(single)
    torchrun(config, tmp_path)
    check_close(single, config, 1e-4)


@pytest.mark.parametrize("kind", ["musicgen", "dia", "moshi"])
def test_what_cannot_be_trained_is_said_before_anything_is_read(kind, tmp_path, monkeypatch):
    make = {"musicgen": checkpoints.make_musicgen, "dia": checkpoints.make_dia, "moshi": make_moshi}
    make[kind](tmp_path / kind)
    (tmp_path / kind / "model.safetensors").unlink()
    hub = {"musicgen": "facebook/musicgen-small", "dia": "nari-labs/Dia-1.6B-0626",
           "moshi": "kmhf/hf-moshika"}  # fmt: skip
    reason = "cross-attention inside packed documents is missing"
    expected = {"moshi": "out for no document yet"}.get(kind, reason)
    for init_from in (str(tmp_path / kind), hub[kind]):
        config = TrainConfig(
            output=str(tmp_path / "run"), sources={"a": Source("nowhere/*.tar")},
            init_from=init_from, steps=1, seq_len=64, global_batch_size=1,
            optimizer=OptimizerConfig(lr=0.01),
        )  # fmt: skip
        for act in (train, build_model, shape_of):
            with pytest.raises(ValueError, match=rf"is {kind}, which is sampled.*{expected}"):
                act(config)
    assert not (tmp_path / "run").exists()


def test_rows_that_a_csm_has_not_are_refused(models):
    with pytest.raises(ValueError, match="no new rows to train: all of CsmFor"):
        choose_trained(models["csm"].hf, "new_rows", 0, {})
