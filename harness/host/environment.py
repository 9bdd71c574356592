"""Fingerprint of the machine and the software, read without a framework."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from harness.host.quota import cpu_quota
from harness.host.scheduling import available_cores, cpu_sets

SOURCE_FOLDERS = ("zoo", "optimizations", "harness", "conf")
SOURCE_SUFFIXES = frozenset({".py", ".cpp", ".h", ".cu", ".yaml"})
CAPABILITY_FLAGS = frozenset(
    {
        *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512dq"),
        *("avx512_bf16", "avx512_vnni", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"),
        *("asimd", "asimddp", "sve", "sve2", "bf16", "i8mm"),
    }
)
"""Flag names of /proc/cpuinfo (x86 "flags", Arm "Features") that plans may ask for."""
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "LD_PRELOAD", "KMP_AFFINITY", "GOMP_CPU_AFFINITY")


def project_root() -> Path:
    """The folder that holds the packages."""
    return Path(__file__).resolve().parents[2]


def capabilities() -> frozenset[str]:
    """What plans may rely on: CPU flags ("avx512_bf16", "amx_bf16", ...), and "cuda" if an NVIDIA device is there."""
    fields = _cpuinfo()
    flags = set((fields.get("flags") or fields.get("Features") or "").split())
    found = flags & CAPABILITY_FLAGS
    if Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists():
        found.add("cuda")
    return frozenset(found)


def is_virtual() -> bool:
    """Whether a hypervisor shares this machine's cores out (x86; False where nothing tells)."""
    return "hypervisor" in _cpuinfo().get("flags", "").split()


def hardware_class(awake: bool = False) -> str:
    """Short stable name of the machine's kind, for deciding whether two records may be compared.

    Processor, family and model number, usable cores, memory in GiB, "cuda" if present, "alert" if its cores are kept
    from halting between queries ("awake" in records of a loop that ran during queries as well); after the cores what a
    control group grants of them, in percent of one, where that is less than all.
    """
    fields = _cpuinfo()
    name = fields.get("model name") or platform.processor() or platform.machine()
    parts = [re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")]
    if "cpu family" in fields:
        parts.append(f"f{fields['cpu family']}m{fields.get('model', '')}")
    cores, quota = len(available_cores()), cpu_quota()
    parts += [f"{cores}c", *([f"q{round(100 * quota)}"] if quota is not None and quota < cores else [])]
    parts.append(f"{round(memory_bytes() / 2**30)}g")
    if "cuda" in capabilities():
        parts.append("cuda")
    if awake:
        parts.append("alert")
    return "-".join(parts)


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def source_sha256(root: Path | None = None, plugins: Iterable[Path] = ()) -> str:
    """SHA-256 over path and content of every source file that can change a measurement, in order of path.

    plugins: packages of those that stand elsewhere (``optimizations.registry.third_party_packages``).
    """
    root = root or project_root()
    digest = hashlib.sha256()
    _add(digest, root, [path for folder in SOURCE_FOLDERS for path in (root / folder).rglob("*")])
    for package in plugins:
        _add(digest, package.parent, [package, *package.rglob("*")])
    return digest.hexdigest()


def _add(digest: Any, root: Path, paths: Iterable[Path]) -> None:
    for path in sorted(filter(_is_source, paths), key=lambda path: path.relative_to(root).as_posix()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)


def git_state(root: Path | None = None) -> dict[str, Any]:
    """{"sha": commit, "dirty": whether tracked files differ from it}; both None without a checkout of its own."""
    root = root or project_root()
    sha, top = _git(root, "rev-parse", "HEAD"), _git(root, "rev-parse", "--show-toplevel")
    if sha is None or top is None or Path(top).resolve() != root.resolve():
        return {"sha": None, "dirty": None}
    changes = _git(root, "status", "--porcelain", "--untracked-files=no")
    return {"sha": sha, "dirty": None if changes is None else bool(changes)}


def describe_environment(awake: bool = False, plugins: Iterable[Path] = ()) -> dict[str, Any]:
    """Everything about machine and software that belongs into a record: JSON-able. awake: see ``hardware_class``;
    plugins: see ``source_sha256``."""
    fields, cores = _cpuinfo(), available_cores()
    sets = cpu_sets(cores)
    return {
        "hardware_class": hardware_class(awake),
        "cpu": {
            "model": fields.get("model name", platform.processor()),
            "family": fields.get("cpu family"),
            "model_number": fields.get("model"),
            "stepping": fields.get("stepping"),
            "microcode": fields.get("microcode"),
            "cores_usable": len(cores),
            "cores_online": os.cpu_count(),
            "quota": cpu_quota(),
            "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            "smt": _text("/sys/devices/system/cpu/smt/active"),
            "capabilities": sorted(capabilities()),
        },
        "virtual": is_virtual(),
        "kept_awake": awake,
        "cores": {"sender": list(sets.sender), "sut": list(sets.sut)},
        "memory_bytes": memory_bytes(),
        "transparent_huge_pages": _text("/sys/kernel/mm/transparent_hugepage/enabled"),
        "os": {
            "system": platform.system(),
            "kernel": platform.release(),
            "machine": platform.machine(),
            "libc": "-".join(platform.libc_ver()),
        },
        "python": sys.version.split()[0],
        "packages": packages(),
        "variables": {name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        "git": git_state(),
        "source_sha256": source_sha256(plugins=plugins),
    }


def packages() -> dict[str, str]:
    """Version of every installed distribution, by name."""
    found = {dist.metadata["Name"]: dist.version for dist in importlib.metadata.distributions()}
    return dict(sorted((name, version) for name, version in found.items() if name))


def _is_source(path: Path) -> bool:
    return path.suffix in SOURCE_SUFFIXES and path.is_file() and "__pycache__" not in path.parts


def _cpuinfo() -> dict[str, str]:
    """Fields of the first processor; empty where /proc is missing."""
    fields = {}
    for line in (_text("/proc/cpuinfo") or "").split("\n\n")[0].splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    return fields


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _git(root: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
