"""Fixed prompts, answered now and then during a training and shown in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from unified.engine.events import Done, TextCut
from unified.training.config import Samples, TrainConfig
from unified.training.export import plain_model
from unified.training.journal import Journal
from unified.training.processes import Processes
from unified_base.structured import read_json
from unified_data.document import Audio, Document, Image, Slot, Text

__all__ = ["read_requests", "show_samples"]


def read_requests(samples: Samples | None) -> dict[str, Document]:
    """The documents to fill, by name. Raises ValueError for one that has no slots."""
    found: dict[str, Document] = {}
    if samples is None:
        return found
    for name in samples.documents:
        path = Path(name)
        try:
            document = Document.from_json(read_json(path), path.parent)
        except (OSError, ValueError) as error:
            raise ValueError(f"samples: {path} cannot be read: {error}") from None
        if not document.has_slots:
            raise ValueError(f"samples: {path} has no slots, so there is nothing to sample")
        found[path.stem] = document
    for text in samples.texts:
        answer = Slot("any", role="response")
        found[text] = Document((Text(text, role="prompt", loss=0.0), answer))
    return found


def show_samples(
    config: TrainConfig,
    found: Processes,
    values: Mapping[str, Tensor],
    requests: Mapping[str, Document],
    journal: Journal,
    step: int,
) -> None:
    """Fill every document with seed 0 and log what became of it."""
    assert config.samples is not None
    model = plain_model(config, found, values)
    if model is None:
        found.wait()
        return
    sampling = replace(model.sampling, max_ids=config.samples.max_ids)
    for name, request in requests.items():
        try:
            events = list(model.stream([request], sampling, seeds=[0]))
        except ValueError as error:  # an untrained model may not come to an end
            journal.text(step, f"samples/{name}", f"nothing came of it: {error}")
            continue
        for event in events:
            if isinstance(event, TextCut):  # an untrained model loops: for the log, not a warning
                text = f"a text ended by {event.reason} after {event.ids} ids"
                journal.text(step, f"samples/{name}/cut", text)
        finished = next(event for event in events if isinstance(event, Done))
        for index, segment in enumerate(finished.document.segments):
            label = f"samples/{name}/{index}"
            if isinstance(segment, Text):
                journal.text(step, label, segment.text)
            elif isinstance(segment, Image):
                journal.picture(step, label, segment.pixels)
            elif isinstance(segment, Audio):
                journal.sound(step, label, segment.waveform, segment.sample_rate)
    found.wait()
