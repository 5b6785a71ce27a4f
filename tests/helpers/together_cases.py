"""Documents whose pictures hold two codes a place and whose sounds three a frame, packed; and what
a plain loop in torch, one document and one id after the other, makes of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from unified.dataloading.layout import Layout
from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import Packer, pack, split_document
from unified.engine.backends.depth_config import DepthConfig
from unified.engine.backends.depth_module import DepthDecoder
from unified.formats.coded import CodedAudio, CodedImage, CodedText
from unified.formats.grammar import MODALITIES, Grammar
from unified.formats.load import load_format
from unified.vocabulary.vocabulary import Vocabulary
from unified_data.document import Text

SIZES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 24, "head_dim": 8, "max_position_embeddings": 256,
    "tie_word_embeddings": False, "pad_token_id": None, "bos_token_id": None, "eos_token_id": None,
}  # fmt: skip
IMAGE, AUDIO = (9, 5), (9, 8, 7)


class Letters:
    """A text tokenizer of 20 letters, each an id."""

    size = 20
    fingerprint = None

    def encode(self, text: str) -> list[int]:
        return [ord(letter) - ord("a") for letter in text]


def grammar_of(name: str = "pocket-together") -> Grammar:
    vocabulary = Vocabulary.build(
        text_size=20, text_rows=20, markers=load_format(name).markers, max_grid=6,
        image=(IMAGE, "b"), audio=(AUDIO, "c"),
    )  # fmt: skip
    return Grammar.load(name, vocabulary)


def documents(number: int, seed: int = 0) -> list[list]:
    """Stored documents: a prompt, and a response of texts, pictures and sounds."""
    rng = np.random.default_rng(seed)

    def segment(kind: str, role: str, loss: float):
        if kind == "text":
            return Text(
                "".join(rng.choice(list("abcdefghijklmnop"), rng.integers(1, 9))), role, loss
            )
        if kind == "image":
            h, w = rng.integers(1, 4, 2)
            return CodedImage(
                rng.integers(np.reshape(IMAGE, (2, 1, 1)), size=(2, h, w)), role, loss
            )
        return CodedAudio(
            rng.integers(np.reshape(AUDIO, (3, 1)), size=(3, rng.integers(1, 7))), role, loss
        )

    return [
        [segment(str(rng.choice(["text", "audio"])), "prompt", 0.0)]
        + [
            segment(str(kind), "response", 0.5 + 0.5 * rng.random())
            for kind in rng.choice(["text", "image", "audio"], rng.integers(1, 4))
        ]
        for _ in range(number)
    ]


def packed(
    grammar: Grammar, stored: list[list], seq_len: int, text: Any = None
) -> list[PackedSequence]:
    """The documents in sequences. text: tokenizer of their texts; None: `Letters`."""
    layout, packer = Layout(grammar, text or Letters()), Packer(seq_len)
    for index, segments in enumerate(stored):
        document = layout.encode(segments)
        packer.add(split_document(document, document.ids, seq_len, f"a/{index}", "a", index))
    sequences = []
    while chunks := packer.next():
        fields = pack(chunks, seq_len, grammar.padding, layout.ranges)
        number = len(sequences)
        sequences.append(PackedSequence(**fields, stream=1, number=number, counters={}, reports=(),
                                        state={}))  # fmt: skip
    return sequences


@dataclass
class PlainDocument:
    """A document as the grammar itself says it: ids, depths, weights, modality, allowed ranges."""

    ids: list[int]
    depth: list[int]
    weights: np.ndarray
    modality: np.ndarray
    allowed: list


def plain_documents(grammar: Grammar, stored: list[list]) -> list[PlainDocument]:
    """By the serializer and the state machine, not by what the loader makes."""
    from unified.sequence.sequencer import Sequencer

    sequencer = Sequencer(grammar.vocabulary, grammar, Letters())
    plain = []
    for segments in stored:
        coded = [
            CodedText(tuple(Letters().encode(s.text)), s.role, s.loss) if isinstance(s, Text) else s
            for s in segments
        ]
        sequence = sequencer._encode(coded, end=True)
        state, allowed = grammar.start(), []
        for id in sequence.ids.tolist():
            allowed.append(state.allowed())
            state.advance(id)
        plain.append(
            PlainDocument(sequence.ids.tolist(), sequence.depth.tolist(), sequence.loss,
                          sequence.modality, allowed)
        )  # fmt: skip
    return plain


def depth_ranges(grammar: Grammar) -> tuple[tuple[int, int], ...]:
    """The ids of all codes: those that stand in positions of several."""
    blocks = [*grammar.vocabulary.levels("image"), *grammar.vocabulary.levels("audio")]
    return ((blocks[0].start, blocks[-1].stop),)


def depth_decoder(grammar: Grammar, width: int, **changes) -> DepthDecoder:
    config = DepthConfig(
        **{
            "input_size": width, "hidden_size": 12, "num_layers": 2, "num_heads": 2,
            "num_kv_heads": 1, "head_dim": 6, "intermediate_size": 20, "num_ids": 3,
            "ranges": depth_ranges(grammar), **changes,
        }
    )  # fmt: skip
    torch.manual_seed(7)
    depth = DepthDecoder(config)
    for parameter in depth.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return depth


def plain_losses(decoder, document: PlainDocument):
    """The loss of every id but those of the first position, float (ids, ), 0 there; with gradient.

    An id of depth d is predicted by the decoder's head (d = 0, or without a depth decoder), or by
    the depth decoder from the hidden state and the ids before it in its position, and nothing else.
    """
    positions: list[list[int]] = []
    for index, depth in enumerate(document.depth):
        if depth == 0:
            positions.append([])
        positions[-1].append(index)
    ids = torch.tensor(document.ids)
    table = decoder.get_input_embeddings()
    embeds = torch.stack([sum(table(ids[i]) for i in position) for position in positions])
    hidden = decoder.model(inputs_embeds=embeds[None], use_cache=False)[0][0]
    depth_module = getattr(decoder, "depth_decoder", None)
    losses = [torch.zeros(())] * len(ids)
    for number, position in enumerate(positions[1:], 1):
        state = hidden[number - 1]
        for depth, index in enumerate(position):
            if depth == 0 or depth_module is None:
                logits = decoder.get_output_embeddings()(state)
            else:
                before = ids[position[:depth]][None]
                own = depth_module(state[None], before)[0, depth]
                config = depth_module.config
                logits = torch.full((config.ranges[-1][1],), -torch.inf)
                row = 0
                for start, stop in config.ranges:
                    rows = depth_module.lm_head.weight[row : row + stop - start]
                    logits = torch.cat([logits[:start], rows @ own, logits[stop:]])
                    row += stop - start
            allowed = torch.cat([logits[start:stop] for start, stop in document.allowed[index]])
            target = [i for start, stop in document.allowed[index] for i in range(start, stop)]
            at = torch.tensor([target.index(document.ids[index])])
            losses[index] = F.cross_entropy(allowed[None], at)
    return torch.stack(losses)


def plain_total(decoder, plain: list[PlainDocument], factors: dict, levels: dict, grammar):
    """The weighted sum of all losses."""
    total = torch.zeros(())
    for document in plain:
        weights = torch.from_numpy(document.weights.copy())
        for name, factor in factors.items():
            weights[torch.from_numpy(document.modality == MODALITIES[name])] *= factor
        for index, id in enumerate(document.ids):
            kind, _, level = grammar.vocabulary.block_of(id).name.rpartition(".")
            if kind in levels:
                weights[index] *= levels[kind][int(level)]
        total = total + (plain_losses(decoder, document) * weights).sum()
    return total
