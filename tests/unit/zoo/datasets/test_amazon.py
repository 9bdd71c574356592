"""Amazon's official and event files: the same behaviours either way, and errors that name the line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zoo.datasets import fingerprint, load_dataset
from zoo.schema import Dataset, Split

USERS, BEHAVIOURS = 40, 5


def events() -> list[tuple[int, int, int, int]]:
    """(user, item, category, time): 40 users with five behaviours each among 30 items of 4 categories."""
    rng = np.random.default_rng(2)
    found = []
    for user in range(1, USERS + 1):
        items = rng.choice(30, BEHAVIOURS, replace=False) + 1
        found += [(user, int(item), int(item) % 4 + 1, 86_400 * step) for step, item in enumerate(items)]
    return found


def write_events(path: Path, rows: list[tuple[int, int, int, int]]) -> Path:
    lines = ["user\titem\tcate\trel_time_s", *("\t".join(map(str, row)) for row in rows)]
    path.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    return path


def write_reviews(folder: Path, loose: bool) -> tuple[Path, Path]:
    """The same behaviours as official files, the reviews in no order; ``loose``: 2014's Python-like metadata."""
    reviews = [
        {"reviewerID": f"U{user:03}", "asin": f"B{item:04}", "reviewText": 'a "b"\n', "unixReviewTime": 10**9 + time}
        for user, item, _, time in events()
    ]
    order = np.random.default_rng(3).permutation(len(reviews))
    lines = [json.dumps(reviews[index]) for index in order]
    entries: list[dict[str, Any]] = []
    for item in range(1, 31):
        path = ["All", f"Category {item % 4}"]
        entries.append(
            {"asin": f"B{item:04}", "title": "It's", **({"categories": [["X"], path]} if loose else {"category": path})}
        )
    text = [repr(entry) if loose else json.dumps(entry) for entry in entries]
    files = folder / "reviews_Test_5.json.gz", folder / "meta_Test.json.gz"
    for file, content in zip(files, (lines, text), strict=True):
        file.write_bytes(gzip.compress("\n".join(content).encode()))
    return files


def load(cache: Path, **options: Any) -> Dataset:
    return load_dataset("amazon", {key: str(value) for key, value in options.items()}, cache)


def pairs(split: Split) -> set[tuple[Any, ...]]:
    """(history, positive item) of every group, items by the order of their categories and co-occurrence left out."""
    found = set()
    for group, start in enumerate(split.groups[:-1]):
        history = split.history[split.history_offsets[group] : split.history_offsets[group + 1], 0]
        found.add((tuple(history.tolist()), int(split.item.ids[start, 0])))
    return found


def test_event_file_gives_last_behaviours_as_targets(tmp_path: Path) -> None:
    data = load(tmp_path / "cache", path=write_events(tmp_path / "e.tsv.gz", events()))
    items = np.unique([row[1] for row in events()])
    number = {int(item): index + 1 for index, item in enumerate(items)}
    expected = set()
    for user in range(USERS):
        own = [number[row[1]] for row in events()[user * BEHAVIOURS : (user + 1) * BEHAVIOURS]]
        expected.add((tuple(own[:-1]), own[-1]))
    assert pairs(data.train) | pairs(data.valid) | pairs(data.test) == expected
    assert [len(split.groups) - 1 for split in (data.train, data.valid, data.test)] == [32, 4, 4]
    assert data.schema.tables() == {"item": len(items) + 1, "category": 5}


@pytest.mark.parametrize("loose", [True, False])
def test_official_files_give_the_same_behaviours_as_events(tmp_path: Path, loose: bool) -> None:
    reviews, metadata = write_reviews(tmp_path, loose)
    official = load(tmp_path / "cache", path=reviews, metadata_path=metadata)
    listed = load(tmp_path / "cache", path=write_events(tmp_path / "e.tsv.gz", events()))
    assert official.schema.tables() == listed.schema.tables()
    shapes = [
        sorted([*np.diff(split.history_offsets).tolist(), len(split)])
        for data in (official, listed)
        for split in (data.train, data.valid, data.test)
    ]
    assert shapes[:3] == shapes[3:]
    # Items are numbered in another order; how often each is a behaviour does not depend on it.
    counts = [
        sorted(np.bincount(np.concatenate([split.history[:, 0] for split in (d.train, d.valid, d.test)]), minlength=31))
        for d in (official, listed)
    ]
    assert counts[0] == counts[1]
    categories = [
        sorted(np.bincount(np.concatenate([split.history[:, 1] for split in (d.train, d.valid, d.test)])).tolist())
        for d in (official, listed)
    ]
    assert categories[0] == categories[1]


def test_items_without_metadata_share_one_category(tmp_path: Path) -> None:
    reviews, metadata = write_reviews(tmp_path, loose=True)
    metadata.write_bytes(gzip.compress(b"{'asin': 'B0001', 'categories': [['All', 'Only']]}"))
    data = load(tmp_path / "cache", path=reviews, metadata_path=metadata)
    assert data.schema.tables()["category"] == 3


BROKEN_EVENTS = {
    "header": (lambda text: text.replace("user\t", "users\t"), "line 1: expected the header"),
    "columns": (lambda text: text.replace("\n2\t", "\n2 ", 1), r"line 7: expected 4 columns .* got 3"),
    "number": (lambda text: text.replace("\n2\t", "\ntwo\t", 1), "line 7: expected a whole number in user, got 'two'"),
    "order": (
        lambda text: text.replace("86400", "999999", 1),
        "line 4: expected a time not before 999999 .* got 172800",
    ),
    "no rows": (lambda text: text.split("\n")[0] + "\n", "holds no data line"),
}


@pytest.mark.parametrize("name", BROKEN_EVENTS)
def test_a_broken_event_file_is_named(tmp_path: Path, name: str) -> None:
    change, message = BROKEN_EVENTS[name]
    good = write_events(tmp_path / "good.tsv.gz", events())
    path = tmp_path / "events.tsv"
    path.write_text(change(gzip.decompress(good.read_bytes()).decode()))
    with pytest.raises(ValueError, match=f"{path.name}.*{message}"):
        load(tmp_path / "cache", path=path)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["content"]


BROKEN_REVIEWS = {
    "no json": (lambda rows: [*rows[:4], "{'asin': 'x'}", *rows[5:]], "line 5: expected a JSON object with reviewerID"),
    "cut off": (lambda rows: [*rows[:-1], rows[-1][:20]], "line 200: expected a JSON object"),
    "no asin": (lambda rows: [*rows[:2], rows[2].replace("asin", "isin"), *rows[3:]], "line 3: .*asin of type string"),
    "time as text": (
        lambda rows: [rows[0].replace('Time": ', 'Time": "').replace("}", '"}'), *rows[1:]],
        "line 1: .*unixReviewTime of type int64",
    ),
}


@pytest.mark.parametrize("name", BROKEN_REVIEWS)
def test_a_broken_review_file_is_named(tmp_path: Path, name: str) -> None:
    change, message = BROKEN_REVIEWS[name]
    reviews, metadata = write_reviews(tmp_path, loose=False)
    rows = gzip.decompress(reviews.read_bytes()).decode().split("\n")
    reviews.write_bytes(gzip.compress("\n".join(change(rows)).encode()))
    with pytest.raises(ValueError, match=f"{reviews.name}, {message}"):
        load(tmp_path / "cache", path=reviews, metadata_path=metadata)


def test_broken_metadata_is_named(tmp_path: Path) -> None:
    reviews, metadata = write_reviews(tmp_path, loose=True)
    metadata.write_bytes(gzip.compress(b"{'asin': 'B0001', 'categories': [['All']]}\n{'asin': \n"))
    with pytest.raises(ValueError, match=f"{metadata.name}, line 2: expected an object with asin"):
        load(tmp_path / "cache", path=reviews, metadata_path=metadata)
    metadata.write_bytes(gzip.compress(b"x" * 5_000)[:-4])
    with pytest.raises(ValueError, match=f"{metadata.name} is truncated"):
        load(tmp_path / "cache", path=reviews, metadata_path=metadata)


def test_missing_files_say_what_to_get(tmp_path: Path) -> None:
    reviews, _ = write_reviews(tmp_path, loose=True)
    with pytest.raises(ValueError, match=r"dataset\.metadata_path is not set.*McAuley"):
        load(tmp_path / "cache", path=reviews)
    with pytest.raises(ValueError, match=r"dataset\.path=.* does not exist.*McAuley"):
        load(tmp_path / "cache", path=tmp_path / "absent.json")
    with pytest.raises(ValueError, match="is a folder: name the file"):
        load(tmp_path / "cache", path=tmp_path)


@pytest.mark.parametrize(("more", "share"), [({}, 100 / 299), ({"negatives": "uniform"}, 1 / 200)])
def test_negatives_follow_popularity_unless_told_otherwise(tmp_path: Path, more: dict[str, str], share: float) -> None:
    """Every user has item 1 or item 2 and one of its own, so one popular item stays to be drawn: 100 of 299 events."""
    rows = [(user, item, 1, item) for user in range(200) for item in (1 + user % 2, 3 + user)]
    path = str(write_events(tmp_path / "e.tsv.gz", rows))
    data = load_dataset("amazon", {"path": path, "query_groups": 0, **more}, tmp_path / "cache")
    drawn = np.concatenate([part.item.ids[part.labels == 0, 0] for part in (data.train, data.valid, data.test)])
    assert len(drawn) == 200
    assert np.mean(drawn <= 2) == pytest.approx(share, abs=4 * (share * (1 - share) / 200) ** 0.5)


def test_fingerprint_follows_the_protocol(tmp_path: Path) -> None:
    path = str(write_events(tmp_path / "e.tsv.gz", events()))
    marks = {fingerprint("amazon", {"path": path, **more}) for more in ({}, {"protocol": "rolling"}, {"seed": 2})}
    assert len(marks) == 3
    assert load_dataset("amazon", {"path": path}, tmp_path / "cache").fingerprint in marks


@pytest.mark.parametrize(
    ("file", "users", "items", "categories", "behaviours"),
    [("Beauty", 22_363, 12_101, 195, 198_502), ("Sports_and_Outdoors", 35_598, 18_357, 959, 296_337)],
)
def test_real_event_files(
    tmp_path: Path, real_data: Path, file: str, users: int, items: int, categories: int, behaviours: int
) -> None:
    path = real_data / "amazon" / f"{file}.events.tsv.gz"
    data = load_dataset("amazon", {"path": str(path), "protocol": "rolling"}, tmp_path)
    assert data.schema.tables() == {"item": items + 1, "category": categories + 1}
    groups = sum(len(split.groups) - 1 for split in (data.train, data.valid, data.test))
    assert groups == behaviours - 2 * users  # 5-core: every user has more than two
    assert np.diff(data.train.history_offsets).max() <= 50
