"""The framework-free description of a model: its blocks, in order of execution.

A block is what an optimization may touch. Its ``path`` is the module path in the PyTorch reference
(``model.get_submodule(path)``), so that a plan made without a framework can be lowered onto one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo.configs import DienConfig, DinConfig, DlrmConfig, ModelConfig, WdlConfig
from zoo.schema import BagField, IdField, Schema, Side

Role = Literal["features", "embedding", "fc", "attention", "recurrent", "interaction"]
BlockSide = Literal["user", "item", "mixed"]
HotOrder = Literal["row", "frequency"]
Spans = tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block: ``impl``, ``dtype``, ``packed``, ``hot_mb``, ``hot_order`` and ``split`` are the slots that
    optimizations write.

    ``shape`` holds named sizes (fc: inputs, outputs; recurrent: inputs, hidden; attention: width, units...; features:
    ``user_fields`` counts what is read once per user, dense columns and histories included).
    ``kind`` tells variants of a role apart (fc: its activation, or auxiliary; recurrent: gru | augru; attention: din |
    dien).
    ``hot_mb``: megabytes (2**20 bytes) of the most frequent rows of an embedding block's tables that lie in memory of
    their own, in ``hot_order``; 0: all rows lie in their tables. ``user_columns``: spans [first, end) of the inputs
    that all samples of a user share. ``split``: their part of the product is computed once per user.
    """

    path: str
    role: Role
    kind: str
    shape: tuple[tuple[str, int], ...]
    side: BlockSide
    impl: str = "reference"
    dtype: str = "fp32"
    packed: bool = False
    hot_mb: float = 0.0
    hot_order: HotOrder = "row"
    user_columns: Spans = ()
    split: bool = False


def field_dim(config: ModelConfig, field: str) -> int:
    """Columns of the embedding of ``field`` (the table's own width; fields that share a table agree)."""
    if isinstance(config, WdlConfig) and field in config.large_fields:
        return config.large_dim
    return config.embedding_dim


def embedding_width(config: ModelConfig, schema: Schema, side: Side) -> int:
    """Columns of the concatenated embeddings of one side (ids, then bags)."""
    fields: tuple[IdField | BagField, ...] = (*schema.ids_of(side), *schema.bags_of(side))
    return sum(field_dim(config, field.name) for field in fields)


def history_width(config: ModelConfig, schema: Schema) -> int:
    """Columns of one embedded behaviour: the concatenation of the history fields."""
    return sum(field_dim(config, field.target) for field in schema.history)


def _fc_stack(path: str, inputs: int, units: tuple[int, ...], activation: str, user: Spans = ()) -> list[Block]:
    blocks = []
    for index, outputs in enumerate(units):
        blocks.append(_fc(f"{path}.{index}", inputs, outputs, activation, user if index == 0 else ()))
        inputs = outputs
    return blocks


def _fc(path: str, inputs: int, outputs: int, activation: str, user: Spans = ()) -> Block:
    shape = (("inputs", inputs), ("outputs", outputs))
    return Block(path=path, role="fc", kind=activation, shape=shape, side="mixed", user_columns=user)


def _user_spans(*widths: tuple[BlockSide, int]) -> Spans:
    """Spans of the user's columns among parts that lie side by side; neighbours are one span, empty ones none."""
    spans: list[tuple[int, int]] = []
    first = 0
    for side, width in widths:
        if side == "user" and width:
            start = spans.pop()[0] if spans and spans[-1][1] == first else first
            spans.append((start, first + width))
        first += width
    return tuple(spans)


def describe(config: ModelConfig, schema: Schema) -> tuple[Block, ...]:
    """Blocks of ``config`` on ``schema``, in order of execution.

    Raises ValueError when the schema lacks what the model needs (a history for DIN and DIEN) or sizes do not match.
    """
    user, item = embedding_width(config, schema, "user"), embedding_width(config, schema, "item")
    history = history_width(config, schema)
    dense = len(schema.dense)
    user_dense, item_dense = len(schema.dense_of("user")), len(schema.dense_of("item"))
    fields = len(schema.ids) + len(schema.bags) + len(schema.history)
    user_fields = len(schema.ids_of("user")) + len(schema.bags_of("user")) + len(schema.history) + user_dense
    blocks = [
        Block(
            path="features",
            role="features",
            kind="all",
            shape=(("fields", fields), ("dense", dense), ("user_fields", user_fields)),
            side="mixed",
        ),
        Block(
            path="embedding",
            role="embedding",
            kind="all",
            shape=(("fields", fields), ("width", user + item + history)),
            side="mixed",
        ),
    ]
    if isinstance(config, WdlConfig):
        blocks.append(
            Block(
                path="wide",
                role="embedding",
                kind="wide",
                shape=(("fields", len(schema.ids) + len(schema.bags) + len(schema.crosses)), ("width", 1)),
                side="mixed",
            )
        )
        units = (*config.deep_units,)
        shared = _user_spans(("user", user + history), ("item", item), ("user", user_dense), ("item", item_dense))
        blocks += _fc_stack("deep", user + item + dense + history, units, "relu", shared)
        blocks.append(_fc("out", units[-1], 1, "none"))
    elif isinstance(config, DlrmConfig):
        vectors = len(schema.ids) + len(schema.bags) + len(schema.history)
        if dense:
            if config.bottom_units[-1] != config.embedding_dim:
                raise ValueError(
                    f"model=dlrm dots the bottom MLP's output ({config.bottom_units[-1]} columns) with the embeddings "
                    f"({config.embedding_dim}): end model.bottom_units at model.embedding_dim"
                )
            shared = _user_spans(("user", user_dense), ("item", item_dense))
            blocks += _fc_stack("bottom", dense, config.bottom_units, "relu", shared)
            vectors += 1
        blocks.append(
            Block(
                path="interaction",
                role="interaction",
                kind="dot",
                shape=(("vectors", vectors), ("width", config.embedding_dim)),
                side="mixed",
            )
        )
        first = vectors * (vectors - 1) // 2 + (config.embedding_dim if dense else 0)
        blocks += _fc_stack("top", first, config.top_units, "relu")
        blocks.append(_fc("out", config.top_units[-1], 1, "none"))
    else:
        if not schema.history:
            raise ValueError(
                f"model={config.name} reads user histories and dataset {schema.name!r} has none: use a data set with "
                "histories (planted with dataset.shape=sequence, amazon, movielens) or model=wdl, model=dlrm"
            )
        blocks += _sequence_blocks(config, history)
        top_inputs = user + item + dense + 3 * history
        if isinstance(config, DienConfig):
            top_inputs = user + item + dense + 2 * history + config.hidden_units
        shared = _user_spans(
            ("user", user), ("item", item), ("user", user_dense), ("item", item_dense), ("user", history)
        )
        blocks += _fc_stack("top", top_inputs, config.top_units, "dice", shared)
        blocks.append(_fc("out", config.top_units[-1], 1, "none"))
    return tuple(blocks)


def describe_training(config: ModelConfig, schema: Schema) -> tuple[Block, ...]:
    """Blocks of ``config`` that only a training has: DIEN's auxiliary net, whose call is ``loss`` of
    ``zoo.models.dien.AuxiliaryNet``."""
    if not isinstance(config, DienConfig):
        return ()
    units = tuple((f"units{index}", size) for index, size in enumerate(config.auxiliary_units))
    inputs = config.hidden_units + history_width(config, schema)
    shape = (("inputs", inputs), *units, ("outputs", 1))
    return (Block(path="auxiliary", role="fc", kind="auxiliary", shape=shape, side="user"),)


def _sequence_blocks(config: DinConfig | DienConfig, width: int) -> list[Block]:
    """Attention (and GRU, AUGRU) between the embedding and the top MLP.

    DIN's unit reads the embedded behaviours; DIEN's reads the states of its GRU.
    """
    units = tuple((f"units{index}", size) for index, size in enumerate(config.attention_units))
    if isinstance(config, DinConfig):
        return [Block(path="attention", role="attention", kind="din", shape=(("width", width), *units), side="mixed")]
    hidden = config.hidden_units
    return [
        Block(path="gru", role="recurrent", kind="gru", shape=(("inputs", width), ("hidden", hidden)), side="user"),
        Block(
            path="attention",
            role="attention",
            kind="dien",
            shape=(("width", hidden), ("query", width), *units),
            side="mixed",
        ),
        Block(
            path="augru", role="recurrent", kind="augru", shape=(("inputs", hidden), ("hidden", hidden)), side="mixed"
        ),
    ]
