"""What one server takes, in numbers."""

from __future__ import annotations

from dataclasses import dataclass, fields

from unified_base.arguments import real, whole

__all__ = ["ServerLimits"]

_MOST_SECONDS = 86_400.0


@dataclass(frozen=True)
class ServerLimits:
    """Bounds on requests and on what they share. All are checked before anything is sampled.

    Attributes:
        max_body: bytes of a request's body.
        max_rows: documents that are sampled at a time, of all requests together.
        max_queue: documents beyond these that may wait; a request that does not fit gets 429.
        max_number: documents of one request (`n`).
        max_ids: most ids that a client may ask for in one document.
        max_parts: messages and content parts of one request, all together.
        max_pixels: of a picture that is given.
        max_sound_seconds: of a sound that is given.
        body_seconds: in which a body must have come.
        stall_seconds: after which a client that takes nothing of a stream is let go.
        grace_seconds: in which requests under way may end once the server is asked to.
    """

    max_body: int = 32 << 20
    max_rows: int = 16
    max_queue: int = 64
    max_number: int = 16
    max_ids: int = 16_384
    max_parts: int = 128
    max_pixels: int = 16 << 20
    max_sound_seconds: float = 120.0
    body_seconds: float = 30.0
    stall_seconds: float = 30.0
    grace_seconds: float = 30.0

    def __post_init__(self) -> None:
        """Raises ValueError for a number out of range."""
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type == "int":
                whole(field.name, value, 0 if field.name == "max_queue" else 1)
            else:
                real(field.name, value, 0.0, _MOST_SECONDS)
