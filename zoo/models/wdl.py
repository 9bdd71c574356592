"""Wide & Deep (Cheng et al., "Wide & Deep Learning for Recommender Systems", 2016)."""

from __future__ import annotations

from torch import Tensor

from zoo.blueprint import embedding_width, history_width
from zoo.configs import WdlConfig
from zoo.layers.embedding import EmbeddingTables, WideTables
from zoo.layers.features import FeatureTransform
from zoo.layers.mlp import FullyConnected, FullyConnectedStack
from zoo.layers.tensors import Columns, Embedded, Features
from zoo.models.ctr_model import CtrModel, pooled_history
from zoo.schema import Schema


class WideAndDeep(CtrModel):
    """Logit = wide linear model + deep network on the concatenated embeddings; histories enter by their mean."""

    def __init__(self, config: WdlConfig, schema: Schema) -> None:
        super().__init__()
        self.features = FeatureTransform(schema)
        self.embedding = EmbeddingTables(config, schema)
        self.wide = WideTables(schema)
        widths = [embedding_width(config, schema, "user"), embedding_width(config, schema, "item")]
        inputs = sum(widths) + len(schema.dense) + history_width(config, schema)
        self.deep = FullyConnectedStack(inputs, config.deep_units, "relu")
        self.out = FullyConnected(config.deep_units[-1], 1, "none")

    def embedded(self, features: Features) -> Embedded:
        """Weights of the wide part are looked up, too."""
        return super().embedded(features)._replace(wide=self.wide(features))

    def logit(self, features: Features, embedded: Embedded) -> Tensor:
        """Sum of both parts [N]."""
        pooled = pooled_history(features, embedded, mean=True)
        parts = (embedded.user, pooled, embedded.item, features.user.dense, features.item.dense)
        deep = self.deep(Columns(parts, (True, True, False, True, False), features.user_of))
        return embedded.wide + self.out(deep).squeeze(1)


def build(config: WdlConfig, schema: Schema) -> WideAndDeep:
    """See ``zoo.models.build_model``."""
    return WideAndDeep(config, schema)
