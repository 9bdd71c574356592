"""Builds native sources once, keeps the library under the user's cache folder, and loads it.

The library's name is the hash of everything that shapes it: sources, flags, compiler and processor. It is written
under a temporary name and renamed, so that several processes may build it at one time.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import itertools
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from optimizations.kernels.interface import FREES, declare, declared
from optimizations.lowering import LoweringError

SOURCES = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-Wno-psabi", "-fno-math-errno")
LINK_FLAGS = ("-shared", "-pthread")
BUILD_TIMEOUT_S = 300
NO_COMPILER = "RECARENA_NO_COMPILER"


class KernelsUnavailable(LoweringError):  # noqa: N818
    """The native kernels cannot be built or loaded on this machine."""


@functools.cache
def load_kernels() -> ctypes.CDLL:
    """The kernels with their signatures declared; built at first use (some seconds).

    Calls release the interpreter lock. Raises KernelsUnavailable: no compiler, or one that fails.
    """
    return declare(load_library(SOURCES))


def loaded_functions() -> list[Any]:
    """The functions of the kernels that somebody calls for what they do to memory; none before the kernels are loaded.

    What frees a handle is not among them: the garbage collector calls it, in the midst of whatever runs just then.
    """
    if not load_kernels.cache_info().currsize:
        return []
    return [getattr(load_kernels(), name) for name in declared() if not name.endswith(FREES)]


def load_library(sources: Path, more_flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of all ``*.cpp`` of a folder, built at first use. Raises KernelsUnavailable as ``load_kernels`` does.

    more_flags: of the compiler, after those that all native code here is built with.
    """
    found = _attempt(sources, find_compiler(), (*FLAGS, *machine_flags(), *more_flags), cache_folder())
    if isinstance(found, str):
        raise KernelsUnavailable(found)
    return found


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/recarena/kernels``, by default below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "recarena" / "kernels"


def find_compiler() -> tuple[str, ...]:
    """The command of the C++ compiler: ``$CXX``, else the first of c++, g++, clang++. Raises KernelsUnavailable."""
    if os.environ.get(NO_COMPILER):
        raise KernelsUnavailable(f"no C++ compiler is used because {NO_COMPILER} is set: the framework runs the block")
    chosen = tuple(shlex.split(os.environ.get("CXX", "")))
    for command in (chosen,) if chosen else tuple((name,) for name in COMPILERS):
        if shutil.which(command[0]):
            return command
    raise KernelsUnavailable(
        f"no C++ compiler was found ({chosen[0] if chosen else ', '.join(COMPILERS)}): install g++ or clang++, or name "
        "one in CXX; until then the framework runs the block"
    )


def machine_flags() -> tuple[str, ...]:
    """Compile for the processor at hand."""
    return ("-march=native",) if platform.machine() in ("x86_64", "AMD64") else ("-mcpu=native",)


def words_and_flags(command: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """``ccache g++ -O0``: the words that run the compiler, and the flags behind them."""
    words = tuple(itertools.takewhile(lambda word: not word.startswith("-"), command))
    return words, command[len(words) :]


@functools.cache
def _attempt(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...], folder: Path) -> ctypes.CDLL | str:
    """The library, kept in ``folder`` where that can be written; or why there is none, which the next block that asks
    need not wait a whole build for."""
    name = f"{_fingerprint(sources, compiler, flags)}.so"
    try:
        with contextlib.suppress(OSError):
            return ctypes.CDLL(str(_built(sources, compiler, flags, folder, name)))
        with tempfile.TemporaryDirectory(prefix="recarena-kernels-") as passing:
            # What is loaded stays so without its file.
            return ctypes.CDLL(str(_built(sources, compiler, flags, Path(passing), name)))
    except KernelsUnavailable as error:
        return str(error)
    except OSError as error:
        return f"the native kernels were built but cannot be written or loaded: {error}"


def _fingerprint(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sorted((*sources.glob("*.cpp"), *sources.glob("*.h"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    digest.update(version + " ".join((*compiler, *flags, *LINK_FLAGS)).encode() + _processor().encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """Model and instruction sets: a library built for this processor may not run on another one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _built(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...], folder: Path, name: str) -> Path:
    """Path of the library in ``folder``, built if it is not there yet."""
    library = folder / name
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            os.replace(_compile(sources, compiler, flags, Path(work)), library)
    return library


def _compile(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...], work: Path) -> Path:
    files = sorted(sources.glob("*.cpp"))
    objects = [work / f"{source.stem}.o" for source in files]
    words, own = words_and_flags(compiler)  # flags in CXX come last: they win
    _run_all([[*words, *flags, *own, "-c", str(s), "-o", str(o)] for s, o in zip(files, objects, strict=True)])
    library = work / "kernels.so"
    _run_all([[*words, *own, *LINK_FLAGS, *map(str, objects), "-o", str(library)]])
    return library


def _run_all(commands: list[list[str]]) -> None:
    """Run the commands side by side; the first failure speaks for all."""
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) for command in commands]
    failure = ""
    for command, process in zip(commands, running, strict=True):
        try:
            output, _ = process.communicate(timeout=BUILD_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
        if process.returncode != 0 and not failure:
            lines = output.decode(errors="replace").splitlines()
            told = [line for line in lines if "error" in line.lower()] or lines[-1:] or ["no message"]
            failure = f"{command[0]} failed with code {process.returncode}: {told[0]}"
    if failure:
        raise KernelsUnavailable(f"the native kernels cannot be built ({failure}): the framework runs the block")
