"""Ways to fit and to judge any program, one per file. They know the contract, never a particular model."""

if __name__ != "ppl_gen.inference":
    raise ImportError("import ppl_gen.inference, not inference: the bare name makes a second copy of every class")

from ppl_gen.inference.adversarial import adversarial_step, moving_average
from ppl_gen.inference.ais import ais
from ppl_gen.inference.arviz_export import to_arviz
from ppl_gen.inference.bdmc import Sandwich, bdmc
from ppl_gen.inference.calibration import Calibration, sbc
from ppl_gen.inference.classifier_test import ClassifierTest, classifier_test
from ppl_gen.inference.collapse import Collapse, collapse
from ppl_gen.inference.compare import Comparison, compare
from ppl_gen.inference.coverage import PrecisionRecall, precision_recall
from ppl_gen.inference.cycle import CycleErrors, cycle_errors, cycle_step
from ppl_gen.inference.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.draws import Draws
from ppl_gen.inference.estimate import Estimate
from ppl_gen.inference.features import PCA, Classifier, classifier_features, inception_features
from ppl_gen.inference.fit import Record, fit, iterate
from ppl_gen.inference.gaps import Gaps, gaps
from ppl_gen.inference.hmc import hmc
from ppl_gen.inference.importance import elbo, log_evidence
from ppl_gen.inference.information import code_information, information_loss
from ppl_gen.inference.losses import AdversarialLoss
from ppl_gen.inference.matching import moment_step
from ppl_gen.inference.moments import Moments, moments
from ppl_gen.inference.nuts import nuts
from ppl_gen.inference.objectives import IWAE, DReG, FreeBits, StickingTheLanding, annealed
from ppl_gen.inference.shares import Share
from ppl_gen.inference.svi import NotFinite, svi_step
from ppl_gen.inference.two_sample import TwoSample, two_sample_test

__all__ = [
    "IWAE",
    "PCA",
    "AdversarialLoss",
    "Calibration",
    "Classifier",
    "ClassifierTest",
    "Collapse",
    "Comparison",
    "CycleErrors",
    "DReG",
    "Draws",
    "Estimate",
    "FreeBits",
    "Gaps",
    "Moments",
    "NotFinite",
    "PrecisionRecall",
    "Record",
    "Sandwich",
    "Share",
    "StickingTheLanding",
    "TwoSample",
    "adversarial_step",
    "ais",
    "annealed",
    "bdmc",
    "classifier_features",
    "classifier_test",
    "code_information",
    "collapse",
    "compare",
    "cycle_errors",
    "cycle_step",
    "elbo",
    "energy_distance",
    "fit",
    "frechet_distance",
    "gaps",
    "hmc",
    "inception_features",
    "information_loss",
    "iterate",
    "log_evidence",
    "mmd",
    "moment_step",
    "moments",
    "moving_average",
    "nuts",
    "polynomial_mmd",
    "precision_recall",
    "sbc",
    "sliced_wasserstein",
    "svi_step",
    "to_arviz",
    "two_sample_test",
]
