"""Work that needs a framework, in a child of the main process, which loads none: training, exporting."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Event = Mapping[str, Any]


def run_job(module: str, spec: Mapping[str, Any], title: str, follow: Callable[[Event], None]) -> None:
    """Run ``python -m module SPEC.json`` to its end; ``follow`` gets each JSON object that it prints, a line each.

    The child dies with this process's wish to wait, and with an exception of ``follow``. Raises RuntimeError with the
    child's last words where it fails; ``title`` says what was under way.
    """
    with tempfile.TemporaryDirectory(prefix="recarena-") as folder, tempfile.TemporaryFile("w+") as errors:
        file = Path(folder) / "job.json"
        file.write_text(json.dumps(spec), "utf-8")
        command = [sys.executable, "-m", module, str(file)]
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=dict(os.environ), start_new_session=True
        )
        try:
            assert child.stdout is not None
            for line in child.stdout:
                follow(json.loads(line))
            code = child.wait()
        except BaseException:
            child.kill()
            child.wait()
            raise
        if code != 0:
            errors.seek(0)
            raise RuntimeError(f"{title} ended with code {code}.\n{errors.read()[-4000:]}")
