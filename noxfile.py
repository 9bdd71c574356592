"""What CI runs: ``pip install nox && nox``. One environment is built by pip and shared by every session."""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2024.10.9"
nox.options.default_venv_backend = "virtualenv"

ENVIRONMENT = Path(__file__).parent / ".nox" / "environment" / "bin"
SIDE_BY_SIDE = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadfile")
TYPED = ("zoo/schema.py", "optimizations/contract.py", "optimizations/plan.py", "harness", "leaderboard")


@nox.session(reuse_venv=True)
def environment(session: nox.Session) -> None:
    """Install the project with its development tools."""
    session.install("-e", ".[dev,mlperf]")


def run(session: nox.Session, tool: str, *arguments: str) -> None:
    """Run a tool of the shared environment."""
    session.run(str(ENVIRONMENT / tool), *arguments, external=True)


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
    session.env["OMP_NUM_THREADS"] = "1"  # the processes share the cores already
    run(session, "pytest", *(session.posargs or SIDE_BY_SIDE), "tests/unit", "tests/parity")


@nox.session(venv_backend="none", requires=["environment"])
def e2e(session: nox.Session) -> None:
    """The whole program in real processes, and what it must reject. Two files at a time: half of it is waiting."""
    run(session, "pytest", *(session.posargs or ("-n", "2", "--dist", "loadfile")), "tests/e2e", "tests/rejects")


@nox.session(venv_backend="none", requires=["environment"], default=False)
def bench(session: nox.Session) -> None:
    """Paired timings on this machine, by request: nox -s bench [-- units | peers]."""
    if session.posargs[:1] == ["peers"]:
        run(session, "python", "-m", "pip", "install", "--quiet", "-e", ".[peers]")
    run(session, "python", "-m", "tests.bench", *session.posargs)
