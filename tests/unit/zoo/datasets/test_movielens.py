"""The three layouts of MovieLens hold the same ratings and must give the same data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from zoo.datasets import load_dataset
from zoo.schema import Dataset

GENRES = ("unknown", "Action", "Comedy", "Drama")


def ratings() -> list[tuple[int, int, int, int]]:
    """(user, movie, rating, time) of 30 users with 12 movies each, in no order of time."""
    rng = np.random.default_rng(4)
    found = []
    for user in range(1, 31):
        movies = rng.choice(50, 12, replace=False) + 1
        times = rng.choice(10_000, 12, replace=False)
        found += [(user, int(m), int(rng.integers(2, 6)), int(t)) for m, t in zip(movies, times, strict=True)]
    return found


def genre(movie: int) -> int:
    return movie % 3 + 1


def write_100k(folder: Path) -> Path:
    folder.mkdir()
    (folder / "u.data").write_text("".join("\t".join(map(str, row)) + "\n" for row in ratings()))
    lines = []
    for movie in range(1, 51):
        flags = ["1" if index in (genre(movie), 3) else "0" for index in range(19)]
        lines.append("|".join([str(movie), f"Titre é {movie}", "01-Jan-1995", "", "http://x", *flags]))
    (folder / "u.item").write_bytes("\n".join(lines).encode("latin1"))
    return folder


def write_1m(folder: Path) -> Path:
    folder.mkdir()
    (folder / "ratings.dat").write_text("".join("::".join(map(str, row)) + "\n" for row in ratings()))
    lines = [f"{movie}::Titre é: {movie}::{GENRES[genre(movie)]}|Drama" for movie in range(1, 51)]
    (folder / "movies.dat").write_bytes("\n".join(lines).encode("latin1"))
    return folder


def write_recbole(folder: Path) -> Path:
    folder.mkdir()
    head = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    (folder / "ml-100k.inter").write_text(head + "".join("\t".join(map(str, row)) + "\n" for row in ratings()))
    head = "item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq\n"
    lines = [f"{movie}\tTitre\t1995\t{GENRES[genre(movie)]} Drama\n" for movie in range(1, 51)]
    (folder / "ml-100k.item").write_text(head + "".join(lines))
    return folder


WRITERS = (write_100k, write_1m, write_recbole)


def load(folder: Path, cache: Path, **options: object) -> Dataset:
    return load_dataset("movielens", {"path": str(folder), **options}, cache)


@pytest.mark.parametrize("writer", WRITERS)
def test_targets_are_high_ratings_in_the_order_of_time(tmp_path: Path, writer) -> None:
    data = load(writer(tmp_path / "ml"), tmp_path / "cache", protocol="last")
    expected = set()
    for user in range(1, 31):
        own = sorted((time, movie) for who, movie, rating, time in ratings() if who == user and rating >= 4)
        movies = [movie for _, movie in own]
        if len(movies) >= 2:
            expected.add((*movies[:-1], -1, movies[-1]))
    got = set()
    for split in (data.train, data.valid, data.test):
        for group, start in enumerate(split.groups[:-1]):
            history = split.history[split.history_offsets[group] : split.history_offsets[group + 1]]
            got.add((*history[:, 0].tolist(), -1, int(split.item.ids[start, 0])))
            assert (history[:, 1] == history[:, 0] % 3 + 1).all()
    assert got == expected
    assert data.schema.tables() == {"item": 51, "category": 4}


def test_all_layouts_give_the_same_arrays(tmp_path: Path) -> None:
    loaded = [load(writer(tmp_path / writer.__name__), tmp_path / "cache") for writer in WRITERS]
    for other in loaded[1:]:
        assert np.array_equal(loaded[0].test.item.ids, other.test.item.ids)
        assert np.array_equal(loaded[0].train.history, other.train.history)
        assert other.fingerprint != loaded[0].fingerprint


BROKEN = {
    "columns": ("u.data", lambda text: text.replace("\t", " ", 1), "line 1: expected 4 columns"),
    "number": (
        "u.data",
        lambda text: text.replace("\n2\t", "\nx\t", 1),
        "line 13: expected a whole number in user, got 'x'",
    ),
    "other release": ("u.item", lambda text: "\n".join(text.split("\n")[:20]), "which u.item does not list"),
    "movie columns": ("u.item", lambda text: text.replace("|0\n", "\n", 1), "line 1: expected 24 columns .* got 23"),
    "empty": ("u.data", lambda text: "", "is empty"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_named(tmp_path: Path, name: str) -> None:
    file, change, message = BROKEN[name]
    folder = write_100k(tmp_path / "ml")
    path = folder / file
    path.write_text(change(path.read_text("latin1")), "latin1")
    with pytest.raises(ValueError, match=message) as caught:
        load(folder, tmp_path / "cache")
    assert str(folder) in str(caught.value)


def test_missing_files_say_what_to_get(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"dataset\.path is not set.*GroupLens"):
        load_dataset("movielens", {}, tmp_path)
    with pytest.raises(ValueError, match=r"holds none of the MovieLens releases.*GroupLens"):
        load(tmp_path, tmp_path)
