"""Graphs of tensor operations out of Pyro programs, and programs as pure functions of tensors."""

from __future__ import annotations

__all__ = ["Function", "Functional", "copies_of", "keep_constants", "shapes", "trace"]

from collections.abc import Callable, Hashable, Iterable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn

from ppl_gen.contexts import forked, owner
from ppl_gen.pyro_patches import held_tensors, make_fx, tracing, without_sources

# Some entries of the result may be None, as the gradient of what does not matter is.
Function = Callable[..., tuple[Tensor | None, ...]]

# Of the noise while tracing: a seed that nobody else takes.
_SEED = 5_113_409_287


def trace(
    function: Function,
    inputs: Sequence[Tensor],
    rows: Sequence[int] = (),
    *,
    any_size: bool = False,
    kept: Sequence[int] = (),
) -> fx.GraphModule:
    """The graph of the tensor operations in `function(*inputs)`, gradients that it takes included.

    What reaches the graph by way of Python's numbers is a constant of it. So that such a graph is
    found out when it is compared with the function, it is traced with noise and an order of the
    data that are not those of the call. The random state is left as found.

    Args:
        function: From tensors to a flat tuple of tensors. Other tensors that it holds are kept by
            reference.
        inputs: What it is traced at; the graph serves all inputs of these shapes.
        rows: The indices of the inputs whose first axis is the data.
        any_size: Whether the graph is to serve every number of data, provided that the function
            reads that number as `x.shape[0]`.
        kept: The indices of inputs too large to copy, which the function only reads.
    """
    # One tensor given for two inputs would be merged into one.
    distinct = copies_of(inputs, kept)
    for i in rows:
        distinct[i].copy_(distinct[i].roll(1, 0))  # in place, to keep its strides
    options: dict[str, Any] = {}
    if any_size:
        _resize(distinct, rows)
        options = {"tracing_mode": "symbolic", "_allow_non_fake_inputs": True}
    device = distinct[0].device
    with ExitStack() as stack:
        for context in (tracing(), without_sources(), torch.enable_grad(), forked(device, _SEED)):
            stack.enter_context(context)
        # Gradients of a CUDA device are computed by another thread, which no trace would follow.
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))
        graph = make_fx(lambda *tensors: function(*tensors), **options)(*distinct)
    if device.type != "cpu":
        keep_constants(graph, device.type)
    return graph


# Operations on constants that give constants.
_COPIES = ("aten::_to_copy", "aten::lift_fresh_copy", "aten::clone", "aten::detach", "aten::alias")


def keep_constants(graph: fx.GraphModule, there: str) -> None:
    """Copies constants that a graph brings from the processor to a device, once and for all.

    Each copy would keep the processor waiting, and none can be recorded. What else a graph reads of
    the processor becomes its own, so that a change of it is found out as one of the function.

    Args:
        graph: Is changed.
        there: The type of the device.
    """
    values: dict[fx.Node, Tensor] = {}
    for node in list(graph.graph.nodes):
        if node.op == "get_attr":
            value = getattr(graph, node.target)
            if torch.is_tensor(value) and value.device.type == "cpu":
                values[node] = value.detach().clone()
                setattr(graph, node.target, values[node])
        elif node.op == "call_function" and node.args and node.args[0] in values:
            name = getattr(node.target, "name", str)()
            if not name.startswith(_COPIES):
                continue
            value = node.target(values[node.args[0]], *node.args[1:], **node.kwargs)
            values[node] = value
            if value.device.type == there:
                kept = f"kept_constant{len(values)}"
                setattr(graph, kept, value)
                with graph.graph.inserting_before(node):
                    node.replace_all_uses_with(graph.graph.create_node("get_attr", kept))
    graph.graph.eliminate_dead_code()
    graph.recompile()


def _resize(tensors: list[Tensor], rows: Sequence[int]) -> None:
    """Gives the data a number of rows that no other axis has.

    A symbolic trace takes sizes that happen to agree for one size.
    """
    taken: set[int] = set()
    for t in tensors:
        taken.update(t.shape)
    count = 5
    while count in taken:
        count += 2
    for i in rows:
        data = tensors[i]
        repeated = torch.arange(count, device=data.device) % data.shape[0]
        tensors[i] = data[repeated]


class Functional:
    """A call of programs as a pure function of tensors: parameters and buffers become inputs.

    Args:
        call: What is to be called.
        *parts: The programs, guides and objectives whose tensors become inputs: those of the
            modules that they are, or are methods of.
    """

    def __init__(self, call: Callable[..., Any], *parts: Any) -> None:
        self._call = call
        modules = _modules_of(parts)
        # Each tensor once, though several modules may hold it: modules are shared, parameters tied.
        self._firsts: list[tuple[dict[str, Any], str]] = []
        self._places: list[tuple[dict[str, Any], str, int]] = []
        index: dict[int, int] = {}
        for module in modules:
            for held in held_tensors(module):
                for name, tensor in held.items():
                    if tensor is None or _is_index(module, tensor):
                        continue
                    if id(tensor) not in index:
                        index[id(tensor)] = len(self._firsts)
                        self._firsts.append((held, name))
                    self._places.append((held, name, index[id(tensor)]))
        self._numbers: list[tuple[dict[str, Any], str]] = []
        for module in modules:
            self._numbers.extend(_numbers_of(module))

    @property
    def tensors(self) -> list[Tensor]:
        """What the modules hold now."""
        return [held[name] for held, name in self._firsts]

    @property
    def numbers(self) -> tuple[Any, ...]:
        """The numbers that the modules hold now: modes, temperatures, rates of dropout."""
        return tuple([held[name] for held, name in self._numbers])

    def __call__(self, tensors: Sequence[Tensor], *arguments: Any) -> Any:
        """The call, with `tensors` in the place of `self.tensors`.

        Raises:
            RuntimeError: If a module replaces one of them while it is called.
        """
        own = self.tensors
        try:
            self._put(tensors)
            result = self._call(*arguments)
            self._expect_in_place(tensors)
            return result
        finally:
            self._put(own)

    def _put(self, tensors: Sequence[Tensor]) -> None:
        for held, name, i in self._places:
            held[name] = tensors[i]

    def _expect_in_place(self, tensors: Sequence[Tensor]) -> None:
        for held, name, i in self._places:
            if held[name] is not tensors[i]:
                raise RuntimeError(
                    "a module puts another tensor in the place of a parameter or buffer while it "
                    "is called"
                )


def _modules_of(parts: Iterable[Any]) -> list[nn.Module]:
    """The modules that the parts are or are methods of, with all inside them, each once."""
    found: dict[nn.Module, None] = {}
    for part in map(owner, parts):
        if isinstance(part, nn.Module):
            found.update(dict.fromkeys(part.modules()))
    return list(found)


def _is_index(module: nn.Module, tensor: Tensor) -> bool:
    """Whether a tensor of one of Pyro's networks holds indices, which its Python reads."""
    return type(module).__module__.startswith("pyro.nn") and not tensor.is_floating_point()


def _numbers_of(module: nn.Module) -> list[tuple[dict[str, Any], str]]:
    """The attributes of a module that are numbers and may change, as (dict, name)."""
    attributes = vars(module)
    from_torch = type(module).__module__.startswith("torch.nn.")
    found = []
    for name, value in attributes.items():
        if type(value) not in (bool, int, float):
            continue
        if from_torch and name not in ("training", "p"):
            continue  # as the sizes of a Linear, which never change
        found.append((attributes, name))
    return found


def copies_of(tensors: Sequence[Tensor], kept: Sequence[int] = ()) -> list[Tensor]:
    """A copy of each tensor, detached from autograd.

    Args:
        tensors: To be copied.
        kept: The indices of those that are not, but only detached.
    """
    copies = []
    for i, t in enumerate(tensors):
        copy = t.detach()
        if i not in kept:
            copy = copy.clone()
        copies.append(copy)
    return copies


def shapes(tensors: Sequence[Tensor]) -> Hashable:
    """What a graph takes for granted of its inputs: shape, strides, type and device of each."""
    return tuple([(t.shape, t.stride(), t.dtype, t.device) for t in tensors])
