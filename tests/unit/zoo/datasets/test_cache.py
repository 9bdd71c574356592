"""The cache folder: whole or not at all; content hashes that notice a change."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import pytest

from zoo.datasets.cache import cached_folder, content_sha256


def test_a_folder_is_built_once(tmp_path: Path) -> None:
    built = []

    def build(folder: Path) -> None:
        built.append(folder)
        (folder / "data").write_text("x")

    first = cached_folder(tmp_path, "key", build)
    second = cached_folder(tmp_path, "key", build)
    assert first == second == tmp_path / "key"
    assert len(built) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_an_interrupted_build_leaves_nothing(tmp_path: Path, fault: type[BaseException]) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise fault

    with pytest.raises(fault):
        cached_folder(tmp_path, "key", build)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    left = tmp_path / ".key.partial"
    left.mkdir()
    (left / "half").write_text("old")
    folder = cached_folder(tmp_path, "key", lambda path: (path / "data").write_text("new") and None)
    assert sorted(path.name for path in folder.iterdir()) == ["data"]
    assert not left.exists()


def _append_and_build(cache: str, log: str) -> None:
    def build(folder: Path) -> None:
        with open(log, "a") as stream:
            stream.write("built\n")
        (folder / "data").write_text("x" * 100_000)

    folder = cached_folder(Path(cache), "key", build)
    assert (folder / "data").stat().st_size == 100_000


def test_processes_that_need_the_same_folder_build_it_once(tmp_path: Path) -> None:
    log = tmp_path / "log"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_and_build, args=(str(tmp_path / "cache"), str(log))) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert log.read_text() == "built\n"


def test_content_hash_is_sha256_and_follows_the_content(tmp_path: Path) -> None:
    file, cache = tmp_path / "file", tmp_path / "cache"
    for content in (b"one", b"three"):
        file.write_bytes(content)
        expected = hashlib.sha256(content).hexdigest()
        assert content_sha256(file) == content_sha256(file, cache) == content_sha256(file, cache) == expected
