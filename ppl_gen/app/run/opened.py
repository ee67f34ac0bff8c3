"""A run that is used: its program with the weights loaded, and its data; `ppl_gen.load`."""

from __future__ import annotations

__all__ = ["Fitted", "load"]

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, overload

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import Data, fingerprint
from ppl_gen.app.ingredients.recipe import Recipe
from ppl_gen.app.parts.conditioning import Conditioning
from ppl_gen.app.parts.slots import check_sources, expect_no_code
from ppl_gen.app.recipes import explicit_models, recipe_of
from ppl_gen.app.run import checkpoint
from ppl_gen.app.run.checkpoint import Checkpoint
from ppl_gen.app.run.device import find_device
from ppl_gen.app.run.folder import Run
from ppl_gen.app.run.origin import origin
from ppl_gen.contexts import forked
from ppl_gen.data import Dataset, Split
from ppl_gen.likelihoods import Dirac
from ppl_gen.plots.style import stamp
from ppl_gen.program import Observed
from ppl_gen.saving import Loaded, load_weights
from ppl_gen.states import checksum_of
from ppl_gen.writing import write_picture


@dataclass(frozen=True, kw_only=True, repr=False)
class Fitted:
    """A run, its program and data on one device.

    Attributes:
        run: The run.
        program: What is sampled and judged.
        data: A `Dataset`, or the `Domains` of a translator; blank where the run was opened alone.
        condition: What the program is conditioned on, None if nothing.
        device: Where all of it lies.
        epoch: The number of epochs that the weights have been fitted for.
        remark: What the user is to know of its checkpoint; empty if nothing.
    """

    run: Run
    program: Any
    data: Any
    condition: Conditioning | None
    device: torch.device
    epoch: int
    remark: str = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        device_name: str,
        places: Mapping[str, str] | None = None,
        *,
        trust: bool = False,
        alone: bool = False,
    ) -> Fitted:
        """The run of a folder, with the weights of its checkpoint.

        Args:
            folder: Of the run.
            device_name: auto, cpu or cuda.
            places: Where its data lie now, by the names of options (data, data_b, root), if
                elsewhere than config.json says.
            trust: Whether to run code that the folder names, such as --prior file.py:object.
            alone: Whether the folder is to be enough: no data are read, and `data` are blank ones
                of their outline. Where a program is built by more than that, they are read.

        Raises:
            ValueError: If there is no such run or device, it is damaged, its data have changed, or
                it names code and is not trusted.
        """
        device = find_device(device_name)
        run = Run.open(folder)
        if not trust:
            expect_no_code(run.config, folder)
        if places:
            run = run.moved(places)
        held = checkpoint.read(folder)
        recipe = recipe_of(run.config)
        check_sources(run.config)
        is_alone = alone and run.config.outline is not None
        data: Data
        if is_alone:
            data = _blank(run.config)
        else:
            data = run.data()
            held.expect_data(data, fingerprint(data))
        condition = recipe.condition(run.config, data)
        program = recipe.build(run.config, data, condition).to(device)
        held.restore(program)
        data = data.to(device)
        if is_alone and not recipe.is_finished(program):
            raise ValueError(
                f"the run {folder} was stopped before its end: the density of its codes is not "
                f"fitted yet; go on with: ppl-gen fit {run.config.model} --out {folder} --resume"
            )
        recipe.finish(run.config, program, data)  # where the run was stopped before its end
        return cls(
            run=run,
            program=program,
            data=data,
            condition=condition,
            device=device,
            epoch=held.shown,
            remark=_remark(run, held),
        )

    def __repr__(self) -> str:
        return f"{self.name}, fitted for {self.epoch} epochs, on {self.device}: {self.run.folder}"

    @property
    def config(self) -> Config:
        """What the run was asked for."""
        return self.run.config

    @property
    def recipe(self) -> Recipe:
        """What the command knows about the run's model."""
        return recipe_of(self.config)

    @property
    def name(self) -> str:
        """Model and data, for a heading."""
        return f"{self.config.model} on {self.data_name}"

    @property
    def data_name(self) -> str:
        """The data without the folder that they lie in: "digits", "photos", "digits and usps"."""
        if self.translates:
            return f"{self.data.a.name} and {self.data.b.name}"
        return str(self.data.name)

    @property
    def class_names(self) -> tuple[str, ...]:
        """A name for each label, in order; empty where the data have none."""
        return getattr(self.data, "class_names", ())

    @property
    def weights(self) -> str:
        """A checksum of the weights, which tells those of two fits apart."""
        return checksum_of(self.program.state_dict())

    @property
    def explicit(self) -> bool:
        """Whether the program has a likelihood and a guide."""
        return self.recipe.explicit

    @property
    def translates(self) -> bool:
        """Whether the program translates between two domains."""
        return self.recipe.translates

    @property
    def noiseless(self) -> Any:
        """The program without the likelihood's noise, unless that is all that it says of data."""
        if self.recipe.has_components:
            return self.program
        return Observed(self.program, Dirac())

    @property
    def is_text(self) -> bool:
        """Whether the data are lines of text."""
        return getattr(self.data, "vocabulary", None) is not None

    @property
    def given(self) -> str:
        """What the program is conditioned on, in words: "given the label"; empty if nothing."""
        if self.condition is None:
            return ""
        return f"given the {self.condition.name}"

    def context(self, split: Split) -> list[Tensor]:
        """The context that the program is given with a split, (N, ...); an empty list if none."""
        if self.condition is None:
            return []
        return self.condition.context(split)

    def write_picture(self, name: str, figure: Figure) -> Path:
        """Writes a picture into the folder of the run, with the epoch in its corner.

        The file says inside of which epoch and weights it is.

        Args:
            name: Of the file, a PNG.
            figure: What is drawn.

        Returns:
            The path of the file.
        """
        stamp(figure, f"epoch {self.epoch}")
        path = self.run.folder / name
        write_picture(path, figure, origin(self.epoch, self.weights))
        return path

    def expect_guide(self, what: str) -> None:
        """Raises ValueError if the program has no guide.

        Args:
            what: What needs one, for the message.
        """
        if not self.explicit:
            raise ValueError(
                f"expected a run of {', '.join(explicit_models())} for {what}, got "
                f"{self.config.model}: no guide"
            )

    def expect_continuous(self, what: str) -> None:
        """Raises ValueError if some latents are labels.

        Args:
            what: What needs continuous latents, for the message.
        """
        if self.recipe.has_components:
            raise ValueError(
                f"expected a run whose latents are continuous for {what}, got {self.config.model}, "
                "whose latent is the number of a component; leave it out: its log p(x) is exact"
            )
        if self.recipe.infers_labels:
            raise ValueError(
                f"expected a run whose latents are continuous for {what}, got {self.config.model}, "
                "whose labels are summed out; leave it out: --ais and --bdmc judge its evidence, "
                "and how many labels are right is said without an option"
            )

    def expect_numbers(self, what: str) -> None:
        """Raises ValueError if the data are lines of text, whose numbers are names.

        Args:
            what: What needs numbers, for the message.
        """
        if self.is_text:
            raise ValueError(
                f"expected a run over images or numbers for {what}, got lines of text; they are "
                "judged by their evidence, per datum and per token"
            )

    def expect_complete(self, what: str) -> None:
        """Raises ValueError if entries of the test data are missing.

        Args:
            what: What needs whole data, for the message.
        """
        x = getattr(self.data.test, "x", None)  # streams and pairs of domains lack nothing
        if x is None:
            return
        share = float(x.isnan().double().mean())
        if share:
            raise ValueError(
                f"expected a run over complete data for {what}, got {self.data_name}, of which "
                f"{share:.1%} is missing; what is observed of it is "
                f"judged by its evidence: ppl-gen evaluate {self.run.folder}"
            )

    def expect_draws(self, what: str) -> None:
        """Raises ValueError if the program translates, and draws no data by itself.

        Args:
            what: What needs draws, for the message.
        """
        if self.translates:
            raise ValueError(
                f"expected a run that draws data for {what}, got a {self.config.model}; see "
                f"`ppl-gen translate {self.run.folder}`"
            )


def _blank(config: Config) -> Dataset:
    """Blank data of a configuration's outline."""
    assert config.outline is not None
    return config.outline.data(getattr(config, "binarize", None), config.class_names)


def _remark(run: Run, held: Checkpoint) -> str:
    """What the user is to know of the weights of a run; empty if nothing."""
    after = getattr(run.config, "prior_after", None)
    if after is None or held.shown > after:
        return held.remark
    waits = (
        f"the run is at epoch {held.shown} of --prior-after {after}: its prior is N(0, I) as yet, "
        "and it is judged under that"
    )
    return " ".join(filter(None, (held.remark, waits)))


@overload
def load(path: str | PathLike[str], *, device: str = "auto", trust: bool = False) -> Fitted: ...
@overload
def load(path: str | PathLike[str], program: nn.Module, **parts: Any) -> Loaded: ...
def load(
    path: str | PathLike[str],
    program: nn.Module | None = None,
    *,
    device: str = "auto",
    trust: bool = False,
    **parts: Any,
) -> Fitted | Loaded:
    """A run with its program, data and configuration; or the weights of a file in a program.

    Only tensors and plain values are read, so that neither can run code; but a run that was fitted
    with a part of the user's own (`--prior file.py:object`) names a file whose code is to be run,
    and which has to be as it was. Such a run is opened with `trust=True` alone: its folder says
    which file it is, so look at the file before where the folder is not your own.

    Args:
        path: The folder of a run of `ppl-gen fit`, or a file of `ppl_gen.save`.
        program: For a file: the program that its weights are put into, built as it was when it was
            saved. A run builds its own.
        device: For a run: where program and data are put: auto, cpu or cuda.
        trust: For a run: whether to run the code that its folder names.
        **parts: For a file: what else was saved with a `state_dict`, by name: `guide=guide`,
            `optimizer=optimizer`.

    Returns:
        Of a run, `.program`, `.data`, `.config`, `.condition` (what the program is conditioned on)
        and `.epoch`; of a file, `.program` and `.notes`.

    Raises:
        ValueError: If there is no such run or file, it is damaged, its data have changed, it
            names code and is not trusted, or its weights are those of another program.

    Examples:
        >>> import tempfile
        >>> path = f"{tempfile.mkdtemp()}/vae.pt"
        >>> save(path, models.vae((2,), latent_dim=1), epoch=20)
        >>> load(path, models.vae((2,), latent_dim=1)).notes
        {'epoch': 20}
    """
    if Path(path).is_dir():
        if program is not None or parts:
            raise ValueError(
                f"{path} is the folder of a run, which builds its own program: load it by its path "
                "alone"
            )
        # A new program's weights are drawn from the run's seed before those of the file are put in.
        with forked(find_device(device), None):
            fitted = Fitted.open(Path(path), device, trust=trust)
        if fitted.remark:
            warnings.warn(fitted.remark, stacklevel=2)
        return fitted
    if not Path(path).exists():
        raise ValueError(
            f"no run and no file of weights at {path}; `ppl-gen fit` makes a run, ppl_gen.save a "
            "file"
        )
    if program is None:
        raise ValueError(
            f"expected the program that the weights in {path} are of, got none; build it as it was "
            "when it was saved, and pass it: load(path, program)"
        )
    return load_weights(path, program, **parts)
