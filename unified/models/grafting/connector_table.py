"""The connectors by name."""

from __future__ import annotations

from unified.models.grafting.connectors import Connector, LinearConnector, MlpConnector
from unified.models.grafting.merging_connectors import MergeConnector, PoolConnector
from unified.models.grafting.query_connectors import QFormerConnector, ResamplerConnector
from unified_base.text import quoted

__all__ = ["CONNECTORS", "make_connector", "register_connector"]

CONNECTORS: dict[str, type[Connector]] = {}
"""By name."""


def register_connector(kind: type[Connector]) -> type[Connector]:
    """Put a connector among those that are asked for by name. Returns it."""
    CONNECTORS[kind.name] = kind
    return kind


for _kind in (LinearConnector, MlpConnector, QFormerConnector, ResamplerConnector, PoolConnector,
              MergeConnector):  # fmt: skip
    register_connector(_kind)


def make_connector(name: str, input_width: int, output_width: int, **options: int) -> Connector:
    """A connector with random weights (torch's global generator).

    Raises ValueError for an unknown name or option, and for values that it does not take.
    """
    if name not in CONNECTORS:
        raise ValueError(f"connector is {quoted(name)}, expected one of {', '.join(CONNECTORS)}")
    kind = CONNECTORS[name]
    if unknown := sorted(set(options) - set(kind.defaults)):
        takes = ", ".join(kind.defaults) or "none"
        raise ValueError(f"connector {name} has no option {', '.join(unknown)}; it has {takes}")
    for option, value in options.items():
        least = min(1, kind.defaults[option])  # 0 where it is one that may be switched on
        if type(value) is not int or value < least:
            raise ValueError(
                f"{option} of connector {name} is {quoted(value)}, expected at least {least}"
            )
    return kind(input_width, output_width, **options)
