"""A run as it is explored: its test data with their codes, and how these are decoded."""

from __future__ import annotations

__all__ = ["Subject"]

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor

from ppl_gen.app.exploration.asked import Asked
from ppl_gen.app.run.opened import Fitted
from ppl_gen.data import Split
from ppl_gen.inference import Codes, decode, encode, ticks
from ppl_gen.inference.codes.coder import prior_at
from ppl_gen.paths import is_autoencoder

MOST_TRAINED = 10_000  # training data that are searched for neighbours

# Looks that want codes of data, images to show, and a prior.
_ENCODED = (
    "traverse",
    "interpolate",
    "neighbours",
    "overlap",
    "attributes",
    "impute",
    "anomaly",
    "latents",
    "aggregate",
    "over_epochs",
)
_SHOWN = (
    "manifold",
    "traverse",
    "interpolate",
    "walk",
    "neighbours",
    "overlap",
    "attributes",
    "impute",
)


class Subject:
    """A run and what it is asked for, looked at before any work starts.

    Args:
        fitted: The run.
        asked: The looks, and their options.

    Raises:
        ValueError: If the run has no encoder, no images or not the latents for what is asked, or a
            test datum that is named does not exist.
    """

    def __init__(self, fitted: Fitted, asked: Asked) -> None:
        self.fitted = fitted
        self.asked = asked
        self.program = fitted.program
        for look in asked.looks:
            self._expect_possible("--" + look.replace("_", "-"), look)
        self.test: Split = fitted.data.test.fixed(0, asked.limit)
        count = len(self.test)
        for name, index in asked.indices.items():
            if not 0 <= index < count:
                raise ValueError(
                    f"expected {name} as the number of a test datum, from 0 to {count - 1}, got "
                    f"{index}"
                )
        self.context = fitted.context(self.test)
        self._expect_one_vector()

    @cached_property
    def codes(self) -> Codes:
        """The codes of the test data."""
        return encode(self.program, self.test.x, *self.context)

    @cached_property
    def train(self) -> Split:
        """The first training data, as they are searched."""
        return self.fitted.data.train.fixed(0, MOST_TRAINED)

    @cached_property
    def train_codes(self) -> Tensor:
        """The codes of these, (M, D)."""
        return encode(self.program, self.train.x, *self.fitted.context(self.train)).mean

    @property
    def labels(self) -> Tensor | None:
        """The labels of the test data, Long (N,); None where there are none."""
        return labels_of(self.test)

    @cached_property
    def size(self) -> int:
        """D, the dimension of the latents."""
        if is_autoencoder(self.program):
            return self.codes.mean.shape[1]
        first = [c[:1] for c in self.context]
        return int(prior_at(self.program, *first).event_shape[0])

    @cached_property
    def in_place_of_prior(self) -> Tensor | None:
        """Codes whose quantiles and moments stand for those of a prior that has none here.

        None where the prior has them, or where --within says other ticks.
        """
        if self.asked.within is not None and not is_autoencoder(self.program):
            return None
        if is_autoencoder(self.program):
            return self.codes.mean
        try:
            ticks(self.program, *self.row(), steps=2)
        except ValueError:
            if not _has_guide(self.fitted):
                raise
            return self.codes.mean
        return None

    @property
    def ticked_by(self) -> str:
        """What a lattice has for ticks, in words."""
        if self.asked.within is not None:
            return f"codes within ±{self.asked.within:g}"
        if self.in_place_of_prior is not None:
            return "quantiles of the test data's codes"
        return "quantiles of the prior"

    def decode(self, z: Tensor, datum: int | None = None, label: int | None = None) -> Tensor:
        """E[x | z] of codes (M, D) under the context of one test datum, or one label.

        Args:
            z: The codes.
            datum: The test datum whose context is taken; the first if None.
            label: The label, in its place.
        """
        context: Sequence[Tensor] = self.row(datum)
        if label is not None and self.context:
            context = [torch.full_like(context[0], label)]
        return decode(self.program, z, *[c.expand(len(z), *c.shape[1:]) for c in context])

    def row(self, datum: int | None = None) -> list[Tensor]:
        """The context of one test datum, (1, ...) each; an empty list if there is none.

        Args:
            datum: Its number; the first if None.
        """
        start = datum or 0
        return [c[start : start + 1] for c in self.context]

    def _expect_possible(self, flag: str, look: str) -> None:
        """Raises ValueError if the run does not have what a look wants."""
        fitted = self.fitted
        fitted.expect_draws(flag)
        fitted.expect_numbers(flag)
        fitted.expect_continuous(flag)
        fitted.expect_complete(flag)
        if look in _ENCODED and not is_autoencoder(self.program) and not _has_guide(fitted):
            fitted.expect_guide(flag)
        if look in _SHOWN and len(fitted.data.shape) != 3:
            raise ValueError(
                f"expected a run over images for {flag}, got data of shape "
                f"{tuple(fitted.data.shape)}; --anomaly, --latents and --aggregate take tables too"
            )

    def _expect_one_vector(self) -> None:
        """Raises ValueError unless codes, and what they are decoded by, are one vector each."""
        if is_autoencoder(self.program):
            return
        first = self.row()
        size = self.size
        if any(look in _ENCODED for look in self.asked.looks):
            encode(self.program, self.test.x[:1], *first)
        for look, sizes in (("manifold", (2,)), ("latents", (2, 3)), ("over_epochs", (2, 3))):
            if look in self.asked.looks and size not in sizes:
                wanted = " or ".join(map(str, sizes))
                flag = "--" + look.replace("_", "-")
                raise ValueError(
                    f"expected a run of {wanted} latents for {flag}, got {size}; fit with "
                    f"--latent-dim {sizes[0]}, or look at each latent by --traverse"
                )


def labels_of(split: Split) -> Tensor | None:
    """The labels of data, Long (N,), where they have such.

    Args:
        split: The data.
    """
    y = split.y
    if y is None or y.dim() != 1 or y.is_floating_point():
        return None
    return y


def _has_guide(fitted: Fitted) -> bool:
    return fitted.explicit or fitted.recipe.reconstructs
