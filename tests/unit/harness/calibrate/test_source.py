"""What decides whether a kept repeat still counts: the code that it ran, and nothing else."""

import sys
from pathlib import Path
from types import FrameType

import pytest

from harness.calibrate.source import shaping_files, shaping_sha256
from harness.calibrate.study import compare_once
from harness.calibrate.table import CELLS
from harness.host.environment import project_root

STEADY, STAGED = (next(cell for cell in CELLS if cell.name == name) for name in ("md1-s2", "stage40"))
NOT_SHAPING = {
    "harness/clock.py",
    *(f"optimizations/kernels/{name}.py" for name in ("loader", "interface", "training_interface")),
}
"""How long the estimates took; how the compiled queues were built."""


@pytest.fixture(scope="module")
def executed() -> set[str]:
    """Files of the project of which a repeat of either cell runs a function."""
    root, seen = f"{project_root()}/", set[str]()
    packages = tuple(f"{root}{name}/" for name in ("harness", "leaderboard", "optimizations", "zoo"))

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(packages):
            seen.add(frame.f_code.co_filename.removeprefix(root))

    sys.setprofile(note)
    try:
        for cell in (STEADY, STAGED):
            compare_once(cell, "quick", 0)
    finally:
        sys.setprofile(None)
    return seen


def test_all_code_that_a_repeat_runs_is_hashed(executed: set[str]) -> None:
    hashed = {path.relative_to(project_root()).as_posix() for path in shaping_files(project_root())}
    assert "harness/estimate/lbt.py" in executed
    assert executed - NOT_SHAPING <= hashed


def _copy(to: Path) -> None:
    for path in shaping_files(project_root()):
        target = to / path.relative_to(project_root())
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())


def test_words_and_other_files_do_not_count_but_code_does(tmp_path: Path) -> None:
    _copy(tmp_path)
    file = tmp_path / "harness/estimate/lbt.py"
    code, known = file.read_text(), shaping_sha256.__wrapped__(tmp_path)
    assert known == shaping_sha256()

    def changed(old: str, new: str) -> bool:
        assert code.count(old) >= 1
        file.write_text(code.replace(old, new, 1))
        return shaping_sha256.__wrapped__(tmp_path) != known

    assert not changed('"""The LBT of one side', '"""The best LBT of one side')
    assert not changed("MIN_CLUMPS = 10\n", "MIN_CLUMPS = 10  # as good as any\n\n")
    assert not changed('"""An interval wider than', '"""No interval wider than')
    assert changed("MIN_CLUMPS = 10\n", "MIN_CLUMPS = 11\n")
    file.write_text(code)
    (tmp_path / "harness/estimate/accuracy.py").write_text("x = 1")
    (tmp_path / "zoo").mkdir()
    (tmp_path / "zoo/model.py").write_text("x = 1")
    assert shaping_sha256.__wrapped__(tmp_path) == known
    (tmp_path / "harness/estimate/new.py").write_text("x = 1")
    assert shaping_sha256.__wrapped__(tmp_path) != known
