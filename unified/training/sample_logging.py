"""Fixed prompts, answered now and then during a training and shown in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from unified.engine.events import Done, TextCut
from unified.training.config import SampleLogging, TrainConfig
from unified.training.export import plain_model
from unified_base.structured import read_json
from unified_base.training.dist import DistContext
from unified_base.training.metric_logger import MetricLogger
from unified_data.document import Audio, Document, Image, Slot, Text

__all__ = ["log_samples", "read_requests"]


def read_requests(samples: SampleLogging | None) -> dict[str, Document]:
    """The documents to fill, by name. Raises ValueError for one that has no slots."""
    requests: dict[str, Document] = {}
    if samples is None:
        return requests
    for name in samples.documents:
        path = Path(name)
        try:
            document = Document.from_json(read_json(path), path.parent)
        except (OSError, ValueError) as error:
            raise ValueError(f"samples: {path} cannot be read: {error}") from None
        if not document.has_slots:
            raise ValueError(f"samples: {path} has no slots, so there is nothing to sample")
        requests[path.stem] = document
    for text in samples.texts:
        answer = Slot("any", role="response")
        requests[text] = Document((Text(text, role="prompt", loss=0.0), answer))
    return requests


def log_samples(
    config: TrainConfig,
    dist: DistContext,
    values: Mapping[str, Tensor],
    requests: Mapping[str, Document],
    logger: MetricLogger,
    step: int,
) -> None:
    """Fill every document with seed 0 and log what became of it."""
    assert config.samples is not None
    model = plain_model(config, dist, values)
    if model is None:
        dist.barrier()
        return
    sampling = replace(model.sampling, max_ids=config.samples.max_ids)
    for name, request in requests.items():
        try:
            events = list(model.stream([request], sampling, seeds=[0]))
        except ValueError as error:  # an untrained model may not come to an end
            logger.text(step, f"samples/{name}", f"nothing came of it: {error}")
            continue
        for event in events:
            if isinstance(event, TextCut):  # an untrained model loops: for the log, not a warning
                text = f"a text ended by {event.reason} after {event.ids} ids"
                logger.text(step, f"samples/{name}/cut", text)
        finished = next(event for event in events if isinstance(event, Done))
        for index, segment in enumerate(finished.document.segments):
            label = f"samples/{name}/{index}"
            if isinstance(segment, Text):
                logger.text(step, label, segment.text)
            elif isinstance(segment, Image):
                logger.image(step, label, segment.pixels)
            elif isinstance(segment, Audio):
                logger.audio(step, label, segment.waveform, segment.sample_rate)
    dist.barrier()
