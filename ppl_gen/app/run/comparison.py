"""compare/ of a run: what `ppl-gen compare RUN` has found of its guide beside MCMC."""

from __future__ import annotations

__all__ = ["FILE", "FOLDER", "PICTURES", "PRODUCTS", "TABLE", "Entry", "read"]

from pathlib import Path
from typing import Any

from ppl_gen.app.run import documents

FOLDER = "compare"
FILE = "verdict.json"
TABLE = "comparison.csv"
PICTURES = ("contours.png", "quantiles.png", "forest.png", "traces.png")
PRODUCTS = (*PICTURES, TABLE, FILE, "posterior.nc")

# What was found: tags, verdict, passes, coordinates, r_hat_largest, ess_smallest, options,
# time, and of a run epoch and weights, as an entry of evaluation.json has them.
Entry = dict[str, Any]


def read(folder: Path) -> Entry | None:
    """What a comparison came to; None where there is none, or one of a former version.

    Args:
        folder: Of the run.

    Raises:
        ValueError: If the file cannot be read, or is damaged.
    """
    path = folder / FOLDER / FILE
    text = documents.read(path)
    if text is None:
        return None
    try:
        held = documents.parse(text)
        if not isinstance(held, dict) or not isinstance(held.get("verdict"), list):
            raise ValueError("no verdict")
    except ValueError as error:
        raise ValueError(
            f"{path} is damaged, or not what `ppl-gen compare` writes ({error}); compare anew with "
            "--overwrite"
        ) from error
    return held
