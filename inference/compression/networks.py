"""A program's prior, posterior and likelihood, computed to the same last bit every time."""

from __future__ import annotations

__all__ = ["Networks", "digest_of_weights"]

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pyro import poutine
from torch import Tensor, nn

from ppl_gen.contexts import owner, takes
from ppl_gen.inference.compression.bins import Bins, Gaussian
from ppl_gen.inference.compression.masses import Coder, whole_masses
from ppl_gen.inference.compression.values import Values
from ppl_gen.protocols import Guide, Program
from ppl_gen.sites import latent_sites, stochastic_sites
from ppl_gen.supports import unwrapped

_DIGEST = 8  # bytes of a checksum
_ENTRIES = 2**22  # masses that are held at once
_MOST_ROWS = 128  # data that go through the networks at once
_LATENT = (
    "expected a program with one flat latent z (N, D) under a prior with quantiles of independent "
    "entries and a diagonal Gaussian guide, as ppl_gen.models.vae builds it,"
)


class Networks:
    """What a program says of z and x, for batches of one size, whatever the number of data in them.

    Matrix products of another size are summed in another order, and their last bits differ; a
    coder that meets other bits on the way back decodes nothing. So further rows are filled up.

    Args:
        program: Any program without a context, in evaluation mode.
        guide: q(z | x).
        shape: Of a datum.
        dtype: Of the data.
        rows: Of a batch; None chooses them by the size of the tables of masses.
        precision: Bits of a latent.

    Attributes:
        rows: Of a batch.
        bins: Of the latents.
        values: That the likelihood lists.
        unknown: Numbers of values that stand for nothing, (rows, *shape).

    Raises:
        ValueError: If there is a context, the latents are not flat, the prior has no quantiles, the
            guide is no diagonal Gaussian, or the likelihood lists no values.
    """

    def __init__(
        self,
        program: Program,
        guide: Guide,
        shape: Sequence[int],
        dtype: torch.dtype,
        *,
        rows: int | None,
        precision: int,
    ) -> None:
        _expect_no_context(program)
        self._program = program
        self._guide = guide
        one = torch.zeros(1, *shape, dtype=dtype)
        self._site = _latent_site(guide, one)
        sites = stochastic_sites(poutine.trace(program.model).get_trace(one))
        prior = unwrapped(sites[self._site]["fn"], masks=True)
        likelihood = unwrapped(_observed(sites, self._site)["fn"])
        _expect_quantiles(prior)
        self.values = Values(likelihood, dtype)
        self.bins = Bins(prior, precision)
        if rows is None:
            rows = min(self.values.rows(likelihood, _ENTRIES), _MOST_ROWS)
        self.rows = rows
        self._blank = self.values.values[0].expand(rows, *shape)
        self.unknown = torch.zeros(rows, *shape, dtype=torch.int64)

    def posterior(self, x: Tensor) -> Gaussian:
        """q(z | x) of n data.

        Args:
            x: Data (n, *shape), with n of at most so many rows.
        """
        fn = latent_sites(poutine.trace(self._guide).get_trace(_filled(self._blank, x)))
        normal = unwrapped(fn[self._site]["fn"], masks=True)
        return Gaussian(normal.loc[: len(x)].double(), normal.scale[: len(x)].double())

    def likelihood(self, index: Tensor) -> Any:
        """p(x | z) of each entry, of batch shape (rows, *shape), the first n of which count.

        Args:
            index: The numbers of the latents' bins, (n, D), with n of at most so many rows.
        """
        z = self.bins.centres(index).to(self._blank.dtype)
        filled = _filled(z.new_zeros(self.rows, self.bins.width), z)
        model = poutine.condition(self._program.model, data={self._site: filled})
        sites = stochastic_sites(poutine.trace(model).get_trace(self._blank))
        return unwrapped(_observed(sites, self._site)["fn"])

    def digest(self) -> bytes:
        """A checksum of what guide, decoder and coder make of data and latents of no meaning."""
        symbols = _mixed(self._blank.shape) % self.values.count
        index = _mixed((self.rows, self.bins.width)) % 2**self.bins.precision
        posterior = self.posterior(self.values.values[symbols])
        masses = self.bins.masses(posterior, torch.zeros_like(index), 0, 1)
        log_masses = self.values.log_masses(self.likelihood(index), symbols[:, :0])
        found = hashlib.blake2b(digest_size=_DIGEST)
        for outputs in (*posterior, masses, log_masses):
            found.update(_raw(outputs))
        # What the coder makes of masses, which another version of it may round otherwise.
        coder = Coder(np.arange(1, 9, dtype=np.uint32), sealed=False)
        coder.push(_mixed((64,)).numpy() % 2, whole_masses(masses.reshape(-1, 2)[:64]))
        found.update(coder.words().astype("<u4").tobytes())
        return found.digest()


def _filled(blank: Tensor, values: Tensor) -> Tensor:
    """A copy of a batch whose first rows are these."""
    filled = blank.clone()
    filled[: len(values)] = values
    return filled


def _mixed(shape: Sequence[int]) -> Tensor:
    """Whole numbers without pattern, the same for everybody."""
    numbers = torch.arange(math.prod(shape)) * 48271 % (2**31 - 1)
    return numbers.reshape(tuple(shape))


def _raw(numbers: Tensor) -> bytes:
    """The bytes of numbers, row by row."""
    array = numbers.detach().cpu().contiguous().numpy()
    return array.tobytes()


def digest_of_weights(*parts: Any) -> bytes:
    """A checksum of all weights and buffers of programs and guides.

    Args:
        *parts: Programs and guides; those that are no module have none.
    """
    found = hashlib.blake2b(digest_size=_DIGEST)
    seen = {id(owner(part)): owner(part) for part in parts}
    for module in seen.values():
        if not isinstance(module, nn.Module):
            continue
        for name, weights in module.state_dict().items():
            if torch.is_tensor(weights):
                found.update(f"{name} {tuple(weights.shape)} {weights.dtype}".encode())
                found.update(_raw(weights))
    return found.digest()


def _expect_no_context(program: Program) -> None:
    """Raises ValueError if a program takes more than data."""
    if takes(program.model) not in (1, None):
        raise ValueError(
            f"expected a program without a context, got {type(owner(program.model)).__name__}, "
            "which is conditioned on labels or the like: these would have to be known to who "
            "decompresses; fit a vae"
        )


def _latent_site(guide: Guide, x: Tensor) -> str:
    """The name of the only latent site, z (N, D), which the guide draws from diagonal Gaussians."""
    sites = latent_sites(poutine.trace(guide).get_trace(x))
    if len(sites) != 1:
        raise ValueError(f"{_LATENT} got the latents {', '.join(sites) or 'none'}; fit a vae")
    ((name, site),) = sites.items()
    inner = unwrapped(site["fn"], masks=True)
    shape = tuple(site["value"].shape)
    if len(shape) != 2 or not isinstance(inner, torch.distributions.Normal):
        raise ValueError(
            f"{_LATENT} got {name!r} of shape {shape} under {type(inner).__name__}; fit a vae with "
            "the guide diagonal"
        )
    return name


def _observed(sites: dict[str, Any], latent: str) -> Any:
    """The only observed site."""
    others = [name for name in sites if name != latent]
    if len(others) != 1:
        raise ValueError(f"{_LATENT} got the sites {', '.join(sites)}; fit a vae")
    return sites[others[0]]


def _expect_quantiles(prior: Any) -> None:
    """Raises ValueError if a prior has no quantiles of single entries."""
    half = torch.full((1, 1), 0.5, dtype=torch.float64)
    has_quantiles = not prior.event_shape
    if has_quantiles:
        try:
            prior.icdf(half)
        except NotImplementedError:
            has_quantiles = False
    if not has_quantiles:
        raise ValueError(
            f"{_LATENT} got the prior {type(prior).__name__}, which has no quantiles of single "
            "entries; fit a vae with the prior standard-normal"
        )
