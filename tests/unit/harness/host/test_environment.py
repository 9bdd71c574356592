"""The fingerprint: follows sources byte by byte, and needs no framework."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.environment import (
    capabilities,
    describe_environment,
    git_state,
    hardware_class,
    packages,
    project_root,
    source_sha256,
)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    for name in ("zoo/a.py", "harness/deep/b.cpp", "conf/model/dien.yaml", "leaderboard/page.py", "harness/note.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def test_source_hash_follows_content_names_and_nothing_else(sources: Path) -> None:
    first = source_sha256(sources)
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    (sources / "harness/note.txt").write_text("other")
    (sources / "leaderboard/page.py").write_text("other")
    assert source_sha256(sources) == first
    (sources / "zoo/a.py").write_text("zoo/b.py")
    changed = source_sha256(sources)
    assert changed != first
    (sources / "zoo/a.py").write_text("zoo/a.py")
    assert source_sha256(sources) == first
    (sources / "zoo/a.py").rename(sources / "zoo/b.py")
    assert source_sha256(sources) not in (first, changed)


def test_moving_bytes_between_files_changes_the_hash(sources: Path) -> None:
    (sources / "zoo/a.py").write_text("xy")
    (sources / "zoo/b.py").write_text("z")
    first = source_sha256(sources)
    (sources / "zoo/a.py").write_text("x")
    (sources / "zoo/b.py").write_text("yz")
    assert source_sha256(sources) != first


def test_git_state_of_a_fresh_checkout(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        return subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout.strip()

    assert git_state(tmp_path) == {"sha": None, "dirty": None}
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "one")
    assert git_state(tmp_path) == {"sha": git("rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "new").write_text("untracked")
    assert git_state(tmp_path)["dirty"] is False
    (tmp_path / "file").write_text("2")
    assert git_state(tmp_path)["dirty"] is True
    (tmp_path / "inner").mkdir()
    assert git_state(tmp_path / "inner") == {"sha": None, "dirty": None}


def test_capabilities_are_flags_of_the_processor() -> None:
    words = set(Path("/proc/cpuinfo").read_text().split())
    assert capabilities() - {"cuda"} <= words
    assert ("avx2" in capabilities()) == ("avx2" in words)
    assert ("avx512_bf16" in capabilities()) == ("avx512_bf16" in words)


def test_the_description_is_json_and_complete() -> None:
    text = json.dumps(describe_environment(), allow_nan=False)
    found = json.loads(text)
    assert found["hardware_class"] == hardware_class()
    assert re.fullmatch(r"[a-z0-9-]+", hardware_class())
    assert found["packages"]["numpy"] == importlib.metadata.version("numpy") == packages()["numpy"]
    assert found["source_sha256"] == source_sha256(project_root())
    assert found["cpu"]["cores_usable"] >= 1


def test_no_framework_is_loaded_by_the_runtime() -> None:
    code = """import sys
import harness.measurement.referee, harness.host.environment, harness.host.validity
import harness.traffic.sender, harness.sut.server
print([name for name in ("torch", "tensorflow", "scipy", "mlflow", "hydra", "pyarrow") if name in sys.modules])"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
