"""Child process that quantizes an exported graph by ONNX Runtime's own tool: ``python -m ... SPEC.json``.

The spec holds ``graph`` (the ``.onnx`` to read), ``out`` (the one to write) and ``operators`` (their names). Weights
become bytes, with one scale per matrix, as is the tool's default (a scale per output breaks the product with a vector
that the wide part has); what they are multiplied with is made bytes anew in every query, which needs no calibration
("dynamic quantization").
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic


def main(spec_path: str) -> None:
    """Quantize what the spec says."""
    spec: dict[str, Any] = json.loads(Path(spec_path).read_text("utf-8"))
    logging.getLogger().setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr):
        quantize_dynamic(
            onnx.load(spec["graph"]),
            spec["out"],
            op_types_to_quantize=spec["operators"],
            weight_type=QuantType.QInt8,
            use_external_data_format=True,
        )


if __name__ == "__main__":
    main(sys.argv[1])
