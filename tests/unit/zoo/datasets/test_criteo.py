"""The Criteo reader against a naive one, its splits, and its errors on files that are really broken."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.datasets import fingerprint, load_dataset
from zoo.datasets.criteo import RARE_ID, merge_rare
from zoo.datasets.criteo_reader import BLOCK_BYTES
from zoo.schema import MISSING_ID, Dataset, Split

integer = st.integers(-3, 10**7).map(str) | st.just("")
token = st.integers(0, 2**32 - 1).map(lambda value: f"{value:08x}") | st.just("")
line = st.tuples(
    st.sampled_from(["0", "1"]),
    st.lists(integer, min_size=13, max_size=13),
    st.lists(token, min_size=26, max_size=26),
).map(lambda parts: "\t".join([parts[0], *parts[1], *parts[2]]))


def plain_line(label: int, number: int, ident: int) -> str:
    """A line whose integers are all ``number`` and whose tokens are all ``ident``."""
    return "\t".join([str(label), *[str(number)] * 13, *[f"{ident:08x}"] * 26])


def naive_read(text: str) -> list[tuple[float, list[float], list[int]]]:
    """(label, dense, ids) of each line, the slow and plain way."""
    rows = []
    for each in text.splitlines():
        fields = each.split("\t")
        dense = [float(field) if field else math.nan for field in fields[1:14]]
        ids = [int(field, 16) if field else MISSING_ID for field in fields[14:]]
        rows.append((float(fields[0]), dense, ids))
    return rows


def load(path: Path, cache: Path, **options: Any) -> Dataset:
    return load_dataset("criteo", {"path": str(path), "min_count": 1, **options}, cache)


def rows_of(split: Split) -> list[tuple[float, list[float], list[int]]]:
    return [
        (float(label), dense.tolist(), ids.tolist())
        for label, dense, ids in zip(split.labels, split.item.dense, split.item.ids, strict=True)
    ]


@settings(max_examples=15)
@given(st.lists(line, min_size=10, max_size=40), st.booleans(), st.booleans())
def test_rows_are_those_of_a_naive_reader(lines: list[str], packed: bool, final_newline: bool) -> None:
    text = "\n".join(lines) + ("\n" if final_newline else "")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("train.txt.gz" if packed else "train.txt")
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        data = load(path, Path(folder) / "cache")
    got = rows_of(data.train) + rows_of(data.valid) + rows_of(data.test)
    np.testing.assert_equal(got, [(a, np.float32(b).tolist(), c) for a, b, c in naive_read(text)])


def test_rows_keep_their_order_over_blocks_and_splits(tmp_path: Path) -> None:
    count = BLOCK_BYTES // len(plain_line(0, 100_000, 0)) * 2 + 1_000
    path = tmp_path / "train.txt"
    path.write_text("".join(plain_line(row % 2, row, row) + "\n" for row in range(count)))
    data = load(path, tmp_path / "cache", test=500, valid=0.25, max_rows=count - 7)
    parts = (data.train, data.valid, data.test)
    order = np.concatenate([split.item.ids[:, 25] for split in parts])
    assert np.array_equal(order, np.arange(count - 7))
    assert [len(split) for split in parts] == [count - 7 - 500 - (count - 7) // 4, (count - 7) // 4, 500]
    assert np.array_equal(np.diff(data.test.groups), np.full(5, 100))
    assert np.array_equal(data.train.item.dense[:, 3], np.arange(len(data.train), dtype=np.float32))


def test_dense_statistics_are_those_of_the_training_rows(tmp_path: Path) -> None:
    path = tmp_path / "train.txt"
    numbers = [0, 5, 12, -2, 1_000, 7, 7, 7, 99_999, 3]
    path.write_text("".join(plain_line(0, number, 1) + "\n" for number in numbers))
    field = load(path, tmp_path / "cache").schema.dense[4]
    logs = [np.sign(number) * np.log(1 + abs(number)) for number in numbers[:8]]
    assert field.mean == pytest.approx(np.mean(logs), abs=6e-5)
    assert field.std == pytest.approx(np.std(logs), abs=6e-5)


def test_rare_values_are_judged_by_training_rows_alone() -> None:
    ids = np.array([[5, 1], [5, 1], [6, MISSING_ID], [5, 2], [6, 1], [7, 1], [7, 2]], np.int64)
    merge_rare(ids, 4, 2)
    assert ids[:, 0].tolist() == [5, 5, RARE_ID, 5, RARE_ID, RARE_ID, RARE_ID]
    assert ids[:, 1].tolist() == [1, 1, MISSING_ID, RARE_ID, 1, 1, RARE_ID]


def test_a_folder_of_days_is_read_in_the_order_of_days(tmp_path: Path) -> None:
    for day in (10, 2, 0):
        (tmp_path / f"day_{day}").write_text("".join(plain_line(0, 1, 100 * day + row) + "\n" for row in range(5)))
    data = load(tmp_path, tmp_path / "cache")
    parts = (data.train, data.valid, data.test)
    order = np.concatenate([split.item.ids[:, 0] for split in parts]).tolist()
    assert order == [*range(5), *range(200, 205), *range(1_000, 1_005)]


def test_fingerprint_follows_content_and_options_not_the_place(tmp_path: Path) -> None:
    text = "".join(plain_line(0, row, row) + "\n" for row in range(20))
    first, second, third = (tmp_path / name for name in ("a.txt", "b.txt", "c.txt"))
    first.write_text(text)
    second.write_text(text)
    third.write_text(text.replace("\t3\t", "\t4\t"))
    marks = [fingerprint("criteo", {"path": str(path)}) for path in (first, second, third)]
    assert marks[0] == marks[1] != marks[2]
    assert fingerprint("criteo", {"path": str(first), "min_count": 9}) != marks[0]
    assert load_dataset("criteo", {"path": str(first)}, tmp_path / "cache").fingerprint == marks[0]


Change = Callable[[list[str]], list[str]]
BROKEN: dict[str, tuple[Change, str]] = {
    "39 columns": (lambda rows: [*rows[:6], rows[6].rsplit("\t", 1)[0], *rows[7:]], "line 7: expected 40 .* got 39"),
    "41 columns": (lambda rows: [*rows[:2], rows[2] + "\t", *rows[3:]], "line 3: expected 40 .* got 41"),
    "empty line": (lambda rows: [*rows[:5], "", *rows[5:]], "line 6: expected 40 .* got 1$"),
    "label": (lambda rows: [*rows[:9], "2" + rows[9][1:]], "line 10: expected label 0 or 1 .* got '2'"),
    "negative label": (lambda rows: [*rows[:9], "-1" + rows[9][1:]], "line 10: expected label 0 or 1 .* got '-1'"),
    "no label": (lambda rows: [rows[0][1:], *rows[1:]], "line 1: expected label 0 or 1 .* got ''"),
    "integer": (lambda rows: [rows[0].replace("\t5\t", "\t5.5\t", 1), *rows[1:]], "line 1: .* number .* I1, got '5.5'"),
    "token": (lambda rows: [*rows[:3], rows[3][:-8] + "0000000g", *rows[4:]], "line 4: .* C26, got '0000000g'"),
    "short token": (lambda rows: [*rows[:3], rows[3][:-1], *rows[4:]], "line 4: expected 8 hexadecimal .* in C26"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_named(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    path, cache = tmp_path / "train.txt", tmp_path / "cache"
    path.write_text("\n".join(change([plain_line(0, 5, 7)] * 12)))
    with pytest.raises(ValueError, match=rf"train\.txt, {message}"):
        load(path, cache)
    assert [each.name for each in cache.iterdir()] == ["content"]


def packed_rows() -> bytes:
    rows = np.random.default_rng(1).integers(0, 2**32, 5_000)
    return gzip.compress("".join(plain_line(0, 5, int(row)) + "\n" for row in rows).encode())


def flipped(content: bytes) -> bytes:
    """One bit in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :]


BROKEN_FILES: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "truncated gzip": ("a.gz", lambda: packed_rows()[:-5_000], "is truncated"),
    "gzip without its end": ("a.gz", lambda: packed_rows()[:-4], "is truncated"),
    "corrupt gzip": ("a.gz", lambda: flipped(packed_rows()), "is corrupt"),
    "wrong checksum": ("a.gz", lambda: packed_rows()[:-8] + bytes(8), "is corrupt"),
    "not gzip": ("a.gz", lambda: plain_line(0, 1, 1).encode(), "does not hold gzip data"),
    "empty": ("a.txt", lambda: b"", "is empty"),
    "empty gzip": ("a.gz", lambda: gzip.compress(b""), "holds no line"),
    "another format": ("a.txt", lambda: b"user\titem\tcate\n1\t2\t3\n", "line 1: expected 40 .* got 3"),
    "binary": ("a.txt", lambda: bytes(range(256)) * 64, "line 1: expected 40"),
    "too short": ("a.txt", lambda: plain_line(0, 1, 1).encode(), "holds 1 rows"),
}


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    file, content, message = BROKEN_FILES[name]
    path = tmp_path / file
    path.write_bytes(content())
    with pytest.raises(ValueError, match=message) as caught:
        load(path, tmp_path / "cache")
    assert str(path) in str(caught.value)
    assert not list((tmp_path / "cache").glob(".*"))


def test_a_missing_path_says_how_to_get_the_data(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.path is not set.*Criteo AI Lab"):
        load_dataset("criteo", {}, tmp_path)
    with pytest.raises(ValueError, match=r"dataset\.path=.*nothing does not exist.*Criteo AI Lab"):
        load(tmp_path / "nothing", tmp_path)
    with pytest.raises(ValueError, match=r"folder without train\.txt or day_0"):
        load(tmp_path, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_real_sample_has_its_published_click_rate(tmp_path: Path, real_data: Path) -> None:
    path = real_data / "criteo_sample" / "dac_sample_80k.txt.gz"
    data = load_dataset("criteo", {"path": str(path)}, tmp_path)
    parts = (data.train, data.valid, data.test)
    assert [len(split) for split in parts] == [64_000, 8_000, 8_000]
    assert np.concatenate([split.labels for split in parts]).mean() == pytest.approx(0.2245, abs=5e-5)
    with gzip.open(path, "rt") as stream:
        expected = naive_read("".join(list(stream)[::997]))
    again = load(path, tmp_path)
    labels = np.concatenate([split.labels for split in (again.train, again.valid, again.test)])[::997]
    dense = np.concatenate([split.item.dense for split in (again.train, again.valid, again.test)])[::997]
    ids = np.concatenate([split.item.ids for split in (again.train, again.valid, again.test)])[::997]
    np.testing.assert_equal(labels.tolist(), [row[0] for row in expected])
    np.testing.assert_equal(dense, np.array([row[1] for row in expected], np.float32))
    np.testing.assert_equal(ids.tolist(), [row[2] for row in expected])
