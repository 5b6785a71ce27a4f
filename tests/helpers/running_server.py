"""A real server of a model in a thread of its own, on a port of this machine that was free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from unified import UnifiedModel
from unified.serving.app import Studio
from unified.serving.article_desk import ArticleDesk
from unified.serving.article_library import ArticleLibrary
from unified.serving.http_server import ApiServer, listen
from unified.serving.model_identity import ModelIdentity
from unified.serving.private_socket import private_socket
from unified.serving.server_limits import ServerLimits
from unified.serving.service import Service


@dataclass
class RunningServer:
    """url: with /v1; port: of 127.0.0.1; desk: where articles are written."""

    service: Service
    server: ApiServer
    port: int
    desk: ArticleDesk | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@contextmanager
def running_server(
    model: UnifiedModel,
    limits: ServerLimits | None = None,
    api_key: str | None = None,
    library: ArticleLibrary | None = None,
    runs: Path | None = None,
    identity: ModelIdentity | None = None,
) -> Iterator[RunningServer]:
    """Serves a model while the block runs; its end is the server's own, with all its waiting.

    library: of articles; with one the server has the studio's page as well. identity: of the
    model; with one commands find the server in the runtime folder.
    """
    service = Service(model, "pocket", limits or ServerLimits(grace_seconds=5.0), identity)
    desk = None if library is None else ArticleDesk(service, library)
    studio = None if desk is None else Studio(desk, runs, page=True)
    server = ApiServer(service, "127.0.0.1", api_key, studio)
    with ExitStack() as opening:
        listening = opening.enter_context(listen("127.0.0.1", 0))
        sockets = [listening]
        if identity is not None:
            private = opening.enter_context(private_socket(print))
            assert private is not None, "there is no private socket"
            sockets.append(private)
        thread = threading.Thread(target=server.run, args=(sockets,), daemon=True)
        thread.start()
        while not server.started:
            thread.join(0.01)
            assert thread.is_alive(), "the server did not start"
        try:
            yield RunningServer(service, server, listening.getsockname()[1], desk)
        finally:
            server.should_exit = True
            thread.join(60)
            assert not thread.is_alive(), "the server did not end"
            service.close()
