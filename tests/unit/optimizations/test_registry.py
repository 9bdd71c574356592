"""Where plug-ins come from: the folders of the package and installed third parties."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.host.environment import source_sha256
from optimizations.contract import PlanError
from optimizations.plan import available
from optimizations.registry import lowering_module, third_party_packages

SPEC = """
from dataclasses import dataclass, replace
from optimizations.contract import Optimization, Phase

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    pass

SPEC = Optimization(
    name={name!r}, summary="late expansion", phase=Phase.GRAPH, scope="both", division="closed", origin=(),
    options=Options, claims=lambda p, o: ("expand",), apply=lambda p, o: replace(p, expand="late"),
)
"""


def install(folder: Path, package: str, name: str, spec: str = SPEC, target: str = "SPEC") -> None:
    """What pip leaves behind for a package with one entry point."""
    code = folder / package
    code.mkdir()
    (code / "__init__.py").write_text("")
    (code / "spec.py").write_text(spec.replace("{name!r}", repr(name)))
    (code / "lower_torch.py").write_text("BUILDERS = {('fc', 'mine', 'fp32'): len}\n")
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[recarena.optimizations]\n{name} = {package}.spec:{target}\n")


def test_the_built_in_plug_ins_are_their_folders() -> None:
    found = available()
    assert list(found) == [
        "allocator",
        "async_embedding",
        "bf16",
        "dedup",
        "embedding_tier",
        "executor",
        "fusion",
        "graph_fusion",
        "int8",
        "micro_batch",
        "packed_weights",
        "sharded_embedding",
        "smart_stage",
        "stage",
        "tf32",
    ]
    assert all(spec.name == name and spec.summary and "\n" not in spec.summary for name, spec in found.items())


def test_listing_them_imports_no_framework() -> None:
    code = "import sys, optimizations.plan as p; p.available(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_third_party_is_found_and_lowered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "arena_late", "late")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert available()["late"].summary == "late expansion"
    module = lowering_module("late", "torch")
    assert module is not None and {("fc", "mine", "fp32"): len} == module.BUILDERS
    assert lowering_module("late", "openvino") is None


def test_the_source_of_a_third_party_counts_where_it_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record of its former code is no record of what it does now."""
    install(tmp_path, "arena_counted", "counted")
    install(tmp_path, "arena_beside", "beside")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert third_party_packages(["fusion"]) == ()
    assert third_party_packages(["fusion", "counted"]) == (tmp_path / "arena_counted",)
    root = tmp_path / "root"
    alone, before = source_sha256(root), source_sha256(root, third_party_packages(["counted"]))
    (tmp_path / "arena_beside" / "lower_torch.py").write_text("BUILDERS = {}\n")
    assert source_sha256(root, third_party_packages(["counted"])) == before != alone
    (tmp_path / "arena_counted" / "lower_torch.py").write_text("BUILDERS = {}\n")
    assert source_sha256(root, third_party_packages(["counted"])) not in (before, alone)
    assert source_sha256(root) == alone


def test_a_third_party_may_not_take_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "arena_thief", "fusion")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlanError, match="'fusion', a name that is already taken"):
        available()


def test_a_broken_third_party_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "arena_broken", "broken", spec="raise RuntimeError('no such chip')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert "broken" in available() and available()["fusion"].name == "fusion"
    with pytest.raises(PlanError, match=r"'broken' \(arena_broken.spec:SPEC\).*no such chip"):
        available()["broken"]


def test_an_entry_point_to_something_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "arena_other", "other", target="Options")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlanError, match=r"'other'.*is a type and not an Optimization"):
        available()["other"]


def test_an_entry_point_of_another_name_than_its_plug_in_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "arena_alias", "alias", spec=SPEC.replace("{name!r}", "'late'"))
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlanError, match=r"'alias' .* leads to the optimization 'late': give both one name"):
        available()["alias"]


def test_lowering_modules_of_the_package() -> None:
    assert lowering_module("allocator", "torch") is None
    fusion = lowering_module("fusion", "torch")
    assert fusion is not None and ("fc", "fused", "bf16") in fusion.BUILDERS
    with pytest.raises(PlanError, match="no optimization 'nosuch'"):
        lowering_module("nosuch", "torch")
