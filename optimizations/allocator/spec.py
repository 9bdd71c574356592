"""allocator: how the system under test gets its memory, so that no query waits for the kernel to clear pages."""

from __future__ import annotations

import ctypes.util
import dataclasses
import platform
from dataclasses import dataclass
from pathlib import Path

from optimizations.contract import Optimization, Phase, Pipeline, PlanError

MODES = ("retain", "huge_pages", "jemalloc")
LARGEST_MMAP_THRESHOLD = 32 * 2**20
"""Above it glibc takes every allocation from the system and gives it back at once; no higher value is accepted."""
NEVER_TRIM = 2**40
TOP_PAD = 64 * 2**20
RETAIN = (
    ("MALLOC_MMAP_THRESHOLD_", str(LARGEST_MMAP_THRESHOLD)),
    ("MALLOC_TOP_PAD_", str(TOP_PAD)),
    ("MALLOC_TRIM_THRESHOLD_", str(NEVER_TRIM)),
)
HUGE_PAGES = (*RETAIN, ("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"))
JEMALLOC = (("MALLOC_CONF", "dirty_decay_ms:-1,muzzy_decay_ms:-1,metadata_thp:auto"),)
"""jemalloc keeps what is freed, too, and its own tables on huge pages."""
THP = Path("/sys/kernel/mm/transparent_hugepage/enabled")


@dataclass(frozen=True, slots=True, kw_only=True)
class AllocatorOptions:
    """mode: "retain", glibc keeps freed memory; "huge_pages", that on transparent huge pages; "jemalloc"."""

    mode: str = "retain"

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown mode."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")


def environment(mode: str) -> tuple[tuple[str, str], ...]:
    """Variables with which the system under test starts. Raises PlanError where this machine cannot do it."""
    if mode == "jemalloc":
        library = ctypes.util.find_library("jemalloc")
        if library is None:
            raise PlanError(
                "opt.allocator: mode=jemalloc needs the library libjemalloc, which is not installed: install it "
                "(Debian: libjemalloc2, Fedora: jemalloc), or choose mode=retain"
            )
        return (*JEMALLOC, ("LD_PRELOAD", library))
    name, version = platform.libc_ver()
    if name != "glibc":
        raise PlanError(
            f"opt.allocator: mode={mode} sets up the allocator of glibc, and this system has {name or 'another'} C "
            "library: choose mode=jemalloc, or leave allocator out"
        )
    if mode == "retain":
        return RETAIN
    if tuple(map(int, version.split(".")[:2])) < (2, 35):
        raise PlanError(f"opt.allocator: mode=huge_pages needs glibc 2.35, this is {version}: choose mode=retain")
    if not THP.exists() or "[never]" in THP.read_text():
        raise PlanError(
            "opt.allocator: mode=huge_pages needs transparent huge pages, which this system's kernel has switched off "
            f"({THP}): choose mode=retain"
        )
    return HUGE_PAGES


def claims(pipeline: Pipeline, options: AllocatorOptions) -> tuple[str, ...]:
    """The allocator, and one slot per variable."""
    return ("runtime.allocator", *(f"runtime.environment.{name}" for name, _ in environment(options.mode)))


def apply(pipeline: Pipeline, options: AllocatorOptions) -> Pipeline:
    """Name the allocator and add its variables to those of the process."""
    added = (*pipeline.runtime.environment, *environment(options.mode))
    runtime = dataclasses.replace(pipeline.runtime, allocator=options.mode, environment=added)
    return dataclasses.replace(pipeline, runtime=runtime)


SPEC = Optimization(
    name="allocator",
    summary="freed memory stays with the process: no page faults in the steady state",
    phase=Phase.EXECUTION,
    scope="both",
    division="closed",
    origin=("B6",),
    options=AllocatorOptions,
    claims=claims,
    apply=apply,
    backends=("torch", "onnxruntime", "openvino", "tensorflow"),
)
