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

from tests.helpers.csm_checkpoint import LEVELS, make_csm
from tokenizers import Tokenizer
from unified import UnifiedModel
from unified.dataloading import Source
from unified.engine.request import Sampling
from unified.training.config import Lora, OptimizerConfig, TrainConfig
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import make_micro_batch
from unified.training.several_ids import DepthSubset
from unified.training.train import train
from unified.training.train_module import TrainModule
from unified.training.weights import choose_trained
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
    """The sum of transformers' losses of all documents, with gradient.

    left_out: (document, position) of frames whose first code alone is learnt.
    """
    tokens, config = model.text_tokenizer.tokens, hf.config
    rows = torch.arange(CODES)

    def of_backbone(logits, labels, vocab_size, **_):
        return restricted(logits[:, :-1], labels[:, 1:], rows)

    def of_depth(logits, labels, vocab_size, shift_labels, **_):
        return restricted(logits, shift_labels, rows)

    hf.loss_function, hf.depth_decoder.loss_function = of_backbone, of_depth
    sounds, total = iter(sounds), 0
    for number, segments in enumerate(documents):
        ids, waves, cutoffs = [], [], []
        for segment in segments:
            if isinstance(segment, Text):
                text = model.text_tokenizer.encode(segment.text)
                ids += [tokens["<|begin_of_text|>"], *text, tokens["<|end_of_text|>"]]
            else:
                ids += [config.audio_token_id] * segment.codes.shape[1] + [config.audio_eos_token_id]
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
        total = total + hf(
            input_ids=ids, input_values=values, input_values_cutoffs=torch.tensor([cutoffs]),
            labels=labels,
        ).loss  # fmt: skip
    return total


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
        return hf, csm_reference(hf, model, documents, sounds)
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
    print(kind, check_gradients(decoder, hf))
