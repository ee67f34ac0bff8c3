"""When a fit stops, and which of its epochs is kept; whether an objective has settled."""

from ppl_gen.inference.fitting.stopping.converged import Converged
from ppl_gen.inference.fitting.stopping.patience import Patience
from ppl_gen.inference.fitting.stopping.plateau import Plateau

__all__ = ["Converged", "Patience", "Plateau"]
