"""`posterior` on every posterior of tests/everyday.py: its work, its grade, and its error.

    python tests/benchmarks/posterior_table.py [NAME ...]

The error is the largest, over all coordinates, of |mean − reference| and |sd − reference| in units
of the reference's standard deviation. The references are exact, or of 64
chains.
"""

from __future__ import annotations

__all__ = ["main"]

import sys
import time
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from everyday import EVERYDAY, error_of

from ppl_gen.inference import posterior

HEADINGS = ("posterior", "latents", "by", "gradients", "seconds", "grade", "mean off", "sd off")


def row(name: str) -> str:
    """A row of the table."""
    everyday = EVERYDAY[name]()
    began = time.perf_counter()
    found = posterior(everyday.model, *everyday.data, seed=0)
    seconds = time.perf_counter() - began
    error = error_of(name, found.mean, found.sd)
    width = sum([site.numel() for site in found.mean.values()])
    if found.guide is not None:
        width = len(found.guide.mean)
    cells = (
        name,
        str(width),
        next(iter(found.how.values())),
        f"{found.gradients:,}",
        f"{seconds:.0f}",
        found.grade,
        f"{error.mean:.3f}",
        f"{error.sd:.3f}",
    )
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Prints the table, row by row."""
    warnings.simplefilter("ignore")
    print(f"| {' | '.join(HEADINGS)} |")
    print(f"|{'---|' * len(HEADINGS)}")
    for name in sys.argv[1:] or EVERYDAY:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
