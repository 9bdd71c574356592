"""``python -m leaderboard``: exit codes and messages of each subcommand."""

from __future__ import annotations

import pytest

from harness.record.writer import RecordWriter
from leaderboard.__main__ import main


@pytest.fixture
def records(tmp_path, fabricate):
    paths = {}
    for name, fields in (
        ("fast", {"speedup": 2.0, "created": "2026-03-01T12:00:00Z"}),
        ("slow", {"speedup": 1.6, "created": "2026-03-02T12:00:00Z"}),
        ("other", {"speedup": 2.0, "hardware": "arm64", "created": "2026-03-03T12:00:00Z"}),
    ):
        trial, measurement = fabricate(**fields)
        with RecordWriter(tmp_path / "records", trial) as writer:
            paths[name] = writer.write(measurement)
    return paths


@pytest.fixture
def run(records, capsys):
    folder = records["fast"].parent

    def call(*arguments):
        code = main(["--records-dir", str(folder), *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_show(run, records):
    code, out, _ = run("show")
    assert code == 0 and "dien on planted" in out and "arm64" in out
    code, out, _ = run("show", records["slow"].name)
    assert code == 0 and "1.60 [1.52, 1.68]" in out and str(records["slow"]) in out.replace("\n", "")


def test_a_trial_id_finds_the_newest_record_of_it(run, records):
    trial_id = records["fast"].name.rpartition("_")[2]
    code, out, _ = run("show", trial_id[:6])
    assert code == 0 and records["other"].name in out.replace("\n", "")


def test_compare(run, records):
    code, out, _ = run("compare", records["slow"], records["fast"])
    assert code == 0 and "no regression" in out
    code, out, _ = run("compare", records["fast"], records["slow"].name)
    assert code == 1 and "regression: latency-bound throughput" in out
    code, out, err = run("compare", records["fast"], records["other"])
    assert code == 2 and out == "" and "hardware_class x86_64-2c-avx512 and arm64" in err and "--force" in err
    assert run("compare", records["fast"], records["other"], "--force")[0] == 0


def test_verify(record, edit, capsys):
    def verify():
        return main(["--records-dir", str(record.parent), "verify", record.name]), capsys.readouterr().out

    code, out = verify()
    assert code == 0 and "recomputed numbers are as published" in out
    (record / "queries.parquet").write_bytes(b"")
    edit.rewrite_manifest()
    code, out = verify()
    assert code == 1 and "NOT verified" in out and "queries.parquet cannot be read" in out


def test_site(run, tmp_path):
    code, _, _ = run("site", "--out", tmp_path / "page")
    assert code == 0 and (tmp_path / "page" / "index.html").read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    code, _, err = run("site", "--out", tmp_path / "file")
    assert code == 2 and err.startswith("error: --out") and len(err.splitlines()) == 1


def test_sync_with_nothing_to_do(run):
    code, out, _ = run("sync")
    assert code == 0 and "0 uploaded, 0 still pending" in out


@pytest.mark.parametrize("arguments", [("show", "nothing"), ("verify", "nothing"), ("compare", "a", "b")])
def test_an_unknown_record_is_one_line(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and len(err.splitlines()) == 1 and "there is no record" in err


@pytest.mark.parametrize("command", ["show", "site", "compare", "sync", "verify", "peers"])
def test_every_subcommand_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    assert len(capsys.readouterr().out.splitlines()) >= 5
