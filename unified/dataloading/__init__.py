"""The data loader: stored codes, mixed, tokenized into documents and packed for training.

Code shards (`Source`, `prepare_sources`) go through a `Loader`, which yields one `PackedSequence`
after the other in an order that depends on nothing but the seed and the sources.
"""

from unified.dataloading.codes_of_sources import prepare_sources
from unified.dataloading.loader import Loader
from unified.dataloading.packed_sequence import PackedSequence
from unified.dataloading.source import Source
from unified.dataloading.validation_sequences import validation_sequences

__all__ = ["Loader", "PackedSequence", "Source", "prepare_sources", "validation_sequences"]
