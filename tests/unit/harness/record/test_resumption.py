"""Which record stands for a trial: the newest one that a new measurement would not better."""

from __future__ import annotations

import dataclasses

import pytest

from harness.host.software import PYTHON, needed
from harness.record.resumption import Wanted, find_resumable
from harness.record.writer import RecordWriter

MADE_WITH = {"python": "3.12.4", "packages": {"torch": "2.11.0", "Jinja2": "3.1.6", "ruff": "0.9.0"}}
VERSIONS = {PYTHON: "3.12.4", "torch": "2.11.0", "jinja2": "3.1.6", "ruff": "0.9.0"}


@pytest.fixture
def write(tmp_path, fabricate, monkeypatch):
    """``write(verdict=, environment=, **as fabricate)``: the record's folder."""

    monkeypatch.setattr("harness.record.writer.write_plots", lambda folder, result, queries: [])

    def record(verdict="valid", environment=MADE_WITH, **given):
        trial, measurement = fabricate(**given)
        validity = dataclasses.replace(measurement.result.validity, verdict=verdict)
        result = dataclasses.replace(measurement.result, validity=validity)
        measurement = dataclasses.replace(measurement, result=result, environment=environment)
        with RecordWriter(tmp_path, trial) as writer:
            return writer.write(measurement)

    return record


@pytest.fixture
def find(tmp_path, fabricate):
    """``find(resume, budget=, **changes of Wanted)``: the folder that is taken, and why not the newest."""

    def found(resume="auto", budget="standard", **changes):
        trial, _ = fabricate(budget=budget)
        wanted = Wanted(
            trial_id=trial.trial_id,
            source_sha256="ab" * 32,
            hardware_class="x86_64-2c-avx512",
            versions=VERSIONS,
        )
        seen = find_resumable(tmp_path, dataclasses.replace(wanted, **changes), resume)
        return seen.record and seen.record.path, seen.passed_over

    return found


def test_the_newest_whole_one_of_the_same_kind(write, find):
    early, late = (write(created=f"2026-03-0{day}T10:00:00Z", random_seed=day) for day in (1, 2))
    write(created="2026-03-03T10:00:00Z", seed=2)
    assert find() == (late, "")
    assert find(source_sha256="cd" * 32) == (None, f"{late} was measured by another version of the source")
    taken, why = find(hardware_class="arm64")
    assert taken is None and "on another kind of machine (x86_64-2c-avx512)" in why
    (late / "result.json").write_text("{}")
    assert find() == (early, "")
    assert find("never") == (None, "")


def test_a_void_record_is_measured_again(write, find):
    first = write("void")
    assert find() == (None, f"{first} is void")
    sound = write(created="2026-02-01T10:00:00Z")
    assert find() == (sound, f"{first} is void")


def test_a_noisy_one_is_kept_unless_quiet_ones_are_asked_for(write, find):
    noisy = write("noisy_host")
    assert find() == (noisy, "")
    assert find("quiet") == (None, f"{noisy} was measured on a noisy host")


def test_an_official_run_that_was_refused_for_its_host_is_made_again(write, find):
    noisy = write("noisy_host", budget="official")
    assert find(budget="official") == (None, f"{noisy} was measured on a noisy host")


def test_another_version_of_what_is_measured_is_another_measurement(write, find):
    record = write()
    changes = ({"torch": "2.12.0"}, "torch 2.11.0, not 2.12.0"), ({PYTHON: "3.13.1"}, "python 3.12.4, not 3.13.1")
    for changed, said in (*changes, ({"jinja2": "3.1.7"}, "jinja2 3.1.6, not 3.1.7")):
        assert find(versions={**VERSIONS, **changed}) == (None, f"{record} was measured with {said}")


def test_tools_and_packages_that_came_or_went_change_nothing(write, find):
    record = write()
    fewer = {name: version for name, version in VERSIONS.items() if name != "jinja2"}
    assert find(versions={**fewer, "ruff": "0.9.9", "openvino": "2026.1"}) == (record, "")


def test_a_record_that_does_not_say_its_packages_is_measured_again(write, find):
    record = write(environment={"cpu": "a CPU"})
    assert find() == (None, f"{record} does not say which packages measured it")


def test_what_is_needed_follows_the_requirements():
    """numpy is asked for by name, pandas by mlflow, onnxruntime by an extra, pytest by development alone."""
    assert {PYTHON, "torch", "numpy", "pandas", "onnxruntime", "hydra-core", "omegaconf"} <= needed()
    assert not {"pytest", "ruff", "mypy", "nox", "recarena"} & needed()
