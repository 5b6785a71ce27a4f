"""Documents that are only measured: in order, once, packed like those that are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.packing import Packer, pack
from unified.dataloading.source import Source
from unified.dataloading.stream import Counters, StreamConfig, StreamContext, image_stride_of
from unified.dataloading.transforms import Draws
from unified.sequence.sequencer import Sequencer
from unified.tasks.task_table import Tasks

__all__ = ["validation_sequences"]


def validation_sequences(
    source: Source,
    sequencer: Sequencer,
    seq_len: int,
    limit: int | None = None,
    name: str = "validation",
    tasks: Tasks | None = None,
) -> Iterator[PackedSequence]:
    """The packed sequences of a source's documents (code shards), without anything random.

    Args:
        source: its order, prompt dropping and noise are left out; its weights hold.
        sequencer: of the model.
        seq_len: positions of a sequence.
        limit: read at most so many samples.
        name: of the source, for keys and errors.
        tasks: of the model, by which pairs are laid out (see `Source.tasks`).

    Raises:
        ValueError: as `Loader` does. Corrupt samples are skipped and counted, however many.
    """
    stride = image_stride_of(sequencer)
    config = StreamConfig({name: source}, seq_len, 1, 0, 0, tasks, stride)
    context = StreamContext(config, sequencer.grammar, sequencer.text_tokenizer)
    layout, samples = context.layout, len(context.samples[name])
    ahead = iter(range(samples if limit is None else min(limit, samples)))
    packer, counters, last = Packer(seq_len), Counters(), ""
    for number in count():
        while packer.wants_more and (sample := next(ahead, None)) is not None:
            try:
                chunks, not_reversed = context.chunks(name, sample, sample, Draws())
            except ValueError as error:
                counters.skip(error)
                last = str(error)
            else:
                counters.add(chunks, not_reversed)
                packer.add(chunks)
        if not (chunks := packer.next()):
            if number == 0:
                raise ValueError(f"{name}: none of its samples can be used; the last: {last}")
            return
        fields = pack(chunks, seq_len, layout.grammar.padding, layout.ranges)
        yield PackedSequence(**fields, **counters.flush(), stream=0, number=number, state={})
