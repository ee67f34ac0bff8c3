"""What a run is asked for: one field for each option of `ppl-gen fit`, with its help and the models
that it belongs to.
"""

from __future__ import annotations

__all__ = ["ADVERSARIAL", "EXPLICIT", "MODELS", "Config"]

from collections.abc import Iterable
from dataclasses import Field, dataclass, field, fields
from typing import Any

# Nothing heavy is imported here: the command's help is made of this file.
EXPLICIT = ("vae", "cvae", "conv-vae")
ADVERSARIAL = ("gan", "dcgan", "cgan", "infogan")
MODELS = (*EXPLICIT, *ADVERSARIAL, "cycle-gan", "gmmn")
_CRITICISED = (*ADVERSARIAL, "cycle-gan")
_DRAWN = (*EXPLICIT, *ADVERSARIAL, "gmmn")


def _option(
    default: Any, help: str, models: tuple[str, ...] = MODELS, names: tuple[str, ...] = ()
) -> Any:
    return field(default=default, metadata={"help": help, "models": models, "names": names})


@dataclass(frozen=True, kw_only=True)
class Config:
    """What a run was asked for. A field that does not belong to the model is at its default and is
    not written down.

    Raises:
        ValueError: If a value is not of the field's type.
    """

    model: str
    data: str = _option(
        "digits",
        "A name (digits, mnist, cifar10, ring, ...), a folder, .npy or .npz; may end in "
        ":inverted, :8x8, ...",
        names=("--data", "--data-a"),
    )
    data_b: str | None = _option(None, "The other domain.", ("cycle-gan",))
    root: str | None = _option(None, "Where torchvision's files lie.")
    binarize: str | None = _option(
        None,
        "none, threshold, static, dynamic or dequantize; left out, dynamic under Bernoulli, else "
        "none.",
        _DRAWN,
    )
    image_size: int | None = _option(
        None, "Side to bring whole images to, from their central square."
    )
    likelihood: str = _option(
        "bernoulli", "bernoulli, continuous-bernoulli, gaussian, laplace, ...", EXPLICIT
    )
    latent_dim: int = _option(10, "Dimension of the latent z.", _DRAWN)
    epochs: int | None = _option(
        None,
        "Passes over the training data; 20 if left out, without a likelihood as many as make "
        "3000 steps.",
    )
    batch_size: int = _option(100, "Data per step.")
    lr: float | None = _option(
        None, "Learning rate of Adam; 1e-3 if left out, 5e-4 for models of one critic."
    )
    objective: str = _option("elbo", "elbo, iwae, dreg or sticking-the-landing.", EXPLICIT)
    particles: int = _option(1, "Draws of the latents per datum and step.", EXPLICIT)
    beta: float = _option(1.0, "Weight of the KL term; 1 is the bound.", EXPLICIT)
    anneal: int = _option(0, "Epochs in which that weight rises from 0.", EXPLICIT)
    free_bits: float = _option(0.0, "Nats of KL that each latent has for nothing.", EXPLICIT)
    loss: str = _option(
        "auto", "non-saturating (auto), minimax, least-squares, hinge or wasserstein.", _CRITICISED
    )
    critic_steps: int = _option(1, "Updates of the critic for each of the generator.", ADVERSARIAL)
    r1: float = _option(0.1, "Weight of the penalty on the critic's gradient at data.", _CRITICISED)
    penalty: float = _option(
        0.0, "The same between data and draws, 10 for wasserstein.", ADVERSARIAL
    )
    spectral: bool = _option(
        False, "Normalise the critic's layers by their largest singular value.", _CRITICISED
    )
    average: float = _option(
        0.999, "Decay of the generator's moving average; 0 is none.", ADVERSARIAL
    )
    width: int | None = _option(
        None, "Channels of the widest images within.", ("dcgan", "cycle-gan")
    )
    condition: str = _option("label", "label, attributes, edges or caption.", ("cgan",))
    paired: float = _option(
        10.0, "Weight of the distance to the image whose edges are given.", ("cgan",)
    )
    categories: int = _option(10, "Values of the discrete code.", ("infogan",))
    continuous: int = _option(0, "Continuous codes.", ("infogan",))
    information: float = _option(1.0, "Weight of the codes' information.", ("infogan",))
    discrepancy: str = _option("mmd", "mmd or energy.", ("gmmn",))
    cycle: float = _option(20.0, "Weight of coming back unchanged.", ("cycle-gan",))
    identity: float = _option(
        1.0,
        "Weight of leaving alone what is there already; 0 where the domains do not look alike.",
        ("cycle-gan",),
    )
    semantic: float = _option(
        0.0, "Weight of keeping the class that a classifier of domain a reads.", ("cycle-gan",)
    )
    seed: int = _option(0, "Seed of weights, order and noise.")
    engine: str = _option(
        "auto", "inductor, fx or eager; auto compiles where what is to come pays for it.", EXPLICIT
    )

    def __post_init__(self) -> None:
        kinds: dict[str, tuple[type, ...]] = {
            "str": (str,),
            "int": (int,),
            "float": (int, float),
            "bool": (bool,),
        }
        for each in fields(self):
            value, expected = getattr(self, each.name), str(each.type)
            if value is None and "None" in expected:
                continue
            kind = kinds[expected.removesuffix(" | None")]
            if not isinstance(value, kind) or (isinstance(value, bool) and bool not in kind):
                raise ValueError(f"expected {each.name} of type {expected}, got {value!r}")

    @classmethod
    def options(cls) -> list[Field[Any]]:
        """The fields that are options of the command: all but the model."""
        return [each for each in fields(cls) if each.name != "model"]

    @classmethod
    def expect_options(cls, model: str, given: Iterable[str]) -> None:
        """Says when an option was given that the model has no use for.

        Raises:
            ValueError: Then.
        """
        for each in cls.options():
            models = each.metadata["models"]
            if each.name in given and model not in models:
                name = "--" + each.name.replace("_", "-")
                raise ValueError(
                    f"{name} is an option of {', '.join(models)}, got it for {model}; leave it out"
                )

    @property
    def passes(self) -> int:
        """The number of epochs, once it is decided.

        Raises:
            ValueError: If it is not.
        """
        if self.epochs is None:
            raise ValueError("expected a number of epochs, got none; say --epochs")
        return self.epochs

    def asked(self) -> dict[str, Any]:
        """The model and all that it has a use for, by name."""
        own = [each.name for each in self.options() if self.model in each.metadata["models"]]
        return {name: getattr(self, name) for name in ("model", *own)}
