"""The command that serves a model over HTTP."""

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


def serve(
    opening: Opening,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    api_key: ApiKey = None,
    name: Name = None,
    max_rows: MaxRows = 16,
    max_queue: MaxQueue = 64,
    grace: Grace = 30.0,
) -> None:
    """Serve the model to OpenAI's clients: chat, responses, images, speech, transcriptions."""
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        from unified_base.extras import missing_extra

        raise missing_extra("unified serve", error.name or "fastapi", "serve") from None
    from unified.serving.http_server import check_binding, serve_model
    from unified.serving.server_limits import ServerLimits

    check_binding(host, api_key)  # before the model is loaded
    limits = ServerLimits(max_rows=max_rows, max_queue=max_queue, grace_seconds=grace)
    model = opening.load()
    serve_model(
        model, name or Path(opening.model).name or opening.model, host=host, port=port,
        api_key=api_key, limits=limits, tell=note,
    )  # fmt: skip
