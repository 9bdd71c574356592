"""Deep Interest Evolution Network (Zhou et al., "Deep Interest Evolution Network for CTR Prediction", 2019)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.blueprint import embedding_width, history_width
from zoo.configs import DienConfig
from zoo.layers.attention import SoftmaxAttention
from zoo.layers.augru import Augru, Gru
from zoo.layers.derived import derived
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.ragged import step_mask, to_samples
from zoo.layers.tensors import Columns, Embedded, Features, RawTensors, TrainingInput
from zoo.models.ctr_model import CtrModel, pooled_history
from zoo.schema import Schema

TOP_SHARED = (True, False, True, False, True, False, False)


@derived
def followed(lengths: Tensor, sampled: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Row and step of every behaviour that another one follows, the step after it, and the sampled rows [R, H] there.

    lengths [N], sampled [N, T, H].
    """
    row, step = step_mask(lengths - 1, sampled.shape[1] - 1).nonzero(as_tuple=True)
    return row, step, step + 1, sampled[row, step + 1]


class AuxiliaryNet(nn.Module):
    """Rates whether a behaviour follows a state: [h_t, e] -> sigmoid units -> logit, as in the authors' code."""

    def __init__(self, hidden: int, width: int, units: tuple[int, ...]) -> None:
        super().__init__()
        self.units = FullyConnectedStack(hidden + width, units, "sigmoid")
        self.score = FullyConnected(units[-1], 1, "none")

    def forward(self, states: Tensor, behaviours: Tensor) -> Tensor:
        """states [R, h] and behaviours [R, w] to logits [R]."""
        return self.score(self.units(torch.cat((states, behaviours), 1))).squeeze(1)

    def loss(
        self, states: Tensor, history: Tensor, sampled: Tensor, lengths: Tensor, look_up: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """Equation 4: log-likelihood of the next behaviour against a sampled one, averaged over the steps.

        states [N, T, h], history [N, T, w], sampled [N, T, H] table rows, of which ``look_up`` gives the vectors;
        lengths [N].
        """
        row, step, after, rows = followed(lengths, sampled)
        states, clicked = states[row, step], history[row, after]
        others = look_up(rows)
        if not len(states):
            return states.sum()
        positive, negative = self(states, clicked), self(states, others)
        return (F.softplus(-positive) + F.softplus(negative)).mean()


class DeepInterestEvolutionNetwork(CtrModel):
    """Top MLP on [user, item, dense, summed history, target * summed history, last state of the AUGRU]."""

    training_only = ("auxiliary",)
    needs_negatives = True

    def __init__(self, config: DienConfig, schema: Schema) -> None:
        super().__init__()
        width, hidden = history_width(config, schema), config.hidden_units
        self.auxiliary_weight = config.auxiliary_weight
        self.features = FeatureTransform(schema)
        self.embedding = EmbeddingTables(config, schema)
        self.gru = Gru(width, hidden)
        self.attention = SoftmaxAttention(width, hidden, config.attention_units)
        self.augru = Augru(hidden, hidden)
        sides = embedding_width(config, schema, "user") + embedding_width(config, schema, "item")
        self.top = FullyConnectedStack(sides + len(schema.dense) + 2 * width + hidden, config.top_units, "dice")
        self.out = FullyConnected(config.top_units[-1], 1, "none")
        self.auxiliary = AuxiliaryNet(hidden, width, config.auxiliary_units)

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Logits [N]."""
        return self._evolve(features, embedded, self.gru(embedded.history, features.lengths))

    def _evolve(self, features: Features, embedded: Embedded, states: Tensor) -> Tensor:
        user_of, target, lengths = features.user_of, embedded.target, features.lengths
        scores = self.attention(target, states, lengths, user_of)
        interest = self.augru(states, scores, lengths, user_of)
        summed = pooled_history(features, embedded, mean=False)
        both = target * to_samples(summed, user_of)
        dense = (features.user.dense, features.item.dense)
        parts = (embedded.user, embedded.item, *dense, summed, both, interest)
        return self.out(self.top(Columns(parts, TOP_SHARED, user_of))).squeeze(1)

    def training_input(self, raw: RawTensors, negatives: Tensor | None = None) -> TrainingInput:
        """Features, and table rows of the sampled behaviours. Raises ValueError without negatives."""
        if negatives is None:
            raise ValueError("the auxiliary loss of DIEN needs one sampled behaviour per behaviour: pass negatives")
        return TrainingInput(self.engineered(raw), self.features.behaviours(negatives, raw.history_offsets))

    def training_terms(self, given: TrainingInput, embedded: Embedded | None = None) -> tuple[Tensor, Tensor | None]:
        """Logits [N] and the weighted auxiliary loss; its sampled behaviours are looked up here."""
        features, rows = given
        assert rows is not None
        embedded = self.embedded(features) if embedded is None else embedded
        states = self.gru(embedded.history, features.lengths)
        loss: Tensor = self.auxiliary.loss(states, embedded.history, rows, features.lengths, self.embedding.behaviours)
        return self._evolve(features, embedded, states), self.auxiliary_weight * loss

    def auxiliary_terms(self, given: TrainingInput) -> int:
        """Behaviours that follow another one."""
        return int((given.features.lengths - 1).clamp(min=0).sum())


def build(config: DienConfig, schema: Schema) -> DeepInterestEvolutionNetwork:
    """See ``zoo.models.build_model``."""
    return DeepInterestEvolutionNetwork(config, schema)
