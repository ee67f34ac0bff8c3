"""Deep generative models as probabilistic programs on Pyro, judged in nats.

The vocabulary (priors, likelihoods, guides, networks, data) lies in this package, the generative
stories in `ppl_gen.models`, the ways to fit and to judge them in `ppl_gen.inference`. Everything is
imported when it is first asked for, so that `import ppl_gen` and the command's help cost nothing.
"""

import importlib
import importlib.util
from types import ModuleType

from ppl_gen.moved import MOVED, MovedFinder

__all__ = [
    "contexts",
    "critics",
    "data",
    "distributions",
    "guides",
    "inference",
    "likelihoods",
    "models",
    "nn",
    "plots",
    "priors",
    "program",
    "protocols",
    "testing",
]
__version__ = "0.1.0"

if importlib.util.find_spec("ppl_gen.models") is None:
    raise ImportError(
        "ppl_gen is a source checkout that is not installed: run `pip install -e .` in its top "
        "folder"
    )

MovedFinder.install()


def __getattr__(name: str) -> ModuleType:
    if name in __all__ or f"ppl_gen.{name}" in MOVED:
        return importlib.import_module(f"ppl_gen.{name}")
    raise AttributeError(f"module 'ppl_gen' has no attribute {name!r}")
