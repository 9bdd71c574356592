"""The program as a user runs it, with input that cannot work: one paragraph, exit code 2, nothing left behind."""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clock import now_ns, sleep_s

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
CRITEO_LINE = "\t".join(["1", *("5" for _ in range(13)), *("a1b2c3d4" for _ in range(26))]) + "\n"


@pytest.fixture
def program(tmp_path):
    """Run ``python run.py`` in an empty folder; cache elsewhere. Returns (exit code, stdout, stderr, what is left)."""
    work, cache = tmp_path / "work", tmp_path / "cache"
    work.mkdir()

    def run(*arguments):
        command = [sys.executable, str(ROOT / "run.py"), f"cache_dir={cache}", "tracking=none", *arguments]
        done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=240)
        return done.returncode, done.stdout, done.stderr, sorted(path.name for path in work.iterdir())

    return run


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["model=diem"], ["model=diem is unknown", "did you mean 'dien'?", "dien, din, dlrm, wdl"]),
        (["opt=[fusion]", "+opt.fusion.zz=1"], ["no option 'zz'"]),
        (["dataset=criteo", "dataset.path=/no/such/train.txt"], ["/no/such/train.txt"]),
        (["records_dir=/proc/records"], ["records_dir=/proc/records", "cannot be written"]),
        (["-m", "model=wdl,din", "opt=[],[fusion,fusion]"], ["'fusion' is listed 2 times"]),
    ],
)
def test_a_bad_command_line(program, arguments, parts):
    """One of each way in which it can be bad; ``tests/unit/harness/edge/test_config.py`` has them all."""
    code, out, err, left = program(*arguments)
    assert (code, left) == (2, [])
    assert err.startswith("error: ") and len(err.strip().splitlines()) == 1, err
    assert out == ""
    for part in parts:
        assert part in err


def test_conflicting_optimizations(program):
    code, _, err, left = program("model=wdl", "dataset.size=tiny", "opt=[bf16,tf32]")
    assert (code, left) == (2, []) and len(err.strip().splitlines()) == 1
    assert "bf16" in err and "tf32" in err


@pytest.mark.parametrize(
    ("opts", "parts"),
    [
        ("opt=[dedup]", ["'dedup' works when scope=serve", "this trial has scope=train"]),
        ("opt=[executor]", ["mode='auto' schedules queries"]),
    ],
)
def test_a_training_refuses_what_only_serves(program, opts, parts):
    mode = ["opt.executor.mode=auto"] if "executor" in opts else []
    code, _, err, left = program("scope=train", "model=wdl", "dataset.size=tiny", opts, *mode)
    assert (code, left) == (2, []) and len(err.strip().splitlines()) == 1
    for part in parts:
        assert part in err


def criteo_39_columns(path: Path) -> Path:
    path.write_text(CRITEO_LINE * 7 + CRITEO_LINE.rpartition("\t")[0] + "\n" + CRITEO_LINE * 3)
    return path


def corrupt_gz(path: Path) -> Path:
    data = bytearray(gzip.compress((CRITEO_LINE * 5000).encode()))
    data[len(data) // 2] ^= 0xFF
    target = path.with_suffix(".gz")
    target.write_bytes(bytes(data))
    return target


def truncated_gz(path: Path) -> Path:
    target = path.with_suffix(".gz")
    target.write_bytes(gzip.compress((CRITEO_LINE * 5000).encode())[:-20])
    return target


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (criteo_39_columns, ["line 8", "expected 40", "got 39"]),
        (corrupt_gz, ["train.gz"]),
        (truncated_gz, ["train.gz"]),
    ],
)
def test_broken_data(program, tmp_path, make, parts):
    path = make(tmp_path / "train.txt")
    code, _, err, left = program("model=dlrm", "dataset=criteo", f"dataset.path={path}", "opt=[fusion]")
    assert (code, left) == (2, []), err
    assert len(err.strip().splitlines()) == 1 and path.name in err
    for part in parts:
        assert part in err
    assert list((tmp_path / "cache").rglob("*.parquet")) == []


def test_ctrl_c_while_training_leaves_no_process_and_no_record(program, tmp_path):
    """SIGINT to the whole foreground group, as a terminal sends it."""
    work = tmp_path / "work"
    overrides = ["model=dien", "dataset.size=tiny", "training.max_epochs=1000", "training.patience=1000"]
    overrides += ["tracking=none", f"cache_dir={tmp_path / 'cache'}"]
    command = [sys.executable, str(ROOT / "run.py"), *overrides]
    with (tmp_path / "out").open("w+") as out:
        process = subprocess.Popen(command, cwd=work, stdout=out, stderr=out, start_new_session=True)
        deadline = now_ns() + 120 * 10**9
        while "training dien" not in (tmp_path / "out").read_text():
            assert process.poll() is None and now_ns() < deadline, (tmp_path / "out").read_text()
            sleep_s(0.2)
        sleep_s(1.0)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(timeout=30) == 130, (tmp_path / "out").read_text()
    assert "interrupted" in (tmp_path / "out").read_text()
    assert "Traceback" not in (tmp_path / "out").read_text()
    assert sorted(path.name for path in work.iterdir()) == []
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


def test_help_is_quick_and_complete():
    done = subprocess.run([sys.executable, str(ROOT / "run.py"), "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    for word in (
        "dien",
        "fusion",
        "planted",
        "criteo",
        "quick",
        "standard",
        "single_stream",
        "records_dir=DIR",
        "scope=serve|train",
    ):
        assert word in done.stdout
