"""What a run was asked for: the name of a model, and a value for each option of its recipe."""

from __future__ import annotations

__all__ = ["Config"]

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ppl_gen.app.outline import Outline


@dataclass(frozen=True)
class Config:
    """What a run was asked for. The value of the option `latent_dim` is `config.latent_dim`.

    `recipes.RECIPES[model].configuration(values)` makes one whose values are checked.

    Attributes:
        model: The name of the model.
        values: A value for each option of the model's recipe, by the option's name.
        class_names: A name for each label of the data, in order; empty where they have none.
        sources: A checksum of the file of each part of the user's own, by its option.
        outline: What the program is built for, without any datum; None where that takes more than
            an outline, and in runs of former versions.
    """

    model: str
    values: Mapping[str, Any]
    class_names: tuple[str, ...] = ()
    sources: Mapping[str, str] = field(default_factory=dict)
    outline: Outline | None = None

    def __getattr__(self, name: str) -> Any:
        # Called for names that are no attribute; `values` itself is none while a copy is made.
        values = self.__dict__.get("values", {})
        if name not in values:
            raise AttributeError(f"no option {name!r} in the configuration of a run")
        return values[name]

    def __contains__(self, name: str) -> bool:
        """Whether the model has an option of this name."""
        return name in self.values

    def changed(self, **values: Any) -> Config:
        """The same configuration with other values for some of its options."""
        return replace(self, values={**self.values, **values})

    @property
    def passes(self) -> int:
        """The number of epochs, once it is decided; 0 of a model that is fitted without any.

        Raises:
            ValueError: If it is not.
        """
        if "epochs" not in self.values:
            return 0
        epochs: int | None = self.values["epochs"]
        if epochs is None:
            raise ValueError("expected a number of epochs, got none; say --epochs")
        return epochs

    def asked(self) -> dict[str, Any]:
        """The model, values by name, classes, sources and outline, as config.json has them."""
        asked = {"model": self.model, **self.values}
        if self.class_names:
            asked["class_names"] = list(self.class_names)
        if self.sources:
            asked["sources"] = dict(self.sources)
        if self.outline is not None:
            asked["outline"] = self.outline.asked()
        return asked
