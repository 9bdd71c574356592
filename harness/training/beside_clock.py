"""Work that a side does where no clock runs, or only where it is looked at: what its processor time tells of it.

A side learns that its parameters are looked at when it is told to write them, and writing is on no clock. Whoever
answers an order at once, and takes its steps when it has to show for them, is fast and right; but writing costs it what
the steps do. Processor time is counted there, too, and both sides have the same to write.
"""

from __future__ import annotations

from collections.abc import Iterable

from harness.measurement.preparation import BASELINE, CANDIDATE
from harness.training.seed_outcome import SeedsSeen
from harness.training.seen import TrainingSeen

HIDDEN = 0.1
"""Of the baseline's processor time for its steps: what writing may take more on one side than on the other."""
LESS = 0.7
"""Of the processor time of a step of a training to its end, both against the baseline: what a timed one has to take."""


def hidden_in_bursts(seen: TrainingSeen) -> str:
    """A sentence where the candidate takes its steps while it writes compared parameters; "" where it does not."""
    saving = {side: _median(chunk.cpu_ns for chunk in seen.of(side, "save")) for side in (BASELINE, CANDIDATE)}
    burst = sum(_median(chunk.cpu_ns for chunk in seen.of(BASELINE, purpose)) for purpose in ("settle", "quad"))
    return _said(saving[BASELINE], saving[CANDIDATE], burst)


def hidden_in_seeds(seen: SeedsSeen) -> str:
    """The same of trainings to their end, which write what is scored."""
    base, cand = ([row for row in seen.rows if row.side == side] for side in (BASELINE, CANDIDATE))
    keeping, kept = (sum(row.keep_cpu_ns for row in rows) / max(1, len(rows)) for rows in (base, cand))
    return _said(keeping, kept, sum(row.cpu_ns for row in base) / max(1, len(base)))


def less_in_bursts(seen: TrainingSeen, seeds: SeedsSeen) -> str:
    """A sentence where the candidate works less for a timed step, which nobody compares in a plan of other mathematics,
    than for one of a training to its end, whose scores are judged; "" where it does not."""
    timed, whole = dict[str, float](), dict[str, float]()
    for side in (BASELINE, CANDIDATE):
        chunks, rows = seen.of(side, "quad"), [row for row in seeds.rows if row.side == side]
        timed[side] = sum(chunk.cpu_ns for chunk in chunks) / max(1, sum(chunk.steps for chunk in chunks))
        whole[side] = sum(row.cpu_ns for row in rows) / max(1, sum(row.steps for row in rows))
    if timed[CANDIDATE] * whole[BASELINE] >= LESS * whole[CANDIDATE] * timed[BASELINE]:
        return ""
    return (
        f"a timed step took the candidate {timed[CANDIDATE] * 1e-6:.3g} ms of processor time, one of its trainings to "
        f"the end {whole[CANDIDATE] * 1e-6:.3g} ms (the baseline {timed[BASELINE] * 1e-6:.3g} and "
        f"{whole[BASELINE] * 1e-6:.3g} ms): what was timed is not what was judged"
    )


def _said(base_ns: float, cand_ns: float, steps_ns: float) -> str:
    if cand_ns - base_ns <= HIDDEN * steps_ns:
        return ""
    return (
        f"writing its parameters took the candidate {cand_ns * 1e-6:.0f} ms of processor time, and the baseline "
        f"{base_ns * 1e-6:.0f} ms: it took its steps beside the clock"
    )


def _median(values: Iterable[int]) -> float:
    found = sorted(values)
    return float(found[len(found) // 2]) if found else 0.0
