"""Libraries that do not fit together or are missing: told in one line, with the command that mends.

torchaudio is built for one torch, numba for some versions of NumPy, peft and diffusers for some of
transformers. Where they do not fit, what is raised is an error of somebody's import, deep inside
others: an OSError of a symbol, an ImportError of a name, wrapped once or twice on its way up.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from unified_base.text import safe

__all__ = ["misfit"]

# Where the name that is imported differs from the name that is installed.
_INSTALLED_AS = {"PIL": "pillow", "yaml": "pyyaml", "google": "protobuf", "sklearn": "scikit-learn"}
_DISTRIBUTION = "unified-tokens"
_OURS = ("unified", "unified_base", "unified_data", "unified_tokenizers")
# What a package is built for without saying so among its requirements.
_BUILT_FOR = {"torchaudio": "torch", "torchvision": "torch"}
_LONGEST = 160


@dataclass(frozen=True)
class _Failure:
    """`package` could not be loaded; `other`: the one that lacked something, where it is known."""

    package: str
    other: str | None
    error: BaseException


def misfit(error: BaseException) -> str | None:
    """One line for an error that comes of packages that do not fit together, else None.

    The line says which package does not load, beside which version of which other, why, and the
    pip command that installs those versions that were tested together.
    """
    for link in reversed(list(_chain(error))):
        failure = _failure(link, outermost=link is error)
        if failure is not None:
            return _told(failure)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error and what it was raised from, also where it was raised `from None`."""
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _failure(error: BaseException, outermost: bool) -> _Failure | None:
    wanted = _top(error.name) if isinstance(error, ImportError) else None
    loading = _package_being_loaded(error)
    if isinstance(error, ModuleNotFoundError):
        # Libraries look for many packages that they can do without.
        if wanted in _requirements() and (outermost or loading is not None):
            if _version(wanted) is None or loading is None:
                return _Failure(wanted, None, error)
            return _Failure(loading, wanted, error)
        return None
    if loading is not None:
        return _Failure(loading, wanted if wanted != loading else None, error)
    if wanted is not None:
        return _Failure(wanted, None, error)
    return None


def _package_being_loaded(error: BaseException) -> str | None:
    """The innermost installed package that was at the top level of a module when it was raised."""
    package = None
    trace = error.__traceback__
    while trace is not None:
        frame = trace.tb_frame
        if frame.f_code.co_name == "<module>":
            package = _top(str(frame.f_globals.get("__name__", ""))) or package
        trace = trace.tb_next
    return package


def _top(module: str | None) -> str | None:
    """The installed package of a module's name; None for ours, Python's own, and scripts."""
    name = (module or "").split(".")[0]
    if name in _OURS or name in sys.stdlib_module_names or name in ("", "__main__"):
        return None
    installed = _INSTALLED_AS.get(name, name).replace("_", "-").lower()
    return installed if installed in _requirements() or _version(installed) else None


def _told(failure: _Failure) -> str:
    package, here = failure.package, _version(failure.package)
    if here is None:
        return f"{package} is not installed; install it: {_command([package], anew=False)}"
    others = [failure.other] if failure.other else _related(package)
    pins = _pins()
    moved = [p for p in dict.fromkeys([package, *others]) if pins.get(p) not in (None, _version(p))]
    beside = [p for p in others if p in moved] or others[:1]
    told = " and ".join(f"{p} {_version(p) or '(not installed)'}" for p in beside[:2])
    reason = safe(" ".join(str(failure.error).split()))[:_LONGEST]
    fits = f"does not load beside {told}" if told else "does not load"
    names = dict.fromkeys([package, *beside, *moved]) if moved else [package]
    mend = "install the versions that were tested together" if moved else "install it anew"
    command = _command(list(names), anew=not moved)
    return f"{package} {here} {fits} ({type(failure.error).__name__}: {reason}); {mend}: {command}"


def _command(packages: list[str], anew: bool) -> str:
    """pip's command; anew: also where the version that is installed is the right one."""
    words = [sys.executable, "-m", "pip", "install"]
    if anew:
        words += ["--force-reinstall", "--no-deps"]
    if (constraints := _constraints()) is not None:
        words += ["-c", str(constraints)]
    return shlex.join([*words, *packages])


def _constraints() -> Path | None:
    """The file of tested versions: in a checkout, or beside the installed packages."""
    root = Path(__file__).resolve().parents[2]
    files = (root / "constraints.txt", root / "unified_constraints.txt")
    return next((path for path in files if path.is_file()), None)


def _pins() -> dict[str, str]:
    """The tested version of every package."""
    path = _constraints()
    text = path.read_text("utf-8") if path else ""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", text, re.M))


def _related(package: str) -> list[str]:
    """What a package needs, and what it is built for; those that are installed."""
    needed = [_BUILT_FOR[package]] if package in _BUILT_FOR else []
    for line in metadata.requires(package) or ():
        if "extra ==" not in line:
            needed.append(_distribution(line))
    return [name for name in dict.fromkeys(needed) if _version(name) is not None]


def _requirements() -> set[str]:
    """What `unified` itself needs, its extras aside."""
    try:
        lines = metadata.requires(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return set(_pins())
    return {_distribution(line) for line in lines if "extra ==" not in line}


def _distribution(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9._-]+", requirement)
    return match[0].lower().replace("_", "-") if match else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package).split("+")[0]
    except metadata.PackageNotFoundError:
        return None
