"""Logistic regression on one-hot ids and log-bucketed integers: the floor that a deep model has to clear."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import OneHotEncoder

from zoo.layers.features import FeatureTransform, to_tensors
from zoo.metrics import auc
from zoo.schema import Dataset, Float32, Int64, Schema, Split

STRENGTHS = (0.03, 0.05, 0.1, 0.2)
"""Inverse L2 strengths that are tried; the validation AUC chooses."""


def logistic_scores(dataset: Dataset) -> Float32:
    """Scores [N] of the test split by a regression fitted on the training split alone."""
    encoder = OneHotEncoder(handle_unknown="ignore", dtype=np.float32)
    train = encoder.fit_transform(_rows(dataset.schema, dataset.train))
    valid, test = (encoder.transform(_rows(dataset.schema, split)) for split in (dataset.valid, dataset.test))
    best, chosen = -1.0, np.zeros(0, np.float32)
    for strength in STRENGTHS:
        fitted = LogisticRegression(C=strength, solver="liblinear", max_iter=200).fit(train, dataset.train.labels)
        reached = auc(dataset.valid.labels, fitted.predict_proba(valid)[:, 1])
        if reached > best:
            best, chosen = reached, fitted.predict_proba(test)[:, 1].astype(np.float32)
    return chosen


def _rows(schema: Schema, split: Split) -> Int64:
    """Table rows [N, F] of every id field of the item side, bucketed integers among them."""
    with torch.no_grad():
        features = FeatureTransform(schema)(to_tensors(split.batch(np.arange(len(split)))))
    rows: Int64 = features.item.rows.numpy()
    return rows
