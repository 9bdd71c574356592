"""Who takes part in a comparison with peers, and how the result is shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from tests.bench.peers import command, contender
from tests.bench.peers.contender import OURS, PEERS, Contender, UnfitError, missing_packages
from tests.bench.peers.contender_process import largest_error
from tests.bench.peers.frozen import Standing
from tests.bench.peers.pairing import Ratio
from tests.bench.peers.report import ModelRun, as_json, print_run, write_json
from tests.bench.peers.workload import HISTORY, QUERIES, Workload, make_workload


def ratio(size: int | None, value: float) -> Ratio:
    times = (None, None) if size is None else (1000.0 * value, 1000.0)
    return Ratio(
        peer="onnxruntime",
        ours="best",
        size=size,
        ratio=value,
        interval=(value / 2, value * 2),
        peer_us=times[0],
        ours_us=times[1],
        blocks=3,
    )


RUN = ModelRun(
    model="din",
    sizes=(1, 100),
    threads=1,
    blocks=3,
    seconds=7.0,
    standings=(
        Standing(name="best", build_s=0.5, error=1e-3, note="opt=[fusion,dedup]"),
        Standing(name="onnxruntime", build_s=12.0, error=4e-7, note="GRU, Scan"),
        Standing(name="deepctr", build_s=1.0, error=None),
        Standing(name="openvino", reason="scores differ from eager's by 1.1e-03; 1e-05 is allowed"),
    ),
    ratios=(ratio(1, 2.0), ratio(100, 8.0), ratio(None, 4.0)),
)


def shown(run: ModelRun) -> str:
    text = io.StringIO()
    print_run(run, Console(file=text, highlight=False))
    return text.getvalue()


def test_the_table_has_every_size_and_their_mean() -> None:
    (row,) = [line for line in shown(RUN).splitlines() if "ONNX Runtime" in line and "best" in line]
    assert "2.00x [1.00, 4.00]" in row and "8.00x [4.00, 16.00]" in row and row.rstrip().endswith("4.00x [2.00, 8.00]")


def test_times_and_notes_stand_beside_each_contender() -> None:
    text = shown(RUN)
    (best,) = [line for line in text.splitlines() if "best closed plan" in line]
    (peer,) = [line for line in text.splitlines() if "GRU, Scan" in line]
    assert "opt=[fusion,dedup]" in best and best.count("1,000") == 2
    assert "2,000" in peer and "8,000" in peer and "12.0" in peer
    assert "own weights" in text


def test_who_is_not_timed_is_named_with_the_reason() -> None:
    assert "not timed: OpenVINO: scores differ from eager's by 1.1e-03; 1e-05 is allowed" in shown(RUN)


def test_a_run_without_ratios_still_says_why() -> None:
    alone = ModelRun(model="din", sizes=(1,), threads=1, blocks=3, seconds=1.0, standings=RUN.standings[-1:], ratios=())
    assert "not timed: OpenVINO" in shown(alone)


def test_json_has_everything(tmp_path: Path) -> None:
    write_json([RUN], tmp_path / "peers.json")
    found = json.loads((tmp_path / "peers.json").read_text())
    assert found == json.loads(json.dumps(as_json([RUN])))
    (model,) = found["models"]
    assert [one["ratio"] for one in model["ratios"]] == [2.0, 8.0, 4.0]
    assert model["ratios"][2]["size"] is None and model["ratios"][0]["interval"] == [1.0, 4.0]
    assert model["standings"][3]["reason"].startswith("scores differ")


def test_a_missing_package_names_the_extra(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(contender.importlib.util, "find_spec", lambda name: None if name == "openvino" else object())
    assert missing_packages(PEERS) == ["openvino"]
    with pytest.raises(SystemExit) as ended:
        command.main(["din"])
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert "error: the packages openvino are missing: pip install 'recarena[peers]', or choose by --only" in error


def test_eager_and_ours_need_no_extra() -> None:
    assert missing_packages(["eager", "compile", *OURS]) == []


@pytest.mark.parametrize(("option", "value"), [("--sizes", "101"), ("--sizes", "0"), ("--blocks", "1")])
def test_what_cannot_be_measured_is_refused(option: str, value: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as ended:
        command.main(["din", "--only", "eager", option, value])
    assert ended.value.code == 2 and f"argument {option}" in capsys.readouterr().err


@pytest.fixture(scope="module")
def din() -> Workload:
    return make_workload("din", (1, 10))


def test_a_workload_is_the_same_in_every_process(din: Workload) -> None:
    again = make_workload("din", (1, 10))
    for one, two in zip(din.queries[10], again.queries[10], strict=True):
        np.testing.assert_array_equal(din.expected(one), again.expected(two))


def test_queries_have_one_user_and_the_whole_history(din: Workload) -> None:
    assert len(din.queries[10]) == QUERIES
    for query in din.queries[10]:
        assert len(query) == 10 and len(query.user) == 1
        assert query.history.shape == (HISTORY, 2) and query.history_offsets.tolist() == [0, HISTORY]


def held(din: Workload, made: Contender) -> float | None:
    return largest_error(made, din, {size: list(batches) for size, batches in din.queries.items()})


def test_scores_that_differ_keep_a_contender_out(din: Workload) -> None:
    assert held(din, Contender(predict=din.expected)) == 0.0
    with pytest.raises(UnfitError, match=r"differ from eager's by 2.0e-05; 1e-05 is allowed"):
        held(din, Contender(predict=lambda batch: np.clip(din.expected(batch) - np.float32(2e-5), 0, 1)))


def test_weights_of_its_own_are_not_compared_but_have_to_be_probabilities(din: Workload) -> None:
    assert held(din, Contender(predict=lambda batch: np.full(len(batch), 0.5), tolerance=None)) is None
    with pytest.raises(UnfitError, match=r"not all of them in \[0, 1\]"):
        held(din, Contender(predict=lambda batch: np.full(len(batch), 1.5), tolerance=None))
    with pytest.raises(
        UnfitError, match=r"10 samples give scores of shape \(1,\)|1 samples give scores of shape \(2,\)"
    ):
        held(din, Contender(predict=lambda batch: np.full(2 if len(batch) == 1 else 1, 0.5), tolerance=None))
