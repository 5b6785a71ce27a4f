"""The commands that serve a model over HTTP: to clients, and to a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from unified.cli.options import Opening
from unified.cli.terminal import note

Host = Annotated[
    str,
    typer.Option("--host", metavar="NAME", help="To listen on; others than this machine: a key."),
]
Port = Annotated[
    int, typer.Option("--port", min=0, max=65_535, help="To listen on; 0: any that is free.")
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        "--api-key",
        metavar="KEY",
        envvar="UNIFIED_API_KEY",
        show_envvar=True,
        help="That clients must bring; in the environment others do not see it.",
    ),
]
Name = Annotated[
    str | None,
    typer.Option(
        "--name", metavar="NAME", help="Of the model for clients (default: its folder's)."
    ),
]
MaxRows = Annotated[
    int, typer.Option("--max-rows", min=1, max=4_096, help="Documents written at a time.")
]
MaxQueue = Annotated[
    int, typer.Option("--max-queue", min=0, max=10**6, help="Documents that may wait beyond these.")
]
Grace = Annotated[
    float,
    typer.Option(
        "--grace", min=0, max=86_400, help="Seconds that requests under way may take at the end."
    ),
]


Library = Annotated[
    Path | None, typer.Option("--library", metavar="DIR", help="Folder of articles.")
]


def serve(
    opening: Opening,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKey = None,
    name: Name = None,
    max_rows: MaxRows = 16,
    max_queue: MaxQueue = 64,
    grace: Grace = 30.0,
    library: Library = None,
) -> None:
    """Serve the model to OpenAI's clients: chat, responses, images, speech, transcriptions.

    Articles (/v1/articles) go with the server, unless --library names a folder for them.
    """
    _check_extra("unified serve")
    from unified.serving.http_server import check_binding, serve_model
    from unified.serving.model_identity import identity_of
    from unified.serving.server_limits import ServerLimits

    check_binding(host, api_key)  # before the model is loaded
    limits = ServerLimits(max_rows=max_rows, max_queue=max_queue, grace_seconds=grace)
    identity = identity_of(opening)
    model = opening.load()
    serve_model(
        model, name or Path(opening.model).name or opening.model, host=host, port=port,
        api_key=api_key, limits=limits, tell=note, library=library, identity=identity,
    )  # fmt: skip


def studio(
    opening: Opening,
    host: Host = "127.0.0.1",
    port: Port = 8080,
    api_key: ApiKey = None,
    library: Library = None,
    runs: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            metavar="DIR",
            help="Training runs to look at (default: runs, if it is there).",
        ),
    ] = None,
    open_page: Annotated[
        bool, typer.Option("--open", help="Open the page in the browser.")
    ] = False,
    name: Name = None,
    max_rows: MaxRows = 16,
    max_queue: MaxQueue = 64,
    grace: Grace = 30.0,
) -> None:
    """Write articles in the browser: a page for this machine, and a library of what was written.

    The library lies among the user's own data, unless --library names another folder.
    """
    _check_extra("unified studio")
    from unified.serving.article_library import default_library
    from unified.serving.http_server import check_binding, serve_model
    from unified.serving.model_identity import identity_of
    from unified.serving.server_limits import ServerLimits

    check_binding(host, api_key)  # before the model is loaded
    if runs is not None and not runs.is_dir():
        raise ValueError(f"{runs} is no folder of runs; leave --runs out, or name one")
    if runs is None and Path("runs").is_dir():
        runs = Path("runs")
    limits = ServerLimits(max_rows=max_rows, max_queue=max_queue, grace_seconds=grace)
    identity = identity_of(opening)
    model = opening.load()
    serve_model(
        model, name or Path(opening.model).name or opening.model, host=host, port=port,
        api_key=api_key, limits=limits, tell=note, library=library or default_library(),
        runs=runs, page=True, opened=typer.launch if open_page else None,
        identity=identity,
    )  # fmt: skip


def _check_extra(command: str) -> None:
    """Raises ValueError, with what to install, where the extra of serving is not there."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from unified_base.extras import missing_extra

        raise missing_extra(command, error.name or "fastapi", "serve") from None
