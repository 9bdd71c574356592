"""Without a compiler, or on another device, the framework runs the blocks: same scores, and the record says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from optimizations.kernels.loader import KernelsUnavailable, load_kernels


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has not loaded the kernels yet."""
    monkeypatch.delenv("RECARENA_NO_COMPILER", raising=False)
    load_kernels.cache_clear()
    yield
    load_kernels.cache_clear()


@pytest.fixture
def no_compiler(unloaded: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine without a C++ compiler."""
    monkeypatch.setenv("RECARENA_NO_COMPILER", "1")


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("model", ["wdl", "din", "dien", "dlrm"])
def test_the_framework_takes_over(planted: Callable[[str], Any], model: str) -> None:
    served = planted(model)
    session = served.session({"fusion": {}})
    (step,) = session.report
    blocks = len(served.session({}).report) + len(step["fallbacks"])
    assert step["matched"] == [] and blocks == len({item["path"] for item in step["fallbacks"]}) > 5
    assert all("no C++ compiler is used because RECARENA_NO_COMPILER is set" in f["reason"] for f in step["fallbacks"])
    batch = served.split.batch(np.arange(50, dtype=np.int64))
    np.testing.assert_array_equal(session.predict(batch), served.session({}).predict(batch))


@pytest.mark.usefixtures("no_compiler")
def test_the_precision_survives_the_fallback(planted: Callable[[str], Any]) -> None:
    served = planted("dien")
    both = served.session({"fusion": {}, "bf16": {}})
    fusion, bf16 = both.report
    assert fusion["matched"] == [] and "gru" in bf16["matched"] and bf16["fallbacks"] == []
    batch = served.split.batch(np.arange(50, dtype=np.int64))
    np.testing.assert_array_equal(both.predict(batch), served.session({"bf16": {}}).predict(batch))


@pytest.mark.usefixtures("no_compiler")
@pytest.mark.parametrize("more", [{}, {"bf16": {}}])
def test_the_split_survives_the_fallback(planted: Callable[[str], Any], more: dict[str, Any]) -> None:
    served = planted("din")
    both = served.session({"fusion": {}, "dedup": {}, **more})
    dedup, fusion = both.report[:2]
    assert fusion["matched"] == [] and dedup["fallbacks"] == []
    assert dedup["matched"] == ["expand", "attention", "top.0"]
    batch = served.split.batch(np.arange(50, dtype=np.int64))
    np.testing.assert_array_equal(both.predict(batch), served.session({"dedup": {}, **more}).predict(batch))


@pytest.mark.usefixtures("unloaded")
def test_a_compiler_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(KernelsUnavailable, match=r"no C\+\+ compiler was found \(no-such-compiler\)"):
        load_kernels()


@pytest.mark.usefixtures("unloaded")
def test_a_compiler_that_fails_is_quoted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiler = tmp_path / "broken-c++"
    compiler.write_text("#!/bin/sh\necho 'x.cpp:1: error: no space left on the moon' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(KernelsUnavailable, match=r"failed with code 1: x.cpp:1: error: no space left on the moon"):
        load_kernels()
    assert list(tmp_path.rglob("*.so")) == []


@pytest.mark.usefixtures("unloaded")
def test_a_build_that_failed_is_not_tried_again_by_the_next_block(
    planted: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    compiler, noted = tmp_path / "broken-c++", tmp_path / "noted"
    compiler.write_text(f"#!/bin/sh\necho \"$@\" >> {noted}\necho 'error: no room' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for _ in range(2):
        (step,) = planted("din").session({"fusion": {}}).report
        assert step["matched"] == [] and len(step["fallbacks"]) > 5
        assert all("error: no room" in each["reason"] for each in step["fallbacks"])
    assert sum(line.endswith("/fc.o") for line in noted.read_text().splitlines()) == 1
    monkeypatch.delenv("CXX")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert planted("din").session({"fusion": {}}).report[0]["fallbacks"] == []
