"""Deep Interest Network (Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", 2018)."""

from __future__ import annotations

from torch import Tensor

from zoo.blueprint import embedding_width, history_width
from zoo.configs import DinConfig
from zoo.layers.attention import LocalActivationUnit
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.ragged import to_samples
from zoo.layers.tensors import Columns, Embedded, Features
from zoo.models.ctr_model import CtrModel, pooled_history
from zoo.schema import Schema

TOP_SHARED = (True, False, True, False, True, False, False)


class DeepInterestNetwork(CtrModel):
    """Top MLP on [user, item, dense, summed history, target * summed history, attended history]."""

    def __init__(self, config: DinConfig, schema: Schema) -> None:
        super().__init__()
        width = history_width(config, schema)
        self.features = FeatureTransform(schema)
        self.embedding = EmbeddingTables(config, schema)
        self.attention = LocalActivationUnit(width, config.attention_units)
        sides = embedding_width(config, schema, "user") + embedding_width(config, schema, "item")
        self.top = FullyConnectedStack(sides + len(schema.dense) + 3 * width, config.top_units, "dice")
        self.out = FullyConnected(config.top_units[-1], 1, "none")

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Logits [N]."""
        user_of, target = features.user_of, embedded.target
        interest = self.attention(target, embedded.history, features.lengths, user_of)
        summed = pooled_history(features, embedded, mean=False)
        both = target * to_samples(summed, user_of)
        dense = (features.user.dense, features.item.dense)
        parts = (embedded.user, embedded.item, *dense, summed, both, interest)
        return self.out(self.top(Columns(parts, TOP_SHARED, user_of))).squeeze(1)


def build(config: DinConfig, schema: Schema) -> DeepInterestNetwork:
    """See ``zoo.models.build_model``."""
    return DeepInterestNetwork(config, schema)
