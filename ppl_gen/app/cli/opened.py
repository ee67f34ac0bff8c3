"""Runs that commands open, with what the user is to know of them."""

from __future__ import annotations

__all__ = ["opened"]

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ppl_gen.app.cli.errors import console

if TYPE_CHECKING:
    from ppl_gen.app.run.opened import Fitted


def opened(
    folder: Path,
    device: str,
    trust: bool,
    places: Mapping[str, str] | None = None,
    alone: bool = False,
) -> Fitted:
    """The run of a folder, with what the user is to know of it printed.

    Args:
        folder: Of the run.
        device: auto, cpu or cuda.
        trust: Whether to run the code that the folder names.
        places: Where its data lie now, by the names of options, if they have moved.
        alone: Whether the folder is to be enough, so that no data are read where they need not be.
    """
    from ppl_gen.app.run.opened import Fitted

    fitted = Fitted.open(folder, device, places, trust=trust, alone=alone)
    if fitted.remark:
        console.print(fitted.remark, soft_wrap=True)
    return fitted
