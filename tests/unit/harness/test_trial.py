"""The identity of a trial."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from harness.trial import Sla, Trial

TRIAL = Trial(
    model="din",
    sizes={"embedding_dim": 18},
    dataset="criteo",
    dataset_options={"path": "a/train.txt", "min_count": 2},
    dataset_fingerprint="ab" * 32,
    training={},
    weights="",
    backend="torch",
    device="cpu",
    scope="serve",
    opts={"fusion": {"fc": True}},
    scenario="server",
    query_sizes="heavy",
    sla=Sla(limit_ms=25.0),
    seed=1,
    budget="quick",
)


def test_the_id_is_that_of_the_canonical_json_without_the_path() -> None:
    values = json.loads(json.dumps(dataclasses.asdict(TRIAL)))
    del values["dataset_options"]["path"], values["peer"]  # without a peer as if there were none at all
    text = json.dumps(values, sort_keys=True, separators=(",", ":"))
    assert TRIAL.trial_id == hashlib.sha256(text.encode()).hexdigest()[:12]


def test_the_id_follows_what_is_measured_and_not_where_the_data_lies() -> None:
    moved = dataclasses.replace(TRIAL, dataset_options={"min_count": 2, "path": "b/train.txt"})
    other = dataclasses.replace(TRIAL, dataset_fingerprint="cd" * 32)
    assert moved.trial_id == TRIAL.trial_id
    assert other.trial_id != TRIAL.trial_id


def test_the_baseline_is_the_same_trial_without_optimizations() -> None:
    assert TRIAL.baseline() == dataclasses.replace(TRIAL, opts={})


PEER = {"name": "ort_stock", "settings": "best"}


def test_a_peer_that_is_measured_stands_beside_pytorch_as_it_comes() -> None:
    measured = dataclasses.replace(TRIAL, backend="peer", peer=PEER, opts={})
    assert measured.compares and measured.peer_side == "candidate" and measured.candidate() == measured
    assert measured.baseline() == dataclasses.replace(TRIAL, opts={})
    other = dataclasses.replace(measured, peer={**PEER, "settings": "stock"})
    assert len({TRIAL.baseline().trial_id, measured.trial_id, other.trial_id}) == 3


def test_a_plan_that_is_compared_with_a_peer_has_it_in_the_place_of_no_optimization() -> None:
    compared = dataclasses.replace(TRIAL, peer=PEER)
    assert compared.compares and compared.peer_side == "baseline" and compared.candidate() == TRIAL
    assert compared.baseline() == dataclasses.replace(TRIAL, backend="peer", peer=PEER, opts={})
    assert compared.trial_id != TRIAL.trial_id


def test_a_trial_of_nothing_has_one_side() -> None:
    assert not TRIAL.baseline().compares and TRIAL.compares and TRIAL.peer_side is None
