"""The main job as a user starts it, on a tiny data set and with the smallest budget."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class MainJob:
    """``python run.py`` in ``folder``, which gets the records. ``cache``: data and weights, kept between jobs."""

    folder: Path
    cache: Path

    def command(self, *overrides: str) -> list[str]:
        """The command line."""
        # The limit is far away and the training short: these runs are about what is written down, on machines that
        # may be busy.
        common = ["dataset.size=tiny", "training.max_epochs=1", "budget=smoke", "scenario.sla_ms=2000", "tracking=none"]
        common += [f"records_dir={self.folder}", f"cache_dir={self.cache}"]
        return [sys.executable, str(ROOT / "run.py"), *common, *overrides]

    def run(self, *overrides: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*overrides), cwd=self.folder, capture_output=True, text=True, timeout=280, check=False
        )

    def only_record(self) -> Path:
        """The folder of the one record that there is."""
        (manifest,) = self.folder.glob("*_*/manifest.json")
        return manifest.parent
