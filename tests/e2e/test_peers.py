"""A peer under the whole referee: measured by itself, and as what a plan is compared with."""

from __future__ import annotations

import json

import pytest

from harness.backends.peers.catalogue import missing_packages
from leaderboard.result_check import check_result
from leaderboard.verify import verify
from tests.e2e.main_job import MainJob

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
SMALL = ("model=wdl", "model.embedding_dim=8", "model.large_dim=16", "model.deep_units=[64,32]")


@pytest.mark.parametrize(
    ("overrides", "side"),
    [
        (("backend=peer", "peer=ort_stock", "peer.settings=best"), "candidate"),
        (("opt=[fusion]", "peer=ort_stock"), "baseline"),
        (("opt=[fusion]", "peer=deepctr_torch", "peer.settings=best"), "baseline"),
    ],
)
def test_a_peer_is_measured_and_its_record_verified(main_job: MainJob, overrides: tuple[str, ...], side: str) -> None:
    name = overrides[1].removeprefix("peer=")
    if missing := missing_packages(name):
        pytest.skip(f"{', '.join(missing)} not installed: pip install 'recarena[peers]'")
    done = main_job.run(*SMALL, *overrides)
    # A model of its own may be better than ours after one epoch on a tiny split: then the gate says so.
    assert done.returncode in ((0, 3) if name == "deepctr_torch" else (0,)), done.stdout + done.stderr
    record = main_job.only_record()
    plain = json.loads((record / "result.json").read_text("utf-8"))
    assert check_result(plain) == []
    verification = verify(record)
    assert verification.passed, (verification.problems, [f for f in verification.findings if not f.agrees])
    assert (plain["peer"]["name"], plain["peer"]["side"]) == (name, side)
    # The smallest budget asks too few late queries of a limit this far away for a ratio of LBTs.
    assert plain["ratio"]["service"] > 0 and plain["baseline"]["auc"] > 0.5
    if name == "ort_stock":
        assert plain["gate"]["verdict"] == "pass" and plain["gate"]["same_weights"]
        assert abs(plain["gate"]["auc_delta"]) < 5e-5 and plain["peer"]["weights_sha256"] == plain["weights_sha256"]
    else:
        assert not plain["gate"]["same_weights"] and plain["peer"]["trained"]["epochs"] >= 1
        assert plain["peer"]["weights_sha256"] != plain["weights_sha256"]
    if side == "candidate":
        assert plain["peer"]["built"]["workers"] == plain["candidate"]["workers"]
        assert "predicted" in plain["plan"][0]["built"]["summary"]
