"""The same application under Ray Serve: replicas on one machine or many, one engine each.

A replica is `build_app` of a service of its own, so that requests, keys, limits and streams are as
without Ray. Ray's proxy hands each request to one replica; replicas share nothing.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from fastapi import APIRouter

from unified.models.model_spec import ModelSpec
from unified.serving.api_errors import ApiError
from unified.serving.app import build_app
from unified.serving.http_server import check_binding, is_local, listen
from unified.serving.server_limits import ServerLimits
from unified.serving.service import Service
from unified_base.ray_cluster import cores_each, ray_cluster
from unified_base.text import counted, quoted

__all__ = ["Replicas", "read_autoscale", "serve_under_ray"]

_APP = "unified"
_MOST_REPLICAS = 10_000
_BESIDE = 64  # requests beyond documents that a replica answers at a time: health, models, refusals
_AFTER_GRACE = 10.0  # seconds in which streams that were told why they end may still send it
_NOT_HERE = ("articles", "playground", "studio", "runs")
_WHY_NOT = (
    "it is not there under Ray: articles and what belongs to them are kept by one process, and this"
    " server has replicas that share nothing; ask `unified serve` or `unified studio` without --ray"
)


@dataclass(frozen=True)
class Replicas:
    """How many engines there are: from `least` to `most`, as requests come."""

    least: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        """Raises ValueError where there would be none, or fewer than the least."""
        if not 1 <= self.least <= self.most <= _MOST_REPLICAS:
            raise ValueError(
                f"replicas from {self.least} to {self.most}, expected 1 <= MIN <= MAX <="
                f" {_MOST_REPLICAS:,}"
            )

    def __str__(self) -> str:
        if self.least == self.most:
            return counted(self.most, "replica")
        return f"{self.least} to {counted(self.most, 'replica')}"


def read_autoscale(text: str) -> Replicas:
    """The replicas of "MIN:MAX". Raises ValueError for anything else."""
    least, colon, most = text.partition(":")
    if not (colon and least.isdecimal() and most.isdecimal() and len(text) < 20):
        raise ValueError(f"--autoscale is {quoted(text)}, expected MIN:MAX, such as 1:4")
    return Replicas(int(least), int(most))


class Replica:
    """What Ray Serve makes of each replica: an engine and its application.

    Its methods belong to the event loop that answers its requests.
    """

    def __init__(
        self,
        model: ModelSpec,
        prints: Mapping[str, str],
        name: str,
        limits: ServerLimits,
        host: str,
        api_key: str | None,
    ) -> None:
        """Raises ValueError where this machine has another model under the same name."""
        from ray import serve

        opened = model.open()
        if model.fingerprint(opened) != dict(prints):
            raise ValueError(
                f"a machine of the cluster has another model under the name {model.name} than the"
                " server was begun with; give all of them the same files"
            )
        replica = serve.get_replica_context().replica_id.unique_id
        self._service = Service(opened, name, limits, replica=replica)
        self._host, self._api_key = host, api_key

    def __serve_build_asgi_app__(self) -> Any:
        return build_app(self._service, self._host, self._api_key, others=[_not_here()])

    async def drain(self) -> None:
        """Take no more requests; return once those under way have ended, or were told why not."""
        await self._service.drain()


def _not_here() -> APIRouter:
    """What there is in one process alone, each with the reason."""
    router = APIRouter()
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]

    async def refuse() -> None:
        raise ApiError(404, _WHY_NOT, code="not_under_ray")

    for name in _NOT_HERE:
        router.add_api_route(f"/v1/{name}", refuse, methods=methods)
        router.add_api_route(f"/v1/{name}/{{rest:path}}", refuse, methods=methods)
    return router


def serve_under_ray(
    model: ModelSpec,
    name: str,
    *,
    replicas: Replicas,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    limits: ServerLimits | None = None,
    tell: Callable[[str], None] = print,
) -> None:
    """Serve a model by replicas on a cluster of Ray until the process is asked to end.

    Args:
        model: that each replica opens; all machines must have the same files under its name.
        name: by which clients ask for it.
        replicas: how many engines.
        host, port, api_key: see `serve_model`. For hosts of this machine the proxy is here alone,
            for others on every machine of the cluster.
        limits: of each replica; None: the defaults.
        tell: told where it listens, once all replicas answer.

    Raises:
        ValueError: as `serve_model`; a model that cannot be opened; a cluster that cannot be
            reached or has a Ray Serve already; replicas that cannot be begun.
    """
    check_binding(host, api_key)
    limits = limits or ServerLimits()
    prints = model.fingerprint(model.open())
    with listen(host, port) as trial:  # Ray's proxy would say it in its log alone
        port = trial.getsockname()[1]
    with ray_cluster("serving under Ray") as ray, _asked_to_end() as ended:
        from ray import serve

        logging.getLogger("ray.serve").setLevel(logging.ERROR)
        if serve.status().proxies:
            raise ValueError(
                "this cluster has a Ray Serve already; end it first (serve shutdown), or use"
                " another cluster (RAY_ADDRESS)"
            )
        on_gpu = model.device.startswith("cuda")
        cores = 1 if on_gpu else cores_each(ray, replicas.most)
        gpus = 1 if on_gpu else 0
        _warn(ray, replicas, cores, gpus, tell)
        where = "HeadOnly" if is_local(host) else "EveryNode"
        serve.start(proxy_location=where, http_options={"host": host, "port": port})
        try:
            application = _deployment(replicas, limits, {"num_cpus": cores, "num_gpus": gpus}).bind(
                model.absolute(), prints, name, limits, host, api_key
            )
            handle = _begin(serve, application, ended)
            if handle is not None:
                shown_host = f"[{host}]" if ":" in host else host
                tell(f"{name} at http://{shown_host}:{port}/v1, {replicas} (Ctrl-C ends it)")
                ended.wait()
                seconds = limits.grace_seconds + _AFTER_GRACE
                handle.broadcast("drain").results(timeout_s=seconds)
        finally:
            serve.shutdown()


def _deployment(replicas: Replicas, limits: ServerLimits, options: dict[str, Any]) -> Any:
    from ray import serve
    from ray.serve.schema import LoggingConfig

    scaling: dict[str, Any] = {"num_replicas": replicas.most}
    if replicas.least < replicas.most:
        # A replica that has as many requests as rows is full.
        about = {"min_replicas": replicas.least, "max_replicas": replicas.most,
                 "initial_replicas": replicas.least,
                 "target_ongoing_requests": limits.max_rows}  # fmt: skip
        scaling = {"autoscaling_config": about}
    deployment = serve.deployment(
        name="Replica",
        # What does not fit is refused by the replica itself, with 429.
        max_ongoing_requests=limits.max_rows + limits.max_queue + _BESIDE,
        graceful_shutdown_timeout_s=limits.grace_seconds + _AFTER_GRACE,
        ray_actor_options=options,
        max_constructor_retry_count=2,
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
        **scaling,
    )
    return deployment(serve.ingress()(Replica))


def _begin(serve: Any, application: Any, ended: threading.Event) -> Any | None:
    """The handle of the replicas, once they answer; None where the process is to end before that.

    Raises ValueError where they cannot be begun.
    """
    try:
        return serve.run(application, name=_APP, route_prefix="/", blocking=False)
    except (KeyboardInterrupt, SystemExit):
        return None
    except RuntimeError as error:
        if ended.is_set():
            return None
        about = serve.status().applications.get(_APP)
        reasons = [] if about is None else [d.message for d in about.deployments.values()]
        lines = [line for text in (*reasons, str(error)) for line in text.splitlines() if line]
        causes = [line for line in lines if "Error: " in line]
        raise ValueError(f"the replicas cannot be begun: {(causes or lines)[-1].strip()}") from None


def _warn(ray: Any, replicas: Replicas, cores: int, gpus: int, tell: Callable[[str], None]) -> None:
    """Say so where the cluster does not have room for all replicas now."""
    resources = ray.cluster_resources()
    for kind, each in (("CPU", cores), ("GPU", gpus)):
        there, wanted = resources.get(kind, 0), replicas.least * each
        if wanted > there:
            tell(
                f"{replicas} want {wanted} {kind}, the cluster has {there:g}: it serves once it"
                " has more"
            )


@contextmanager
def _asked_to_end() -> Iterator[threading.Event]:
    """An event that SIGINT and SIGTERM set; a second SIGINT does not wait."""
    event = threading.Event()

    def ask(number: int, frame: FrameType | None) -> None:
        if event.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        event.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield event
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
