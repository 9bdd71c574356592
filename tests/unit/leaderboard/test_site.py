"""The page: self-contained, escaped, and with the numbers of the records."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from harness.record.writer import RecordWriter
from leaderboard.chart import late_curve
from leaderboard.site import render, write_site
from leaderboard.store import load_board


class Page(HTMLParser):
    """Tags with their attributes, and the balance of opening and closing ones."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "link", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def board(tmp_path, fabricate):
    for fields in ({"opts": {}}, {"speedup": 2.0}, {"dataset": "<script>alert(1)</script>", "speedup": 1.5}):
        trial, measurement = fabricate(**fields)
        with RecordWriter(tmp_path / "records", trial) as writer:
            writer.write(measurement)
    return load_board(tmp_path / "records")


def test_the_page_needs_nothing_from_elsewhere(board):
    text = render(board)
    page = Page(text)
    assert page.open == []
    assert not [attrs for tag, attrs in page.tags if {"src", "href", "srcset"} & set(attrs)]
    assert "http://" not in text and "https://" not in text and "@import" not in text and "url(" not in text
    assert [tag for tag, _ in page.tags if tag in ("link", "img", "iframe")] == []


def test_what_records_say_is_escaped(board):
    text = render(board)
    assert "<script>alert" not in text and "&lt;script&gt;alert(1)" in text
    assert len(re.findall("<script>", text)) == 1


def test_numbers_are_there_at_full_precision_for_sorting(board):
    page = Page(render(board))
    keys = {attrs["data-key"] for tag, attrs in page.tags if tag == "td" and attrs.get("data-key")}
    for entries in board.groups.values():
        for entry in entries:
            assert repr(entry.result.measured.auc) in keys and repr(entry.lbt_qps) in keys
    assert "240" in render(board) and "[230, 250]" in render(board)


def test_dots_lie_where_the_late_fractions_are(fabricate):
    result = fabricate()[1].result
    page = Page(late_curve(result))
    dots = [(float(a["cx"]), float(a["cy"])) for tag, a in page.tags if tag == "circle"]
    rated = [s for s in result.segments if s.purpose in ("search", "quad", "latency")]
    assert len(dots) == len(rated)
    line = next(float(a["y1"]) for tag, a in page.tags if tag == "line" and a["class"] == "sla")
    by_side = [s for side in ("baseline", "candidate") for s in rated if s.side == side]
    for (x, y), segment in zip(dots, by_side, strict=True):
        assert (y < line) == (segment.late / segment.queries > 0.01) or abs(y - line) < 0.1
        assert 52 <= x <= 460
    slow, fast = (dots[i] for i, s in enumerate(by_side) if s.side == "baseline" and s.purpose == "search" and i < 2)
    assert slow[0] < fast[0]


def test_writing_replaces_the_page(board, tmp_path):
    first = write_site(board, tmp_path / "site")
    assert write_site(board, tmp_path / "site") == first
    assert [path.name for path in (tmp_path / "site").iterdir()] == ["index.html"]


def test_an_empty_board_is_a_page_too(tmp_path):
    text = render(load_board(tmp_path))
    assert "No records yet" in text and Page(text).open == []
