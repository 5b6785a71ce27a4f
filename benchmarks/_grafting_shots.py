"""A new name bound from two shots: of grafting.py, or alone.

    python benchmarks/_grafting_shots.py [--steps 4000] [--quick]

A world of made-up names: a glyph is a square of four coloured fields, and its name three letters.
Names and glyphs are paired anew in every document, so that nothing but the context tells them. A
small decoder learns to describe a glyph behind two shots, one of the same glyph and one of another,
in noise of their own (`Source.shots`; one document in ten has none). Then it names glyphs never
seen by names never seen, asked by the verb with `shots=` and without. `icl_gain`: the share of
right names with shots over that without; guessing between the two names of the context is half. One
JSON object on the last line of stdout.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from typing import TYPE_CHECKING, Any

import _path  # noqa: F401 (before all of ours)
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from unified import UnifiedModel
    from unified_data.document import Document

FIELD, SHADES, NOISE = 8, 3, 24  # pixels; values a channel; of 255, in each field
LETTERS, VOWELS = "bdfgklmnprstvwz", "aeiou"
NAMES = ["".join(letters) for letters in product(LETTERS, VOWELS, LETTERS)]
SHOTS, WITHOUT = 2, 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000, help="of the training")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--quick", action="store_true", help="20 steps of 16 documents")
    options = parser.parse_args()
    print(json.dumps(measure(options.steps, options.batch_size, options.quick)))


def measure(steps: int = 4000, batch_size: int = 64, quick: bool = False) -> dict[str, Any]:
    """`icl_gain`, and the shares of right names with two shots and with none."""
    import torch
    from _shared import machine

    steps, batch_size, asked = (20, 16, 12) if quick else (steps, batch_size, 200)
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    names = [str(name) for name in rng.permutation(NAMES)]
    held_out = len(names) // 5
    model = _model(quick)
    _train(model, names[held_out:], steps, batch_size, rng)
    with_shots, without = _named(model, names[:held_out], asked, rng)
    return {
        "icl_gain": round(with_shots - without, 4), "icl_two_shots": with_shots,
        "icl_zero_shot": without, "steps": steps, "batch_size": batch_size, "asked": asked,
        "machine": machine(1, ("torch",)),
    }  # fmt: skip


def _model(quick: bool) -> UnifiedModel:
    from unified import TextTokenizer, UnifiedModel

    width, layers = (32, 2) if quick else (128, 4)
    shape = {
        "hidden_size": width, "intermediate_size": 3 * width, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": width // 4,
        "max_position_embeddings": 128, "tie_word_embeddings": True,
    }  # fmt: skip
    text = TextTokenizer.train(["a"], 257)
    return UnifiedModel.create(shape, text_tokenizer=text, image_tokenizer=_fields(), max_grid=4)


def _fields() -> Any:
    """An image tokenizer of mean colours: a code for every field, without any weights."""
    import torch
    from torch.nn.functional import avg_pool2d

    from unified_tokenizers.base import Codes
    from unified_tokenizers.modules import BaseImageTokenizer

    class Fields(BaseImageTokenizer):
        stride = FIELD
        codebook_sizes = (SHADES**3,)
        fingerprint = "fields-of-colour"

        @torch.no_grad()
        def encode(self, media: Any) -> Codes:
            pixels = media.float() / 255 if media.dtype == torch.uint8 else media
            shades = (avg_pool2d(pixels, FIELD) * SHADES).long().clamp(0, SHADES - 1)
            codes = (shades[:, 0] * SHADES + shades[:, 1]) * SHADES + shades[:, 2]
            return Codes(codes[:, None], tuple(media.shape[2:]))

        @torch.no_grad()
        def decode(self, codes: Codes) -> Any:
            number = codes.codes[:, 0]
            shades = [number // SHADES**2, number // SHADES % SHADES, number % SHADES]
            pixels = (torch.stack(shades, 1).float() + 0.5) / SHADES
            return pixels.repeat_interleave(FIELD, 2).repeat_interleave(FIELD, 3)

    return Fields()


def _glyph(rng: np.random.Generator) -> np.ndarray:
    """Middle values of the fields' shades: float (2, 2, 3)."""
    return (rng.integers(0, SHADES, (2, 2, 3)) + 0.5) * 255 / SHADES


def _picture(glyph: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture of a glyph: uint8 (H, W, 3), every field in noise of its own."""
    fields = glyph + rng.uniform(-NOISE, NOISE, glyph.shape)
    return fields.round().astype(np.uint8).repeat(FIELD, 0).repeat(FIELD, 1)


def _set(names: list[str], rng: np.random.Generator) -> list[Document]:
    """Two shots of two glyphs, and a third document of one of them."""
    from unified_data.document import Document, Image, Text

    chosen = rng.choice(len(names), SHOTS, replace=False)
    bound = [(_glyph(rng), names[number]) for number in chosen]
    asked = bound[int(rng.integers(SHOTS))]
    return [
        Document((Image(_picture(glyph, rng), "prompt", 0.0), Text(name, "response")))
        for glyph, name in (*bound, asked)
    ]


def _train(
    model: UnifiedModel, names: list[str], steps: int, batch_size: int, rng: np.random.Generator
) -> None:
    import torch
    from _shared import say
    from torch.nn.functional import cross_entropy

    from unified.dataloading.layout import Layout
    from unified.dataloading.source import Source
    from unified.dataloading.transforms import Draws, transform
    from unified.formats.coded import CodedImage

    sequencer = model.sequencer
    layout = Layout(sequencer.grammar, sequencer.text_tokenizer)
    # A decoder that must predict what it reads learns sooner to look for what is alike.
    source = Source(("made-up",), shots=SHOTS, media_loss=0.1)

    def batch() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        sets: list[Any] = [_set(names, rng) for _ in range(batch_size)]
        pixels = [each.segments[0].pixels for documents in sets for each in documents]
        media = torch.from_numpy(np.stack(pixels)).movedim(3, 1)
        codes = iter(sequencer.tokenizer("image").encode(media).codes.numpy())
        for documents in sets:
            shots: list[list[Any]]
            *shots, last = (
                [CodedImage(next(codes), "prompt", 0.0), each.segments[1]] for each in documents
            )
            shots = shots if rng.random() >= WITHOUT else []
            draws = Draws(noise=int(rng.integers(2**62)))
            laid_out, _, _ = transform(layout, last, source, draws, model.tasks, FIELD, shots)
            yield laid_out.ids, laid_out.loss_weights

    optimizer = torch.optim.AdamW(model.hf.parameters(), lr=1e-3, betas=(0.9, 0.98))
    warmup = max(1, min(200, steps // 10))
    model.hf.train()
    for step in range(steps):
        rows = list(batch())
        longest = max(len(ids) for ids, _ in rows)
        ids = torch.full((batch_size, longest), sequencer.grammar.padding)
        weights = torch.zeros((batch_size, longest))
        for row, (own, own_weights) in enumerate(rows):
            ids[row, : len(own)] = torch.from_numpy(own.astype(np.int64))
            weights[row, : len(own)] = torch.from_numpy(own_weights)
        logits = model.hf(input_ids=ids[:, :-1]).logits
        losses = cross_entropy(logits.transpose(1, 2), ids[:, 1:], reduction="none")
        weights = weights[:, 1:]
        loss = (losses * weights).sum() / weights.sum()
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / warmup, (steps - step) / (0.2 * steps))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.hf.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 0:
            of_names = losses[weights == 1].mean().item()
            say(f"step {step}: loss {loss.item():.3f}, of names {of_names:.3f}")
    model.hf.eval()


def _named(
    model: UnifiedModel, names: list[str], number: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Shares of right names behind two shots, and without any."""
    right = [0, 0]
    for _ in range(number):
        *shots, asked = _set(names, rng)
        segments: tuple[Any, ...] = asked.segments
        picture, name = segments[0].pixels, segments[1].text
        for at, before in enumerate((tuple(shots), ())):
            told = model.describe(picture, shots=before, temperature=0.0, max_text_ids=8)
            right[at] += told == name
    return right[0] / number, right[1] / number


if __name__ == "__main__":
    main()
