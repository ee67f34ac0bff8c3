"""Pyro's automatic guides, each with parameters of its own."""

from __future__ import annotations

__all__ = ["automatic"]

import functools
import types
from collections.abc import Callable, Mapping
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoGuide

from ppl_gen.contexts import device_of, seeded
from ppl_gen.program import register
from ppl_gen.pyro_patches import set_up


def automatic(
    family: Callable[[Callable[..., Any]], AutoGuide],
    model: Callable[..., Any],
    *args: Any,
    seed: int | None = None,
) -> AutoGuide:
    """q(z) of one of Pyro's automatic families over the latents of a model.

    Pyro keeps the parameters of automatic guides in its global store under the name of their class.
    Two of one class therefore share them, under torch optimisers too, unless both are built and
    called inside `pyro.settings.context(module_local_params=True)`. This guide enters that context
    by itself at every call. Its parameters exist when it is returned; `register` shows them to a
    listening `pyro.infer.SVI`, and the store is otherwise left as found.

    Args:
        family: `AutoNormal`, `AutoMultivariateNormal`, ... of pyro.infer.autoguide, or any function
            from a model to a guide, such as
            `functools.partial(AutoLowRankMultivariateNormal, rank=3)`.
        model: A Pyro program. Its sites to be enumerated are hidden from the guide.
        *args: What the model is called with; it is run on them to find its latents and where to
            begin.
        seed: Seed of the draws that the guide begins from; torch's generators are then left as
            found. None draws from the global generator.

    Returns:
        The guide that `family` makes, with its `.median()`, `.quantiles()`, `.get_posterior()` and
        `.parameters()`.

    Raises:
        ValueError: If the family makes no AutoGuide.

    Examples:
        >>> from pyro.infer.autoguide import AutoDiagonalNormal
        >>> def model():
        ...     return pyro.sample("z", pyro.distributions.Normal(0.0, 1.0))
        >>> guide = automatic(AutoDiagonalNormal, model, seed=0)
        >>> [name for name, _ in guide.named_parameters()]
        ['loc', 'scale_unconstrained']
        >>> guide()["z"].shape, len(pyro.get_param_store())
        (torch.Size([]), 0)

    Reference:
        Kucukelbir et al. (2017), Automatic differentiation variational inference.
    """
    store = pyro.get_param_store()
    with seeded(device_of(None, args), seed), torch.no_grad():
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
            # Here, and not in the guide's first call, which would take the model's parameters into
            # the guide's own store.
            set_up(guide, *args)
        kind: Any = type(guide)
        guide.__class__ = _with_own_parameters(kind)
        with poutine.block():
            guide(*args)  # flows make their parameters at the first call
    return guide


def _is_enumerated(site: Mapping[str, Any]) -> bool:
    return site["type"] == "sample" and bool(site["infer"].get("enumerate"))


@functools.cache
def _with_own_parameters(kind: type[AutoGuide]) -> type[AutoGuide]:
    """The same class of guide, whose calls keep their parameters out of the global store."""

    def call(self: AutoGuide, *args: Any, **options: Any) -> Any:
        with pyro.settings.context(module_local_params=True), poutine.block(hide_types=["param"]):
            result = kind.__call__(self, *args, **options)
        # Last, since the call removes Pyro's weak references from every parameter in the store.
        register(self)
        return result

    body = {"__call__": call, "__doc__": kind.__doc__}
    return types.new_class(
        f"{kind.__name__}Apart", (kind,), exec_body=lambda namespace: namespace.update(body)
    )
