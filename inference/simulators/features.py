"""What is matched: moments of standardised data, or a kernel as a finite number of features."""

from __future__ import annotations

__all__ = ["KernelFeatures", "Moments"]

import torch
from torch import Tensor

from ppl_gen.inference.samples.kernels import Kernel

_LEAST = 1e-10  # of a kernel's eigenvalues, to the largest
_NEGATIVE = 1e-6


class Moments:
    """zᵢ and all products zᵢzⱼ, i ≤ j, of the entries z of data, standardised by those at hand.

    Args:
        x: The data (N, *shape).

    Raises:
        ValueError: If an entry is the same in all data.
    """

    def __init__(self, x: Tensor) -> None:
        flat = x.reshape(len(x), -1).double()
        self.centre = flat.mean(0)
        self.scale = flat.std(0)
        constant = int((self.scale == 0).sum())
        if constant:
            raise ValueError(
                f"expected entries of data that vary, got {constant} of {flat.shape[1]} that are "
                "the same in all data; leave them out by features=..."
            )
        entries = flat.shape[1]
        self._first, self._second = torch.triu_indices(entries, entries, device=x.device)

    def __call__(self, x: Tensor) -> Tensor:
        z = (x.reshape(len(x), -1).double() - self.centre) / self.scale
        return torch.cat([z, z[:, self._first] * z[:, self._second]], 1)


class KernelFeatures:
    """φ(x) = k(x, Z) k(Z, Z)^(−½), so that φ(x)ᵀφ(y) is about k(x, y): Nyström's features.

    Exact for x or y among the points Z, and in the space of functions that they span.

    Args:
        kernel: k, positive definite.
        points: Z, (L, D).

    Raises:
        ValueError: If k is not positive definite on Z.

    Reference:
        Williams and Seeger (2001), Using the Nyström method to speed up kernel machines.
    """

    def __init__(self, kernel: Kernel, points: Tensor) -> None:
        self._kernel = kernel
        self._points = points
        values, vectors = torch.linalg.eigh(kernel(points, points))
        if bool(values[0] < -_NEGATIVE * values[-1]):
            raise ValueError(
                f"expected a positive definite kernel, got one with the eigenvalue "
                f"{float(values[0]):.3g} beside {float(values[-1]):.3g}; take a Gaussian, a "
                "Mixture or a RationalQuadratic of ppl_gen.inference.samples.kernels"
            )
        kept = values > _LEAST * values[-1]
        self._root = vectors[:, kept] / values[kept].sqrt()

    def __call__(self, x: Tensor) -> Tensor:
        return self._kernel(x.reshape(len(x), -1).double(), self._points) @ self._root
