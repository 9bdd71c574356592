"""Workers for jobs that share nothing: all jobs once, errors, lost workers, and none left behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from harness.calibrate.crew import WorkerLost, run_all
from harness.clock import now_ns, sleep_s
from harness.host.processes import read_stat


def _square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def _fail(number: int) -> int:
    raise ValueError(f"no {number}")


def _die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def _gone(pid: int) -> bool:
    stat = read_stat(pid)
    return stat is None or stat.state in "ZX"


def test_every_job_is_done_once_by_some_of_the_workers() -> None:
    found = list(run_all(_square, iter(range(40)), 2))
    assert sorted(square for square, _ in found) == [number**2 for number in range(40)]
    workers = {pid for _, pid in found}
    assert len(workers) == 2 and os.getpid() not in workers and all(map(_gone, workers))


def test_whoever_stops_listening_leaves_no_worker() -> None:
    results = run_all(_square, iter(range(1_000_000)), 2)
    workers = {next(results)[1] for _ in range(12)}
    results.close()
    assert all(map(_gone, workers))


def test_an_error_in_a_job_is_raised_here() -> None:
    with pytest.raises(ValueError, match="no 0"):
        list(run_all(_fail, [0], 1))


def test_a_killed_worker_is_reported() -> None:
    with pytest.raises(WorkerLost, match="code -9"):
        list(run_all(_die, range(3), 2))


MAIN = """
from harness.calibrate.crew import run_all
from tests_crew_job import slow
if __name__ == "__main__":
    for pid in run_all(slow, iter(range(10_000)), 2):
        print(pid, flush=True)
"""


def test_workers_of_a_killed_main_process_end(tmp_path: Path) -> None:
    """SIGKILL, which nobody can answer: the workers find the other end of their line closed."""
    (tmp_path / "main.py").write_text(MAIN)
    (tmp_path / "tests_crew_job.py").write_text(
        "import os, time\ndef slow(number):\n    time.sleep(0.05)\n    return os.getpid()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[4])])}
    main = subprocess.Popen(
        [sys.executable, "main.py"], cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True
    )
    assert main.stdout is not None
    workers = {int(main.stdout.readline()) for _ in range(8)}
    main.kill()
    main.communicate()
    deadline_ns = now_ns() + 30e9
    while not all(map(_gone, workers)) and now_ns() < deadline_ns:
        sleep_s(0.05)
    assert len(workers) == 2 and all(map(_gone, workers))
