"""Which method of ``Operators`` a call in a graph is: functions by identity, methods of tensors by name."""

from __future__ import annotations

import builtins
import operator
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F

from optimizations.fusion.fc_operators import Operators

OTHER_NAMES = {
    **dict.fromkeys(("mm", "bmm", "mv", "imatmul"), "matmul"),
    "baddbmm": "addmm",
    **{"iadd": "add", "subtract": "sub", "isub": "sub", "negative": "neg", "multiply": "mul", "imul": "mul"},
    **{"divide": "div", "truediv": "div", "true_divide": "div", "itruediv": "div"},
    **{"clip": "clamp", "expit": "sigmoid", "swish": "silu", "absolute": "abs"},
    **dict.fromkeys(("ge", "greater", "greater_equal"), "gt"),
    **dict.fromkeys(("le", "less", "less_equal"), "lt"),
    **{"bitwise_not": "logical_not", "invert": "logical_not", "inv": "logical_not"},
    **{"swapaxes": "transpose", "swapdims": "transpose", "view": "reshape", "view_as": "reshape_as"},
    **dict.fromkeys(("contiguous", "clone", "detach", "positive", "pos", "alias", "float", "type_as"), "unchanged"),
    **dict.fromkeys(("alpha_dropout", "feature_alpha_dropout"), "dropout"),
}
"""Name in the framework -> name of the method."""

CONSTANTS = {"zeros_like": 0.0, "new_zeros": 0.0, "ones_like": 1.0, "new_ones": 1.0}
SPACES = (torch, F, torch.special, operator, builtins)


class Names:
    """Looks up methods of ``operators``."""

    def __init__(self, operators: Operators) -> None:
        own = {name: getattr(operators, name) for name in dir(Operators) if not name.startswith("_")}
        own |= {name: own[method] for name, method in OTHER_NAMES.items()}
        own |= {name: operators.filled(value) for name, value in CONSTANTS.items()}
        for name in ("filled", "attribute", "unchanged"):
            del own[name]
        own |= {f"__{name}__": own[name] for name in ("invert", "pow")}
        self._methods: dict[str, Any] = own
        self._functions = {
            function: handler
            for name, handler in own.items()
            for space in SPACES
            if (function := getattr(space, name, None)) is not None
        }
        self._functions[builtins.getattr] = operators.attribute
        # Called on a tensor, the parameters come in another order: what is chosen comes first.
        self._methods |= {"where": lambda input, condition, other: operators.where(condition, input, other)}

    def function(self, target: Any) -> Callable[..., Any] | None:
        """For a function that the graph calls."""
        return self._functions.get(target)

    def method(self, name: str) -> Callable[..., Any] | None:
        """For a method of a tensor; in place is the same, since a graph goes on with what the call returns."""
        return self._methods.get(name) or self._methods.get(name.rstrip("_"))
