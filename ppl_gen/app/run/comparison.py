"""compare/ of a run: what `ppl-gen compare RUN` has found of its guide beside MCMC."""

from __future__ import annotations

__all__ = ["FILE", "FOLDER", "PICTURES", "PRODUCTS", "TABLE", "Entry", "read"]

from pathlib import Path
from typing import Any

from ppl_gen.app.run import documents
from ppl_gen.app.run.documents import is_count

FOLDER = "compare"
FILE = "verdict.json"
TABLE = "comparison.csv"
PICTURES = ("contours.png", "quantiles.png", "forest.png", "traces.png")
PRODUCTS = (*PICTURES, TABLE, FILE, "posterior.nc")

# What was found: findings (pairs of a tag and a sentence), passes, coordinates, r_hat_largest,
# ess_smallest, options, time, and of a run epoch and weights, as an entry of evaluation.json has
# them.
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
        if not isinstance(held, dict) or not isinstance(held.get("findings"), list):
            raise ValueError("no findings")
        for finding in held["findings"]:
            tag, sentence = finding
            if not isinstance(tag, str) or not isinstance(sentence, str):
                raise ValueError(f"a finding {finding!r}")
        if not isinstance(held.get("options", {}), dict) or not is_count(held.get("epoch", 0)):
            raise ValueError("no options, or no epoch")
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged, or not what `ppl-gen compare` writes ({error}); compare anew with "
            "--overwrite"
        ) from error
    return held
