"""Ways to fit and to judge any program, one per file. They know the contract, never a particular model."""

if __name__ != "ppl_gen.inference":
    raise ImportError("import ppl_gen.inference, not inference: the bare name makes a second copy of every class")

from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.fit import Record, fit, iterate
from ppl_gen.inference.importance import elbo, log_evidence
from ppl_gen.inference.svi import NotFinite, svi_step

__all__ = ["Estimate", "NotFinite", "Record", "elbo", "fit", "iterate", "log_evidence", "svi_step"]
