from __future__ import annotations

import numpy as np
import torch

from zoo.layers.interaction import DotInteraction


def test_all_pairs_in_order() -> None:
    vectors = torch.randn(3, 5, 4)
    got = DotInteraction(5)(vectors).numpy()
    array = vectors.numpy().astype(np.float64)
    wanted = [[row[i] @ row[j] for i in range(5) for j in range(i)] for row in array]
    np.testing.assert_allclose(got, wanted, atol=1e-6)


def test_the_pairs_are_no_weights() -> None:
    assert not DotInteraction(4).state_dict()
