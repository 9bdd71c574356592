"""A library is built once per machine, also when several processes want it at one time.

Seen on the referee's two sources, which the loader of the kernels builds as it does theirs, in a tenth of the time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "from harness.native.library import native_library; print(native_library()._name)"


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
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True, timeout=280
    )
    library = Path(done.stdout.strip())
    assert library.is_file() and tmp_path not in library.parents
    library.unlink()
    library.parent.rmdir()
