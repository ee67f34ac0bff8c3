"""What `explore` is asked for: the looks, and the options that they depend on."""

from __future__ import annotations

__all__ = ["LOOKS", "Asked"]

from dataclasses import dataclass

from ppl_gen.contexts import expect_seed
from ppl_gen.counts import expect_at_least, expect_positive

# The looks, in the order in which they are taken.
LOOKS = (
    "manifold",
    "traverse",
    "interpolate",
    "walk",
    "neighbours",
    "overlap",
    "attributes",
    "impute",
    "anomaly",
    "latents",
    "aggregate",
    "over_epochs",
)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The options of `ppl-gen explore`.

    Attributes:
        manifold: A lattice of the prior's quantiles, decoded.
        traverse: Each coordinate moved, the others held.
        interpolate: Two test data between whose codes is gone.
        walk: A random walk.
        neighbours: A test datum whose nearest training data are shown.
        overlap: Two test data between whose posteriors is decoded.
        attributes: The names of two attributes.
        impute: Whether a band of pixels is filled in.
        anomaly: Whether novel test data are told from usual ones.
        latents: Whether codes are drawn, with the ellipses of q(z | x).
        aggregate: Whether draws of the aggregate posterior stand beside those of the prior.
        over_epochs: Whether the codes of kept epochs are drawn one after another.
        novel: What is novel: a label of the test data, or other data; None takes the labels that no
            training datum has.
        label: The label that codes are decoded under, of a program with labels; None takes all.
        datum: The test datum whose code is moved about.
        within: r, for lattices evenly spaced from −r to r; None for the prior's quantiles.
        side: The ticks of a lattice along an axis.
        limit: How many test data are encoded, from the first; None for all.
        seed: Of everything that is drawn.
    """

    manifold: bool = False
    traverse: bool = False
    interpolate: tuple[int, int] | None = None
    walk: bool = False
    neighbours: int | None = None
    overlap: tuple[int, int] | None = None
    attributes: tuple[str, str] | None = None
    impute: bool = False
    anomaly: bool = False
    latents: bool = False
    aggregate: bool = False
    over_epochs: bool = False
    novel: str | None = None
    label: str | None = None
    datum: int = 0
    within: float | None = None
    side: int = 20
    limit: int | None = None
    seed: int = 0

    @property
    def looks(self) -> list[str]:
        """The names of the looks that are asked for."""
        found = []
        for name in LOOKS:
            value = getattr(self, name)
            if value is not None and value is not False:
                found.append(name)
        return found

    def expect_sound(self) -> None:
        """Raises ValueError if nothing is asked for, or a number is out of range by itself."""
        if not self.looks:
            flags = ", ".join(["--" + name.replace("_", "-") for name in LOOKS])
            raise ValueError(f"expected one look or more of {flags}, got none")
        expect_at_least(2, **{"--side": self.side, "--limit": self.limit})
        expect_positive(**{"--within": self.within})
        expect_seed(self.seed)
        if self.novel is not None and not self.anomaly:
            raise ValueError("--novel belongs to --anomaly, got it alone; say both")

    @property
    def indices(self) -> dict[str, int]:
        """The test data that are named, by what names them."""
        named = {"--datum": self.datum}
        if self.neighbours is not None:
            named["--neighbours"] = self.neighbours
        for name in ("interpolate", "overlap"):
            pair = getattr(self, name)
            if pair is not None:
                named[f"the first of --{name}"], named[f"the second of --{name}"] = pair
        return named
