"""Who fills the parts: this process, several processes, or actors of Ray on many machines.

Each has one engine, and does a part at a time; parts do not depend on each other.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from unified.generating.filled_shard import Told, fill_part
from unified.generating.inputs import InputPart
from unified.models.model import UnifiedModel
from unified.models.model_spec import ModelSpec
from unified.tasks.choices import Choices
from unified_base.processes import in_processes
from unified_base.ray_cluster import cores_each, ray_cluster

__all__ = ["FillJob", "fill_in_processes", "fill_in_this_process", "fill_under_ray"]

_SHARE = 4  # of a machine's memory, that one engine takes by itself: 1 / _SHARE
_ADVICE = "was memory short? begin again with fewer workers or --max-rows: finished shards stay"


@dataclass(frozen=True)
class FillJob:
    """What all parts of a run have in common. prints: of the model that the run was begun with."""

    model: ModelSpec
    folder: Path
    choices: Choices
    seed: int
    max_rows: int
    prints: Mapping[str, str]

    def engine(self, model: UnifiedModel, beside: int) -> None:
        """Bound the engine's rows, and its memory by how many share the machine."""
        cache_bytes = None
        if beside > 1:
            available = model.decoder().available_bytes()
            cache_bytes = max(1, available // max(_SHARE, 2 * beside))
        model.limit_engine(max_rows=self.max_rows, cache_bytes=cache_bytes)

    def fill(
        self, part: InputPart, model: UnifiedModel, told: Told | None = None
    ) -> dict[str, Any]:
        """Fill one part; see `fill_part`."""
        return fill_part(
            part, self.folder, model, self.choices, self.seed, self.max_rows, told
        )  # fmt: skip


def fill_in_this_process(
    job: FillJob, parts: Sequence[InputPart], model: UnifiedModel, told: Told
) -> Generator[dict[str, Any]]:
    """What stands beside each shard, one after the other."""
    job.engine(model, 1)
    try:
        for part in parts:
            yield job.fill(part, model, told)
    finally:
        model.engine.close()


# In several processes.

_mine: UnifiedModel | None = None


def _begin(job: FillJob, workers: int) -> None:
    """Runs first in every process."""
    import torch

    global _mine
    threads = max(1, _cores() // workers)
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    torch.set_num_threads(threads)
    _mine = job.model.open()
    job.engine(_mine, workers)


def _work(job: FillJob, part: InputPart) -> dict[str, Any]:
    assert _mine is not None
    return job.fill(part, _mine)


def fill_in_processes(
    job: FillJob, parts: Sequence[InputPart], workers: int
) -> Generator[dict[str, Any]]:
    """What stands beside each shard, as they come."""
    results = in_processes(
        partial(_work, job), parts, workers, start=partial(_begin, job, workers),
        name=lambda part: part.target, advice=_ADVICE,
    )  # fmt: skip
    with closing(results):
        for _, record in results:
            yield record


def _cores() -> int:
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


# Under Ray.


def fill_under_ray(
    job: FillJob, parts: Sequence[InputPart], workers: int | None
) -> Generator[dict[str, Any]]:
    """What stands beside each shard, as they come. Raises ValueError where ray is not installed."""
    with ray_cluster("filling documents under Ray") as ray:
        import ray.data as data

        data.DataContext.get_current().enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plan of three lines
        on_gpu = job.model.device.startswith("cuda")
        resources = ray.cluster_resources()
        machines = max(1, len([node for node in ray.nodes() if node["Alive"]]))
        if workers is None:
            workers = int(resources.get("GPU", 0)) if on_gpu else machines
        workers = max(1, min(workers, len(parts)))
        beside = -(-workers // machines)
        cores = 1 if on_gpu else cores_each(ray, workers)
        rows = [{"part": json.dumps({**asdict(part), "path": str(Path(part.path).resolve())})}
                for part in parts]  # fmt: skip
        dataset = data.from_items(rows, override_num_blocks=len(rows))
        results = dataset.map_batches(
            _RayWorker, batch_size=1, fn_constructor_args=(job, beside), num_cpus=cores,
            num_gpus=1 if on_gpu else None,
            compute=data.ActorPoolStrategy(min_size=1, initial_size=workers, max_size=workers),
        )  # fmt: skip
        try:
            for row in results.iter_rows():
                yield json.loads(row["record"])
        except ray.exceptions.RayError as error:
            raise _as_ours(error) from None


def _as_ours(error: BaseException) -> BaseException:
    """A mistake of the user's that was raised in an actor, as it is raised here.

    What an actor raised while it began comes as text alone, its last line the error.
    """
    last = str(error).strip().rpartition("\n")[2].strip()
    name, _, message = last.partition(": ")
    if name.rpartition(".")[2] == "ValueError" and message:
        return ValueError(message)
    return error


class _RayWorker:
    """An actor of Ray Data: it has one engine."""

    def __init__(self, job: FillJob, beside: int) -> None:
        """Raises ValueError where this machine has another model under the same name."""
        self._job = job
        self._model = job.model.open()
        prints = job.model.fingerprint(self._model)
        if prints != dict(job.prints):
            raise ValueError(
                f"a machine of the cluster has another model under the name {job.model.name} than"
                " the run was begun with; give all of them the same files"
            )
        job.engine(self._model, beside)

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        parts = [InputPart(**json.loads(text)) for text in batch["part"]]
        records = [self._job.fill(part, self._model) for part in parts]
        return {"record": [json.dumps(record) for record in records]}
