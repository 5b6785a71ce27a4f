"""Data through: stored codes, mixed, laid out as ids and packed into rows to train a decoder on.

Sources of code shards (`Source`, `prepare_sources`) go through a `Loader`, which gives one `Row`
after the other in an order that depends on nothing but the seed and the sources.
"""

from unified.feeding.codes_of_sources import prepare_sources
from unified.feeding.held_out import held_out_rows
from unified.feeding.loader import Loader
from unified.feeding.row import Row
from unified.feeding.source import Source

__all__ = ["Loader", "Row", "Source", "held_out_rows", "prepare_sources"]
