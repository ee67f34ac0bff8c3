"""A run that is used: its program with the weights loaded, its data, and what the program is
conditioned on.
"""

from __future__ import annotations

__all__ = ["Fitted"]

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ppl_gen.app.config import EXPLICIT, Config
from ppl_gen.app.recipes import build
from ppl_gen.app.recipes.conditions import Condition, condition
from ppl_gen.app.run.folder import Run
from ppl_gen.data import Split


@dataclass(frozen=True)
class Fitted:
    """A run, its program and data on one device.

    Attributes:
        run: The run.
        program: What is sampled and judged.
        data: A `Dataset`, or the `Domains` of a cycle-gan.
        condition: What the program is conditioned on, None if nothing.
        device: Where all lies.
        epoch: Of the weights.
    """

    run: Run
    program: Any
    data: Any
    condition: Condition | None
    device: torch.device
    epoch: int

    @classmethod
    def open(cls, folder: Path, device_name: str) -> Fitted:
        """The run of a folder, with the weights of its checkpoint.

        Raises:
            ValueError: If there is no such run or device, or its data have changed.
        """
        device = build.device(device_name)
        run = Run.open(folder)
        data = build.dataset(run.config)
        given = condition(run.config, data)
        program = build.program(run.config, data, given).to(device)
        epoch = run.restore(program, device, build.fingerprint(data))
        return cls(run, program, data.to(device), given, device, epoch)

    @property
    def config(self) -> Config:
        """What the run was asked for."""
        return self.run.config

    @property
    def name(self) -> str:
        """Model and data, for a heading."""
        other = f" and {self.config.data_b}" if self.config.data_b else ""
        return f"{self.config.model} on {self.config.data}{other}"

    @property
    def explicit(self) -> bool:
        """Whether the program has a likelihood and a guide."""
        return self.config.model in EXPLICIT

    @property
    def given(self) -> str:
        """What the program is conditioned on, after a comma or a space: "given the label"; empty if
        nothing.
        """
        return "" if self.condition is None else f"given the {self.condition.name}"

    @property
    def translates(self) -> bool:
        """Whether the run is that of two domains."""
        return self.config.model == "cycle-gan"

    def context(self, split: Split) -> list[Tensor]:
        """What the program is given of a split."""
        return [] if self.condition is None else self.condition.context(split)

    def expect_guide(self, what: str) -> None:
        """Says when something is asked for that takes a guide.

        Raises:
            ValueError: If the program has none.
        """
        if not self.explicit:
            raise ValueError(
                f"expected a run of {', '.join(EXPLICIT)} for {what}, got {self.config.model}: no "
                "guide"
            )

    def expect_draws(self, what: str) -> None:
        """Says when draws of data are asked for and the run is one that translates.

        Raises:
            ValueError: Then.
        """
        if self.translates:
            raise ValueError(
                f"expected a run that draws data for {what}, got a cycle-gan; see `ppl-gen "
                f"translate {self.run.folder}`"
            )
