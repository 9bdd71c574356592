"""allocator: the variables of each mode, what they do to page faults, and machines that cannot."""

from __future__ import annotations

import ctypes.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from optimizations.allocator import spec
from optimizations.contract import PlanError
from optimizations.plan import first_pipeline, resolve
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)
ON_GLIBC = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
FAULTS = """
import ctypes, resource
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def rounds(count):
    for _ in range(count):
        blocks = [libc.malloc(4 * 2**20) for _ in range(2)]
        for block in blocks:
            ctypes.memset(block, 1, 4 * 2**20)
        for block in blocks:
            libc.free(block)
rounds(3)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
rounds(20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def plan(mode: str):  # type: ignore[no-untyped-def]
    pipeline = first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve")
    return resolve(pipeline, {"allocator": {"mode": mode}}, frozenset())


def faults(environment: dict[str, str]) -> int:
    """Page faults of twenty rounds of 8 MiB, after three."""
    run = [sys.executable, "-c", FAULTS]
    return int(subprocess.run(run, env={**os.environ, **environment}, capture_output=True, check=True).stdout)


@ON_GLIBC
def test_memory_that_is_kept_faults_no_more() -> None:
    """8 MiB are 2,048 pages. glibc gives the top of its heap back, so every round would touch them anew."""
    runtime = plan("retain").pipeline.runtime
    assert runtime.allocator == "retain"
    threshold = {"MALLOC_TRIM_THRESHOLD_": "131072", "MALLOC_MMAP_THRESHOLD_": "131072"}
    assert faults(threshold) > 20 * 2000
    assert faults(dict(runtime.environment)) < 100


def test_jemalloc_keeps_memory_too() -> None:
    if ctypes.util.find_library("jemalloc") is None:
        pytest.skip("libjemalloc is not installed")
    assert faults(dict(plan("jemalloc").pipeline.runtime.environment)) < 100


def test_without_jemalloc_there_is_no_such_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(PlanError, match="install it"):
        plan("jemalloc")


@pytest.mark.parametrize("mode", ["retain", "huge_pages"])
def test_another_c_library_is_told(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    with pytest.raises(PlanError, match="glibc"):
        plan(mode)


def test_huge_pages_need_a_kernel_that_gives_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    switch = tmp_path / "enabled"
    monkeypatch.setattr(spec, "THP", switch)
    for text in (None, "always madvise [never]"):
        if text:
            switch.write_text(text)
        with pytest.raises(PlanError, match="transparent huge pages"):
            plan("huge_pages")
    switch.write_text("always [madvise] never")
    assert ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1") in plan("huge_pages").pipeline.runtime.environment
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    with pytest.raises(PlanError, match=r"2\.35"):
        plan("huge_pages")


def test_an_unknown_mode_names_the_known_ones() -> None:
    with pytest.raises(PlanError, match="retain, huge_pages, jemalloc"):
        plan("tcmalloc")
