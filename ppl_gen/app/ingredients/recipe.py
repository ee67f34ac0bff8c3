"""The record of everything that the command knows about one model."""

from __future__ import annotations

__all__ = ["Recipe"]

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ppl_gen.app.config import Config
from ppl_gen.app.ingredients.data import one_data_set
from ppl_gen.app.options import Option
from ppl_gen.app.parts.optimizers import paced

# Torch and Pyro are imported when a recipe is used: the help of the command is made of recipes.
if TYPE_CHECKING:
    import torch

    from ppl_gen.app.ingredients.fitting import Fitting, Start
    from ppl_gen.app.parts.conditioning import Conditioning
    from ppl_gen.ranks import Ranks


def _no_condition(config: Config, data: Any) -> Conditioning | None:
    return None


def _no_check(config: Config) -> None:
    return


def _no_codes(config: Config) -> int | None:
    return None


# Of a program, whether it has what is computed once: a buffer, so that a checkpoint says so.
_IS_COMPLETE = "is_complete"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything that the command knows about one model.

    How a model is judged, and what is drawn of it, follows from `explicit`, `exact`,
    `autoencodes`, `translates` and `code_site`. The defaults are those of a model that draws
    data and has no likelihood.

    Attributes:
        name: What the user calls the model.
        place: Its place among the models in the command's help, the lowest first.
        options: The options of `ppl-gen fit` that the model has a use for, in the order in which
            config.json has them.
        program: Makes the program, from the configuration, its data, and what it is conditioned on
            (None if nothing). Weights are drawn from torch's global generator.
        fitting: Makes what moves while the program is fitted: optimisers, batches, a step.
        data: Reads the data of a configuration: `data(config, download=False)`.
        condition: What the program is conditioned on, from the configuration and its data; None
            if nothing.
        check: Raises ValueError if options do not go together; called before data are read.
        complete: What is computed once, of the fitted weights and the training data, and put into
            the program: `complete(config, program, data)`. It is all of the fit of a model without
            epochs. None if there is no such thing.
        explicit: Whether the program has a likelihood and a guide.
        exact: Whether the program knows log p(x): `program.exact_log_evidence(x)`.
        has_components: Whether its latent is the number of a component, whose noise is all that the
            model says of x: draws are shown with it.
        autoencodes: Whether it is fitted by its error of reconstruction.
        reconstructs: Whether a program without a likelihood has a guide nevertheless.
        translates: Whether the program translates between two domains and draws no data by itself.
        draws_in_steps: Whether the program draws in steps that can be looked at, as
            `program.canvases(z1, z2, ...)`.
        infers_labels: Whether labels are latents at the site "y", known of some data.
        learning_rate: The learning rate, where --lr is left out.
        schedule: How it moves, where --schedule is left out.
        codes: The number of values that --label takes where these are values of a latent code, from
            the configuration; None if the model has no such code.
        code_site: The name of the latent site that holds the code in one-hot form, (N, values);
            empty if there is none.
    """

    name: str
    place: int
    options: tuple[Option, ...]
    program: Callable[[Config, Any, Conditioning | None], Any]
    fitting: Callable[[Start], Fitting]
    data: Callable[..., Any] = one_data_set
    condition: Callable[[Config, Any], Conditioning | None] = _no_condition
    check: Callable[[Config], None] = _no_check
    complete: Callable[[Config, Any, Any], None] | None = None
    explicit: bool = False
    exact: bool = False
    has_components: bool = False
    autoencodes: bool = False
    reconstructs: bool = False
    translates: bool = False
    draws_in_steps: bool = False
    infers_labels: bool = False
    learning_rate: float = 5e-4
    schedule: str = "constant"
    codes: Callable[[Config], int | None] = _no_codes
    code_site: str = ""

    def configuration(self, values: Mapping[str, Any]) -> Config:
        """The configuration of these values, an option without one at its default.

        Args:
            values: By the names of options.

        Raises:
            ValueError: If a name is that of no option of the model, or a value is of the wrong
                type, out of range, or an unknown name.
        """
        own = {option.name: option for option in self.options}
        for name, value in values.items():
            if name not in own:
                raise ValueError(f"{self.name} has no option {name!r}")
            own[name].check_value(value)
        defaults = {option.name: option.default for option in self.options}
        if "schedule" in own:
            defaults["schedule"] = self.schedule
        return Config(self.name, {**defaults, **values})

    def build(self, config: Config, data: Any, condition: Conditioning | None) -> Any:
        """A new program for the data, its weights drawn from the seed of the configuration.

        Raises:
            ValueError: If the data do not suit the program, or its likelihood.
        """
        import torch

        from ppl_gen.app.parts.likelihoods import check_support

        torch.manual_seed(config.seed)
        program = self.program(config, data, condition)
        if self.complete is not None:
            program.register_buffer(_IS_COMPLETE, torch.tensor(False))
        if self.explicit:
            check_support(program, data, condition)
        return program

    def finish(self, config: Config, program: Any, data: Any) -> bool:
        """Computes what is computed once, where it has not been, by draws of the run's own seed.

        Args:
            config: What was asked for.
            program: With the weights that are sampled and judged.
            data: What it was fitted to, on its device.

        Returns:
            Whether it did.
        """
        from ppl_gen.contexts import evaluating, forked

        if self.is_finished(program):
            return False
        assert self.complete is not None
        device = getattr(program, _IS_COMPLETE).device
        with evaluating(program), forked(device, config.seed):
            self.complete(config, program, data)
        getattr(program, _IS_COMPLETE).fill_(True)
        return True

    def is_finished(self, program: Any) -> bool:
        """Whether a program has all that is computed once, if there is any such thing."""
        return self.complete is None or bool(getattr(program, _IS_COMPLETE))

    def is_finished_state(self, state: Mapping[str, Any]) -> bool:
        """Whether the weights of a program have all that is computed once.

        Args:
            state: What its `state_dict` gives.
        """
        return self.complete is None or bool(state.get(_IS_COMPLETE))

    def reopen(self, program: Any) -> None:
        """Says of a program that its weights are to move, so that it is to be finished anew."""
        if self.complete is not None:
            getattr(program, _IS_COMPLETE).fill_(False)

    def prepare(
        self, config: Config, data: Any, device: torch.device, ranks: Ranks | None = None
    ) -> Fitting:
        """All that is needed to fit the model, its weights drawn from the configuration's seed.

        Args:
            config: What was asked for.
            data: The data that it names, on the device.
            device: Where the model is fitted.
            ranks: The processes that fit it; None for one.

        Raises:
            ValueError: If the data do not suit the program, the step refuses an option, or there
                are several processes and it is that of one.
        """
        from ppl_gen.app.ingredients.fitting import Start
        from ppl_gen.ranks import ALONE

        condition = self.condition(config, data)
        program = self.build(config, data, condition).to(device)
        start = Start(
            config=config,
            data=data,
            condition=condition,
            program=program,
            device=device,
            ranks=ranks or ALONE,
        )
        fitting = self.fitting(start)
        if start.across is not None and not fitting.is_shared:
            raise ValueError(
                f"expected a model that several processes can fit, got {self.name}, whose step is "
                "that of one; leave torchrun out"
            )
        if "schedule" not in config or config.values.get("until") is not None:
            return fitting  # whose rates stand, or are moved by the rule that stops it
        rates = paced(fitting.optimizers, config)

        def pace(epoch: int) -> None:
            fitting.pace(epoch)
            rates(epoch)

        return replace(fitting, pace=pace)
