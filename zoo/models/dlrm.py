"""DLRM (Naumov et al., "Deep Learning Recommendation Model for Personalization and Recommendation Systems", 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo.configs import DlrmConfig
from zoo.layers.embedding import EmbeddingTables
from zoo.layers.features import FeatureTransform
from zoo.layers.interaction import DotInteraction
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.ragged import to_samples
from zoo.layers.tensors import Columns, Embedded, Features
from zoo.models.ctr_model import CtrModel, pooled_history
from zoo.schema import Schema


class Dlrm(CtrModel):
    """Bottom MLP on the dense values, dot products among all vectors, top MLP; histories enter by their mean."""

    def __init__(self, config: DlrmConfig, schema: Schema) -> None:
        super().__init__()
        dense, dim = len(schema.dense), config.embedding_dim
        vectors = len(schema.ids) + len(schema.bags) + len(schema.history) + bool(dense)
        self.dim = dim
        self.features = FeatureTransform(schema)
        self.embedding = EmbeddingTables(config, schema)
        self.bottom = FullyConnectedStack(dense, config.bottom_units, "relu") if dense else None
        self.interaction = DotInteraction(vectors)
        inputs = vectors * (vectors - 1) // 2 + (dim if dense else 0)
        self.top = FullyConnectedStack(inputs, config.top_units, "relu")
        self.out = FullyConnected(config.top_units[-1], 1, "none")

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Top MLP on [bottom output, interactions]."""
        user = torch.cat((embedded.user, pooled_history(features, embedded, mean=True)), 1)
        vectors = torch.cat((to_samples(user, features.user_of), embedded.item), 1)
        if self.bottom is None:
            return self._top(self.interaction(vectors.unflatten(1, (-1, self.dim))))
        dense = (features.user.dense, features.item.dense)
        bottom = self.bottom(Columns(dense, (True, False), features.user_of))
        crossed = self.interaction(torch.cat((bottom, vectors), 1).unflatten(1, (-1, self.dim)))
        return self._top(torch.cat((bottom, crossed), 1))

    def _top(self, x: Tensor) -> Tensor:
        return self.out(self.top(x)).squeeze(1)


def build(config: DlrmConfig, schema: Schema) -> Dlrm:
    """See ``zoo.models.build_model``."""
    return Dlrm(config, schema)
