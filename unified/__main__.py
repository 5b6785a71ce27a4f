"""The command `unified`: runs the command line and turns errors into one line and an exit code.

0 done; 2 a mistake of the user's (bad input, an unwritable folder, an unknown subject, libraries
that do not fit together); 1 a fault of ours; 130 interrupted. `--debug`, anywhere on the line,
shows the traceback, and all that libraries warn of; `--quiet`, anywhere as well, keeps progress and
notes off, but not errors.
"""

from __future__ import annotations

import gc
import io
import signal
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from types import FrameType
from typing import Any, NoReturn

from unified_base.quiet import hush, our_warnings_alone
from unified_base.terminal import escape_what_cannot_be_written, quiet, tell

DEBUG = "--debug"
QUIET = "--quiet"


def run(arguments: Sequence[str]) -> int:
    """Run a command line (without the program's name); returns the exit code."""
    stop = arguments.index("--") if "--" in arguments else len(arguments)
    debug = DEBUG in arguments[:stop]
    rest = [a for i, a in enumerate(arguments) if a not in (DEBUG, QUIET) or i >= stop]
    with quiet(QUIET in arguments[:stop]):
        return _run(rest, debug)


def _run(arguments: list[str], debug: bool) -> int:
    # Whoever looks for a fault sees all that libraries say.
    others = nullcontext() if debug else our_warnings_alone(_note)
    try:
        from unified.cli.main import parser

        with others:
            code = parser()(arguments, prog_name="unified", standalone_mode=False)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 130:
            _say("interrupted")
        return code
    except KeyboardInterrupt:
        _say("interrupted")
        return 130
    except Exception as error:
        if hasattr(error, "format_message"):  # of the command line's parser
            return _misused(error)
        if debug:
            raise
        from unified.cli.installation import misfit

        if (line := misfit(error)) is not None:
            _say(f"error: {line}")
            return 2
        if isinstance(error, ValueError | OSError):
            _say(f"error: {_one_line(error)}")
            return 2
        kind = type(error).__name__
        _say(
            f"error: {kind}: {_one_line(error)} -- this is a fault of ours; "
            f"{DEBUG} shows the traceback"
        )
        return 1
    if code == 130:  # what the parser makes of Ctrl-C
        _say("interrupted")
    return code if isinstance(code, int) else 0


def _misused(error: Any) -> int:
    """Say what is wrong with a command line, as its parser does; the exit code."""
    text = io.StringIO()
    error.show(file=text)
    tell(text.getvalue(), end="", error=True)
    return int(error.exit_code)


def _one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return " ".join(str(error).split()) or type(error).__name__


def _say(text: str) -> None:
    tell(text, error=True)


def _note(text: str) -> None:
    tell(f"note: {text}")


def _terminate(signum: int, frame: FrameType | None) -> NoReturn:
    # As an exception, so that files written beside their destination are removed.
    sys.exit(128 + signum)


def main() -> NoReturn:
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) is signal.SIG_DFL:  # `nohup` ignores SIGHUP
            signal.signal(number, _terminate)
    escape_what_cannot_be_written()
    # Imports make a hundred thousand objects that stay: 250 searches for garbage among them took
    # 5% of a command that draws a picture.
    gc.set_threshold(50_000, 10, 10)
    if DEBUG not in sys.argv:
        hush()
    code = run(sys.argv[1:])
    if code == 130:
        # CPython marks an interrupt that leaves an `exec` or `eval` of a string as unhandled,
        # caught or not, and then dies of the signal in place of the exit code. Dataclasses and
        # named tuples are made by such strings, so an interrupt while a module is imported did
        # that. The next string that runs takes the mark off.
        exec("")
    sys.exit(code)


if __name__ == "__main__":
    main()
