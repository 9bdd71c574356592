"""A module's graph as one product, a bias and an activation of the kernels, in whatever algebraic form it comes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from optimizations.fusion.fc_activations import RecognisedLayer, recognised
from optimizations.fusion.fc_expressions import Expression, Value
from optimizations.fusion.fc_layout import FIRST_AXES
from optimizations.fusion.fc_names import Names
from optimizations.fusion.fc_operators import Operators
from optimizations.fusion.fc_values import Batch
from optimizations.lowering import LoweringError

TOLERANCE = 1e-9
"""Of the probe in double precision, relative to the terms of each product: far above rounding, far below a bend."""

SINGLE_TOLERANCE = 1e-5
"""Of modules that cast to single precision on their way."""


def recognise(module: nn.Module) -> RecognisedLayer:
    """The layer that ``module`` computes from [R, inputs] to [R, outputs] in evaluation mode.

    Raises LoweringError that names the node of its graph which no single kernel computes, or says that the module and
    what was recognised do not agree on probe inputs.
    """
    try:
        double = _copied(module, torch.float64)
        graph = _Tracer().trace(double)
        graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    except Exception as error:  # a module of anybody's: whatever its code raises
        raise LoweringError(f"{type(module).__name__} has no graph: {_line(error)}") from error
    with torch.no_grad():
        layer = _layer(_Interpreter(double, graph).output())
        if any(_casts(node) for node in graph.nodes):  # in double precision such a module would not be itself
            _check(_copied(module, torch.float32), layer, SINGLE_TOLERANCE)
        else:
            _check(double, layer, TOLERANCE)
    return layer


def _layer(output: tuple[Any, str]) -> RecognisedLayer:
    found, name = output
    if not isinstance(found, Expression):
        raise LoweringError(f"node {name!r}: the output is no activated product of the input")
    if found.axes != FIRST_AXES:
        raise LoweringError(f"node {name!r}: the output does not lie as rows and outputs but as {found.axes}")
    try:
        return recognised(found)
    except LoweringError as error:
        raise LoweringError(f"node {name!r}: {error}") from error


class _Tracer(fx.Tracer):
    """Into every module, but for batch norms, whose checks of their input cannot be traced."""

    def call_module(self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """``forward`` itself where it is looked into: a module may then be made within another one's ``forward``."""
        if isinstance(m, nn.modules.batchnorm._BatchNorm):
            return super().call_module(m, forward, args, kwargs)
        return forward(*args, **kwargs)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Called for batch norms alone."""
        return True


class _Interpreter:
    """Values of the nodes that the output needs, in order; what does not depend on the input is computed at once."""

    def __init__(self, module: nn.Module, graph: fx.Graph) -> None:
        self._module, self._graph = module, graph
        sizes = {size for tensor in (*module.parameters(), *module.buffers()) for size in tensor.shape}
        rows = next(count for count in range(2, len(sizes) + 3) if count not in sizes)
        self._operators = Operators(rows)
        self._names = Names(self._operators)
        self._values: dict[fx.Node, Any] = {}
        self._inputs = 0

    def output(self) -> tuple[Any, str]:
        """The value that the graph returns, and its node's name. Raises LoweringError for a node without a value."""
        for node in self._graph.nodes:
            try:
                self._values[node] = self._value(node)
            except LoweringError as error:
                raise LoweringError(f"node {node.name!r}: {error}") from error
            except Exception as error:  # operators on constants, and arguments that no method of ours knows
                raise LoweringError(f"node {node.name!r}: {_line(error)}") from error
        (output,) = (node for node in self._graph.nodes if node.op == "output")
        return self._values[output], str(output.args[0])

    def _value(self, node: fx.Node) -> Any:
        args: Any = fx.node.map_arg(node.args, self._values.__getitem__)
        kwargs: Any = fx.node.map_arg(node.kwargs, self._values.__getitem__)
        if node.op == "placeholder":
            return self._placeholder(args)
        if node.op == "get_attr":
            return _attribute(self._module, str(node.target))
        if node.op == "output":
            return args[0]
        if node.op == "call_module":
            norm: Any = self._module.get_submodule(str(node.target))
            parts = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
            return self._operators.batch_norm(args[0], *parts, norm.training, eps=norm.eps)
        if not _depends(args) and not _depends(kwargs):
            return _computed(node.target, args, kwargs)
        name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        handler = self._names.method(name) if node.op == "call_method" else self._names.function(node.target)
        if handler is None:
            raise LoweringError(f"{name} is no part of a product, a bias or an activation of the kernels")
        return handler(*args, **kwargs)

    def _placeholder(self, default: tuple[Any, ...]) -> Any:
        if default:
            return default[0]
        self._inputs += 1
        if self._inputs > 1:
            raise LoweringError("a second input")
        one = torch.ones(1, dtype=torch.float64)
        return Batch(FIRST_AXES, one, 0 * one)


def _copied(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A frozen copy on the CPU in ``dtype``, plain tensors among its attributes included."""
    copied = copy.deepcopy(module).to("cpu", dtype).eval().requires_grad_(False)
    for each in copied.modules():
        for name, value in vars(each).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(each, name, value.detach().to("cpu", dtype))
    return copied


def _casts(node: fx.Node) -> bool:
    return node.target == "float" or (node.target == "to" and torch.float32 in (*node.args, *node.kwargs.values()))


def _check(module: nn.Module, layer: RecognisedLayer, tolerance: float) -> None:
    """Raises LoweringError where module and recognised layer differ on probes: zeros, small, large, of both signs."""
    outputs, inputs = layer.weight.shape
    dtype = torch.float32 if tolerance == SINGLE_TOLERANCE else torch.float64
    noise = torch.randn(24, inputs, dtype=dtype, generator=torch.Generator().manual_seed(0))
    size = torch.tensor([0.0, 1e-4, 0.1, 1.0, 3.0, 30.0], dtype=dtype).repeat(4).unsqueeze(1)
    for probe in (noise * size, (noise * size)[5:6], -noise[:3] * size[3]):
        try:
            expected = module(probe.clone())
        except Exception as error:  # anybody's code
            raise LoweringError(f"the module does not run on probe inputs: {_line(error)}") from error
        if not isinstance(expected, Tensor) or expected.shape != (len(probe), outputs):
            raise LoweringError(f"the module's result is not [{len(probe)}, {outputs}]")
        probe = probe.double()
        got = layer.activate(probe @ layer.weight.T + layer.bias)
        scale = 1 + probe.abs() @ layer.weight.abs().T + layer.bias.abs()
        # Where large inputs let the module's own arithmetic overflow there is nothing to compare.
        compared = torch.isfinite(expected) | (probe.abs().amax(1, keepdim=True) < 5)
        if bool((~((got - expected).abs() <= tolerance * scale) & compared).any()):
            raise LoweringError("the module and the layer recognised in it do not agree on probe inputs")


def _computed(target: Any, args: Any, kwargs: Any) -> Any:
    """What a node of constants comes to."""
    return target(*args, **kwargs) if callable(target) else getattr(args[0], target)(*args[1:], **kwargs)


def _attribute(module: nn.Module, path: str) -> Any:
    found: Any = module
    for name in path.split("."):
        found = getattr(found, name)
    return found


def _depends(arguments: Any) -> bool:
    found: list[Value] = []
    fx.node.map_aggregate(arguments, lambda each: found.append(each) if isinstance(each, Value) else None)
    return bool(found)


def _line(error: Exception) -> str:
    """The first line of what went wrong, as a reason on record."""
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
