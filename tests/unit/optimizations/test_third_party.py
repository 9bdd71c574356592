"""Specs of other packages: nothing of theirs runs in this process, and plans are what they would be if it did."""

from __future__ import annotations

import dataclasses
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from optimizations.contract import Optimization, PlanError
from optimizations.plan import available, first_pipeline, resolve
from tests.unit.optimizations.test_registry import install
from zoo.configs import DlrmConfig
from zoo.schema import DenseField, IdField, Schema

SCHEMA = Schema(
    name="s",
    dense=(DenseField(name="I0", side="user"),),
    ids=(IdField(name="C0", side="item", column=0, table="C0", rows=10),),
)
SPEC = """
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from optimizations.contract import Optimization, Phase, PlanError

print("a plug-in that talks", flush=True)
with (Path(__file__).parent / "imported_by").open("a") as file:
    file.write(f"{os.getpid()} ")

@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    roles: tuple[str, ...] = ("fc",)
    level: int = 1
    share: float | None = None
    mode: Literal["a", "b"] = "a"

    def __post_init__(self):
        if not 1 <= self.level <= 3:
            raise ValueError(f"level must be 1 to 3, got {self.level}")

def claims(pipeline, options):
    if options.mode == "b":
        raise PlanError("opt: 'late' has no mode b")
    if options.level == 3:
        return 1 / 0
    return tuple(f"{block.path}.impl" for block in pipeline.blocks if block.role in options.roles)

def apply(pipeline, options):
    for slot in claims(pipeline, options):
        pipeline = pipeline.with_block(slot.rpartition(".")[0], impl=f"mine{options.level}")
    return pipeline

SPEC = Optimization(
    name={name!r}, summary="late", phase=Phase.GRAPH, scope="both", division="closed", origin=("X1",),
    options=Options, claims=claims, apply=apply, native=lambda able: "avx2" in able, score_tolerance=3e-4,
    backends=("torch", "openvino"), narrowed=lambda o: ("torch",) if o.level == 2 else ("torch", "openvino"),
)
"""


@pytest.fixture
def late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an installed package with the plug-in ``late``."""
    package = f"arena_{tmp_path.name.replace('-', '_')}"
    install(tmp_path, package, "late", spec=SPEC)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path / package


def plan_of(opts: dict[str, Any], known: dict[str, Optimization] | None = None) -> Any:
    first = first_pipeline(DlrmConfig(), SCHEMA, "torch", "cpu", "serve")
    return resolve(first, opts, frozenset({"avx2"}), known)


def test_a_plug_in_that_nobody_asks_for_is_not_read(late: Path) -> None:
    assert "late" in available() and {"fusion", "late"} < set(available())
    plan_of({"fusion": {}})
    assert not (late / "imported_by").exists()


def test_its_plans_are_those_that_it_would_make_here(late: Path) -> None:
    """To compare, its module is imported here last."""
    opts = {"late": {"roles": ["fc", "interaction"], "level": 2}, "executor": {}}
    theirs, first = plan_of(opts), available()["late"]
    assert f"{late.name}.spec" not in sys.modules
    pids = {int(pid) for pid in (late / "imported_by").read_text().split()}
    assert os.getpid() not in pids and len(pids) >= 4
    own: Optimization = importlib.import_module(f"{late.name}.spec").SPEC
    assert theirs == plan_of(opts, {"late": own, "executor": available()["executor"]})
    assert theirs.steps[0].claims and {b.impl for b in theirs.pipeline.blocks if b.role == "fc"} == {"mine2"}
    for field in dataclasses.fields(Optimization):
        if field.name not in ("options", "claims", "apply", "native", "narrowed"):
            assert getattr(first, field.name) == getattr(own, field.name), field.name
    assert dataclasses.asdict(first.options()) == dataclasses.asdict(own.options())
    assert [first.native(frozenset(able)) for able in ({"avx2"}, {"avx"})] == [True, False]
    assert first.lowered_on(first.options(level=2)) == ("torch",)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": 4}, r"opt.late: level must be 1 to 3, got 4"),
        ({"level": "x"}, r"opt.late.level must be of type int"),
        ({"depth": 1}, r"no option 'depth'"),
        ({"mode": "b"}, r"'late' has no mode b"),
        ({"level": 3}, r"plug-in 'late' .* its claims ended with ZeroDivisionError"),
    ],
)
def test_its_refusals_and_its_faults_arrive(late: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(PlanError, match=said):
        plan_of({"late": options})


def test_one_that_ends_the_process_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "arena_quits", "quits", spec="import os; os._exit(3)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PlanError, match=r"'quits' \(arena_quits.spec:SPEC\) .*ended without an answer \(code 3\)"):
        available()["quits"]
