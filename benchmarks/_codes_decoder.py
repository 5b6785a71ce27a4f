"""A small decoder behind an image tokenizer: what its codes cost after equal seconds."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unified import TextTokenizer, UnifiedModel
from unified.dataloading.layout import Layout
from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import Packer, pack, split_document
from unified.formats.coded import CodedImage
from unified.formats.grammar import MODALITIES
from unified.training.config import OptimizerConfig
from unified.training.kernels.ir import SUPPORTED
from unified.training.layer_modes import LayerModes
from unified.training.loss_factors import modality_factors
from unified.training.micro_batch import MicroBatch, make_micro_batch
from unified.training.optimizers import make_optimizers
from unified.training.train_module import TrainModule, layers_of
from unified.training.weights import MasterWeights
from unified_data.document import Text
from unified_tokenizers import VQImageTokenizer

__all__ = ["PRECISION", "Captioned", "coded", "decoder_figures"]

# Without products of bfloat16 numbers a processor is ten times slower in it than in float32.
PRECISION = "bfloat16" if SUPPORTED else "float32"
DECODER_RATE = 2e-3
SEQ_LEN = 512
SHAPE = {
    "hidden_size": 128, "num_hidden_layers": 4, "num_attention_heads": 2,
    "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 384,
    "max_position_embeddings": SEQ_LEN, "tie_word_embeddings": True,
}  # fmt: skip

Captioned = tuple[Sequence[str], Tensor]
"""Captions and the codes of their pictures, int64 (N, K, h, w)."""


def coded(tokenizer: VQImageTokenizer, images: np.ndarray) -> Tensor:
    """The codes of pictures, int64 (N, K, h, w)."""
    parts = torch.from_numpy(images).movedim(3, 1).split(128)
    return torch.cat([tokenizer.encode(part).codes for part in parts])


def _sequences(model: UnifiedModel, pairs: Captioned, seen: bool) -> list[PackedSequence]:
    """Packed sequences of captions, each followed by its picture's codes. seen: every other
    document is the other way round."""
    layout, packer = Layout(model.grammar, model.text_tokenizer), Packer(SEQ_LEN)
    padding, packed = model.grammar.padding, []
    documents = iter(zip(*(pairs[0], pairs[1].numpy())))
    left, number = True, 0
    while left or packer.waiting:
        while packer.wants_more and left:
            if (pair := next(documents, None)) is None:
                left = False
                break
            number += 1
            if seen and number % 2:
                segments = [CodedImage(pair[1], "prompt", 0.0), Text(pair[0], "response")]
            else:
                segments = [Text(pair[0], "prompt", 0.0), CodedImage(pair[1], "response")]
            document = layout.encode(segments)
            packer.add(split_document(document, document.ids, SEQ_LEN, "a", "a", 0))
        if chunks := packer.next():
            fields = pack(chunks, SEQ_LEN, padding, layout.ranges)
            packed.append(
                PackedSequence(**fields, stream=0, number=len(packed), counters={}, reports=(),
                               state={})
            )  # fmt: skip
    return packed


def decoder_figures(
    tokenizer: VQImageTokenizer,
    train: Captioned,
    held: Captioned,
    text_tokenizer: TextTokenizer,
    seconds: float,
    seen: bool = False,
) -> dict[str, Any]:
    """Train a decoder for so many processor seconds; bits a held-out picture, over its codes.

    seen: every other document is a picture and then its caption, whose bits are told as well.
    """
    several = len(tokenizer.codebook_sizes) > 1
    torch.manual_seed(0)
    model = UnifiedModel.create(
        SHAPE, text_tokenizer=text_tokenizer, image_tokenizer=tokenizer,
        format="pocket-together", max_grid=12, codes="depth" if several else None,
        depth={"num_layers": 2} if several else None,
    )  # fmt: skip
    to_learn, to_tell = _sequences(model, train, seen), _sequences(model, held, seen)
    module, factors = TrainModule(model.hf, None).train(), modality_factors({})
    master_weights = MasterWeights(module, PRECISION)
    LayerModes(model.hf, layers_of(model.hf), module.by_documents, False)
    (optimizer,) = make_optimizers(
        OptimizerConfig(lr=DECODER_RATE), master_weights.parameters
    ).values()
    rng, steps, pictures_seen = np.random.default_rng(0), 0, 0

    def learn(rate: float) -> int:
        sequence = to_learn[rng.integers(len(to_learn))]
        for group in optimizer.param_groups:
            group["lr"] = rate
        master_weights.copy_to_model()
        micro_batch = make_micro_batch([sequence], factors)
        (module(micro_batch).total / micro_batch.weight).backward()
        master_weights.accumulate_grads()
        torch.nn.utils.clip_grad_norm_(master_weights.parameters.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return len(sequence.keys)

    learn(0.0)  # compiles what is to be compiled
    began = time.process_time()
    while (share := (time.process_time() - began) / seconds) < 1:
        # Warm-up over a twentieth of the time, then a cosine to a fiftieth.
        scale = min(1.0, share * 20 + 0.02) * (0.02 + 0.49 * (1 + math.cos(math.pi * share)))
        pictures_seen += learn(DECODER_RATE * scale)
        steps += 1
    master_weights.copy_to_model()
    nats = {"image": 0.0, "text": 0.0}
    with torch.no_grad():
        for sequence in to_tell:
            micro_batch = make_micro_batch([sequence], factors)
            losses = module.eval()(micro_batch).losses
            for modality in nats:
                nats[modality] += _of(losses, micro_batch, modality)
    told = len(held[0]) // 2 if seen else 0
    figures = {
        "decoder_bits_a_picture": round(nats["image"] / math.log(2) / (len(held[0]) - told), 1),
        "decoder_steps": steps,
        "decoder_pictures_seen": pictures_seen,
        "decoder_parameters": sum(p.numel() for p in module.parameters()),
    }
    if told:
        figures["decoder_bits_a_caption"] = round(nats["text"] / math.log(2) / told, 2)
    return figures


def _of(losses: Tensor, micro_batch: MicroBatch, modality: str) -> float:
    """The sum of the losses of codes, or of text: markers and sizes are of neither."""
    mine = (micro_batch.modality == MODALITIES[modality]) & (micro_batch.weights > 0)
    return float(losses[mine].double().sum())
