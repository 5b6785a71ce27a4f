"""/v1/runs: training runs in a folder, as they stand in what they write for TensorBoard."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from unified.serving.api_errors import ApiError
from unified.serving.media_written import base64_of
from unified_base.text import quoted

__all__ = ["runs_routes"]

_EVENTS = "events.out.tfevents."
_FOLDER = "tensorboard"
_DEEP = 3  # folders below that of the runs
_MOST_RUNS = 500
_MOST_POINTS = 1_000  # of a curve
_MOST_SAMPLES = 200


def runs_routes(folder: Path | None) -> APIRouter:
    """GET /v1/runs, /v1/runs/{name}/curves and /v1/runs/{name}/samples."""
    router = APIRouter()
    reader = _Reader(folder)

    @router.get("/v1/runs")
    async def runs() -> Response:
        return JSONResponse({"runs": await asyncio.to_thread(reader.runs)})

    @router.get("/v1/runs/{name:path}/curves")
    async def curves(name: str) -> Response:
        return JSONResponse(await asyncio.to_thread(reader.curves, name))

    @router.get("/v1/runs/{name:path}/samples")
    async def samples(name: str) -> Response:
        return JSONResponse(await asyncio.to_thread(reader.samples, name))

    return router


class _Reader:
    """Runs below a folder. What was read of one is read on, not anew."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._open: dict[str, Any] = {}

    def runs(self) -> list[dict[str, Any]]:
        """{"name", "updated", "steps"} of every run; steps are null where it was not looked at."""
        runs: list[dict[str, Any]] = []
        for name, path in self._found().items():
            files = [entry.stat().st_mtime for entry in path.iterdir() if _is_events(entry.name)]
            runs.append({"name": name, "updated": max(files), "steps": self._steps(name)})
        return sorted(runs, key=lambda run: -run["updated"])[:_MOST_RUNS]

    def curves(self, name: str) -> dict[str, list[list[float]]]:
        """[step, value] of each figure, every so many steps where there are very many."""
        with self._lock:
            events = self._events(name)
            return {
                tag: _thinned([[event.step, event.value] for event in events.Scalars(tag)])
                for tag in sorted(events.Tags()["scalars"])
            }

    def samples(self, name: str) -> list[dict[str, Any]]:
        """Texts, pictures and sounds that a run logged, the latest first."""
        with self._lock:
            events = self._events(name)
            tags = events.Tags()
            logged: list[dict[str, Any]] = []
            for tag in tags["images"]:
                logged += [
                    _sample(tag, each.step, "image", data=base64_of(each.encoded_image_string))
                    for each in events.Images(tag)
                ]
            for tag in tags["audio"]:
                logged += [
                    _sample(tag, each.step, "audio", data=base64_of(each.encoded_audio_string))
                    for each in events.Audio(tag)
                ]
            for tag in tags["tensors"]:
                logged += [
                    _sample(tag, each.step, "text", text=_text(each.tensor_proto.string_val))
                    for each in events.Tensors(tag)
                    if each.tensor_proto.string_val
                ]
        logged.sort(key=lambda each: (-each["step"], each["tag"]))
        return logged[:_MOST_SAMPLES]

    def _found(self) -> dict[str, Path]:
        """Folders with TensorBoard's files by the name of their run."""
        if self._folder is None:
            return {}
        return {
            path.relative_to(self._folder).as_posix().removesuffix(f"/{_FOLDER}"): path
            for path in _folders(self._folder, _DEEP)
        }

    def _steps(self, name: str) -> int | None:
        events = self._open.get(name)
        if events is None:
            return None
        steps = [series[-1].step for tag in events.Tags()["scalars"]
                 if (series := events.Scalars(tag))]  # fmt: skip
        return max(steps, default=0)

    def _events(self, name: str) -> Any:
        """What a run wrote so far. Raises ApiError for a run that there is not."""
        path = self._found().get(name)
        if path is None:
            raise ApiError(404, f"there is no run {quoted(name)}", param="name",
                           code="run_not_found")  # fmt: skip
        if name not in self._open:
            from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

            everything = dict.fromkeys(("scalars", "images", "audio", "tensors"), 0)
            self._open[name] = EventAccumulator(str(path), size_guidance=everything)
        return self._open[name].Reload()


def _folders(folder: Path, deep: int) -> Iterator[Path]:
    """Folders below one that hold TensorBoard's files; symbolic links are not followed."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    if any(_is_events(entry.name) for entry in entries):
        yield folder
    for entry in entries:
        if deep and entry.is_dir(follow_symlinks=False):
            yield from _folders(folder / entry.name, deep - 1)


def _is_events(name: str) -> bool:
    return name.startswith(_EVENTS)


def _thinned(points: list[list[float]]) -> list[list[float]]:
    """At most so many points, the last of them always; NaN and infinity are no JSON."""
    points = [point for point in points if abs(point[1]) < float("inf")]
    every = -(-len(points) // _MOST_POINTS) or 1
    return points[(len(points) - 1) % every :: every]


def _sample(tag: str, step: int, kind: str, **content: str) -> dict[str, Any]:
    return {"tag": tag, "step": step, "kind": kind, **content}


def _text(parts: Sequence[bytes]) -> str:
    return b"".join(parts).decode("utf-8", "replace")
