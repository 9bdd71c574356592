"""A contender: something that scores the queries of a workload. The list of all, by name."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers.workload import Workload
from zoo.schema import Batch, Float32

PEER_TOLERANCE = 1e-5
"""Largest difference of a peer's scores from the eager reference's."""


class UnfitError(RuntimeError):
    """A contender that cannot take part; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """``predict`` takes what ``prepare`` makes of a query, outside the time, and returns scores [N].

    tolerance: on scores against the eager reference; None: a model with weights of its own.
    """

    predict: Callable[[Any], Float32]
    prepare: Callable[[Batch], Any] = lambda batch: batch
    tolerance: float | None = PEER_TOLERANCE
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a contender comes from. build: "module:function" of this package, (workload, threads, folder) -> Contender.

    packages: what has to be installed beyond the project's own requirements.
    """

    title: str
    build: str
    packages: tuple[str, ...] = ()
    ours: bool = False


ENTRIES: dict[str, Entry] = {
    "best": Entry(title="RecArena, best closed plan", build="torch_contenders:best_plan_contender", ours=True),
    "fusion": Entry(title="RecArena, opt=[fusion]", build="torch_contenders:fusion_plan", ours=True),
    "eager": Entry(title="PyTorch eager", build="torch_contenders:eager"),
    "compile": Entry(title="torch.compile", build="torch_contenders:compiled"),
    "onnxruntime": Entry(
        title="ONNX Runtime", build="onnx_contenders:onnx_runtime", packages=("onnx", "onnxscript", "onnxruntime")
    ),
    "openvino": Entry(title="OpenVINO", build="onnx_contenders:openvino", packages=("onnx", "onnxscript", "openvino")),
    "openvino_rows": Entry(
        title="OpenVINO, ids hashed before",
        build="onnx_contenders:openvino_rows",
        packages=("onnx", "onnxscript", "openvino"),
    ),
    "openvino_augru": Entry(
        title="OpenVINO, ids hashed before, an AUGRU that it has a primitive for",
        build="openvino_augru:openvino_augru",
        packages=("onnx", "onnxscript", "openvino"),
    ),
    "deepctr": Entry(title="deepctr-torch", build="deepctr_contender:deepctr", packages=("deepctr_torch",)),
}
PEERS = tuple(name for name, entry in ENTRIES.items() if not entry.ours)
OURS = tuple(name for name, entry in ENTRIES.items() if entry.ours)


def build(name: str, workload: Workload, threads: int, folder: Path) -> Contender:
    """The contender ``name``. folder: where exported models are kept between processes of one run."""
    module, _, function = ENTRIES[name].build.partition(":")
    builder = getattr(importlib.import_module(f"tests.bench.peers.{module}"), function)
    made: Contender = builder(workload, threads, folder)
    return made


def missing_packages(names: Iterable[str]) -> list[str]:
    """Packages that the contenders ``names`` need and that are not installed, sorted."""
    needed = {package for name in names for package in ENTRIES[name].packages}
    return sorted(package for package in needed if importlib.util.find_spec(package) is None)
