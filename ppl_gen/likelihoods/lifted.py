"""Any distribution of Pyro's as a likelihood, by a link for each of its parameters."""

from __future__ import annotations

__all__ = ["Lifted", "of"]

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from pyro.distributions.transforms import biject_to
from torch import Tensor, nn

from ppl_gen.likelihoods.parameters import columns_of
from ppl_gen.protocols import Distribution

Link = Callable[[Tensor], Tensor]


class Lifted(nn.Module):
    """p(x | η) = family(x; θ₁ = g₁(η₁), θ₂ = g₂(η₂), …), as `of` makes it.

    The decoder's output η is of shape (*batch, *shape, P), one number for each link, or (*batch,
    *shape) if there is one.

    Args:
        family: A class of distributions of single values.
        links: By the names of parameters, g, in the order of the decoder's outputs.
        fixed: By the names of other parameters, their values; an `nn.Parameter` is learned.
    """

    def __init__(
        self,
        family: Callable[..., Distribution],
        links: Mapping[str, Link],
        fixed: Mapping[str, Tensor],
    ) -> None:
        super().__init__()
        self.family = family
        self.links = dict(links)
        self.linked_modules = nn.ModuleList([g for g in links.values() if isinstance(g, nn.Module)])
        self.fixed = list(fixed)
        for name, value in fixed.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(f"own_{name}", value)
            else:
                self.register_buffer(f"own_{name}", value)
        self.parameters_per_value = len(links)

    def forward(self, parameters: Tensor) -> Distribution:
        given = {}
        for name in self.fixed:
            given[name] = getattr(self, f"own_{name}").to(parameters.dtype)
        columns: tuple[Tensor, ...] = (parameters,)
        if len(self.links) > 1:
            columns = columns_of(parameters)
        for (name, link), column in zip(self.links.items(), columns, strict=True):
            given[name] = link(column)
        return self.family(**given)


def of(family: Callable[..., Distribution], **links: Link | float | Tensor) -> Lifted:
    """The likelihood p(x | η) = family(x; θ₁ = g₁(η₁), …): any distribution of Pyro's in one line.

    Args:
        family: A class of `pyro.distributions` of single values.
        **links: By the name of a parameter the function g that takes a decoder's output to it; or
            a number or tensor, at which it is held; or an `nn.Parameter`, which is learned. A
            parameter that is left out has the link of its constraint (`biject_to`: the exponential
            of what is positive, the logistic function of a probability); one that has a default
            and no constraint keeps it; of probs and logits, logits are taken.

    Raises:
        ValueError: If `family` is no such class, a parameter is none of its, takes whole numbers
            or vectors, or no link can be found for it.

    Examples:
        >>> import torch
        >>> import pyro.distributions as dist
        >>> from torch.nn.functional import softplus
        >>> gamma = of(dist.Gamma, concentration=softplus, rate=softplus)
        >>> gamma.parameters_per_value, gamma(torch.zeros(5, 2)).mean
        (2, tensor([1., 1., 1., 1., 1.]))
        >>> list(of(dist.StudentT, df=4.0).links)
        ['loc', 'scale']
    """
    takes = _parameters(family)
    name_of_family = getattr(family, "__name__", str(family))
    unknown = sorted(links.keys() - takes.keys())
    if unknown:
        raise ValueError(
            f"expected links of {', '.join(takes)}, the parameters of {name_of_family}, got one of "
            f"{', '.join(unknown)}"
        )
    constraints = getattr(family, "arg_constraints", None)
    if not isinstance(constraints, Mapping):
        constraints = {}
    linked: dict[str, Link] = {}
    fixed: dict[str, Tensor] = {}
    for name in _taken(takes, links):
        said = links.get(name)
        what = f"{name!r} of {name_of_family}"
        if said is None and _keeps_default(takes[name], constraints.get(name)):
            continue
        if said is None:
            linked[name] = _default_link(what, constraints.get(name))
        elif isinstance(said, Tensor):
            fixed[name] = said
        elif callable(said):
            linked[name] = said
        elif isinstance(said, int | float):
            fixed[name] = torch.tensor(float(said))
        else:
            raise ValueError(
                f"expected a link for {what}, a function of the decoder's output, or a number, got "
                f"{said!r}"
            )
    if not linked:
        raise ValueError(
            f"expected at least one parameter of {name_of_family} from the decoder, got values for "
            "all of them; leave one out"
        )
    return Lifted(family, linked, fixed)


def _parameters(family: Any) -> dict[str, inspect.Parameter]:
    """The parameters that a class of distributions is made with, by name."""
    if not (isinstance(family, type) and issubclass(family, Distribution)):
        raise ValueError(
            f"expected a class of pyro.distributions, got {family!r}; torch's have the same names "
            "there, and a function from a decoder's output to a distribution is a likelihood as it "
            "is"
        )
    takes = {}
    for name, parameter in inspect.signature(family).parameters.items():
        is_own = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        if is_own and name != "validate_args":
            takes[name] = parameter
    return takes


def _taken(takes: Mapping[str, inspect.Parameter], links: Mapping[str, Any]) -> list[str]:
    """The parameters that are given: of those that stand for each other, the one that is named.

    Such have None for their default, as probs and logits.
    """
    either = [name for name, parameter in takes.items() if parameter.default is None]
    named = [name for name in either if name in links]
    if not named:
        named = [name for name in either if name.endswith("logits")]
    return [name for name in takes if name not in either or name in named]


def _keeps_default(parameter: inspect.Parameter, constraint: Any) -> bool:
    """Whether a parameter has a default that nothing from a decoder is to replace."""
    if parameter.default is inspect.Parameter.empty:
        return False
    return constraint is None or constraint.is_discrete


def _default_link(what: str, constraint: Any) -> Link:
    """The transform from the line to where a parameter has to lie."""
    remedy = "give it a link, or write a function from a decoder's output to the distribution"
    if constraint is None:
        raise ValueError(f"expected a parameter with a constraint, got {what} without; {remedy}")
    if constraint.event_dim:
        raise ValueError(
            f"expected a distribution of single numbers, got {what}, a vector; {remedy}, and set "
            "its parameters_per_value"
        )
    try:
        return biject_to(constraint)
    except NotImplementedError:
        raise ValueError(
            f"expected a constraint that a transform leads to, got {constraint} for {what}; "
            f"{remedy}"
        ) from None
