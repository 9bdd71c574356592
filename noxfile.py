"""What CI runs: ``pip install nox && nox``. One environment is built by pip and shared by every session."""

from __future__ import annotations

import subprocess
from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"

ENVIRONMENT = Path(__file__).parent / ".nox" / "environment" / "bin"
# In the order of ``tests/conftest.py``: by numbers of tests, which is the default, the dear files would come last.
SIDE_BY_SIDE = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile", "--no-loadscope-reorder", "-m", "not slow")
BUILD_KERNELS = """
from contextlib import suppress
from optimizations.kernels.loader import KernelsUnavailable, load_kernels
with suppress(KernelsUnavailable):
    load_kernels()
"""
WITHOUT_SPINNING = {"OMP_WAIT_POLICY": "passive"}
"""A thread that waits for another one leaves the core to the tests beside it: else it would wait for long."""
KERNELS = ("kernels", "trained_kernels", "fused_training", "dedup", "embedding_tier")
KERNEL_TESTS = (*(f"tests/parity/test_{name}.py" for name in KERNELS), "tests/unit/harness/native")
# One test after the other to whichever process is free: by files, the few tests of the longest ones would come last.
ONE_BY_ONE = ("-n", "3", "--dist", "load", "--maxschedchunk", "1", "-m", "not slow")
TYPED = ("zoo/schema.py", "optimizations/contract.py", "optimizations/plan.py", "harness", "leaderboard")


@nox.session(reuse_venv=True)
def environment(session: nox.Session) -> None:
    """Install the project with its development tools.

    Without byte code: compiling all of the frameworks takes longer than compiling what is imported.
    """
    session.install("--no-compile", "-e", ".[dev,mlperf,onnx]")


def run(session: nox.Session, tool: str, *arguments: str) -> None:
    """Run a tool of the shared environment.

    What it imports it leaves there as byte code, also where the caller's own processes write none: hundreds of them
    import the frameworks, and each would compile these anew.
    """
    session.run(str(ENVIRONMENT / tool), *arguments, external=True, env={"PYTHONDONTWRITEBYTECODE": ""})


@nox.session(venv_backend="none", requires=["environment"])
def lint(session: nox.Session) -> None:
    """Style, formatting, and the one direction of imports."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "lint-imports")


@nox.session(venv_backend="none", requires=["environment"])
def typecheck(session: nox.Session) -> None:
    """Strict types where others build on ours."""
    run(session, "mypy", *TYPED)


@nox.session(venv_backend="none", requires=["environment"])
def docs(session: nox.Session) -> None:
    """Build the manual; a broken link is an error."""
    run(session, "mkdocs", "build", "--strict", "--quiet", "--site-dir", session.create_tmp())


@nox.session(venv_backend="none", requires=["environment"])
def tests(session: nox.Session) -> None:
    """Unit and parity tests side by side, a file at a time."""
    session.env.update(WITHOUT_SPINNING, OMP_NUM_THREADS="1")  # the processes share the cores already
    run(session, "python", "-c", BUILD_KERNELS)  # once, where each of them would, side by side
    run(session, "pytest", *(session.posargs or SIDE_BY_SIDE), "tests/unit", "tests/parity")


@nox.session(venv_backend="none", requires=["environment"])
def e2e(session: nox.Session) -> None:
    """The whole program in real processes, and what it must reject. Three tests at a time: half of it is waiting."""
    session.env.update(WITHOUT_SPINNING)
    run(session, "pytest", *(session.posargs or ONE_BY_ONE), "tests/e2e", "tests/rejects")


@nox.session(venv_backend="none", requires=["environment"], default=False)
def bench(session: nox.Session) -> None:
    """Paired timings on this machine, by request: nox -s bench [-- units | peers | slots]."""
    if session.posargs[:1] == ["peers"]:
        run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[peers]")
    run(session, "python", "-m", "tests.bench", *session.posargs)


@nox.session(venv_backend="none", requires=["environment"], default=False)
def sanitize(session: nox.Session) -> None:
    """Parity tests on kernels that AddressSanitizer and UBSan watch, by request: nox -s sanitize."""
    compiler = ("c++", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined")
    runtime = subprocess.run([compiler[0], "-print-file-name=libasan.so"], capture_output=True, text=True, check=True)
    session.env.update(
        OMP_NUM_THREADS="1",
        CXX=" ".join(compiler),
        LD_PRELOAD=runtime.stdout.strip(),  # the interpreter that loads the kernels is not built with it
        ASAN_OPTIONS="detect_leaks=0",  # the interpreter's own
    )
    run(session, "pytest", *(session.posargs or ("-x", *KERNEL_TESTS)))
