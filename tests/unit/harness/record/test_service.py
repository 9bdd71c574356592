"""What the closed loop's service times say: the slack among them."""

import numpy as np
import pytest

from harness.record.service import SERVICE_SIZES, ServiceSamples, service_counts, slack


@pytest.mark.parametrize("repeats", [50, 200])
def test_a_stall_of_the_host_does_not_make_the_slack(repeats: int) -> None:
    """The p99 is that of the queries: exponential above 8 ms, ln(100) times 0.5 ms. Of 50 it was the slowest, a stall:
    a slack of 0.9. Of 200 the stall takes one of the two places above the p99, hence the 6 %."""
    count = service_counts(repeats)[max(SERVICE_SIZES)]
    rng = np.random.default_rng(7)
    seen = []
    for _ in range(200):
        times = 8e6 + rng.exponential(0.5e6, count)
        times[rng.integers(0, count)] += 20e6
        samples = ServiceSamples(by_size={100: times}, sizes=np.full(count, 100), times=times)
        found = slack(samples, 25_000_000)
        assert found is not None
        seen.append(found)
    assert np.median(seen) == pytest.approx(25.0 / (8.0 + 0.5 * np.log(100.0)), rel=0.06)
