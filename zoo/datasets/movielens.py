"""``movielens``: MovieLens 100K and 1M as behaviours: a rating of 4 or more is one, in the order of their times.

Official names: "MovieLens 100K" (ml-100k: u.data, u.item) and "MovieLens 1M" (ml-1m: ratings.dat, movies.dat),
published by GroupLens, University of Minnesota (grouplens.org/datasets/movielens). Also read: the atomic files of
RecBole (ml-100k.inter, ml-100k.item). Licence: research use, no redistribution; nothing of it is copied here.

The samples are those of ``zoo.datasets.behaviours``: targets are behaviours, negatives are movies that the user did
not rate 4 or more. A movie's category is the first of its genres.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute

from zoo.datasets.behaviour_options import BehaviourOptions, load_behaviours
from zoo.datasets.behaviour_table import write_behaviours
from zoo.datasets.cache import content_sha256
from zoo.datasets.delimited import Layout, read_delimited
from zoo.datasets.portable_random import Int64
from zoo.datasets.source_file import require_path
from zoo.schema import Dataset

HOW_TO_GET = (
    "Get ml-100k.zip or ml-1m.zip from GroupLens, grouplens.org/datasets/movielens, unpack it and give the folder that "
    "holds u.data and u.item, ratings.dat and movies.dat, or (RecBole's copy) ml-100k.inter and ml-100k.item"
)
POSITIVE_RATING = 4.0
RATING_NAMES = ("user", "item", "rating", "timestamp")
GENRES = 19
MOVIE_COLUMNS = ("item", "title", "release_date", "video_release_date", "url")


@dataclass(frozen=True, slots=True, kw_only=True)
class MovielensOptions(BehaviourOptions):
    """``path``: the unpacked folder. Rolling targets by default: there are few users."""

    protocol: Literal["last", "rolling"] = "rolling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Files of one release: their names, layouts, and how a movie's first genre is read off a table of movies."""

    ratings: str
    ratings_layout: Layout
    movies: str
    movies_layout: Layout
    first_genre: Callable[[pa.Table], list[str]]


def _first_flag(movies: pa.Table) -> list[str]:
    flags = np.column_stack([movies.column(f"genre{number}").to_numpy() for number in range(GENRES)])
    return [str(number) for number in np.argmax(flags, axis=1)]


def _first_word(movies: pa.Table) -> list[str]:
    return [genres.split("|")[0].split(" ")[0] for genres in movies.column("genres").to_pylist()]


RELEASES = (
    Release(
        ratings="u.data",
        ratings_layout=Layout(columns=dict.fromkeys(RATING_NAMES, pa.int64())),
        movies="u.item",
        movies_layout=Layout(
            columns={
                "item": pa.int64(),
                **dict.fromkeys(MOVIE_COLUMNS[1:], pa.string()),
                **{f"genre{number}": pa.int64() for number in range(GENRES)},
            },
            separator="|",
            encoding="latin1",
        ),
        first_genre=_first_flag,
    ),
    Release(
        ratings="ratings.dat",
        ratings_layout=Layout(columns=dict.fromkeys(RATING_NAMES, pa.int64()), separator="::"),
        movies="movies.dat",
        movies_layout=Layout(
            columns={"item": pa.int64(), "title": pa.string(), "genres": pa.string()}, separator="::", encoding="latin1"
        ),
        first_genre=_first_word,
    ),
    Release(
        ratings="ml-100k.inter",
        ratings_layout=Layout(
            columns={"user": pa.int64(), "item": pa.int64(), "rating": pa.float64(), "timestamp": pa.float64()},
            header="user_id:token\titem_id:token\trating:float\ttimestamp:float",
        ),
        movies="ml-100k.item",
        movies_layout=Layout(
            columns={"item": pa.int64(), "title": pa.string(), "year": pa.string(), "genres": pa.string()},
            header="item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq",
        ),
        first_genre=_first_word,
    ),
)


def fingerprint(options: MovielensOptions, cache_dir: Path | None = None) -> str:
    """SHA-256 of the files' content, the options and the reader's version."""
    folder, release = _release(options)
    return options.identity(_contents(folder, release, cache_dir))


def load(options: MovielensOptions, cache_dir: Path, progress: Callable[[str, float], None]) -> Dataset:
    """Parse (or take from the cache), sample and split. Raises ValueError naming file and line for broken input."""
    folder, release = _release(options)
    progress("reading", 0.0)
    data = load_behaviours(
        "movielens",
        options,
        _contents(folder, release, cache_dir),
        cache_dir,
        lambda target: _parse(folder, release, target),
    )
    progress("loaded", 1.0)
    return data


def _release(options: MovielensOptions) -> tuple[Path, Release]:
    folder = require_path("dataset.path", options.path, HOW_TO_GET)
    for release in RELEASES:
        if (folder / release.ratings).is_file() and (folder / release.movies).is_file():
            return folder, release
    raise ValueError(f"dataset.path={options.path} holds none of the MovieLens releases. {HOW_TO_GET}")


def _contents(folder: Path, release: Release, cache_dir: Path | None) -> list[str]:
    return [content_sha256(folder / name, cache_dir) for name in (release.ratings, release.movies)]


def _parse(folder: Path, release: Release, target: Path) -> None:
    ratings = read_delimited(folder / release.ratings, release.ratings_layout)
    movies = read_delimited(folder / release.movies, release.movies_layout)
    positive = ratings.filter(pa.compute.greater_equal(ratings.column("rating"), POSITIVE_RATING))
    user, item, time = (positive.column(name).to_numpy().astype(np.int64) for name in ("user", "item", "timestamp"))
    numbers, category_of = _categories(movies.column("item").to_numpy(), release.first_genre(movies))
    place = np.minimum(np.searchsorted(numbers, item), len(numbers) - 1)
    unlisted = np.flatnonzero(numbers[place] != item)
    if len(unlisted):
        raise ValueError(
            f"{folder / release.ratings} rates movie {item[unlisted[0]]}, which {release.movies} does not list: "
            "both files must be of one release"
        )
    write_behaviours(target, user, place.astype(np.int64), time, category_of)


def _categories(movies: Int64, genres: list[str]) -> tuple[Int64, Int64]:
    """(movie numbers, ascending; the category number of each)."""
    order = np.argsort(movies, kind="stable")
    _, category = np.unique(np.array(genres)[order], return_inverse=True)
    return movies[order], category.astype(np.int64)
