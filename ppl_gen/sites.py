"""What is read off a trace: its sites, their plates, and their log densities datum by datum."""

from __future__ import annotations

__all__ = [
    "Sites",
    "data_axis",
    "data_frame",
    "data_plate",
    "deterministic_sites",
    "is_auxiliary",
    "is_deterministic",
    "latent_sites",
    "log_prob_per_datum",
    "plate_nesting",
    "plates",
    "stochastic_sites",
    "summed_per_datum",
    "unwrapped",
]

from collections.abc import Mapping
from typing import Any

from pyro import poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from ppl_gen.supports import is_discrete, unwrapped

# The sites of a trace by name.
Sites = dict[str, Any]


def stochastic_sites(trace: poutine.Trace) -> Sites:
    """The sample statements of a trace by name, without the subsampling of its plates.

    Examples:
        >>> schools = toy.EightSchools()
        >>> trace = pyro.poutine.trace(schools.model).get_trace(*schools.data)
        >>> list(stochastic_sites(trace))
        ['mu', 'tau', 'eta', 'theta', 'y']
    """
    return {
        name: site
        for name, site in trace.nodes.items()
        if site["type"] == "sample" and not site_is_subsample(site)
    }


def latent_sites(trace: poutine.Trace) -> Sites:
    """The sample statements of a trace that are not observed, by name."""
    return {name: site for name, site in stochastic_sites(trace).items() if not site["is_observed"]}


def is_auxiliary(site: Mapping[str, Any]) -> bool:
    """Whether a guide samples this site for its own use, as automatic guides do.

    Examples:
        >>> from pyro.infer.autoguide import AutoDiagonalNormal
        >>> guide = AutoDiagonalNormal(toy.EightSchools().model)
        >>> trace = pyro.poutine.trace(guide).get_trace(*toy.EightSchools().data)
        >>> [name for name, site in stochastic_sites(trace).items() if is_auxiliary(site)]
        ['_AutoDiagonalNormal_latent']
    """
    return bool(site["infer"].get("is_auxiliary"))


def is_deterministic(site: Mapping[str, Any]) -> bool:
    """Whether this sample statement was made by `pyro.deterministic`."""
    return bool(site["infer"].get("_deterministic"))


def deterministic_sites(trace: poutine.Trace) -> list[str]:
    """The names of the sites of `pyro.deterministic`; none where a latent is discrete.

    Discrete latents are summed out, and the value of a deterministic site may depend on them.
    """
    sites = stochastic_sites(trace)
    for site in sites.values():
        if not site["is_observed"] and is_discrete(site["fn"]):
            return []
    return [name for name, site in sites.items() if is_deterministic(site)]


def data_plate(sites: Sites) -> str:
    """The name of the plate of the data: "data", or else the only plate that holds all sites.

    Args:
        sites: All sites of a model or guide.

    Returns:
        The name; "data" as well where no plate or several hold all sites. The functions that look
        for that plate then say so.

    Examples:
        >>> def model(x):
        ...     with pyro.plate("people", len(x)):
        ...         pyro.sample("x", dist.Normal(0.0, 1.0), obs=x)
        >>> trace = pyro.poutine.trace(model).get_trace(torch.zeros(5))
        >>> data_plate(stochastic_sites(trace))
        'people'
    """
    shared: set[str] | None = None
    for site in sites.values():
        if is_deterministic(site):
            continue
        frames = [frame for frame in site["cond_indep_stack"] if frame.vectorized]
        names = {frame.name for frame in frames if not frame.name.startswith("_particles")}
        if shared is None:
            shared = names
        shared = shared & names
    if shared is None or len(shared) != 1:
        return "data"
    return shared.pop()


def data_axis(site: Mapping[str, Any], plate: str = "data") -> int:
    """The axis of the data in the value of a site, counted from the right: −1 is the last.

    Args:
        site: A site of a trace.
        plate: The name of the plate of the data, as `data_plate` finds it.

    Raises:
        ValueError: If the site lies outside that plate.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> trace = pyro.poutine.trace(vae.model).get_trace(torch.zeros(5, 4))
        >>> data_axis(trace.nodes["z"])  # of (5, 2)
        -2
    """
    return data_frame(site, plate).dim - len(site["fn"].event_shape)


def data_frame(site: Mapping[str, Any], plate: str = "data") -> Any:
    """The frame of the plate of the data that a site lies in.

    Args:
        site: A site of a trace.
        plate: The name of that plate, as `data_plate` finds it.

    Raises:
        ValueError: If the site lies outside that plate.
    """
    others = []
    for frame in site["cond_indep_stack"]:
        if frame.vectorized and frame.name == plate:
            return frame
        if frame.vectorized and not frame.name.startswith("_particles"):
            others.append(repr(frame.name))
    inside = ""
    if others:
        inside = f", in {', '.join(sorted(others))} (if that holds the data, name it 'data')"
    raise ValueError(
        f"expected every site inside the plate {plate!r}, got {site['name']!r} outside it{inside}: "
        "a latent shared by all data has no density per datum; keep it as a parameter, or sample "
        "it by MCMC"
    )


def plate_nesting(trace: poutine.Trace, *, least: int = 1) -> int:
    """The number of axes that the plates of a trace take, the plate of `propose` apart.

    Args:
        trace: A trace of a model or guide.
        least: The answer where there are no plates: 1 for programs, whose data always take an axis;
            0 for any other Pyro model, as `max_plate_nesting` counts them.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> plate_nesting(pyro.poutine.trace(vae.model).get_trace(torch.zeros(5, 4)))
        1
    """
    nesting = least
    for site in stochastic_sites(trace).values():
        for frame in site["cond_indep_stack"]:
            if frame.vectorized and frame.name != "_particles":
                nesting = max(nesting, -frame.dim)
    return nesting


def plates(site: Any) -> tuple[str, ...]:
    """For each axis of the value of a site, the name of its plate, or "" where it is in none."""
    shape = tuple(site["value"].shape)
    events = len(site["fn"].event_shape)
    if is_deterministic(site) and events == len(shape):
        events = 0  # without event_dim, pyro.deterministic takes all axes for its event
    plate_at = {frame.dim: frame for frame in site["cond_indep_stack"] if frame.vectorized}
    names = []
    for axis, size in enumerate(shape, start=-len(shape)):
        plate = plate_at.get(axis + events)
        if plate is None or plate.size != size:
            names.append("")
        else:
            names.append(plate.name)
    return tuple(names)


def log_prob_per_datum(site: Mapping[str, Any], nesting: int, plate: str = "data") -> Tensor:
    """The log density of a site in nats, summed over its plates but that of the data.

    Its shape is (*particles, N).

    Masks are kept, scales are not.

    Args:
        site: A site of a trace.
        nesting: The number of axes that the program's own plates take, as `plate_nesting` counts
            them.
        plate: The name of the plate of the data, as `data_plate` finds it.

    Raises:
        ValueError: If the site lies outside that plate.

    Examples:
        >>> vae = models.vae((4,), latent_dim=2)
        >>> trace = pyro.poutine.trace(vae.model).get_trace(torch.zeros(5, 4))
        >>> log_prob_per_datum(trace.nodes["x"], nesting=1).shape
        torch.Size([5])
    """
    return summed_per_datum(site["fn"].log_prob(site["value"]), site, nesting, plate)


def summed_per_datum(
    values: Tensor, site: Mapping[str, Any], nesting: int, plate: str = "data"
) -> Tensor:
    """Values of the batch shape of a site, summed over its plates but that of the data.

    Their shape is then (*particles, N). What the site masks counts for nothing, scales are ignored.

    Args:
        values: A number for each entry of the batch, such as a log density or a KL divergence.
        site: A site of a trace.
        nesting: The number of axes that the program's own plates take, as `plate_nesting` counts
            them.
        plate: The name of the plate of the data, as `data_plate` finds it.

    Raises:
        ValueError: If the site lies outside that plate.
    """
    axis = data_frame(site, plate).dim
    values = scale_and_mask(values, 1.0, site["mask"])
    missing = nesting - values.dim()
    values = values.reshape((1,) * missing + values.shape)
    others = [other for other in range(-nesting, 0) if other != axis]
    if not others:
        return values
    return values.sum(others)
