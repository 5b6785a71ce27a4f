"""Data through: stored codes, mixed, laid out as ids and packed into rows to train a decoder on.

Sources of code shards (`Source`, `prepare_sources`) go through a `Loader`, which gives one `Row`
after the other in an order that depends on nothing but the seed and the sources.
"""

from unified.dataloading.codes_of_sources import prepare_sources
from unified.dataloading.held_out import held_out_rows
from unified.dataloading.loader import Loader
from unified.dataloading.row import Row
from unified.dataloading.source import Source

__all__ = ["Loader", "Row", "Source", "held_out_rows", "prepare_sources"]
