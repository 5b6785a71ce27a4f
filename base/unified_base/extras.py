"""What is said where a library of one of pyproject.toml's extras is not installed."""

from __future__ import annotations

__all__ = ["missing_extra"]


def missing_extra(purpose: str, package: str, extra: str) -> ValueError:
    """The error to raise where an extra's library cannot be imported: one line that mends it.

    pip installs an extra of an installed distribution from what is known of it, whichever way it
    came here, so the first command needs no index that has `unified-tokens`, and no checkout.

    Args:
        purpose: what the library is needed for, as the subject of the sentence.
        package: name of the library, as pip calls it.
        extra: name of the extra that has it.
    """
    return ValueError(
        f"{purpose} needs {package}, which is not installed:"
        f" pip install 'unified-tokens[{extra}]', or '.[{extra}]' in a checkout"
    )
