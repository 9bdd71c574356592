"""A study in parts: what is kept, what is made again, when it stops, and the same figures however it is run."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from harness.calibrate.__main__ import main
from harness.calibrate.jobs import all_repeats, source_of
from harness.calibrate.study import compare_once
from harness.calibrate.table import CELLS

CELL_OF = {cell.name: cell for cell in CELLS}


def test_a_stopped_calibration_goes_on_where_it_stood(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three repeats of M/D/1 at the quick budget; the second call finds two of them done and adds one."""
    results = tmp_path / "results.jsonl"
    arguments = ["--budget", "quick", "--cells", "md1-s5", "--results", str(results)]
    main([*arguments, "--repeats", "2"])
    first = results.read_text()
    main([*arguments, "--repeats", "3", "--out", str(tmp_path / "rows.json")])
    assert results.read_text().startswith(first) and len(results.read_text().splitlines()) == 3
    (row,) = json.loads((tmp_path / "rows.json").read_text())
    assert row["repeats"] == 3 and row["truth_qps"] == pytest.approx(111.9, rel=1e-3)
    assert abs(row["error"]) < 0.03
    assert "| md1-s5 |" in capsys.readouterr().out


def test_a_line_that_a_kill_cut_off_is_made_again(tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    arguments = ["--budget", "quick", "--cells", "md1-s5", "--results", str(results), "--repeats"]
    main([*arguments, "2"])
    whole = results.read_text()
    results.write_text(whole[:-40])
    main([*arguments, "2"])
    first, torn, again = results.read_text().splitlines()
    assert json.loads(first)["seed"] == 0 and not torn.endswith("}") and json.loads(again)["seed"] == 1
    results.write_text(whole.replace(json.loads(first)["source"], "another source"))
    main([*arguments, "1"])
    assert len(results.read_text().splitlines()) == 3


def test_no_repeat_begins_after_its_minutes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is known by then is printed: here one repeat of one cell, and none of the other."""
    results = tmp_path / "results.jsonl"
    arguments = ["--budget", "quick", "--cells", "md1-s5", "md1-s2", "--results", str(results), "--repeats", "2"]
    main([*arguments, "--minutes", "0"])
    assert not results.exists() and "md1" not in capsys.readouterr().out
    kept = {**compare_once(CELL_OF["md1-s5"], "quick", 1), "source": source_of(CELL_OF["md1-s5"])}
    results.write_text(json.dumps(kept) + "\n")
    main([*arguments, "--minutes", "0"])
    said = capsys.readouterr()
    assert "the time is over: 1 of 4 repeats are done" in said.err
    assert "| md1-s5 | 1 |" in said.out and "md1-s2" not in said.out
    assert len(results.read_text().splitlines()) == 1


def test_cells_take_turns(tmp_path: Path) -> None:
    """So that a study that is stopped knows as much of one cell as of the other."""
    results = tmp_path / "results.jsonl"
    cells = ["--cells", "md1-s5", "md1-s2"]
    main(["--budget", "quick", *cells, "--results", str(results), "--repeats", "2"])
    done = [json.loads(line) for line in results.read_text().splitlines()]
    assert [(r["cell"], r["seed"]) for r in done] == [("md1-s2", 0), ("md1-s5", 0), ("md1-s2", 1), ("md1-s5", 1)]


def test_repeats_of_another_cell_of_the_same_name_do_not_count(tmp_path: Path) -> None:
    """The hash is that of the code and of the cell: only the cell whose definition changed is run again."""
    cell, results = CELL_OF["md1-s5"], tmp_path / "results.jsonl"
    lines = []
    for seed, source in ((0, source_of(cell)), (1, source_of(CELL_OF["md1-s2"]))):
        lines.append(json.dumps({"cell": cell.name, "budget": "quick", "seed": seed, "source": source}))
    results.write_text("\n".join(lines) + "\n")
    found = all_repeats([(cell, "quick", seed) for seed in range(2)], results, 1, print, minutes=0.0)
    assert [result["seed"] for result in found] == [0]


def test_an_unknown_cell_is_named() -> None:
    with pytest.raises(SystemExit):
        main(["--cells", "nosuch"])


def test_several_workers_give_what_one_gives(tmp_path: Path) -> None:
    """As a user starts it: the workers must find the code of a program that was started by ``python -m``."""
    arguments, tables = ["--budget", "quick", "--cells", "md1-s5", "--repeats", "2"], []
    main([*arguments, "--out", str(tmp_path / "1.json")])
    several = [sys.executable, "-m", "harness.calibrate", *arguments, "--workers", "2"]
    subprocess.run([*several, "--out", str(tmp_path / "2.json")], check=True, timeout=120)
    for name in ("1.json", "2.json"):
        (row,) = json.loads((tmp_path / name).read_text())
        tables.append({name: value for name, value in row.items() if name != "seconds"})
    assert tables[0] == pytest.approx(tables[1])
