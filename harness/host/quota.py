"""How much processor time the control groups of this process grant it: what ``docker run --cpus`` sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cpu_quota(mounts: Path = Path("/proc/self/mounts"), groups: Path = Path("/proc/self/cgroup")) -> float | None:
    """Cores that the control groups grant, of all ancestors the tightest (cgroup v1 and v2); None without a limit."""
    found = [quota for folder in _folders(_words(mounts), groups) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _folders(mounts: list[list[str]], groups: Path) -> Iterator[Path]:
    """The groups of this process that may limit its processor time, and those above them as far as they are mounted."""
    for line in _text(groups).splitlines():
        _, controllers, path = line.split(":", 2)
        for words in mounts:
            unified = not controllers and words[2] == "cgroup2"
            if not unified and not ("cpu" in controllers.split(",") and "cpu" in words[3].split(",")):
                continue
            root = Path(words[1])
            inside = root / path.lstrip("/")
            yield from [inside, *(folder for folder in inside.parents if folder.is_relative_to(root))]


def _quota_of(folder: Path) -> float | None:
    granted, _, period = _text(folder / "cpu.max").partition(" ")
    if not granted:
        granted, period = _text(folder / "cpu.cfs_quota_us"), _text(folder / "cpu.cfs_period_us")
    if not granted or not period or granted in ("max", "-1"):
        return None
    return int(granted) / int(period)


def _words(mounts: Path) -> list[list[str]]:
    return [words for line in _text(mounts).splitlines() if len(words := line.split()) > 3]


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
