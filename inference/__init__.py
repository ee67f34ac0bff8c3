"""Ways to fit and to judge any program, one per file. They know the contract, never a particular model."""

if __name__ != "ppl_gen.inference":
    raise ImportError("import ppl_gen.inference, not inference: the bare name makes a second copy of every class")

from ppl_gen.inference.ais import ais
from ppl_gen.inference.arviz_export import to_arviz
from ppl_gen.inference.bdmc import Sandwich, bdmc
from ppl_gen.inference.calibration import Calibration, sbc
from ppl_gen.inference.collapse import Collapse, collapse
from ppl_gen.inference.compare import Comparison, compare
from ppl_gen.inference.draws import Draws
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.fit import Record, fit, iterate
from ppl_gen.inference.gaps import Gaps, gaps
from ppl_gen.inference.hmc import hmc
from ppl_gen.inference.importance import elbo, log_evidence
from ppl_gen.inference.nuts import nuts
from ppl_gen.inference.objectives import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.inference.svi import NotFinite, svi_step

__all__ = [
    "IWAE",
    "Calibration",
    "Collapse",
    "Comparison",
    "DReG",
    "Draws",
    "Estimate",
    "FreeBits",
    "Gaps",
    "NotFinite",
    "Record",
    "Sandwich",
    "StickingTheLanding",
    "ais",
    "annealed",
    "bdmc",
    "collapse",
    "compare",
    "elbo",
    "fit",
    "gaps",
    "hmc",
    "iterate",
    "log_evidence",
    "nuts",
    "sbc",
    "svi_step",
    "to_arviz",
]
