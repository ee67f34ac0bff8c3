"""The options of `ppl-gen fit` that several models share; those of one model are in its recipe.

Torch and Pyro are imported only when a value is checked: the help of the command is made of this.
"""

from __future__ import annotations

__all__ = [
    "ACTIVATION",
    "BATCH_SIZE",
    "BY_SVI",
    "CONDITION",
    "CRITIC_STEPS",
    "DATA",
    "DATA_SET",
    "ENGINE",
    "GAME",
    "GUIDE",
    "HIDDEN",
    "IMAGE_SIZE",
    "LABEL_COLUMN",
    "LATENT_DIM",
    "LEAVE_OUT",
    "LIKELIHOOD",
    "LOSS",
    "NETWORK",
    "PAIRED",
    "PARTICLES",
    "PARTS",
    "PRIOR",
    "PRIOR_AFTER",
    "R1",
    "ROOT",
    "SCALE",
    "SEED",
    "SPECTRAL",
    "STOPPING",
    "TRAINING",
    "UNTIL",
    "WIDTH",
    "Option",
    "above_zero",
    "at_least",
    "one_of",
    "part_of",
]

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, get_args

from ppl_gen.app.parts.conditions import CONDITIONS, OF_IMAGES
from ppl_gen.app.parts.guides import GUIDES
from ppl_gen.app.parts.likelihoods import LIKELIHOODS, check_likelihood
from ppl_gen.app.parts.networks import ACTIVATIONS, check_hidden
from ppl_gen.app.parts.optimizers import OPTIMIZERS, SCHEDULES
from ppl_gen.app.parts.own import check_form, is_own
from ppl_gen.app.parts.priors import PRIORS
from ppl_gen.names import resolve

_MOST = 2**63 - 1  # the largest whole number that a tensor holds

Check = Callable[[str, Any], None]  # of a flag and a value; raises ValueError


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of `ppl-gen fit`, and one value of the configuration of a run.

    Attributes:
        name: Its name in Python and in config.json: `latent_dim`.
        kind: str, int, float or bool.
        default: Its value where it is left out. Only an option whose default is None may be None.
        help: What it is, for the help of the command.
        flags: How it is typed, if not as `--latent-dim` for `latent_dim`.
        check: Raises ValueError if a value is out of range or an unknown name.
        only_with: The name of another option, and its values without which it has no effect.
        names_data: Whether it names data: a path, which is kept as an absolute one, or a data set.
        instead: What helps where it was given for a model that has no such option.
    """

    name: str
    kind: type
    default: Any
    help: str
    flags: tuple[str, ...] = ()
    check: Check | None = None
    only_with: tuple[str, ...] | None = None
    names_data: bool = False
    instead: str = "leave it out"

    @property
    def flag(self) -> str:
        """How it is typed: `--latent-dim`."""
        return "--" + self.name.replace("_", "-")

    @property
    def annotation(self) -> Any:
        """The type of its values: `int`, or `int | None`."""
        if self.default is None:
            return self.kind | None
        return self.kind

    def check_value(self, value: Any) -> None:
        """Raises ValueError if a value is of the wrong type, out of range, or an unknown name."""
        if value is None and self.default is None:
            return
        if not self._is_of_kind(value):
            expected = self.kind.__name__
            if self.default is None:
                expected += " | None"
            raise ValueError(f"expected {self.name} of type {expected}, got {value!r}")
        if self.check is not None:
            self.check(self.flag, value)
        if self.kind is int and not -_MOST <= value <= _MOST:
            raise ValueError(f"expected {self.flag} below 2⁶³, got {value}")

    def _is_of_kind(self, value: Any) -> bool:
        if isinstance(value, bool):  # which Python counts among the integers
            return self.kind is bool
        if self.kind is float:
            return isinstance(value, int | float)
        return isinstance(value, self.kind)


def above_zero(flag: str, value: float) -> None:
    """Raises ValueError if a number is not finite and above zero."""
    if not value > 0:
        raise ValueError(f"expected {flag} above zero, got {value}")
    if value == math.inf:
        raise ValueError(f"expected a finite {flag}, got {value}")


def at_least(least: int) -> Check:
    """A check that a number is finite and at least `least`."""

    def check(flag: str, value: float) -> None:
        if not least <= value < math.inf:
            raise ValueError(f"expected {flag} of at least {least}, got {value}")

    return check


def one_of(kind: str, known: Callable[[], Iterable[str]]) -> Check:
    """A check that a value is a known name.

    Args:
        kind: What it names, for the message: "likelihood".
        known: Gives the names; called when a value is checked.
    """

    def check(flag: str, value: str) -> None:
        resolve(kind, value, known())

    return check


def part_of(kind: str, known: Iterable[str]) -> Check:
    """A check that a value is a known name, or names an object of the user's own.

    Args:
        kind: What it names, for the message: "likelihood".
        known: The names.
    """

    def check(flag: str, value: str) -> None:
        if is_own(value):
            check_form(flag, value)
        else:
            resolve(kind, value, known)

    return check


def _check_seed(flag: str, value: int) -> None:
    if not 0 <= value < 2**63:
        raise ValueError(f"expected {flag} from 0 to 2⁶³ − 1, got {value}")


def _check_engine(flag: str, value: str) -> None:
    from ppl_gen.inference.engine.replay import expect_engine

    expect_engine(value)


def _objectives() -> Iterable[str]:
    from ppl_gen.app.ingredients.svi import OBJECTIVES

    return OBJECTIVES


def _precisions() -> Iterable[str]:
    from ppl_gen.precision import Precision

    return get_args(Precision)


def _losses() -> Iterable[str]:
    from ppl_gen.app.ingredients.games import LOSSES

    return LOSSES


def _check_held_out(flag: str, value: float) -> None:
    """Raises ValueError unless a value is a share of data or a count of them."""
    is_share = 0 < value < 1
    is_count = 1 <= value < _MOST and value == int(value)
    if not (is_share or is_count):
        raise ValueError(
            f"expected {flag} as a share of the training data between 0 and 1, or as a count of "
            f"them, got {value}"
        )


# What is fitted to.

DATA = Option(
    name="data",
    kind=str,
    default="digits",
    help=(
        "A name (digits, mnist, cifar10, ring, ...), a folder of images or of x.npy and y.npy, or "
        "a file: .npz, .csv, ...; may end in :inverted, :8x8, ..."
    ),
    flags=("--data", "--data-a"),
    names_data=True,
)
ROOT = Option(
    name="root",
    kind=str,
    default=None,
    help="Folder of the data sets that torchvision downloads.",
)
BINARIZE = Option(
    name="binarize",
    kind=str,
    default=None,
    help=(
        "none, threshold, static, dynamic or dequantize; if left out, dynamic for a Bernoulli "
        "likelihood, else none."
    ),
)
IMAGE_SIZE = Option(
    name="image_size",
    kind=int,
    default=None,
    help="Resize images to this many pixels a side, from their central square.",
)
LABEL_COLUMN = Option(
    name="label_column",
    kind=str,
    default=None,
    help="The column of a .csv table that is the label; if left out, none is.",
)
LEAVE_OUT = Option(
    name="leave_out",
    kind=str,
    default=None,
    help="Columns of a .csv table that are no data, such as id,target.",
)
SEED = Option(
    name="seed",
    kind=int,
    default=0,
    help="Seed of weights, order and noise.",
    check=_check_seed,
)
DATA_SET = (DATA, ROOT, BINARIZE, IMAGE_SIZE, LABEL_COLUMN, LEAVE_OUT)

# The program.

PRIOR = Option(
    name="prior",
    kind=str,
    default=None,
    help=(
        f"{', '.join(PRIORS)}, or file.py:object, which runs the file; if left out, "
        "standard-normal (uniform for GMMNs, learned of the condition for CVAEs)."
    ),
    check=part_of("prior", PRIORS),
)
PRIOR_AFTER = Option(
    name="prior_after",
    kind=int,
    default=None,
    help=(
        "Fit under N(0, I) for this many epochs, then a learned --prior alone for one, then "
        "everything: vamp and flow collapse easily where they are learned from the first step."
    ),
    check=at_least(1),
    instead="leave it out: without a guide there are no posteriors that a prior could hold back",
)
PSEUDO_INPUTS = Option(
    name="pseudo_inputs",
    kind=int,
    default=None,
    help="Learned inputs that --prior vamp averages the guide over; if left out, 500.",
    check=at_least(1),
)
LIKELIHOOD = Option(
    name="likelihood",
    kind=str,
    default=None,
    help=(
        f"{', '.join(LIKELIHOODS)} (or masked-gaussian, ...), or file.py:object, which runs the "
        "file; if left out, gaussian for images in colour, else bernoulli."
    ),
    check=check_likelihood,
)
GUIDE = Option(
    name="guide",
    kind=str,
    default=None,
    help=(f"{', '.join(GUIDES)}, or file.py:object, which runs the file; if left out, diagonal."),
    check=part_of("guide", GUIDES),
)
SCALE = Option(
    name="scale",
    kind=float,
    default=None,
    help="Scale of the likelihood, in the unit of the data; if left out, it is learned.",
    check=above_zero,
)
PARTS = (PRIOR, PRIOR_AFTER, PSEUDO_INPUTS, LIKELIHOOD, SCALE, GUIDE)
CONDITION = Option(
    name="condition",
    kind=str,
    default="label",
    help=f"What the model is given: {', '.join(CONDITIONS)}.",
    check=one_of("condition", lambda: CONDITIONS),
)
PAIRED = Option(
    name="paired",
    kind=float,
    default=10.0,
    help="Weight of the distance to the image of which edges, a half or a pair are given.",
    check=at_least(0),
    only_with=("condition", *OF_IMAGES),
)
LATENT_DIM = Option(
    name="latent_dim",
    kind=int,
    default=10,
    help="Dimension of the latent z.",
    check=above_zero,
)
WIDTH = Option(
    name="width",
    kind=int,
    default=None,
    help="Channels of the convolutions at the largest images.",
    check=at_least(1),
)
HIDDEN = Option(
    name="hidden",
    kind=str,
    default=None,
    help=(
        "Widths of the hidden layers from data to latent, such as 200,200; a critic has them too. "
        "One number for convolutions; none makes a linear network."
    ),
    check=check_hidden,
)
ACTIVATION = Option(
    name="activation",
    kind=str,
    default=None,
    help=(
        f"{', '.join(ACTIVATIONS)}; if left out, tanh for fully connected VAEs, else relu. A "
        "critic has leaky-relu."
    ),
    check=one_of("activation", lambda: ACTIVATIONS),
)
NETWORK = (HIDDEN, ACTIVATION)

# The steps.

EPOCHS = Option(
    name="epochs",
    kind=int,
    default=None,
    help=(
        "Passes over the training data; if left out, as many as make 3000 steps and at least 20, "
        "for every model: runs of one data set then see as many data. Ten times as many, as a "
        "most, with --until."
    ),
    check=above_zero,
)
BATCH_SIZE = Option(
    name="batch_size",
    kind=int,
    default=100,
    help="Data per step; all, where there are fewer than 100.",
)
LR = Option(
    name="lr",
    kind=float,
    default=None,
    help="Learning rate; if left out, 1e-3, or 5e-4 against one critic.",
    check=above_zero,
)
OPTIMIZER = Option(
    name="optimizer",
    kind=str,
    default="adam",
    help=f"{', '.join(OPTIMIZERS)}.",
    check=one_of("optimizer", lambda: OPTIMIZERS),
)
WEIGHT_DECAY = Option(
    name="weight_decay",
    kind=float,
    default=None,
    help="Weight decay; if left out, 0.01 for adamw, else 0.",
    check=at_least(0),
)
SCHEDULE = Option(
    name="schedule",
    kind=str,
    default=None,
    help=(
        f"How the learning rate moves over --epochs: {', '.join(SCHEDULES)}; if left out, "
        "constant, or late-linear for cycle-gan."
    ),
    check=one_of("schedule", lambda: SCHEDULES),
)
KEEP_EVERY = Option(
    name="keep_every",
    kind=int,
    default=None,
    help=(
        "Keep the weights of each epoch that is a multiple of this, in files of the run's folder; "
        "`ppl-gen explore --over-epochs` shows them."
    ),
    check=at_least(1),
)
TRAINING = (EPOCHS, BATCH_SIZE, LR, SCHEDULE, OPTIMIZER, WEIGHT_DECAY, KEEP_EVERY)

# When a fit by SVI stops.

_NO_BOUND = (
    "leave it out: without a likelihood there is no bound to validate; say --epochs, and compare "
    "draws with test data by `ppl-gen evaluate`"
)
VALIDATION = Option(
    name="validation",
    kind=float,
    default=None,
    help=(
        "Training data that are held out, drawn by --seed: a share such as 0.1, or a count; both "
        "terms of the ELBO are measured on them after each epoch."
    ),
    check=_check_held_out,
    instead=_NO_BOUND,
)
PATIENCE = Option(
    name="patience",
    kind=int,
    default=None,
    help=(
        "Stop after this many epochs without a better ELBO of the data held out by --validation; "
        "the weights of the best epoch are kept."
    ),
    check=at_least(1),
    instead=_NO_BOUND,
)
UNTIL = Option(
    name="until",
    kind=str,
    default=None,
    help=(
        "converged: halve the learning rate whenever the objective of training has reached a "
        "level, and stop once that gains less than 0.05 nats; --epochs are the most."
    ),
    check=one_of("until", lambda: ("converged",)),
    instead=(
        "leave it out: it is for models that are fitted by SVI; others that have a --patience stop "
        "by that"
    ),
)
STOPPING = (VALIDATION, PATIENCE)

# Fitting by SVI.

OBJECTIVE = Option(
    name="objective",
    kind=str,
    default="elbo",
    help="elbo, analytic-elbo (its KL in closed form), iwae, dreg or sticking-the-landing.",
    check=one_of("objective", _objectives),
)
PARTICLES = Option(
    name="particles",
    kind=int,
    default=1,
    help="Draws of the latents per datum and step.",
    check=at_least(1),
)
BETA = Option(
    name="beta",
    kind=float,
    default=1.0,
    help="Weight of the KL term; 1 gives the bound itself.",
)
ANNEAL = Option(
    name="anneal",
    kind=int,
    default=0,
    help="Epochs in which the weight of the KL term rises from 0 to --beta.",
)
FREE_BITS = Option(
    name="free_bits",
    kind=float,
    default=0.0,
    help="KL in nats that each latent may have at no cost.",
)
ENGINE = Option(
    name="engine",
    kind=str,
    default="auto",
    help=(
        "cuda-graph (on CUDA), inductor, fx or eager; auto compiles where the fit is long enough "
        "to gain from it."
    ),
    check=_check_engine,
)
PRECISION = Option(
    name="precision",
    kind=str,
    default="float32",
    help=(
        "float32, tf32 (on CUDA) or bfloat16, which networks multiply in; what it costs in nats is "
        "said after the last epoch."
    ),
    check=one_of("precision", _precisions),
)
BY_SVI = (OBJECTIVE, PARTICLES, BETA, ANNEAL, FREE_BITS, PRECISION)

# Fitting against a critic.

LOSS = Option(
    name="loss",
    kind=str,
    default="auto",
    help="non-saturating (auto), minimax, least-squares, hinge or wasserstein.",
    check=one_of("loss", _losses),
)
CRITIC_STEPS = Option(
    name="critic_steps",
    kind=int,
    default=1,
    help="Updates of the critic for each update of the generator.",
)
R1 = Option(
    name="r1",
    kind=float,
    default=0.1,
    help="Weight of the penalty on the critic's gradient at data.",
)
PENALTY = Option(
    name="penalty",
    kind=float,
    default=0.0,
    help="Weight of the penalty on its gradient between data and draws; 10 for wasserstein.",
)
SPECTRAL = Option(
    name="spectral",
    kind=bool,
    default=False,
    help="Divide each layer of the critic by its largest singular value.",
)
AVERAGE = Option(
    name="average",
    kind=float,
    default=0.999,
    help="Decay of the moving average of the generator's weights; 0 for no average.",
)
GAME = (LOSS, CRITIC_STEPS, R1, PENALTY, SPECTRAL, AVERAGE)
