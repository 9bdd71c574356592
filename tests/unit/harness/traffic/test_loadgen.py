"""What is made of LoadGen's trace, and of queries that nobody knew before."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from harness.traffic.arrivals import Queries
from harness.traffic.loadgen import GrowingLog, read_trace
from harness.traffic.ring_client import QueryLog

TRACE = """{"traceEvents":[
{"name":"LogDetail","ph":"X","pid":1,"tid":3,"ts":10356.037,"dur":10.846,"args":{"key":""loadgen_version""}},
{"name":"Latency","ph": "C","pid":1,"ts":191.607,"args":{ "issue_delay":180,"issue_to_done":5166303}},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":1,"ts":5000191.607,"args":\
{"sample_seq":1,"query_seq":1,"sample_idx":610,"issue_start_ns":180,"complete_ns":5166483}},
{"name":"Sample","cat":"default","ph":"e", "pid":1,"id":1,"ts":5005358.090},
{"name":"Sample","cat":"default","ph":"b","pid":1,"id":0,"ts":191.050,"args":\
{"sample_seq":0,"query_seq":0,"sample_idx":3,"issue_start_ns":0,"complete_ns":7}},
{"name":"LastTrace"}
"""


def test_the_trace_is_read_to_the_nanosecond_and_in_order() -> None:
    assert read_trace(TRACE).tolist() == [[0, 3, 191_050, 0, 7], [1, 610, 5_000_191_607, 180, 5_166_483]]
    assert read_trace("").shape == (0, 5)


@given(st.lists(st.integers(0, 4), max_size=20))
def test_a_log_that_grows_is_the_log_of_the_same_queries(chosen: list[int]) -> None:
    library = [1, 7, 3, 100, 20]
    growing = GrowingLog(library)
    assert [growing.append(sample) for sample in chosen] == list(range(len(chosen)))
    known = QueryLog([library[sample] for sample in chosen])
    assert growing.chosen == chosen
    assert (growing.sizes, growing.score_bytes, growing.scores) == (known.sizes, known.score_bytes, known.scores)
    for name, column in known.arrays().items():
        np.testing.assert_array_equal(growing.arrays()[name], column)


@given(st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=5), min_size=1, max_size=6), st.data())
def test_drawn_queries_ask_for_what_the_library_asks_for(library: list[list[int]], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, len(library) - 1), max_size=10))
    offsets = np.cumsum([0, *(len(samples) for samples in library)])
    queries = Queries(np.arange(len(library)), np.concatenate(library), offsets)
    drawn = queries.drawn(np.array(chosen, np.int64))
    found = [drawn.samples[a:b].tolist() for a, b in zip(drawn.offsets[:-1], drawn.offsets[1:], strict=True)]
    assert found == [library[index] for index in chosen]
    assert drawn.query_id.tolist() == list(range(len(chosen)))


def test_one_module_knows_loadgen() -> None:
    root = Path(__file__).parents[4]
    packages = [root / name for name in ("harness", "leaderboard", "optimizations", "zoo")]
    sources = [path for package in packages for path in package.rglob("*.py")]
    imports = re.compile(r"import_module\(.mlperf_loadgen|import mlperf_loadgen|from mlperf_loadgen")
    assert [path.name for path in sources if imports.search(path.read_text())] == ["loadgen.py"]
