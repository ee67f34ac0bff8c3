"""Everything private of Pyro and torch that the library relies on, here and nowhere else.

A new version of either may move these names: `pyro-ppl` is capped in pyproject.toml for that
reason, and a test asks for each of them.
"""

from __future__ import annotations

__all__ = [
    "blend",
    "compiled",
    "copy_all",
    "deterministic",
    "drawing",
    "end_readers",
    "energy_at_draw",
    "forget_unconstrained",
    "global_norm",
    "held_tensors",
    "is_traced",
    "listens_for_parameters",
    "location_and_scale",
    "make_fx",
    "mark_as_stepped",
    "masks_out",
    "mean_acceptance",
    "set_up",
    "step_hooks",
    "tracing",
    "whole_plates",
    "without_sources",
    "writes_of",
]

import functools
import linecache
import logging
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import patch

import pyro
import torch
from pyro.infer import NUTS
from pyro.infer.autoguide import AutoGuide, AutoNormal
from pyro.infer.util import torch_item
from pyro.nn.auto_reg_nn import ConditionalAutoRegressiveNN
from pyro.poutine.enum_messenger import EnumMessenger
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.subsample_messenger import SubsampleMessenger
from pyro.util import warn_if_inf, warn_if_nan
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import get_proxy_mode, make_fx
from torch.fx.graph_module import _loader
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.data import DataLoader

from ppl_gen.contexts import ONE_THREAD


def compiled(graph: GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Any]:
    """A graph compiled by inductor for inputs like these, with torch's own random numbers.

    torch's front end, which would walk through the graph once more and watch it by guards, takes
    most of the time that `torch.compile` needs; a graph is handed to inductor itself here. What was
    compiled in another process comes from torch's cache on disk in a fraction of a second.

    Args:
        graph: Left as it is.
        inputs: Shapes, strides, types and devices of those to come.

    Returns:
        The graph's function of positional tensors, which are laid out as `inputs` are.
    """
    from torch._dynamo.eval_frame import innermost_fn  # of some seconds
    from torch._inductor import standalone_compile

    log = logging.getLogger("torch.utils.cpp_extension")
    # The random numbers of a graph that is not compiled: an engine changes nothing but rounding.
    options = {"config_patches": {"fallback_random": True}}
    log.addFilter(_is_no_cuda_remark)
    try:
        # What the compiler warns of is no failure to compile, even where warnings are errors.
        with ONE_THREAD, warnings.catch_warnings(action="ignore"), without_sources():
            made = standalone_compile(
                graph, list(inputs), dynamic_shapes="from_example_inputs", options=options
            )
            # Without what keeps torch's front end out at every call, which is not here.
            return innermost_fn(made._compiled_fn)
    finally:
        log.removeFilter(_is_no_cuda_remark)


@contextmanager
def without_sources() -> Iterator[None]:
    """Drops the sources of graphs made meanwhile, which torch keeps for tracebacks for good."""
    kept = set(_loader.eval_cache)
    try:
        yield
    finally:
        for name in set(_loader.eval_cache) - kept:
            del _loader.eval_cache[name]
            linecache.cache.pop(name, None)


def _is_no_cuda_remark(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith("No CUDA runtime is found")


def is_traced() -> bool:
    """Whether what is called now becomes part of a graph, and its numbers cannot be looked at."""
    return get_proxy_mode() is not None


def listens_for_parameters() -> bool:
    """Whether a handler on Pyro's stack collects parameters alone, as `pyro.infer.SVI` does."""
    return any(getattr(handler, "param_only", False) for handler in _PYRO_STACK)


def forget_unconstrained(name: str) -> None:
    """Takes off a stored parameter Pyro's weak reference to it, with which no module pickles."""
    parameter = pyro.get_param_store()._params[name]
    vars(parameter).pop("unconstrained", None)


def set_up(guide: AutoGuide, *args: Any) -> None:
    """Lets an automatic guide find its latents, as its own first call would."""
    guide._setup_prototype(*args)


def location_and_scale(guide: AutoNormal, name: str) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a site, unconstrained, under an AutoNormal."""
    return guide._get_loc_and_scale(name)


def mean_acceptance(kernel: NUTS) -> float:
    """The mean acceptance probability of a kernel's transitions, begun anew after warm-up."""
    return kernel._mean_accept_prob


def end_readers(loader: DataLoader[Any]) -> None:
    """Ends the processes that read for a loader, of which one may have ended by itself.

    Torch would else raise its error again whenever any process of this one ends.
    """
    iterator: Any = loader._iterator
    if iterator is not None:
        with suppress(RuntimeError):  # that error
            iterator._shutdown_workers()


def energy_at_draw(kernel: NUTS) -> Tensor:
    """The potential at the latest draw of a kernel, which it keeps for the next transition."""
    _, energy, _ = kernel._fetch_from_cache()
    return energy


def masks_out(fn: Any) -> bool:
    """Whether a distribution is masked out altogether, by `.mask(False)`."""
    return getattr(fn, "_mask", None) is False


def held_tensors(module: nn.Module) -> tuple[dict[str, Any], dict[str, Any]]:
    """A module's own parameters and buffers by name, as the dicts in which they can be replaced."""
    return module._parameters, module._buffers


def global_norm(tensors: list[Tensor]) -> Tensor:
    """√Σ ‖t‖² over all tensors, in one pass."""
    return torch.stack(torch._foreach_norm(tensors)).norm()


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Algorithms of a CUDA device that give the same bits at every call, where torch has them.

    Sums of the processor are the same at every call anyway.

    Args:
        device: Where something is computed.
    """
    if device.type != "cuda":
        yield
        return
    with ONE_THREAD, warnings.catch_warnings():
        # Of those that have no such algorithm.
        warnings.filterwarnings("ignore", message=".*determinis.*")
        before = torch.are_deterministic_algorithms_enabled()
        only_warns = torch.is_deterministic_algorithms_warn_only_enabled()
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=only_warns)


def copy_all(into: list[Tensor], of: list[Tensor]) -> None:
    """into ← of, all tensors at once, in place."""
    if into:
        torch._foreach_copy_(into, of)


class Writes(NamedTuple):
    """What a call returned, and the indices of the tensors that it wrote to.

    Attributes:
        returned: What it returned.
        written: Those whose operations said that they write to them.
    """

    returned: Any
    written: list[int]


def writes_of(function: Callable[..., Any], inputs: Sequence[Tensor]) -> Writes:
    """Calls a function and finds which of its tensors it writes to in place, or to a view of them.

    Args:
        function: Of positional tensors.
        inputs: Its tensors, none of them a view of another.
    """
    versions = [t._version for t in inputs]
    returned = function(*inputs)
    written = [i for i, t in enumerate(inputs) if t._version != versions[i]]
    return Writes(returned, written)


def blend(old: list[Tensor], new: list[Tensor], weight: float) -> None:
    """old ← old + weight (new − old), all tensors at once, in place."""
    torch._foreach_lerp_(old, new, weight)


def step_hooks(optimizer: torch.optim.Optimizer) -> bool:
    """Whether something of a user's runs before or after the optimiser's step."""
    return bool(optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks)


def mark_as_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Tells learning-rate schedules, which ask, that the optimiser has made a step."""
    vars(optimizer)["_opt_called"] = True


_standard_normal = torch.distributions.utils._standard_normal
_post_sample = EnumMessenger._pyro_post_sample
_subsample = SubsampleMessenger._subsample
# The name `pyro.distributions.transforms.spline` is that of a function.
_spline_module = sys.modules["pyro.distributions.transforms.spline"]
_monotonic_rational_spline = vars(_spline_module)["_monotonic_rational_spline"]


class _SafeLog(torch.autograd.Function):
    """Pyro's logarithm with its gradient bounded at zero, in the form that vmap and make_fx can
    follow.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.log()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] / x.clamp(min=torch.finfo(x.dtype).eps)


def _spline(inputs: Tensor, *parts: Any, bound: float = 3.0, **options: Any) -> Any:
    """Pyro's rational spline, the identity outside of [−bound, bound], without indexing by masks.

    How many entries lie outside is then no part of a graph.
    """
    inside = (inputs >= -bound) & (inputs <= bound)
    clamped = inputs.clamp(-bound, bound)
    outputs, log_slope = _monotonic_rational_spline(clamped, *parts, bound=bound, **options)
    return torch.where(inside, outputs, inputs), torch.where(inside, log_slope, 0.0)


def _permutation(network: ConditionalAutoRegressiveNN) -> list[int]:
    """The order in which an autoregressive flow is inverted, as numbers that no trace looks for."""
    with _disable_current_modes():
        return network._buffers["permutation"].tolist()


def _or_nan(attempt: Callable[..., Any]) -> Callable[..., Tensor]:
    def replacement(*matrices: Tensor, **options: Any) -> Tensor:
        result, info = attempt(*matrices, **options)
        failed = (info != 0).reshape(info.shape + (1,) * (result.dim() - info.dim()))
        return torch.where(failed, torch.nan, result)

    return replacement


# By their names in torch.linalg. A chain whose matrix is not positive definite has an energy of
# NaN, and counts as divergent.
_LINALG: dict[str, Callable[..., Tensor]] = {
    "cholesky": _or_nan(torch.linalg.cholesky_ex),
    "inv": _or_nan(torch.linalg.inv_ex),
    "solve": _or_nan(torch.linalg.solve_ex),
}


@contextmanager
def tracing() -> Iterator[None]:
    """Takes out of Pyro, for the moment, what reads numbers out of tensors or keeps vmap from
    following.
    """
    with ONE_THREAD:
        if vars(pyro.ops.special)["_SafeLog"] is _SafeLog:  # already out
            yield
            return
        with _taken_out():
            yield


@contextmanager
def _taken_out() -> Iterator[None]:
    """Takes it out of a Pyro that is as it was imported."""
    instead: dict[str, tuple[Any, Callable[..., Any]]] = {
        "torch_item": (torch_item, lambda x: x.detach() if torch.is_tensor(x) else x),
        "warn_if_nan": (warn_if_nan, lambda value, *args, **options: value),
        "warn_if_inf": (warn_if_inf, lambda value, *args, **options: value),
    }
    replaced: list[tuple[ModuleType, str, Any]] = []
    with ExitStack() as stack:
        stack.enter_context(pyro.validation_enabled(False))
        stack.enter_context(patch("pyro.ops.special._SafeLog", _SafeLog))
        ordered = property(_permutation)
        stack.enter_context(
            patch.object(ConditionalAutoRegressiveNN, "permutation", ordered, create=True)
        )
        stack.enter_context(patch.object(_spline_module, "_monotonic_rational_spline", _spline))
        # The switch of validation does not reach distributions that were made, or expanded, while
        # it was on.
        stack.enter_context(
            patch.object(
                torch.distributions.Distribution, "_validate_sample", lambda self, value: None
            )
        )
        for name, replacement in _LINALG.items():
            stack.enter_context(patch.object(torch.linalg, name, replacement))
        try:
            for module in _pyro_modules(len(sys.modules)):
                for attribute, (original, replacement) in instead.items():
                    if vars(module).get(attribute) is original:
                        setattr(module, attribute, replacement)
                        replaced.append((module, attribute, original))
            yield
        finally:
            for module, attribute, original in replaced:
                setattr(module, attribute, original)


@functools.lru_cache(maxsize=1)
def _pyro_modules(count: int) -> list[ModuleType]:
    """Those of Pyro's that are imported, found anew when the number of all modules changes."""
    return [module for name, module in list(sys.modules.items()) if name.startswith("pyro.")]


@contextmanager
def drawing() -> Iterator[None]:
    """Lets vmap follow Pyro where it draws and enumerates.

    torch fills an empty tensor with normals in place, and Pyro's enumeration looks at `value.data`:
    vmap refuses both.
    """

    def standard_normal(shape: Sequence[int], dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.randn(shape, dtype=dtype, device=device)

    def shape_only(self: EnumMessenger, msg: Any) -> None:
        value = msg["value"]
        _post_sample(
            self,
            {**msg, "value": SimpleNamespace(data=value, dim=value.dim)}
            if torch.is_tensor(value)
            else msg,
        )

    with ExitStack() as stack, tracing():
        for name, module in list(sys.modules.items()):
            if (
                name.startswith(("pyro.", "torch.distributions."))
                and vars(module).get("_standard_normal") is _standard_normal
            ):
                stack.enter_context(patch.object(module, "_standard_normal", standard_normal))
        stack.enter_context(patch.object(EnumMessenger, "_pyro_post_sample", shape_only))
        yield


@contextmanager
def whole_plates() -> Iterator[None]:
    """Lets plates that would draw a subsample take all their indices, without a scale."""

    def whole(
        name: str,
        size: int | None = None,
        subsample_size: int | None = None,
        subsample: Tensor | None = None,
        *device: Any,
    ) -> Any:
        if size is None:
            return _subsample(name, size, subsample_size, subsample, *device)
        return _subsample(name, size, None, subsample, *device)

    with ONE_THREAD, patch.object(SubsampleMessenger, "_subsample", staticmethod(whole)):
        yield
