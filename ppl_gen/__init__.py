"""Deep generative models as probabilistic programs on Pyro, judged in nats.

The vocabulary (priors, likelihoods, guides, networks, data) lies in this package, the generative
stories in `ppl_gen.models`, the ways to fit and to judge them in `ppl_gen.inference`. Everything is
imported when it is first asked for, so that `import ppl_gen` and the command's help cost nothing.

`ppl_gen.load` opens the folder of a run, or puts the weights of a file that `ppl_gen.save` has
written into a program.
"""

import importlib
import importlib.util
from typing import TYPE_CHECKING, Any

from ppl_gen.moved import MOVED, MovedFinder

if TYPE_CHECKING:
    from ppl_gen.app.run.opened import load
    from ppl_gen.saving import save

__all__ = [
    "contexts",
    "critics",
    "data",
    "distributions",
    "guides",
    "inference",
    "likelihoods",
    "load",
    "models",
    "nn",
    "plots",
    "priors",
    "program",
    "protocols",
    "save",
    "testing",
]
__version__ = "0.1.0"

if importlib.util.find_spec("ppl_gen.models") is None:
    raise ImportError(
        "ppl_gen is a source checkout that is not installed: run `pip install -e .` in its top "
        "folder"
    )

MovedFinder.install()

# The functions among the names, by the module that each is defined in.
_FUNCTIONS = {"load": "ppl_gen.app.run.opened", "save": "ppl_gen.saving"}


def __getattr__(name: str) -> Any:
    if name in _FUNCTIONS:
        return getattr(importlib.import_module(_FUNCTIONS[name]), name)
    if name in __all__ or f"ppl_gen.{name}" in MOVED:
        return importlib.import_module(f"ppl_gen.{name}")
    raise AttributeError(f"module 'ppl_gen' has no attribute {name!r}")
