"""The chain of affine operations with which a traced network begins."""

from __future__ import annotations

import operator
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.nn import functional as F  # noqa: N812
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["affine_start"]

_TRACING = threading.Lock()

_CASTS = {"float", "double"}
_RESHAPING = {
    *("view", "reshape", "flatten", "unflatten", "unsqueeze", "contiguous", *_CASTS),
    *(torch.reshape, torch.flatten, torch.unflatten, torch.unsqueeze),
    *(nn.Flatten.forward, nn.Unflatten.forward, nn.Identity.forward),
}
_ARITHMETIC = {
    *("add", "sub", "mul", "div"),
    *(operator.add, operator.sub, operator.mul, operator.truediv),
    *(torch.add, torch.sub, torch.mul, torch.div),
}
_DIVISION = {"div", operator.truediv, torch.div}
_DROPOUT = {
    *(F.dropout, F.dropout1d, F.dropout2d, F.dropout3d),
    *(kind.forward for kind in (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)),
}
_LINEAR = {
    *(F.linear, F.conv1d, F.conv2d, F.conv3d, operator.matmul, torch.matmul),
    *(kind.forward for kind in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)),
}


def affine_start(module: nn.Module, sample: Tensor) -> tuple[fx.GraphModule, fx.GraphModule] | None:
    """Return the affine start of a module and its rest, as the trace of the module tells them.

    Parameters
    ----------
    module : torch.nn.Module
        A module in evaluation mode.

    sample : Tensor of shape (1, ...)
        One input, of the module's type and on its device.

    Returns
    -------
    tuple of (GraphModule, GraphModule) or None
        Both parts share the module's layers. None where the start is not affine or has no linear
        layer, or something is computed for its side effects.

    Raises
    ------
    Exception
        Whatever the module's code raises under tracing.
    """
    chain = _Chain(_traced(_Rows(module).eval()), sample)
    cut = chain.last()
    if cut is None or chain.has_side_effects():
        return None
    return chain.head(cut), chain.tail(cut)


def _traced(root: nn.Module) -> fx.GraphModule:
    """Return the traced module; layers without weights are opaque where they cannot be traced."""
    # Tracing exchanges methods of all modules for its time.
    with _TRACING:
        try:
            graph = _Tracer().trace(root)
        except Exception:
            graph = _Tracer(opaque=True).trace(root)
    return fx.GraphModule(root, graph)


class _Rows(nn.Module):
    """Calls a module with rows alone, so that its other arguments have their defaults."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, rows: Tensor) -> Any:
        return self.net(rows)


class _Tracer(fx.Tracer):
    """A tracer that lets modules that other threads call meanwhile run as they are."""

    def __init__(self, opaque: bool = False) -> None:
        super().__init__()
        self._opaque = opaque
        self._thread = threading.get_ident()

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        parts = (m.children(), m.parameters(), m.buffers())
        stateless = all(next(part, None) is None for part in parts)
        return (self._opaque and stateless) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self,
        m: nn.Module,
        forward: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _Shapes(fx.Interpreter):
    """Notes the shape and type of the tensors that a graph passes through."""

    def __init__(self, traced: fx.GraphModule) -> None:
        super().__init__(traced)
        self.seen: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if isinstance(result, Tensor):
            self.seen[n] = result.to("meta")
        return result


class _Chain:
    """The operations from the input on, one after the other, in a traced module."""

    def __init__(self, traced: fx.GraphModule, sample: Tensor) -> None:
        self.traced = traced
        self.row_counts: list[fx.Node] = []
        self.sizes: set[fx.Node] = set()
        nodes = list(traced.graph.nodes)
        self.rows, self.output = nodes[0], nodes[-1]
        shapes = _Shapes(traced)
        # Three rows, so that a row count is not taken for another size.
        shapes.run(sample[:1].expand(3, *sample.shape[1:]).contiguous())
        self.seen = shapes.seen
        self.varying = set(_descendants(self.rows))

    def last(self) -> fx.Node | None:
        """Return the last value that is affine in the input, if a linear layer comes before it."""
        value, cut = self.rows, None
        while (use := self._only_use(value)) is not None and self._is_affine(use, value):
            if self._kind(use) in _CASTS:
                # To the type it has: the head must also run in double precision.
                use.replace_all_uses_with(value)
                self.traced.graph.erase_node(use)
                continue
            value = use
            if cut is not None or self._kind(use) in _LINEAR:
                cut = value
        return cut

    def has_side_effects(self) -> bool:
        """Say whether something is called, perhaps in place, whose result nobody uses."""
        queries = {"size", getattr, operator.getitem}
        return any(
            node.op.startswith("call") and not node.users and node.target not in queries
            for node in self.traced.graph.nodes
        )

    def head(self, cut: fx.Node) -> fx.GraphModule:
        """Return the part from the input to a value."""
        graph = fx.Graph()
        graph.output(_copied(cut, graph, {}))
        return fx.GraphModule(self.traced, graph)

    def tail(self, cut: fx.Node) -> fx.GraphModule:
        """Return the part from a value to the output; numbers of rows are asked of the value."""
        graph = fx.Graph()
        hidden = graph.placeholder("hidden")
        known = {cut: hidden}
        for count in self.row_counts:
            known[count] = graph.call_method("size", (hidden, 0))
        results = self.output.args[0]
        # As elsewhere, the first of several outputs counts.
        result = results[0] if isinstance(results, tuple) else results
        if not isinstance(result, fx.Node) or self.rows in _ancestors(result, known):
            raise ValueError("The rest of the network is no function of the value.")
        graph.output(_copied(result, graph, known))
        return fx.GraphModule(self.traced, graph)

    def _only_use(self, value: fx.Node) -> fx.Node | None:
        """Return the operation that takes a value, None if there are several or none."""
        self._settle_sizes(value)
        uses = [use for use in value.users if use not in self.sizes]
        return uses[0] if len(uses) == 1 else None

    def _settle_sizes(self, value: fx.Node) -> None:
        """Replace the sizes of a value by numbers, but for the number of rows."""
        shape = self.seen[value].shape
        for use in list(value.users):
            if use.target == "size" and len(use.args) == 2:
                self._settle(use, shape, use.args[1])
            elif use.target in ("size", getattr) and use.args[1:] in ((), ("shape",)):
                for item in list(use.users):
                    if item.target is operator.getitem:
                        self._settle(item, shape, item.args[1])
                if set(use.users) <= self.sizes:
                    self.sizes.add(use)

    def _settle(self, size: fx.Node, shape: torch.Size, dim: Any) -> None:
        if not isinstance(dim, int):
            return
        self.sizes.add(size)
        if dim in (0, -len(shape)):
            self.row_counts.append(size)
            return
        for use in list(size.users):
            use.args = map_arg(use.args, lambda n: shape[dim] if n is size else n)
            use.kwargs = map_arg(use.kwargs, lambda n: shape[dim] if n is size else n)

    def _kind(self, node: fx.Node) -> Any:
        """Return the function, the name of the method or the `forward` of the module."""
        layer = self._layer(node)
        return node.target if layer is None else type(layer).forward

    def _layer(self, node: fx.Node) -> nn.Module | None:
        is_layer = node.op == "call_module"
        return self.traced.get_submodule(str(node.target)) if is_layer else None

    def _is_affine(self, node: fx.Node, value: fx.Node) -> bool:
        """Say whether an operation is affine in a value, row by row."""
        before, after = self.seen[value], self.seen.get(node)
        if after is None or after.dtype != before.dtype or after.shape[:1] != before.shape[:1]:
            return False
        arguments = [*node.args, *node.kwargs.values()]
        if sum(argument is value for argument in arguments) != 1:
            return False
        kind = self._kind(node)
        if kind in _RESHAPING:
            return node.args[:1] == (value,)
        if any(other in self.varying and other is not value for other in node.all_input_nodes):
            return False
        if kind in _ARITHMETIC:
            return not node.kwargs and (kind not in _DIVISION or node.args[0] is value)
        return self._is_affine_layer(node, kind) and node.args[:1] == (value,)

    def _is_affine_layer(self, node: fx.Node, kind: Any) -> bool:
        layer = self._layer(node)
        if kind is _BatchNorm.forward:
            return layer is not None and layer.running_mean is not None and not layer.training
        if kind in _DROPOUT:
            training = node.kwargs.get("training") if layer is None else layer.training
            return training is False
        return kind in _LINEAR


def _descendants(node: fx.Node) -> Iterator[fx.Node]:
    seen, todo = {node}, [node]
    while todo:
        yield (current := todo.pop())
        new = set(current.users) - seen
        seen |= new
        todo.extend(new)


def _ancestors(node: fx.Node, known: Mapping[fx.Node, fx.Node]) -> list[fx.Node]:
    """Return a node and what it needs, in order, up to what is known."""
    needed = {node} - set(known)
    todo = list(needed)
    while todo:
        new = set(todo.pop().all_input_nodes) - needed - set(known)
        needed |= new
        todo.extend(new)
    return [other for other in node.graph.nodes if other in needed]


def _copied(node: fx.Node, graph: fx.Graph, known: Mapping[fx.Node, fx.Node]) -> fx.Node:
    """Copy a node and what it needs into another graph, where some are known already."""
    copies = dict(known)
    for needed in _ancestors(node, known):
        copies[needed] = graph.node_copy(needed, lambda n: copies[n])
    return copies[node]
