"""Which code shapes a simulated repeat: its hash decides whether a repeat that was kept still counts.

A study takes days. A change of a model, of the documentation, of a comment or of how this table is printed must not
throw it away; one of the estimator, the search or the simulated systems must.
"""

from __future__ import annotations

import ast
import hashlib
from functools import cache
from pathlib import Path

from harness.host.environment import project_root

SHAPING = (
    "harness/calibrate/cells.py", "harness/calibrate/simulated.py", "harness/calibrate/study.py",
    "harness/estimate/*.py", "harness/native/*.cpp", "harness/native/*.py",
    "harness/measurement/bench.py", "harness/measurement/quads.py", "harness/measurement/rates.py",
    "harness/measurement/side.py",
    "harness/options.py", "harness/trial.py",
    "harness/record/service.py", "harness/record/side_numbers.py",
    "harness/traffic/published.py", "harness/traffic/query_sizes.py",
    "optimizations/contract.py",
)  # fmt: skip
IDLE = (
    "harness/estimate/accuracy.py", "harness/estimate/parity.py", "harness/native/awake.cpp", "harness/native/awake.py",
)  # fmt: skip
"""Of a folder above, yet no repeat runs it."""


def shaping_files(root: Path) -> list[Path]:
    """The files whose code a simulated repeat runs."""
    found = {path for pattern in SHAPING for path in root.glob(pattern)}
    return sorted(found - {root / name for name in IDLE})


@cache
def shaping_sha256(root: Path | None = None) -> str:
    """SHA-256 over path and meaning of every file that shapes a simulated repeat."""
    root, digest = root or project_root(), hashlib.sha256()
    for path in shaping_files(root):
        text = path.read_text("utf-8")
        meaning = _meaning(text) if path.suffix == ".py" else text
        digest.update(f"{path.relative_to(root).as_posix()}\0{len(meaning)}\0{meaning}".encode())
    return digest.hexdigest()


def _meaning(source: str) -> str:
    """What Python makes of a module, without comments, docstrings and layout."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            node.body = [statement for statement in node.body if not _is_text(statement)]
    return ast.dump(tree)


def _is_text(statement: ast.stmt) -> bool:
    """Whether it is a string that nobody reads: documentation."""
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)
