"""What the four models share: raw tensors in, one logit per sample out, through named blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform, expand
from zoo.layers.ragged import divisors, step_mask
from zoo.layers.tensors import Embedded, Features, RawTensors, TrainingInput


class CtrModel(nn.Module):
    """A click model. Every block of ``zoo.blueprint.describe`` is the submodule of that path and can be replaced.

    ``expand_first``: copy the user side once per sample before anything else. Off, the user side stays at U rows
    until it meets the item side; the scores are the same.
    """

    features: FeatureTransform
    embedding: EmbeddingTables
    training_only: tuple[str, ...] = ()
    """Names of submodules that only training uses; a checkpoint may lack them."""
    needs_negatives: bool = False
    """Whether ``training_input`` wants a sampled behaviour per behaviour."""

    def __init__(self) -> None:
        super().__init__()
        self.expand_first = True

    def forward(self, raw: RawTensors) -> Tensor:
        """Logits [N]."""
        return self.logit(*self.look_up(raw))

    def look_up(self, raw: RawTensors) -> tuple[Features, Embedded]:
        """The blocks of the roles features and embedding: all that reads raw columns or tables."""
        features = self.engineered(raw)
        return features, self.embedded(features)

    def score(self, raw: RawTensors) -> Tensor:
        """Click probabilities [N], float32."""
        return self.score_of(*self.look_up(raw))

    def score_of(self, features: Features, embedded: Embedded) -> Tensor:
        """Click probabilities [N], float32, from what ``look_up`` found: the blocks of all other roles."""
        return torch.sigmoid(self.logit(features, embedded).float())

    def engineered(self, raw: RawTensors) -> Features:
        """The features block on the raw batch, user side expanded if ``expand_first``."""
        return self.features(expand(raw) if self.expand_first else raw)

    def embedded(self, features: Features) -> Embedded:
        """The blocks of the role embedding on engineered features."""
        found: Embedded = self.embedding(features)
        return found

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Logits [N] from engineered features and their embeddings."""
        raise NotImplementedError

    def training_input(self, raw: RawTensors, negatives: Tensor | None = None) -> TrainingInput:
        """What no parameter decides, of raw columns with U = N; ``negatives`` [T, H]: a raw behaviour per behaviour."""
        return TrainingInput(self.engineered(raw))

    def training_terms(self, given: TrainingInput, embedded: Embedded | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [N], and the mean over the terms of a model's own auxiliary loss, weighted (or None).

        ``embedded``: that of the features, of whoever has looked it up already.
        """
        return self.logit(given.features, self.embedded(given.features) if embedded is None else embedded), None

    def auxiliary_terms(self, given: TrainingInput) -> int:
        """Over how many terms the auxiliary loss of these samples is averaged."""
        return 0


def pooled_history(features: Features, embedded: Embedded, mean: bool) -> Tensor:
    """Sum, or mean, of each user's behaviours [U, W]; zeros for an empty history."""
    total = embedded.summed
    if total is None:
        mask = step_mask(features.lengths, embedded.history.shape[1]).unsqueeze(-1)
        total = (embedded.history * mask).sum(1)
    return total / divisors(features.lengths) if mean else total
