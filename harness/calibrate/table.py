"""The cells of the table of docs/measuring.md. Adding one leaves what is known of the others alone."""

from __future__ import annotations

from harness.calibrate.cells import Cell

_HEAVY = "heavy"
CELLS: tuple[Cell, ...] = (
    Cell(name="md1-s2", slack=2.0, noise=0.05),
    Cell(name="md1-s5", noise=0.05),
    Cell(name="md1-s5-n15", noise=0.15),
    Cell(name="md1-s5-n30", noise=0.30),
    Cell(name="md1-s20-n15", slack=20.0, noise=0.15),
    Cell(name="md1-s40-n15", slack=40.0, noise=0.15),
    Cell(name="mm1-s10", slack=10.0, exponential=True),
    Cell(name="heavy-s5", sizes=_HEAVY, noise=0.05),
    Cell(name="heavy-s5-n15", sizes=_HEAVY, noise=0.15),
    Cell(name="heavy-s5-n30", sizes=_HEAVY, noise=0.30),
    Cell(name="heavy-s10-n15", sizes=_HEAVY, slack=10.0, noise=0.15),
    Cell(name="heavy-s20-n30", sizes=_HEAVY, slack=20.0, noise=0.30),
    Cell(name="md2-s5-n15", noise=0.15, workers=2),
    Cell(name="delay", sizes=_HEAVY, noise=0.05, delay_ms=1.0),
    Cell(name="stage10", sizes=_HEAVY, noise=0.15, looked_up=0.1),
    Cell(name="stage40", sizes=_HEAVY, noise=0.15, looked_up=0.4),
    Cell(name="stalls", sizes=_HEAVY, noise=0.05, stall_share=0.002, stall_ms=30.0),
    Cell(name="spells6", sizes=_HEAVY, noise=0.15, host_sd=0.06, host_memory_s=0.4),
    Cell(name="waver5", sizes=_HEAVY, noise=0.15, host_sd=0.05),
    Cell(name="waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0),
    Cell(name="waver30", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=60.0),
    Cell(name="waver30-fast", sizes=_HEAVY, slack=10.0, noise=0.15, host_sd=0.30, host_memory_s=2.0),
    Cell(name="gain5-waver15", sizes=_HEAVY, noise=0.15, host_sd=0.15, host_memory_s=30.0, gain=5.0),
)
"""A host that wavers slowly has no one LBT: there the ratio alone has a truth."""
