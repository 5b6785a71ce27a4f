"""Documents that are only measured: in order, once, packed like those that are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from unified.dataloading.lane import Feed, Plan, Tally
from unified.dataloading.packing import Packer, fill_row
from unified.dataloading.row import Row
from unified.dataloading.source import Source
from unified.dataloading.transforms import Draws
from unified.sequence.sequencer import Sequencer

__all__ = ["held_out_rows"]


def held_out_rows(
    source: Source,
    sequencer: Sequencer,
    length: int,
    limit: int | None = None,
    name: str = "heldout",
) -> Iterator[Row]:
    """The rows of a source's documents (code shards), as it says but for all that chance decides.

    Args:
        length: places of a row.
        limit: read at most so many samples.
        name: of the source, for keys and errors.

    Raises ValueError as `Loader` does. Broken samples are left out and counted, however many.
    """
    feed = Feed(Plan({name: source}, length, 1, 0, 0), sequencer.grammar, sequencer.text_tokenizer)
    layout, samples = feed.layout, len(feed.samples[name])
    ahead = iter(range(samples if limit is None else min(limit, samples)))
    packer, tally, last = Packer(length), Tally(), ""
    for number in count():
        while packer.wants_more and (sample := next(ahead, None)) is not None:
            try:
                pieces, kept = feed.pieces(name, sample, sample, Draws())
            except ValueError as error:
                tally.leave_out(error)
                last = str(error)
            else:
                tally.add(pieces, kept)
                packer.add(pieces)
        if not (taken := packer.take()):
            if number == 0:
                raise ValueError(f"{name}: none of its samples can be used; the last: {last}")
            return
        fields = fill_row(taken, length, layout.grammar.padding, layout.ranges)
        yield Row(**fields, **tally.hand_over(), lane=0, number=number, state={})
