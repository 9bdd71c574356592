"""Builds native sources once, keeps the library under the user's cache folder, and loads it.

The library's name is the hash of everything that shapes it: sources, flags, compiler and processor. It is written
under a temporary name and renamed, so that several processes may build it at one time.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from optimizations.kernels.interface import declare, declared
from optimizations.lowering import LoweringError

SOURCES = Path(__file__).parent
COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-fPIC", "-Wno-psabi", "-fno-math-errno")
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
    """The functions of the kernels; none before the kernels are loaded, since nobody calls them then."""
    if not load_kernels.cache_info().currsize:
        return []
    return [getattr(load_kernels(), name) for name in declared()]


def load_library(sources: Path, more_flags: tuple[str, ...] = ()) -> ctypes.CDLL:
    """The library of all ``*.cpp`` of a folder, built at first use. Raises KernelsUnavailable as ``load_kernels`` does.

    more_flags: of the compiler, after those that all native code here is built with.
    """
    compiler = find_compiler()
    flags = (*FLAGS, *machine_flags(), *more_flags)
    name = f"{_fingerprint(sources, compiler, flags)}.so"
    for folder in (cache_folder(), None):
        try:
            return ctypes.CDLL(str(_built(sources, compiler, flags, folder, name)))
        except OSError as error:
            reason = error
    raise KernelsUnavailable(f"the native kernels were built but cannot be written or loaded: {reason}")


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


def _fingerprint(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for source in sorted((*sources.glob("*.cpp"), *sources.glob("*.h"))):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    version = subprocess.run([*compiler, "--version"], capture_output=True, check=False).stdout
    digest.update(version + " ".join((*compiler, *flags)).encode() + _processor().encode())
    return digest.hexdigest()[:32]


def _processor() -> str:
    """Model and instruction sets: a library built for this processor may not run on another one."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    wanted = ("model name", "flags", "Features", "CPU part")
    return "\n".join(sorted({line for line in lines if line.startswith(wanted)}))


def _built(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...], folder: Path | None, name: str) -> Path:
    """Path of the library in ``folder`` (None: a fresh temporary folder), built if it is not there yet."""
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix="recarena-kernels-"))
    library = folder / name
    if not library.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            os.replace(_compile(sources, compiler, flags, Path(work)), library)
    return library


def _compile(sources: Path, compiler: tuple[str, ...], flags: tuple[str, ...], work: Path) -> Path:
    files = sorted(sources.glob("*.cpp"))
    objects = [work / f"{source.stem}.o" for source in files]
    program, *own = compiler  # flags in CXX come last: they win
    _run_all([[program, *flags, *own, "-c", str(s), "-o", str(o)] for s, o in zip(files, objects, strict=True)])
    library = work / "kernels.so"
    _run_all([[program, *own, "-shared", "-pthread", *map(str, objects), "-o", str(library)]])
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
            lines = [line for line in output.decode(errors="replace").splitlines() if "error" in line.lower()]
            failure = f"{' '.join(command[:1])} failed with code {process.returncode}: {(lines or ['no message'])[0]}"
    if failure:
        raise KernelsUnavailable(f"the native kernels cannot be built ({failure}): the framework runs the block")
