"""What cores do between queries: on a virtual machine they are kept from halting then.

A core that halts goes back to the hypervisor, and a query that arrives waits until it is given again: up to some
milliseconds, by the neighbours' load. That is the machine's latency, not the system's, and it grows as the system idles
more. So a loop of the lowest priority runs on each core while nothing is in flight, as a server that polls while idle
would (the kernel's own switch for it, ``idle=poll``, is set at boot). Both sides of a comparison run the same way,
and the name of the hardware says so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from harness.clock import process_cpu_ns
from harness.errors import ConfigurationError
from harness.host.environment import is_virtual, project_root
from harness.host.quota import cpu_quota
from harness.host.scheduling import available_cores
from harness.native.awake import READY
from harness.transport.flight import Flight
from optimizations.kernels.loader import KernelsUnavailable, find_compiler

CHOICES = ("auto", "always", "never")
ENDED = "the loop that keeps cores from halting was ended by someone, and the systems were measured with and without it"


def keeps_awake(choice: str) -> bool:
    """Whether cores are kept awake: "auto" does so on a virtual machine that runs Linux and can build the loop, but not
    where a control group grants less than all cores: the loop would use up what the systems are to have.

    Raises ConfigurationError for another word, and for "always" where it cannot be done.
    """
    if choice not in CHOICES:
        raise ConfigurationError(f"keep_awake={choice}: choose one of {', '.join(CHOICES)}")
    if choice == "never" or (choice == "auto" and not is_virtual()):
        return False
    quota, cores = cpu_quota(), len(available_cores())
    if quota is not None and quota < cores:
        if choice == "always":
            raise ConfigurationError(
                f"keep_awake=always: a control group grants {quota:g} of {cores} cores; the loop would use that up: "
                "grant whole cores instead (docker run --cpuset-cpus), or use keep_awake=auto"
            )
        return False
    possible = hasattr(os, "SCHED_IDLE") and _has_compiler()
    if choice == "always" and not possible:
        raise ConfigurationError(
            "keep_awake=always: cores are kept awake on Linux only, by a loop that needs a C++ compiler; install one "
            "or use keep_awake=auto"
        )
    return possible


def _has_compiler() -> bool:
    """It is looked for and not yet used: a bad command line must not wait for it."""
    try:
        find_compiler()
    except KernelsUnavailable:
        return False
    return True


class Loop:
    """The process that keeps cores awake; none where they may halt."""

    def __init__(self, process: subprocess.Popen[str] | None = None) -> None:
        self._process = process

    def remarks(self) -> list[str]:
        """Remarks on the result: whether it ran until now."""
        return [] if self._process is None or self._process.poll() is None else [ENDED]

    def cpu_ns(self) -> int:
        """CPU time that it has used so far; 0 once it was ended by somebody, which is remarked."""
        try:
            return 0 if self._process is None else process_cpu_ns(self._process.pid)
        except ProcessLookupError:
            return 0


@contextmanager
def cores_awake(wanted: bool, flight: Flight) -> Iterator[Loop]:
    """Keep every core that this process may use from halting while nothing is in flight.

    Raises ConfigurationError where the system refuses.
    """
    if not wanted:
        yield Loop()
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "harness.native.awake", "--parent", str(os.getpid()),
         "--flight", str(flight.descriptor), "--cores", *(str(core) for core in available_cores())],
        cwd=project_root(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        pass_fds=[flight.descriptor], process_group=0,
    )  # fmt: skip
    try:
        assert process.stdout is not None and process.stderr is not None
        if process.stdout.readline().strip() != READY or process.poll() is not None:
            process.kill()
            raise ConfigurationError(
                f"cores cannot be kept awake here ({process.stderr.read().strip().splitlines()[-1:]}); "
                "keep_awake=never measures without"
            )
        yield Loop(process)
    finally:
        process.kill()
        process.communicate()
