"""The command line. Nothing heavy is imported before a command runs: `--help` answers at once.

Data goes to stdout, progress and notes to stderr. Errors are raised as ValueError; `__main__` turns
them into one line and an exit code.
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any

import typer

from unified.cli import asking as cli_asking
from unified.cli import codes as cli_codes
from unified.cli import data as cli_data
from unified.cli import demo as cli_demo
from unified.cli import evaluating as cli_evaluating
from unified.cli import exporting as cli_exporting
from unified.cli import extend as cli_extend
from unified.cli import generating as cli_generating
from unified.cli import grammar as cli_grammar
from unified.cli import grounding as cli_grounding
from unified.cli import matching as cli_matching
from unified.cli import media as cli_media
from unified.cli import model as cli_model
from unified.cli import pictures as cli_pictures
from unified.cli import serving as cli_serving
from unified.cli import tokenizer as cli_tokenizer
from unified.cli.options import command
from unified_base.terminal import say

_HELP = {"help_option_names": ["-h", "--help"]}


def _app(help: str, add_completion: bool = False) -> typer.Typer:
    return typer.Typer(
        help=help,
        no_args_is_help=True,
        add_completion=add_completion,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings=_HELP,
    )


def _version(asked: bool) -> None:
    if asked:
        from unified_base.version import __version__

        say(f"unified {__version__}")
        raise typer.Exit


app = _app("Text, pictures and sound from one decoder over one id space.", add_completion=True)


@app.callback()
def _global(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error (may stand anywhere).")
    ] = False,
    quiet: Annotated[
        bool,
        typer.Option("--quiet", help="No progress and no notes, only errors (may stand anywhere)."),
    ] = False,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Say which version."),
    ] = False,
) -> None:
    # `__main__` takes --debug and --quiet off the line before it is parsed; here for --help.
    pass


for verb in (
    cli_media.write,
    cli_pictures.draw,
    cli_pictures.edit,
    cli_pictures.describe,
    cli_pictures.ask,
    cli_grounding.ground,
    cli_media.speak,
    cli_media.listen,
    cli_media.reply,
    cli_media.sample,
    cli_generating.generate,
    cli_media.inspect,
    cli_exporting.export,
    cli_asking.tasks,
    cli_serving.serve,
    cli_serving.studio,
):
    app.command()(command(verb))
app.command()(cli_model.subjects)
app.command()(cli_model.info)
app.command()(cli_demo.demo)
app.command()(cli_extend.extend)
app.command()(cli_extend.together)
app.command()(cli_model.train)
app.command()(cli_evaluating.evaluate)
app.command()(cli_model.estimate)
app.command()(cli_codes.codes)
app.command()(cli_matching.index)
app.command()(cli_matching.search)

data = _app("Build and read training data.")
build = _app("Build a world: documents whose truth is known exactly.")
build.command("pocket")(cli_model.build_pocket)
build.command("world")(cli_model.build_world)
build.command("charts")(cli_model.build_charts)
build.command("motion")(cli_model.build_motion)
data.add_typer(build, name="build")
data.command("import")(cli_data.import_data)
data.command()(cli_data.check)
data.command()(cli_data.show)
data.command()(cli_codes.tokenize)
tokenizer = _app("Media tokenizers: pictures and sounds to codes and back.")
tokenizer.command()(cli_tokenizer.train)
tokenizer.command()(cli_tokenizer.evaluate)
tokenizer.command()(cli_tokenizer.reconstruct)
tokenizer.command()(cli_tokenizer.convert)
tower = _app("Towers: pictures and texts as vectors of one space.")
tower.command()(cli_matching.train)
tower.command()(cli_matching.classify)
tower.command()(command(cli_matching.choose))
grammar = _app("Formats: how documents are laid out as ids.")
grammar.command("list")(cli_grammar.formats)
grammar.command()(cli_grammar.show)
grammar.command()(cli_grammar.check)
grammar.command()(cli_grammar.export)
app.add_typer(data, name="data")
app.add_typer(grammar, name="grammar")
app.add_typer(tokenizer, name="tokenizer")
app.add_typer(tower, name="tower")


@cache
def parser() -> Any:
    """The parser of the whole command line, which `app` alone would build anew for every line."""
    return typer.main.get_command(app)
