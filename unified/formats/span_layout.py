"""The stages of one declared span over a vocabulary: its runs of ids, and how long they are.

A span is a row of stages: a size variable to be read, a *run* of ids that is fully determined once
the size variables are known, or an open repeat of such a run. A run is expanded, once for each set
of sizes, into a flat list of leaves, so that a step costs one comparison whatever the nesting of
its repeats.

Delayed levels (`spec.Delayed`) are an open repeat of steps and a run that flushes them: the warm-up
steps and the last ones hold markers for the levels that have no code there.
"""

from __future__ import annotations

from functools import lru_cache

from unified.formats.span_leaves import LeafExpander
from unified.formats.span_stages import (
    DelayFlush,
    DigitsStage,
    Env,
    LastTurn,
    LeafRun,
    OpenStage,
    RunStage,
    SizeStage,
    code_paths,
    counters,
    read_stages,
)
from unified.formats.spec import Marker, SpanSpec
from unified.formats.streams import divide_streams
from unified.vocabulary.block import TEXT, Ranges
from unified.vocabulary.vocabulary import Vocabulary

__all__ = ["SpanLayout"]


class SpanLayout:
    """What a span is made of. `SpanGrammar` is one that was checked and knows its grid.

    modality: of its media. blocks: by level, codebooks or the text. num_together: the most ids that
    a position holds. streams: the levels of each stream by name; empty without streams.
    level_modalities: of the codes of each level, "text" in a stream of text. last_turns: the stage
    of an open repeat -> the ids of the turn that ends it, where one does. begin: the id that it
    begins with. has_begin: whether that is a marker and not the first continuous position. embeds:
    whether it holds continuous positions, which are read and never written. attended: whether it
    is the one position of a medium that the decoder's layers attend to.
    """

    def __init__(self, kind: str, span: SpanSpec, vocabulary: Vocabulary):
        self.kind = kind
        self.modality = span.modality
        self.terminal = span.terminal
        self.vocabulary = vocabulary
        self.items = span.items
        codebooks = vocabulary.levels(kind)
        if not codebooks:
            raise ValueError(f"the format has {kind} spans, the vocabulary no block '{kind}.0'")
        self.blocks, self.streams = divide_streams(kind, span.streams, codebooks, vocabulary)
        self.level_modalities = tuple(
            TEXT if block.name == TEXT else span.modality for block in self.blocks
        )
        first = span.items[0]
        self.embeds, self.attended = span.embeds, span.attended
        self.has_begin = isinstance(first, Marker)
        if isinstance(first, Marker):
            self.begin = vocabulary.marker(first.name)
        else:
            self.begin = self.blocks[0].id(0)
        self.leaves = LeafExpander(kind, self.blocks, vocabulary, self.streams)
        self.stages = read_stages(span.items[self.has_begin :], vocabulary)
        header = [s for s in self.stages if isinstance(s, SizeStage | DigitsStage)]
        self.size_variables = tuple(stage.name for stage in header)
        self.open_variables = tuple(s.variable for s in self.stages if isinstance(s, OpenStage))
        self.last_turns = {
            at - 1: tuple(leaf.lo for leaf, _ in self.leaves.expand(stage.items[:1], {}))
            for at, stage in enumerate(self.stages)
            if isinstance(stage, RunStage) and isinstance(stage.items[0], LastTurn)
        }
        self.header_stages = 1 + max((self.stages.index(stage) for stage in header), default=-1)
        # Rows and frames are complete once the last stage that holds codes has given theirs.
        self._last_codes = max(
            (i for i, s in enumerate(self.stages)
             if isinstance(s, RunStage | OpenStage) and any(code_paths(s.items, ()))), default=0,
        )  # fmt: skip
        self.num_together = max(
            (depth + 1 for stage in self.stages if isinstance(stage, RunStage | OpenStage)
             for depth in self.leaves.depths(stage.items)), default=1,
        )  # fmt: skip
        self._expanded = lru_cache(maxsize=512)(self._expand_stage)

    def run(self, stage: int, env: Env, repeat: int = 0) -> LeafRun:
        """The leaves of a run, or of one repeat of an open repeat, under these size variables."""
        items = self.stages[stage]
        assert isinstance(items, RunStage | OpenStage)
        counts = tuple((name, env[name]) for name in counters(items.items))
        warmup = items.warmup if isinstance(items, OpenStage) else 0
        return self._expanded(stage, counts, min(repeat, warmup))

    def after_open(self, stage: int, env: Env) -> Ranges:
        """What may follow an open repeat in its span; () where it is the last of the span, which
        then ends with whatever else comes in the document."""
        if stage + 1 == len(self.stages):
            return ()
        return self.run(stage + 1, env).leaves[0].ranges

    def length(self, env: Env, stage: int = -1, positions: bool = False) -> int:
        """Ids of the span after `stage` (from its begin marker on if -1).

        Size variables not in `env` count as 1, the least they can be. positions: count positions
        of the decoder in place of ids.
        """
        total = 1 if stage < 0 and self.has_begin else 0
        for later in self.stages[stage + 1 :]:
            if isinstance(later, SizeStage):
                total += 1
            elif isinstance(later, DigitsStage):
                total += len(str(env.get(later.name, 1)))
            else:
                repeats = env.get(later.variable, 1) if isinstance(later, OpenStage) else 1
                total += repeats * self.leaves.length(later.items, env, positions)
        return total

    def affine(self, name: str, env: Env, stage: int) -> tuple[int, int]:
        """(a, b) with length after `stage` = a + b * value of the size variable `name`, >= 1."""
        shortest = self.length({**env, name: 1}, stage)
        slope = self.length({**env, name: 2}, stage) - shortest
        return shortest - slope, slope

    def _expand_stage(
        self, stage: int, counts: tuple[tuple[str, int], ...], repeat: int
    ) -> LeafRun:
        run = self.stages[stage]
        assert isinstance(run, RunStage | OpenStage)
        # One repeat of an open repeat is frame 0 of its run; the state adds the repeats before it.
        first = 0 if isinstance(run, OpenStage) else None
        leaves = self.leaves.expand(run.items, dict(counts), first, repeat)
        done: dict[int, int] = {}
        flushes = any(isinstance(item, DelayFlush) for item in run.items)
        if stage == self._last_codes or flushes:
            last = {frame: at for at, (_, frame) in enumerate(leaves) if frame is not None}
            done = {at: frame for frame, at in last.items()}
        return LeafRun(tuple(leaf for leaf, _ in leaves), done)
