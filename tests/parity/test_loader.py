"""A library is built once per machine, also when several processes want it at one time, by whatever CXX says.

Seen on the referee's sources, which the loader of the kernels builds as it does theirs, in a tenth of the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from optimizations.kernels import loader
from optimizations.kernels.loader import KernelsUnavailable, load_library

PROGRAM = "from harness.native.library import native_library; print(native_library()._name)"
CALL = """
from ctypes import c_double, c_int64
arrivals, service, latency = (c_double * 2)(0, 1), (c_double * 2)(2, 2), (c_double * 2)()
native_library().fifo_latency(arrivals, service, latency, c_int64(1), c_int64(2), c_int64(1))
print(list(latency))
"""


def test_two_processes_build_at_one_time(tmp_path: Path) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXX": "c++ -O0"}
    command = [sys.executable, "-c", PROGRAM]
    both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate(timeout=280)[0].strip() for process in both}
    assert all(process.returncode == 0 for process in both)
    (library,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert paths == {str(library)}
    stamp = library.stat().st_mtime_ns
    third = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert third.stdout.strip() == str(library) and library.stat().st_mtime_ns == stamp


def test_an_unwritable_cache_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "recarena").write_text("a file where the folder should be")
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "CXX": "c++ -O0"}
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    environment["TMPDIR"] = str(temporary)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + CALL], env=environment, capture_output=True, text=True, check=True, timeout=280
    )
    path, found = done.stdout.splitlines()
    assert temporary in Path(path).parents
    assert found == "[2.0, 3.0]"  # two queries of 2 s, the second one 1 s behind the first: it works without its file
    assert list(temporary.iterdir()) == []


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A folder with one source of one function; what it returns is said by a flag."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "one.cpp").write_text('extern "C" int answer() { return ANSWER; }\n')
    return folder


@pytest.fixture
def wrapper(tmp_path: Path) -> Path:
    """As ccache: a command that runs the compiler behind it, and notes that it did."""
    script = tmp_path / "wrapper"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/noted\nexec "$@"\n')
    script.chmod(0o755)
    return script


@pytest.mark.parametrize(
    ("command", "answer"),
    [("c++ -DANSWER=3", 3), ("{} c++ -DANSWER=3", 3), ("{} {} c++ -O0 -UANSWER -D ANSWER=4", 4), ("env X=1 c++", 7)],
)
def test_a_compiler_may_have_commands_before_it_and_flags_behind_it(
    sources: Path, wrapper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, answer: int
) -> None:
    """Flags of CXX come last: they win over those that the sources are built with."""
    monkeypatch.setenv("CXX", command.replace("{}", str(wrapper)))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert load_library(sources, ("-DANSWER=7",)).answer() == answer
    assert (tmp_path / "noted").exists() == ("{}" in command)


def test_a_compiler_that_is_missing_behind_its_wrapper_is_named(
    sources: Path, wrapper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("CXX", f"{wrapper} no-such-compiler -O0")
    with pytest.raises(KernelsUnavailable, match=r"wrapper failed with code 127: .*no-such-compiler: .*not found"):
        load_library(sources)


def test_other_flags_of_the_linker_are_another_library(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = ("-DANSWER=7",)
    before = loader._fingerprint(sources, ("c++",), flags)
    monkeypatch.setattr(loader, "LINK_FLAGS", (*loader.LINK_FLAGS, "-s"))
    assert loader._fingerprint(sources, ("c++",), flags) != before
