"""Deep Interest Network (Zhou et al., "Deep Interest Network for Click-Through Rate Prediction", 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.blueprint import embedding_width, history_width
from zoo.configs import DinConfig
from zoo.layers.attention import LocalActivationUnit
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.ragged import to_samples
from zoo.layers.tensors import Embedded, Features
from zoo.models.ctr_model import CtrModel, dense_samples, pooled_history
from zoo.schema import Schema


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
        summed = to_samples(pooled_history(features, embedded, mean=False), user_of)
        user = to_samples(embedded.user, user_of)
        parts = (user, embedded.item, dense_samples(features), summed, target * summed, interest)
        return self.out(self.top(torch.cat(parts, 1))).squeeze(1)


def build(config: DinConfig, schema: Schema) -> DeepInterestNetwork:
    """See ``zoo.models.build_model``."""
    return DeepInterestNetwork(config, schema)
