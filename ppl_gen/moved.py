"""Modules under the names that they had before they moved into rooms, so that imports written then
still work.
"""

from __future__ import annotations

__all__ = ["MOVED", "MovedFinder"]

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# Former name -> present name. `ppl_gen.inference.hmc` and others of a function's name are that
# function, and not here.
MOVED = {
    "ppl_gen.attributes": "ppl_gen.data.attributes",
    "ppl_gen.calling": "ppl_gen.contexts",
    "ppl_gen.captions": "ppl_gen.data.words.captions",
    "ppl_gen.data.arrays": "ppl_gen.data.formats.arrays",
    "ppl_gen.data.beside": "ppl_gen.data.formats.beside",
    "ppl_gen.data.captions": "ppl_gen.data.words.captions",
    "ppl_gen.data.columns": "ppl_gen.data.formats.columns",
    "ppl_gen.data.faces": "ppl_gen.data.formats.faces",
    "ppl_gen.data.files": "ppl_gen.data.formats.files",
    "ppl_gen.data.idx": "ppl_gen.data.formats.idx",
    "ppl_gen.data.matlab": "ppl_gen.data.formats.matlab",
    "ppl_gen.data.sentences": "ppl_gen.data.words.sentences",
    "ppl_gen.data.tables": "ppl_gen.data.formats.tables",
    "ppl_gen.data.text": "ppl_gen.data.formats.text",
    "ppl_gen.data.vocabulary": "ppl_gen.data.words.vocabulary",
    "ppl_gen.domains": "ppl_gen.data",
    "ppl_gen.plots_adversarial": "ppl_gen.plots.games",
    "ppl_gen.plots_evidence": "ppl_gen.plots.evidence",
    "ppl_gen.plots_posterior": "ppl_gen.plots.posterior",
    "ppl_gen.ring": "ppl_gen.data.toys",
    "ppl_gen.sources": "ppl_gen.data.sources",
    "ppl_gen.inference.adversarial": "ppl_gen.inference.games.adversarial",
    "ppl_gen.inference.annealing": "ppl_gen.inference.evidence.path",
    "ppl_gen.inference.arviz_export": "ppl_gen.inference.prediction.arviz_export",
    "ppl_gen.inference.calibration": "ppl_gen.inference.diagnosis.sbc",
    "ppl_gen.inference.coverage": "ppl_gen.inference.samples.precision_recall",
    "ppl_gen.inference.cycle": "ppl_gen.inference.games.cycle",
    "ppl_gen.inference.discrepancies": "ppl_gen.inference.samples.discrepancies",
    "ppl_gen.inference.distances": "ppl_gen.inference.samples.distances",
    "ppl_gen.inference.draws": "ppl_gen.inference.mcmc.draws",
    "ppl_gen.inference.features": "ppl_gen.inference.samples.features",
    "ppl_gen.inference.fitting.adversarial": "ppl_gen.inference.games.adversarial",
    "ppl_gen.inference.fitting.cycle": "ppl_gen.inference.games.cycle",
    "ppl_gen.inference.fitting.game": "ppl_gen.inference.games.game",
    "ppl_gen.inference.fitting.information": "ppl_gen.inference.games.information",
    "ppl_gen.inference.fitting.losses": "ppl_gen.inference.games.losses",
    "ppl_gen.inference.importance": "ppl_gen.inference.evidence.importance",
    "ppl_gen.inference.information": "ppl_gen.inference.games.information",
    "ppl_gen.inference.kernels": "ppl_gen.inference.samples.kernels",
    "ppl_gen.inference.loo": "ppl_gen.inference.prediction.loo",
    "ppl_gen.inference.losses": "ppl_gen.inference.games.losses",
    "ppl_gen.inference.marginals": "ppl_gen.inference.comparison.marginals",
    "ppl_gen.inference.matching": "ppl_gen.inference.fitting.moment_matching",
    "ppl_gen.inference.mcmc.adaptation": "ppl_gen.inference.mcmc.warmup.adaptation",
    "ppl_gen.inference.mcmc.diagnostics": "ppl_gen.inference.diagnostics",
    "ppl_gen.inference.objectives": "ppl_gen.inference.fitting.objectives",
    "ppl_gen.inference.potential": "ppl_gen.inference.latents.potential",
    "ppl_gen.inference.predictive": "ppl_gen.inference.prediction.pointwise",
    "ppl_gen.inference.diagnosis.refitting": "ppl_gen.inference.fitting.guides",
    "ppl_gen.inference.refitting": "ppl_gen.inference.fitting.guides",
    "ppl_gen.inference.schedules": "ppl_gen.inference.evidence.temperatures",
    "ppl_gen.inference.shares": "ppl_gen.inference.estimate",
    "ppl_gen.inference.svi": "ppl_gen.inference.fitting.svi",
    "ppl_gen.inference.two_sample": "ppl_gen.inference.samples.permutation",
}


class MovedFinder(MetaPathFinder, Loader):
    """Finds a module under its former name: the same object as under its present one, so that no
    class exists twice.
    """

    def __init__(self) -> None:
        self._own_spec: dict[str, ModuleSpec | None] = {}

    @classmethod
    def install(cls) -> None:
        """Puts the finder at the end of Python's list, once."""
        if not any(type(finder).__name__ == cls.__name__ for finder in sys.meta_path):
            sys.meta_path.append(cls())

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of a moved module; None for any other."""
        if name not in MOVED:
            return None
        return ModuleSpec(name, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """The module under its present name."""
        module = importlib.import_module(MOVED[spec.name])
        self._own_spec[spec.name] = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own specification back; it has run already."""
        assert module.__spec__ is not None
        module.__spec__ = self._own_spec.pop(module.__spec__.name)
