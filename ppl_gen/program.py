"""Programs as objects to compute with: draw from them, read their density datum by datum.

What is read off a trace (`stochastic_sites`, `plate_nesting`, ...) is defined in `ppl_gen.sites`
and can be imported from here as well.
"""

from __future__ import annotations

__all__ = [
    "LogDensity",
    "Observed",
    "Proposal",
    "data_axis",
    "data_plate",
    "is_auxiliary",
    "log_density",
    "log_prob_per_datum",
    "per_datum",
    "plate_nesting",
    "propose",
    "reconstruct",
    "register",
    "simulate",
    "simulate_sites",
    "stochastic_sites",
]

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from pyro.poutine.messenger import Messenger
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from ppl_gen.arguments import expect_data, expect_devices, traced
from ppl_gen.contexts import (
    evaluating,
    expect_context,
    expect_drawing,
    explained,
    guide_of,
    one_at_a_time,
    simulates,
    takes,
)
from ppl_gen.enumeration import SomeValue, is_enumerable, marginal
from ppl_gen.protocols import Conditional, Distribution, Guide, Program
from ppl_gen.pyro_patches import listens_for_parameters
from ppl_gen.sites import (
    data_axis,
    data_plate,
    is_auxiliary,
    is_deterministic,
    log_prob_per_datum,
    plate_nesting,
    stochastic_sites,
)
from ppl_gen.slots import blaming_slots
from ppl_gen.supports import flaw_of_draws

# The name under which each parameter object was shown to Pyro.
_names: WeakIdKeyDictionary = WeakIdKeyDictionary()
_serial_numbers = itertools.count()
_DRAWABLE = "a program that data can be drawn from"
_DRAWN_FROM = "run its model by itself to see where; some distributions have a density and no draws"


def register(module: nn.Module) -> None:
    """Shows the parameters of a module to a listening `pyro.infer.SVI`, under names of their own.

    `pyro.module` names parameters by their place in the module, so that a second model of the same
    structure is not trained at all. Here a name belongs to one parameter object. Where nobody
    listens (no handler on Pyro's stack has `param_only`) this does nothing, and the global param
    store is left alone.

    Args:
        module: Any module; parameters without `requires_grad` are skipped.

    Raises:
        ValueError: If a parameter is not contiguous, since Pyro would train a copy of it.

    Examples:
        >>> class Scale(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.log_scale = nn.Parameter(torch.zeros(()))
        ...     def model(self, x):
        ...         register(self)  # lets pyro.infer.SVI train log_scale
        ...         with pyro.plate("data", len(x)):
        ...             pyro.sample("x", dist.Normal(0.0, self.log_scale.exp()), obs=x)
        >>> with pyro.poutine.trace(param_only=True) as seen:
        ...     Scale().model(torch.ones(3))
        >>> [name.split("$$$")[-1] for name in seen.trace.param_nodes]
        ['log_scale@0']
    """
    if not listens_for_parameters():
        return
    for path, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        if parameter not in _names:
            _names[parameter] = f"{path}@{next(_serial_numbers)}"
        shown = pyro.param(_names[parameter], parameter)
        if shown.data_ptr() != parameter.data_ptr():
            raise ValueError(
                f"expected contiguous parameters, got {path} with strides {parameter.stride()}: "
                "Pyro would train a copy; set `parameter.data = parameter.data.contiguous()`, or "
                "fit with ppl_gen.inference.svi_step"
            )


def per_datum(distribution: Distribution, batch_dims: int) -> Distribution:
    """Turns the batch axes of a single datum into event axes: one log density per datum.

    Args:
        distribution: Any Pyro distribution, of batch shape (*batch, *rest). The axes of *rest are
            turned into event axes.
        batch_dims: The number of axes in *batch: one for the data plate and one for each particle
            or chain axis.

    Raises:
        ValueError: If the distribution is not Pyro's, or has fewer batch axes than `batch_dims`.

    Examples:
        >>> pixels = dist.Bernoulli(logits=torch.zeros(5, 1, 8, 8))
        >>> per_datum(pixels, 1).batch_shape, per_datum(pixels, 1).event_shape
        (torch.Size([5]), torch.Size([1, 8, 8]))
    """
    if not isinstance(distribution, Distribution):
        raise ValueError(
            "expected a distribution of pyro.distributions, got "
            f"{type(distribution).__module__}.{type(distribution).__name__}; the same names are "
            "in `import pyro.distributions as dist`"
        )
    surplus = len(distribution.batch_shape) - batch_dims
    if surplus < 0:
        raise ValueError(
            f"expected a likelihood with at least {batch_dims} batch axes, got batch shape "
            f"{tuple(distribution.batch_shape)} and event shape "
            f"{tuple(distribution.event_shape)}; its `.to_event` takes the data axis too"
        )
    if surplus == 0:
        return distribution
    return distribution.to_event(surplus)


def simulate(program: Program, n: int, *context: Tensor) -> Tensor:
    """Draws x₁, …, xₙ ~ p(x | context), of shape (n, *shape).

    Args:
        program: Any program; its modules are put in evaluation mode meanwhile.
        n: The number of draws; with a context, its length.
        *context: What the program is conditioned on, each of length n.

    Raises:
        ValueError: If n is below 1 or not the length of the context, or if a label or parameter is
            out of range.

    Examples:
        >>> simulate(models.vae((1, 8, 8), latent_dim=2), 5).shape
        torch.Size([5, 1, 8, 8])
    """
    _check_lengths(program, n, context)
    with _drawing_from(program, context):
        return program.model(None, *context, n=n)


def simulate_sites(program: Program, n: int, *context: Tensor) -> dict[str, Any]:
    """Draws (z, x)₁, …, (z, x)ₙ ~ p(z, x | context): the sites of one trace by name, "x" included.

    The latents are exact draws from the posterior of the data that were drawn with them.

    Args:
        program: Any program; its modules are put in evaluation mode meanwhile.
        n: The number of draws; with a context, its length.
        *context: What the program is conditioned on, each of length n.

    Raises:
        ValueError: If n is below 1 or not the length of the context, or if a label or parameter is
            out of range; if there are no latents, no site "x", or other observed sites.

    Examples:
        >>> sites = simulate_sites(models.vae((4,), latent_dim=2), 5)
        >>> {name: site["value"].shape for name, site in sites.items()}
        {'z': torch.Size([5, 2]), 'x': torch.Size([5, 4])}
    """
    _check_lengths(program, n, context)
    with _drawing_from(program, context):
        trace = poutine.trace(program.model).get_trace(None, *context, n=n)
    sites = {
        name: site for name, site in stochastic_sites(trace).items() if not is_deterministic(site)
    }
    for name, site in sites.items():
        if flaw := flaw_of_draws(site["fn"]):
            raise ValueError(f"expected draws of {name!r} that follow their density, got {flaw}")
    observed = sorted(name for name, site in sites.items() if site["is_observed"])
    if observed:
        raise ValueError(
            f"expected a program whose data are all at the site 'x', got observed sites {observed} "
            "without data: latents drawn with them are no draws from a posterior; make them part "
            "of x or of the context"
        )
    if not sites.keys() > {"x"}:
        raise ValueError(
            f"expected a program that samples latents and data 'x', got the sites {sorted(sites)}"
        )
    return sites


@contextmanager
def _drawing_from(program: Program, context: tuple[Tensor, ...]) -> Iterator[None]:
    """Evaluation mode with validation; what a program cannot be run for is said."""
    named = blaming_slots(program, (None, *context))
    running = explained(_DRAWABLE, _DRAWN_FROM)
    with evaluating(program), pyro.validation_enabled(True), named, running:
        yield


def _check_lengths(program: Program, n: int, context: tuple[Tensor, ...]) -> None:
    """Raises ValueError unless n is positive and the context is what the program takes, n rows."""
    if n < 1:
        raise ValueError(f"expected n of at least 1, got {n}")
    expect_drawing(program)
    expect_context(program, context)
    expect_devices((program,), context)
    for c in context:
        if c.shape[0] != n:
            raise ValueError(
                f"expected a context of length n = {n}, got {c.shape[0]}; repeat it, one row per "
                "draw"
            )


def reconstruct(
    program: Program, x: Tensor, *context: Tensor, guide: Guide | None = None
) -> Tensor:
    """x̂ = E[x | z, context] at one z ~ q(z | x, context) per datum, of the shape of x.

    What has no mean, as lines of text, is the mode instead.

    Args:
        program: Any program; its modules are put in evaluation mode meanwhile.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.
        guide: q(z | x, context); `program.guide` if left out.

    Raises:
        ValueError: If x or a context is no tensor, empty, not finite or of another length, or the
            program cannot be run on them or has data of another shape.

    Examples:
        >>> vae = models.vae((1, 8, 8), latent_dim=2)
        >>> digits = data.load("digits").test.x[:5]
        >>> reconstruct(vae, digits).shape
        torch.Size([5, 1, 8, 8])
    """
    guide = guide_of(program, guide)
    expect_data(program, (x, *context))
    expect_devices((guide,), (x, *context))
    with evaluating(program, guide):
        drawn = traced(guide, (x, *context), "guide")
        mean = _mean_of_data(program, drawn, (x, *context))
    if mean.shape != x.shape:
        expected = ", ".join(["N", *map(str, mean.shape[1:])])
        raise ValueError(f"expected data of shape ({expected}), got {tuple(x.shape)}; reshape them")
    return mean


def _mean_of_data(program: Program, drawn: poutine.Trace, data: Sequence[Tensor]) -> Tensor:
    """E[x | z] at the latents of a guide's trace."""
    x = data[0]
    if simulates(program.model):
        mean = Observed(program, dist.Delta)
        return poutine.replay(mean.model, trace=drawn)(None, *data[1:], n=x.shape[0])
    sites = stochastic_sites(traced(poutine.replay(program.model, trace=drawn), data))
    means = []
    for site in sites.values():
        if site["is_observed"] and not is_deterministic(site):
            means.append(site["fn"].mean)
    if len(means) != 1:
        raise ValueError(
            f"expected one site of observed data, got {len(means)} among {sorted(sites)}"
        )
    if means[0].numel() == x.numel():
        return means[0].reshape(x.shape)
    return means[0]


class LogDensity(NamedTuple):
    """log p(z) and log p(x | z), the halves of log p(x, z), in nats per datum.

    Attributes:
        prior: log p(z), of shape (*particles, N).
        likelihood: log p(x | z), of shape (*particles, N).

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> density = log_density(vae.model, {"z": torch.zeros(5, 2)}, torch.zeros(5, 4))
        >>> density.prior[0], density.joint.shape  # log N(0; 0, I) = −log 2π
        (tensor(-1.8379), torch.Size([5]))
    """

    prior: Tensor
    likelihood: Tensor

    @property
    def joint(self) -> Tensor:
        """log p(x, z), of shape (*particles, N)."""
        return self.prior + self.likelihood

    def __repr__(self) -> str:
        return f"log densities of prior and likelihood, each of shape {tuple(self.prior.shape)}"


class Proposal(NamedTuple):
    """Latents z ~ q(z | x) with their log density.

    Attributes:
        latents: By the names of their sites, z of shape (particles, N, *event).
        log_prob: log q(z | x) in nats, of shape (particles, N).

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> proposal = propose(vae.guide, 7, 1, torch.zeros(5, 4))  # 7 particles, one plate
        >>> proposal.latents["z"].shape, proposal.log_prob.shape
        (torch.Size([7, 5, 2]), torch.Size([7, 5]))
    """

    latents: dict[str, Tensor]
    log_prob: Tensor

    def __repr__(self) -> str:
        sites = ", ".join([f"{name} {tuple(z.shape)}" for name, z in self.latents.items()])
        return f"latents {sites}, with log density {tuple(self.log_prob.shape)}"


@one_at_a_time
def log_density(
    model: Callable[..., Any], latents: Mapping[str, Tensor], x: Tensor, *context: Tensor
) -> LogDensity:
    """log p(z | context) and log p(x | z, context), datum by datum, by tracing the model once.

    Plates other than that of the data ("data", or the only one that holds all sites) are summed
    over, masks are kept, and scales (`poutine.scale`,
    subsampling) are ignored: what comes out is a density, never a weighted objective.
    Discrete latents of listable values that are given none are summed out of both halves.
    Differentiable in the latents and the parameters.

    Args:
        model: The model of any program, hierarchical ones included.
        latents: A value for each latent site but the discrete ones to be summed out, of shape
            (*particles, N, *event) with any number of leading axes.
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.

    Raises:
        ValueError: If a latent site has no value, a value has no site, data have another shape than
            the program's, or a site lies outside the plate of the data.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> density = log_density(vae.model, {"z": torch.zeros(7, 5, 2)}, torch.zeros(5, 4))
        >>> density.joint.shape  # of 7 particles for each of 5 data
        torch.Size([7, 5])
    """
    at_latents = poutine.condition(model, data=dict(latents))
    with SomeValue():
        trace = poutine.trace(at_latents).get_trace(x, *context)
    sites = stochastic_sites(trace)
    surplus = latents.keys() - sites.keys()
    if surplus:
        raise ValueError(
            f"expected values for the model's sites {sorted(sites)}, got one for "
            f"{sorted(surplus)} as well"
        )
    summed = []
    for name, site in sites.items():
        if site["is_observed"]:
            if name not in latents:
                _expect_no_broadcasting(site)
            continue
        if not is_enumerable(site["fn"]):
            raise ValueError(
                f"expected a value for every latent site of the model, got none for {name!r}"
            )
        summed.append(name)
    nesting = plate_nesting(trace)
    zero = x.new_zeros(()) if x.is_floating_point() else torch.zeros((), device=x.device)
    plate = data_plate(sites)
    latent_sites = [site for name, site in sites.items() if name in latents]
    if summed:
        particles = _particles_of(sites.values(), nesting)
        found = marginal(at_latents, summed, latents.keys(), (x, *context), nesting, particles)
        return LogDensity(prior=found.prior, likelihood=found.joint - found.prior)
    data_sites = [site for name, site in sites.items() if name not in latents]
    return LogDensity(
        prior=_summed_log_prob(latent_sites, nesting, plate, zero),
        likelihood=_summed_log_prob(data_sites, nesting, plate, zero),
    )


def _particles_of(sites: Iterable[Mapping[str, Any]], nesting: int) -> torch.Size:
    """The sizes of the axes left of the model's plates, over all sites."""
    shapes = []
    for site in sites:
        batch = site["fn"].log_prob(site["value"]).shape
        shapes.append(batch[: max(len(batch) - nesting, 0)])
    return torch.broadcast_shapes(*shapes)


def _expect_no_broadcasting(site: Mapping[str, Any]) -> None:
    """Raises ValueError unless data have the shape of their distribution, particles' axes apart."""
    if is_deterministic(site):
        return
    name = site["name"]
    expected = tuple(site["fn"].shape())
    got = tuple(site["value"].shape)
    if expected[len(expected) - len(got) :] != got or len(got) > len(expected):
        raise ValueError(
            f"expected data of shape {expected} (particles first) at the site {name!r}, got {got}, "
            "which would be broadcast against them; reshape them"
        )


def _summed_log_prob(
    sites: Iterable[Mapping[str, Any]], nesting: int, plate: str, zero: Tensor
) -> Tensor:
    """Σ log p over sites, datum by datum in the plate of that name; `zero` where there are none."""
    return sum((log_prob_per_datum(site, nesting, plate) for site in sites), zero)


@one_at_a_time
def propose(guide: Guide, particles: int, nesting: int, x: Tensor, *context: Tensor) -> Proposal:
    """Draws `particles` latents per datum from a guide, all at once, with log q(z | x, context).

    Args:
        guide: Any guide; it is called once with x, in a plate of particles left of its own plates.
        particles: K, the number of draws per datum.
        nesting: The number of axes that the program's own plates take (1 where "data" is the only
            one).
        x: Data of shape (N, *shape).
        *context: What the program is conditioned on, each of length N.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> z, log_q = propose(vae.guide, 7, 1, torch.zeros(5, 4))
        >>> z["z"].shape, log_q.shape
        (torch.Size([7, 5, 2]), torch.Size([7, 5]))
    """
    with pyro.plate("_particles", particles, dim=-1 - nesting):
        trace = poutine.trace(guide).get_trace(x, *context)
    sites = {
        name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]
    }
    zero = torch.zeros((particles, x.shape[0]), device=x.device)
    return Proposal(
        latents={name: site["value"] for name, site in sites.items() if not is_auxiliary(site)},
        log_prob=_summed_log_prob(sites.values(), nesting, data_plate(sites), zero),
    )


class _ReplaceLikelihood(Messenger):
    """Replaces p(x | z) at the site "x" by `likelihood(mean of p(x | z))`, or of its mode."""

    def __init__(self, likelihood: Conditional) -> None:
        super().__init__()
        self.likelihood = likelihood
        self.done = False

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] == "x":
            self.done = True
            own = msg["fn"]
            msg["fn"] = per_datum(self.likelihood(_centre(own)), len(own.batch_shape))


def _centre(fn: Any) -> Tensor:
    """The mean of a distribution; the mode of one that has no mean, as of lines of text."""
    try:
        return fn.mean
    except NotImplementedError:
        return fn.mode


class Observed(nn.Module):
    """The same program seen under another likelihood: x ~ likelihood(E[x | z]).

    The mean is that of the program's own distribution of x: the probabilities of a Bernoulli VAE,
    the point that a GAN's generator puts out. What has no mean, as lines of text, has its mode in
    its place. `Observed(gan, Gaussian(0.1))` gives an implicit model the density
    ∫ N(x; g(z), ε²I) p(z) dz; `Observed(vae, Dirac())` draws noiseless pictures.

    Args:
        program: Any program with a site "x".
        likelihood: Any conditional of the mean.

    Examples:
        >>> gan = models.gan((2,), latent_dim=2, hidden=[8])
        >>> smoothed = Observed(gan, likelihoods.Gaussian(0.1))  # a density, where the GAN has none
        >>> density = log_density(smoothed.model, {"z": torch.zeros(5, 2)}, torch.zeros(5, 2))
        >>> density.likelihood.shape
        torch.Size([5])
    """

    def __init__(self, program: Program, likelihood: Conditional) -> None:
        super().__init__()
        self.program = program
        self.likelihood = likelihood

    def model(self, x: Tensor | None = None, *context: Tensor, n: int = 1) -> Tensor:
        """The program's model with its likelihood replaced.

        Args:
            x: Data (N, *shape) to be scored; None draws.
            *context: What the program is conditioned on; surplus tensors are left out.
            n: The number of draws, where x is None.

        Raises:
            ValueError: If the program has no site "x", or its model takes no n.
        """
        if isinstance(self.likelihood, nn.Module):
            register(self.likelihood)
        if x is not None:
            n = x.shape[0]
        expect_drawing(self.program)
        replacement = _ReplaceLikelihood(self.likelihood)
        with replacement:
            drawn = self.program.model(x, *self._context_taken(context), n=n)
        if not replacement.done:
            raise ValueError(
                f"expected {type(self.program).__name__} to sample the data at a site 'x', whose "
                "likelihood is replaced, got none; give the site of its data that name"
            )
        return drawn

    def guide(self, x: Tensor, *context: Tensor) -> Any:
        """The program's own guide.

        Raises:
            ValueError: If the program has none.
        """
        return guide_of(self.program)(x, *self._context_taken(context))

    def _context_taken(self, context: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """The context without what the program does not take, such as the labels of a batch."""
        tensors = takes(self.program.model)
        if tensors is not None:
            context = context[: tensors - 1]  # the first one is x
        expect_context(self.program, context)
        return context
