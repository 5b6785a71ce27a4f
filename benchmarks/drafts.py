"""Guessing ahead: the shipped model with `draft_tokens="auto"` beside one id a pass.

    python benchmarks/drafts.py [--quick] [--only picture,text,sound]

picture: captions of the pocket world, each drawn once; what the engine remembers is of other
captions. again: the same captions once more, with other seeds. text: pages about subjects; sound:
sentences spoken. Each one request after the other, and sixteen at a time. Both sides choose the
same ids, which is checked; they take turns, and the time is that of all passes, learning included.

Progress goes to stderr; the last line on stdout is one JSON object.
"""

from __future__ import annotations

import argparse

import _path  # noqa: F401 (before all others)

PARTS = ("picture", "again", "text", "sound")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer requests")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between them")
    return parser


if __name__ == "__main__":  # --help and mistakes, before what follows is loaded: that takes seconds
    _parser().parse_args()

# isort: split
import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from time import perf_counter
from typing import Any

import torch
from _shared import machine, say

from unified.engine.backends.cpu.threads import ThreadPool
from unified.engine.documents import coded_slot
from unified.engine.engine import Engine
from unified.engine.request import Finished, Request, Sampling
from unified.models.model import UnifiedModel
from unified_data.document import Document, Slot, Text
from unified_data.pocket.planning import plan_documents
from unified_data.pocket.subjects import load_subjects
from unified_data.pocket.tasks import draw_document, image_slot, speak_document

ROWS = (1, 16)


class Sides:
    """Two engines over one decoder: ids guessed ahead, and one id a pass."""

    def __init__(self, model: UnifiedModel, sampling: Sampling) -> None:
        self.model = model
        self.samplings = [_drafting(sampling, "auto"), _drafting(sampling, 0)]
        self.engines = [
            Engine(model.decoder(), model.grammar, model.text_tokenizer) for _ in self.samplings
        ]
        self.seconds = [0.0, 0.0]

    def run(self, requests: Sequence[Request], first: int) -> None:
        """All requests at once on either side, beginning with side `first`."""
        ids: list[list[list[int]]] = [[], []]
        for side in (first, 1 - first):
            engine, done = self.engines[side], []
            began = perf_counter()
            for request in requests:
                engine.add(request, done.append, self.samplings[side])
            while engine.step():
                pass
            self.seconds[side] += perf_counter() - began
            finished = [event for event in done if isinstance(event, Finished)]
            ids[side] = [event.ids.tolist() for event in sorted(finished, key=lambda e: e.row)]
        assert ids[0] == ids[1], "drafts have changed the ids"

    def ids_per_pass(self, rows: int) -> float:
        """Of a request on the side that guesses ahead."""
        counters = self.engines[0].counters
        return round(counters.sampled_ids / counters.passes / rows, 2)


def _drafting(sampling: Sampling, number: Any) -> Sampling:
    kinds = {
        kind: replace(getattr(sampling, kind), draft_tokens=number)
        for kind in ("text", "image", "audio")
    }
    return replace(sampling, **kinds)


def documents(part: str, number: int) -> list[Document]:
    """So many requests of a part, each another."""
    if part == "sound":
        plans = plan_documents("speak", "heldout", seed=3)
        return [speak_document(text, voice, Slot("audio")) for text, voice in plans[:number]]
    if part == "text":
        return [
            Document((Text(f"# {subject.name.capitalize()}", "prompt"), _slot()))
            for subject in islice(load_subjects(), number)
        ]
    captions = dict.fromkeys(
        scene.caption for scene in plan_documents("draw", "heldout", seed=3, scale=0.2)
    )
    assert len(captions) >= number
    return [draw_document(caption, image_slot()) for caption in islice(captions, number)]


def _slot() -> Slot:
    return Slot("text", role="response")


def requests_for(model: UnifiedModel, part: str, number: int, seed: int) -> list[Request]:
    sequencer = model.sequencer
    return [
        Request(
            tuple(
                coded_slot(segment, sequencer) if isinstance(segment, Slot) else segment
                for segment in sequencer.code(document)
            ),
            seed + row,
        )
        for row, document in enumerate(documents(part, number))
    ]


def part_of(model: UnifiedModel, part: str, rows: int, number: int) -> dict[str, Any]:
    """How many times faster a part is with drafts, with its seconds and ids a pass."""
    sides = Sides(model, model.sampling)
    source = "picture" if part == "again" else part
    rounds = 2 if part == "again" else 1
    for turn in range(rounds):
        sides.seconds = [0.0, 0.0]
        requests = requests_for(model, source, number, 1_000 * turn)
        for at, start in enumerate(range(0, number, rows)):
            sides.run(requests[start : start + rows], at % 2)
    name = f"drafts_{part}_{rows}row{'s' * (rows > 1)}"
    auto, plain = sides.seconds
    results = {
        name: round(plain / auto, 2),
        f"{name}_seconds": [round(auto, 2), round(plain, 2)],
        f"{name}_ids_per_pass": sides.ids_per_pass(rows),
    }
    per_pass = results[f"{name}_ids_per_pass"]
    say(f"{name}: {plain / auto:.2f} ({auto:.2f} s, {plain:.2f} s), {per_pass} ids a pass")
    return results


def main() -> None:
    options = _parser().parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        _parser().error(f"--only has {sorted(unknown)}, expected some of {', '.join(PARTS)}")
    threads = ThreadPool.shared().threads  # OMP_NUM_THREADS
    torch.set_num_threads(threads)
    model = UnifiedModel.from_pretrained("pocket")
    began = perf_counter()
    results: dict[str, Any] = {}
    for part in parts:
        for rows in ROWS:
            number = 48 if part in ("picture", "again") else 16
            results |= part_of(model, part, rows, number if options.quick else 3 * number)
    results["sample"] = "quick" if options.quick else "full"
    results["benchmark_seconds"] = round(perf_counter() - began, 1)
    results["machine"] = machine(threads, ("numpy",))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
