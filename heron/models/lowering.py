"""From a recorded graph to one that runs fast: groups of operations replaced by one kernel each.

The one hard idea: a group is recognised by what flows into what, never by the name of a module, so it holds for every family that computes
the same; what is not recognised stays as it is, and is right. Each rule looks at the last operation of a group, and replaces that one: the
others go if nobody else reads them.

What it leaves out: the kernels (`kernels.host`), and layer norms, partial or interleaved rotations, which stay torch's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from heron.kernels.host import linear
from heron.kernels.host.trained import gated, normed, rotated

aten = torch.ops.aten
TO_END = 2**63 - 1
"""How a graph says `x[a:]`."""
CASTS = (aten.to.dtype, aten.to.device, aten.type_as.default)
SAME = (*CASTS, aten.alias.default, aten.view.default, aten.reshape.default, aten.dropout.default)
"""May give back what they were given: a copy only if they are asked for one."""
SWITCHES = (torch._C._set_grad_enabled, torch.amp.autocast_mode._enter_autocast, torch.amp.autocast_mode._exit_autocast)
"""As they were while it was recorded: left out, since a replay may be differentiated (see `_check_switches`)."""
KERNEL_TYPES = (torch.float32, torch.bfloat16)

Operand = Any
"""What an operation is given: a node, a number, a list of them."""


def lowered(module: GraphModule) -> Callable[..., Tensor]:
    """A function `(tokens, positions, plan)` that does what the graph of `(tokens, positions)` says."""
    graph = module.graph
    _check_switches(module)
    _give_plan(graph)
    for rule in (_same, _norm, _rotation, _gate, _linear):
        for node in list(graph.nodes):
            if (found := rule(module, node)) is not None:
                node.replace_all_uses_with(found)
        for node in graph.nodes:
            if node.target in SWITCHES:
                graph.erase_node(node)
        graph.eliminate_dead_code()
    graph.lint()
    module.recompile()
    return module


def _check_switches(module: GraphModule) -> None:
    """Gradients may be switched off only over what depends on no parameter, such as the angles of rotations."""
    is_off, trained = False, set[Operand]()
    for node in module.graph.nodes:
        if node.target is torch._C._set_grad_enabled:
            is_off = not is_off
        elif isinstance(getattr(module, str(node.target), None), torch.nn.Parameter) or trained.intersection(node.all_input_nodes):
            trained.add(node)
            if is_off and node.op == "call_function":
                raise ValueError(f"gradients are switched off at {node.name}, which depends on a parameter")


def _give_plan(graph: Graph) -> None:
    """A third input, and attention by it."""
    with graph.inserting_after(graph.find_nodes(op="placeholder")[-1]):
        plan = graph.placeholder("plan")
    for node in graph.find_nodes(op="call_function", target=torch.ops.heron.attend.default):
        node.target, node.args = _attend, (plan, *node.args)


def _attend(
    plan: Any, query: Tensor, key: Tensor, value: Tensor, layer: int, scaling: float, window: int | None, softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    return plan.attend(layer, query, key, value, scaling=scaling, window=window, softcap=softcap, sinks=sinks)


# Rules: what to read instead of a node, or None


def _same(_: GraphModule, node: Operand) -> Node | None:
    """Operations that change nothing: a cast to the same type, a view of the same shape, a slice of everything, times 1."""
    source = node.args[0] if node.args else None
    if not isinstance(source, Node) or node.op != "call_function":
        return None
    whole = _is(node, aten.slice.Tensor) and tuple(node.args[2:]) in ((0, TO_END), (0, TO_END, 1))
    once = _is(node, aten.mul.Tensor) and isinstance(node.args[1], float) and node.args[1] == 1.0
    copies = node.kwargs or len(node.args) > 3 or (_is(node, aten.dropout.default) and node.args[2])
    kept = node.target in SAME and not copies and _shape(node) == _shape(source)
    return source if (whole or once or kept) and _dtype(node) == _dtype(source) else None


def _norm(module: GraphModule, node: Operand) -> Node | None:
    """RMSNorm, as Llama rounds it, `weight * normalised.to(dtype)`, and as Gemma does, `(normalised * (1 + weight)).to(dtype)`."""
    inner = node.args[0] if node.target in CASTS else node
    for normalised, factor in _both_orders(inner, aten.mul.Tensor):
        plus_one = _is(factor, aten.add.Tensor) and factor.args[1] == 1.0
        weight = _uncast(factor.args[0] if plus_one else factor)
        if (found := _normalised(normalised if plus_one else _uncast(normalised))) is None or not _is_weight(weight):
            continue
        x, eps = found
        rounds_before = normalised.target in CASTS or _dtype(x) is torch.float32
        plain = node is inner and factor is weight and rounds_before
        if _dtype(x) in KERNEL_TYPES and _dtype(x) == _dtype(weight) == _dtype(node) and (plain or plus_one):
            return _call(module, node, normed, x, weight, eps, plus_one)
    return None


def _normalised(node: Operand) -> tuple[Operand, float] | None:
    """`x` and `eps` of `x32 * rsqrt(mean(x32 ** 2) + eps)`, where `x32` is `x` in float32."""
    for wide, root in _both_orders(node, aten.mul.Tensor):
        if not _is(root, aten.rsqrt.default) or not _is(total := root.args[0], aten.add.Tensor):
            continue
        mean, eps = total.args
        if not _is(mean, aten.mean.dim) or tuple(mean.args[1:]) != ([-1], True) or not isinstance(eps, float):
            continue
        if _is(mean.args[0], aten.pow.Tensor_Scalar) and mean.args[0].args == (wide, 2) and _dtype(wide) is torch.float32:
            return _uncast(wide), eps
    return None


def _rotation(module: GraphModule, node: Operand) -> Node | None:
    """`x * cos + rotate_half(x) * sin` of `x [1, H, T, d]`, with `cos` and `sin` `[1, 1, T, d]`."""
    for first, second in _both_orders(node, aten.add.Tensor):
        if not _is(first, aten.mul.Tensor) or not _is(second, aten.mul.Tensor):
            continue
        (x, cos), (turned, sin) = first.args, second.args
        by_token = all(_is(angle, aten.unsqueeze.default) and angle.args[1] == 1 for angle in (cos, sin))
        if by_token and _is_half_turned(turned, x):
            return _call(module, node, rotated, x, cos, sin) if _dtype(x) in KERNEL_TYPES and _dtype(x) == _dtype(cos) else None
    return None


def _is_half_turned(node: Operand, x: Operand) -> bool:
    """`cat((-x[..., d/2:], x[..., :d/2]), -1)`."""
    if not _is(node, aten.cat.default) or len(node.args[0]) != 2 or _shape(node) != _shape(x) or len(_shape(x)) != 4:
        return False
    behind, front = node.args[0]
    half = _shape(x)[3] // 2
    return (
        _is(behind, aten.neg.default) and _is(behind.args[0], aten.slice.Tensor) and behind.args[0].args == (x, 3, half, TO_END)
        and _is(front, aten.slice.Tensor) and front.args == (x, 3, 0, half) and _shape(x)[3] == 2 * half and _shape(x)[0] == 1
    )


def _gate(module: GraphModule, node: Operand) -> Node | None:
    """`act(gate) * up`."""
    for active, up in _both_orders(node, aten.mul.Tensor):
        is_silu = _is(active, aten.silu.default)
        is_gelu = _is(active, aten.gelu.default) and active.kwargs.get("approximate") == "tanh"
        if (is_silu or is_gelu) and _dtype(up) in KERNEL_TYPES and _dtype(up) == _dtype(active) and _shape(up) == _shape(active):
            return _call(module, node, gated, active.args[0], up, "silu" if is_silu else "gelu_tanh")
    return None


def _linear(module: GraphModule, node: Operand) -> Node | None:
    """`x @ weight.T + bias`."""
    if not _is(node, aten.linear.default):
        return None
    x, *constants = (part for part in node.args if part is not None)
    tensors = [getattr(module, part.target) for part in constants if part.op == "get_attr"]
    if len(tensors) < len(constants) or not linear.takes(*tensors) or _dtype(x) != tensors[0].dtype:
        return None
    return _call(module, node, linear.Linear(*tensors).__call__, x)


# Looking at nodes


def _is(node: Operand, target: Any) -> bool:
    return isinstance(node, Node) and node.op == "call_function" and node.target is target


def _both_orders(node: Operand, target: Any) -> list[tuple[Operand, Operand]]:
    """The two operands of an operation that may swap them; nothing if it is another one."""
    if not _is(node, target) or len(node.args) != 2 or node.kwargs or not all(isinstance(part, Node) for part in node.args):
        return []
    return [(node.args[0], node.args[1]), (node.args[1], node.args[0])]


def _uncast(node: Operand) -> Operand:
    """What was cast, or the node."""
    return node.args[0] if node.target in CASTS and isinstance(node.args[0], Node) else node


def _is_weight(node: Operand) -> bool:
    return isinstance(node, Node) and node.op == "get_attr" and len(_shape(node)) == 1


def _call(module: GraphModule, node: Operand, function: Callable[..., Tensor], *args: Any) -> Node:
    """A new node before this one, that stands for the same values."""
    with module.graph.inserting_before(node):
        made = module.graph.call_function(function, args)
    made.meta["val"] = node.meta["val"]
    return made


def _dtype(node: Operand) -> Any:
    value = node.meta.get("val")
    return value.dtype if isinstance(value, Tensor) else None


def _shape(node: Operand) -> tuple[Any, ...]:
    value = node.meta.get("val")
    return tuple(value.shape) if isinstance(value, Tensor) else ()
