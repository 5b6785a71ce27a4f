"""Files of a repository on the Hugging Face hub: the one function that fetches them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["fetch_files", "is_hub_name"]

_NAME = re.compile(r"\w[\w.-]*/[\w.-]+")


def is_hub_name(name: object) -> bool:
    """Whether something is a name on the hub: a string "organisation/name". A Path is never one."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None


def fetch_files(
    name: str,
    patterns: Iterable[str],
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    local_files_only: bool = False,
) -> Path:
    """The local folder with those files of a repository that match `patterns`.

    Args:
        name: "organisation/name".
        patterns: as in `fnmatch`, of paths in the repository.
        revision: branch, tag or commit; "main" if left out.
        cache_dir: where fetched files are stored; if left out, where HF_HUB_CACHE says.
        local_files_only: use what was fetched before, and no network, as HF_HUB_OFFLINE=1 does.

    Raises:
        ValueError: the hub has no such repository or revision, or is out of reach.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HTTPError

    try:
        snapshot = snapshot_download(
            name, revision=revision, cache_dir=cache_dir, allow_patterns=list(patterns),
            local_files_only=local_files_only,
        )  # fmt: skip
    except (OSError, ValueError, HTTPError) as error:
        summary = " ".join(str(error).split())[:300]
        raise ValueError(
            f"cannot load {name!r}: there is no folder {Path(name).absolute()},"
            f" and the Hugging Face hub gave {type(error).__name__} for revision"
            f" {revision or 'main'!r}: {summary}; check the name, or run `hf download"
            f" {name} --local-dir FOLDER` where there is a network and give FOLDER"
        ) from None
    return Path(snapshot)
