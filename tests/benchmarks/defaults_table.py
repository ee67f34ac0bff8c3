"""What `hmc` makes of demanding posteriors as it stands, with no option but a seed.

`OMP_NUM_THREADS=1 python tests/benchmarks/defaults_table.py`, or with the names of rows behind. The
rows are those of tests/demanding.py; a warning is in the last column.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from demanding import DEMANDING

from ppl_gen.inference import ConvergenceWarning, hmc

HEADS = (
    "posterior",
    "R̂",
    "smallest ESS",
    "divergences",
    "condition",
    "directions",
    "leapfrogs",
    "seconds",
    "warning",
)


def row(name: str) -> str:
    """A row of the table, in Markdown."""
    posterior = DEMANDING[name]()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        draws = hmc(posterior.model, *posterior.data, seed=0)
    said = [one for one in caught if issubclass(one.category, ConvergenceWarning)]
    cells = [
        name,
        f"{draws.max_r_hat:.4f}",
        f"{draws.min_ess:,.0f}",
        f"{draws.divergences} of {draws.divergent.numel():,}",
        f"{draws.settings['condition']:.3g}",
        f"{draws.settings['directions']:.0f}",
        f"{draws.settings['leapfrogs']:.0f}",
        f"{draws.seconds + draws.preparation_seconds:.0f}",
        "; ".join(str(one.message).partition(". ")[0] for one in said) or "none",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Prints the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("rows", nargs="*", choices=[*DEMANDING, []], help="all if none are named")
    asked = parser.parse_args()
    print("| " + " | ".join(HEADS) + " |")
    print("|" + "---|" * len(HEADS), flush=True)
    for name in asked.rows or DEMANDING:
        print(row(name), flush=True)


if __name__ == "__main__":
    main()
