"""The commands that serve a model over HTTP: to clients, and to a browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    ray: Annotated[
        bool, typer.Option("--ray", help="By replicas under Ray Serve, on all of its machines.")
    ] = False,
    replicas: Annotated[
        int | None, typer.Option("--replicas", min=1, help="Of the engine, with --ray (1).")
    ] = None,
    autoscale: Annotated[
        str | None,
        typer.Option("--autoscale", metavar="MIN:MAX", help="Replicas as requests come."),
    ] = None,
) -> None:
    """Serve the model to OpenAI's clients: chat, responses, images, speech, transcriptions.

    Articles (/v1/articles) go with the server, unless --library names a folder for them. With --ray
    there are none: replicas share nothing.
    """
    _check_extra("unified serve")
    if not ray and (replicas is not None or autoscale is not None):
        raise ValueError("--replicas and --autoscale are of --ray; add it, or leave them out")
    if ray:
        _serve_under_ray(
            opening, host, port, api_key, name, library, replicas, autoscale,
            {"max_rows": max_rows, "max_queue": max_queue, "grace_seconds": grace},
        )  # fmt: skip
        return
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


def _serve_under_ray(
    opening: Opening,
    host: str,
    port: int,
    api_key: str | None,
    name: str | None,
    library: Path | None,
    replicas: int | None,
    autoscale: str | None,
    limits: dict[str, Any],
) -> None:
    from unified.serving.ray_serving import Replicas, read_autoscale, serve_under_ray
    from unified.serving.server_limits import ServerLimits

    if library is not None:
        raise ValueError(
            "--library is a folder that one process holds, and with --ray there are replicas that"
            " share nothing; leave one of both out"
        )
    if replicas is not None and autoscale is not None:
        raise ValueError("--replicas and --autoscale both say how many there are; give one of them")
    number = replicas or 1
    many = Replicas(number, number) if autoscale is None else read_autoscale(autoscale)
    serve_under_ray(
        opening.spec(), name or Path(opening.model).name or opening.model, replicas=many, host=host,
        port=port, api_key=api_key, limits=ServerLimits(**limits), tell=note,
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
