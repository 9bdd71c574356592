from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from zoo.metrics import auc


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=80))
def test_equals_sklearn_with_ties(pairs: list[tuple[bool, int]]) -> None:
    labels, scores = np.array([a for a, _ in pairs], float), np.array([b for _, b in pairs], float)
    if len(set(labels)) < 2:
        assert np.isnan(auc(labels, scores))
    else:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_by_hand() -> None:
    # positives 0.8 and 0.4; pairs won: (0.8, 0.6), (0.8, 0.4), (0.8, 0.1), (0.4, 0.1); tied: (0.4, 0.4)
    assert auc(np.array([1, 0, 1, 0, 0]), np.array([0.8, 0.6, 0.4, 0.4, 0.1])) == pytest.approx(4.5 / 6)


def test_refuses_nan() -> None:
    with pytest.raises(ValueError, match="NaN"):
        auc(np.array([1.0, np.nan]), np.array([0.1, 0.2]))
