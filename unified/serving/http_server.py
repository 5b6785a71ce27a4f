"""The server's process: where it listens, what it takes to listen there, and how it ends."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import uvicorn

from unified.models.model import UnifiedModel
from unified.serving.app import Studio, build_app
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_library import ArticleLibrary
from unified.serving.model_identity import ModelIdentity
from unified.serving.private_socket import private_socket
from unified.serving.server_limits import ServerLimits
from unified.serving.service import Service
from unified_base.text import quoted

__all__ = ["ApiServer", "check_binding", "is_local", "listen", "serve_model"]

_AFTER_GRACE = 5  # seconds in which streams that were told why they end may still send it
_KEEP_ALIVE = 30  # seconds that a connection may wait for its next request
_MOST_CONNECTIONS = 1_000  # beyond them uvicorn answers 503 by itself
_BACKLOG = 128
_MORE_THREADS = 16  # than documents that are sampled at a time: each may wait for a picture in one


def check_binding(host: str, api_key: str | None) -> None:
    """Raises ValueError where others could reach the server and nothing keeps them out."""
    if api_key is not None and (not api_key.strip() or not api_key.isascii()):
        raise ValueError("the API key is empty or not ASCII; choose a long random one")
    if api_key is None and not is_local(host):
        raise ValueError(
            f"host is {quoted(host)}, where other machines reach the server, and it has no key:"
            " give --api-key or UNIFIED_API_KEY, or leave --host out"
        )


def is_local(host: str) -> bool:
    """Whether a server that is bound to this host is reached from its own machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. port: 0 for any that is free.

    Raises ValueError where it cannot, as where another process has the port.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(
            f"cannot listen on {host} port {port}: {reason}; choose another --port or --host"
        ) from None


class ApiServer(uvicorn.Server):
    """A server of one service; when it is asked to end, requests under way end first."""

    def __init__(
        self,
        service: Service,
        host: str,
        api_key: str | None = None,
        studio: Studio | None = None,
    ) -> None:
        """See `build_app`."""
        super().__init__(
            uvicorn.Config(
                build_app(service, host, api_key, studio),
                http="h11",
                loop="asyncio",  # whatever else is installed
                ws="none",
                lifespan="off",
                access_log=False,
                log_level="warning",
                server_header=False,
                timeout_keep_alive=_KEEP_ALIVE,
                limit_concurrency=_MOST_CONNECTIONS,
                timeout_graceful_shutdown=_AFTER_GRACE,
            )
        )
        self._service = service

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, with threads enough that nothing waits for what waits in them."""
        threads = ThreadPoolExecutor(self._service.limits.max_rows + _MORE_THREADS)
        asyncio.get_running_loop().set_default_executor(threads)
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, once requests under way have ended or are told why they do not."""
        draining = asyncio.ensure_future(self._service.drain())
        while not draining.done() and not self.force_exit:  # Ctrl-C once more
            await asyncio.wait((draining,), timeout=0.1)
        draining.cancel()
        await super().shutdown(sockets)


def serve_model(
    model: UnifiedModel,
    name: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    limits: ServerLimits | None = None,
    tell: Callable[[str], None] = print,
    library: Path | None = None,
    runs: Path | None = None,
    page: bool = False,
    opened: Callable[[str], object] | None = None,
    identity: ModelIdentity | None = None,
) -> None:
    """Serve a model until the process is asked to end (SIGINT, SIGTERM).

    Args:
        model: with its weights.
        name: by which clients ask for it.
        host, port: to listen on; port 0: any that is free.
        api_key: that clients must bring.
        limits: None: the defaults.
        tell: told where it listens, once it does.
        library: folder of articles; None: one that goes with the process.
        runs: folder of training runs that may be looked at; None: none.
        page: whether the studio's page stands at /.
        opened: called with the page's address once it can be opened.
        identity: of the model; commands of this user that mean the same one then ask this server.
            None: they do not.

    Raises:
        ValueError: a host that others reach without a key, a port that cannot be had, or a library
            that cannot be written to, or that another process has.
    """
    check_binding(host, api_key)
    with ExitStack() as opening:
        listening = opening.enter_context(listen(host, port))
        articles = opening.enter_context(_library(library))
        service = Service(model, name, limits or ServerLimits(), identity)
        studio = Studio(ArticleDesk(service, articles), runs, page)
        server = ApiServer(service, host, api_key, studio)
        where = f"[{host}]" if ":" in host else host
        root = f"http://{where}:{listening.getsockname()[1]}/"
        if page:
            tell(f"the studio of {name} at {root} (Ctrl-C ends it)")
        else:
            tell(f"{name} at {root}v1 (Ctrl-C ends it)")
        if opened is not None:
            opened(root)
        sockets = [listening]
        if identity is not None:
            private = opening.enter_context(private_socket(tell))
            sockets += [private] if private is not None else []
        try:
            server.run(sockets)
        except (KeyboardInterrupt, SystemExit):
            # uvicorn raises the signal once more behind the end that it asked for.
            if not server.should_exit:
                raise
        finally:
            service.close()


@contextmanager
def _library(folder: Path | None) -> Iterator[ArticleLibrary]:
    with ExitStack() as opening:
        if folder is None:
            temporary = tempfile.TemporaryDirectory(prefix="unified-articles-")
            folder = Path(opening.enter_context(temporary))
        yield opening.enter_context(ArticleLibrary(folder))
