"""q(z | x, context): families of approximate posteriors, each a Conditional, and Pyro's automatic
guides, kept apart.
"""

from __future__ import annotations

__all__ = ["DiagonalGaussian", "automatic", "from_prior"]

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide
from torch import Tensor, nn

from ppl_gen.contexts import device_of, seeded
from ppl_gen.distributions import LogScaleNormal
from ppl_gen.program import register
from ppl_gen.protocols import Distribution, Guide, Program
from ppl_gen.pyro_patches import set_up


class DiagonalGaussian(nn.Module):
    """q(z | c) = N(z; μ(c), diag exp(η(c))²), with (μ, η) = net(c).

    Args:
        net: Maps the context to (*batch, 2D), the D means followed by the D log standard
            deviations.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, *context: Tensor) -> Distribution:
        loc, log_scale = self.net(*context).chunk(2, -1)
        return LogScaleNormal(loc, log_scale).to_event(1)


def from_prior(program: Program) -> Guide:
    """q(z | x, context) = p(z | context): the program without its data, for one that has no guide
    of its own.

    `log_evidence(gan, from_prior(gan), x)` is simple Monte Carlo, which a few latents stand; `ais`
    begins there by itself.

    Args:
        program: Any program.
    """

    def guide(x: Tensor, *context: Tensor) -> Any:
        return poutine.block(program.model, hide=["x"])(None, *context, n=x.shape[0])

    return guide


def automatic(
    family: Callable[[Callable[..., Any]], AutoGuide],
    model: Callable[..., Any],
    *args: Any,
    seed: int | None = None,
) -> AutoGuide:
    """q(z) of one of Pyro's automatic families over the latents of a model, with parameters of its
    own.

    Pyro keeps the parameters of automatic guides in its global store under the name of their class,
    so that two of one class share them, under torch optimisers too, unless built and called inside
    `pyro.settings.context(module_local_params=True)`. This guide goes there by itself at every
    call. Its parameters exist when it is returned; `register` shows them to a listening
    `pyro.infer.SVI`, and the store is otherwise left as found.

    Args:
        family: `AutoNormal`, `AutoMultivariateNormal`, ... of pyro.infer.autoguide, or any function
            from a model to a guide, `functools.partial(AutoLowRankMultivariateNormal, rank=3)` for
            one.
        model: A Pyro program. Its sites to be enumerated are hidden from the guide.
        *args: What the model is called with; it is run on them to find its latents and where to
            begin.
        seed: Of the draws that it begins from; torch's generators are then left as found.

    Returns:
        The guide that `family` makes, with its `.median()`, `.quantiles()`, `.get_posterior()` and
        `.parameters()`.

    Raises:
        ValueError: If the family makes no AutoGuide.

    Example:
        >>> from pyro.infer.autoguide import AutoDiagonalNormal
        >>> guide = automatic(AutoDiagonalNormal, lambda: pyro.sample("z", pyro.distributions.Normal(0.0, 1.0)), seed=0)
        >>> [name for name, _ in guide.named_parameters()], guide()["z"].shape, len(pyro.get_param_store())
        (['loc', 'scale_unconstrained'], torch.Size([]), 0)

    Reference:
        Kucukelbir et al. (2017), Automatic differentiation variational inference.
    """
    device = device_of(None, args)
    store = pyro.get_param_store()
    with seeded(device, seed), torch.no_grad():
        with (
            pyro.settings.context(module_local_params=True),
            store.scope(store.get_state()),
            poutine.block(),
        ):
            guide = family(poutine.block(model, hide_fn=_is_enumerated))
            if not isinstance(guide, AutoGuide):
                raise ValueError(
                    f"expected a family that makes an AutoGuide, got {type(guide).__name__} from "
                    f"{family}"
                )
            # Outside of its own call, whose store must not take the model's parameters.
            set_up(guide, *args)
        kind: Any = type(guide)
        guide.__class__ = _apart(kind)
        with poutine.block():
            guide(*args)  # flows make their parameters at the first call
    return guide


def _is_enumerated(site: Mapping[str, Any]) -> bool:
    return site["type"] == "sample" and bool(site["infer"].get("enumerate"))


@functools.cache
def _apart(kind: type[AutoGuide]) -> type[AutoGuide]:
    """The same class of guide, whose calls keep their parameters out of the global store."""

    def call(self: AutoGuide, *args: Any, **options: Any) -> Any:
        with pyro.settings.context(module_local_params=True), poutine.block(hide_types=["param"]):
            result = kind.__call__(self, *args, **options)
        register(
            self
        )  # after the call, which takes its own weak references off all parameters in the store
        return result

    body = {"__call__": call, "__doc__": kind.__doc__}
    return types.new_class(
        f"{kind.__name__}Apart", (kind,), exec_body=lambda namespace: namespace.update(body)
    )
