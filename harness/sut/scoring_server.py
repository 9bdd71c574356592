"""Scores of what a training made: ``python -m harness.sut.scoring_server --control FD --parent PID``.

No system under test, but the referee's own: the plain reference on weights that a side has left in a file. So no side
ever sees the splits on which it is judged, and a plan cannot predict otherwise than the model that it trained. The
first message holds ``spec``: "model" (sizes with "name"), "schema" (its JSON). Each later one is a command, answered
with ``{"samples": N}``:

* ``begin`` (seed, path): write the weights before the first step, as this seed makes them. N is 0.
* ``score`` (weights, split, out: paths): write the click probabilities of all samples of a split (``zoo.split_file``)
  as a ``.npy``.

Errors as in ``harness.sut.training_server``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness.host.child import channel_to_parent
from harness.sut.error_report import ErrorReport
from harness.transport.channel import ChannelClosedError
from zoo.checkpoint import load_weights, save_weights
from zoo.configs import model_config
from zoo.models import build_model
from zoo.models.ctr_model import CtrModel
from zoo.prediction import predict
from zoo.schema import Schema, Split
from zoo.split_file import map_split
from zoo.stand_ins import packed_recurrences, standing_in
from zoo.training import load_into, weights_of


class Scorer:
    """A model that takes one set of weights after another."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        torch.set_flush_denormal(True)  # as in the fit loop
        self._config = model_config(spec["model"]["name"], spec["model"])
        self._schema = Schema.from_json(spec["schema"])
        self._model: CtrModel = build_model(self._config, self._schema)
        self._layers = packed_recurrences(self._model, self._config, self._schema).layers
        self._splits: dict[str, Split] = {}

    def begin(self, order: Mapping[str, Any]) -> int:
        """Write the weights that ``order["seed"]`` makes, as the fit loop makes them."""
        torch.manual_seed(order["seed"])
        save_weights(Path(order["path"]), weights_of(build_model(self._config, self._schema)))
        return 0

    def score(self, order: Mapping[str, Any]) -> int:
        """Write the scores of ``order["split"]`` by ``order["weights"]``; returns their number."""
        if order["split"] not in self._splits:
            self._splits[order["split"]] = map_split(Path(order["split"]))
        load_into(self._model, load_weights(Path(order["weights"])))
        with standing_in(self._model, self._layers):
            scores = predict(self._model, self._splits[order["split"]])
        np.save(Path(order["out"]), scores, allow_pickle=False)
        return len(scores)


def main() -> None:
    """Entry point of the process."""
    control = channel_to_parent("harness.sut.scoring_server")
    failed = ErrorReport(control)
    try:
        order, _ = control.receive()
        scorer = Scorer(order["spec"])
        control.send({"ready": {}})
        while True:
            try:
                order, _ = control.receive()
            except ChannelClosedError:
                return
            command = {"begin": scorer.begin, "score": scorer.score}[order["command"]]
            control.send({"samples": command(order)})
    except Exception as error:
        failed(error)


if __name__ == "__main__":
    main()
