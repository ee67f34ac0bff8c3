"""Ways to fit and to judge any program, one per file. They know the contract, never a particular
model.
"""

if __name__ != "ppl_gen.inference":
    raise ImportError(
        "import ppl_gen.inference, not inference: the bare name makes a second copy of every class"
    )

from ppl_gen.inference.codes.anomaly import code_distance, improbability, reconstruction_error
from ppl_gen.inference.codes.attributes import Directions, attribute_directions
from ppl_gen.inference.codes.coder import Codes, aggregate_draws, decode, encode
from ppl_gen.inference.codes.detection import Detection, detection
from ppl_gen.inference.codes.lattice import lattice, random_walk, ticks, traversal
from ppl_gen.inference.codes.neighbours import Retrieval, nearest, retrieval
from ppl_gen.inference.codes.overlap import Overlap, affinity, overlap
from ppl_gen.inference.comparison.compare import Comparison, compare
from ppl_gen.inference.compression.bits_back import compress, decompress
from ppl_gen.inference.compression.compressed import Compressed
from ppl_gen.inference.compression.curve import RateDistortionCurve, rate_distortion_curve
from ppl_gen.inference.compression.rate_distortion import quantised_codes, rate_distortion
from ppl_gen.inference.diagnosis.collapse import Collapse, collapse
from ppl_gen.inference.diagnosis.criticism import Criticism, criticise
from ppl_gen.inference.diagnosis.gaps import Gaps, gaps
from ppl_gen.inference.diagnosis.sbc import Calibration, sbc
from ppl_gen.inference.estimate import Estimate, Share
from ppl_gen.inference.evidence.ais import ais
from ppl_gen.inference.evidence.bdmc import Sandwich, bdmc
from ppl_gen.inference.evidence.importance import elbo, log_evidence
from ppl_gen.inference.fitting import objectives
from ppl_gen.inference.fitting.classification import classification_step
from ppl_gen.inference.fitting.guides import GuideFit, fit_guide, full_covariance, same_family
from ppl_gen.inference.fitting.loop import NotFinite, Record, Rule, fit, iterate
from ppl_gen.inference.fitting.moment_matching import moment_step
from ppl_gen.inference.fitting.objectives import (
    IWAE,
    AnalyticELBO,
    DReG,
    FreeBits,
    StickingTheLanding,
    annealed,
)
from ppl_gen.inference.fitting.reconstruction import (
    ReconstructionValidation,
    greedy_step,
    reconstruction_step,
    squared_error,
)
from ppl_gen.inference.fitting.stopping import Converged, Patience, Plateau
from ppl_gen.inference.fitting.svi import ProgramFit, fit_program, svi_step
from ppl_gen.inference.fitting.validation import Validation
from ppl_gen.inference.games import losses
from ppl_gen.inference.games.adversarial import (
    adversarial_step,
    bidirectional_step,
    moving_average,
)
from ppl_gen.inference.games.cycle import CycleErrors, cycle_errors, cycle_step
from ppl_gen.inference.games.fits import GameFit, fit_cycle, fit_gan
from ppl_gen.inference.games.information import code_information, information_loss
from ppl_gen.inference.games.losses import AdversarialLoss
from ppl_gen.inference.latents.pathfinder import Pathfinder
from ppl_gen.inference.mcmc.convergence import ConvergenceWarning
from ppl_gen.inference.mcmc.draws import Draws
from ppl_gen.inference.mcmc.hmc import hmc
from ppl_gen.inference.mcmc.nuts import nuts
from ppl_gen.inference.posteriors.batch_and_match import match_step
from ppl_gen.inference.posteriors.correct import correct
from ppl_gen.inference.posteriors.corrected import Corrected
from ppl_gen.inference.posteriors.families import GaussianMixtureByDatum, LowRankByDatum
from ppl_gen.inference.posteriors.gaussian import GaussianGuide
from ppl_gen.inference.posteriors.graded import GradedPosterior
from ppl_gen.inference.posteriors.ladder import (
    Amortised,
    ByDatum,
    GapBelow,
    GuideChoice,
    KHatBelow,
    choose_guide,
)
from ppl_gen.inference.posteriors.posterior import posterior
from ppl_gen.inference.posteriors.simulators import Amortisation, amortise
from ppl_gen.inference.prediction.arviz_export import to_arviz
from ppl_gen.inference.prediction.imputation import Imputation, impute
from ppl_gen.inference.prediction.labels import accuracy, label_probabilities
from ppl_gen.inference.prediction.one_pass import one_pass
from ppl_gen.inference.result import Result
from ppl_gen.inference.samples.classifier_test import ClassifierTest, classifier_test
from ppl_gen.inference.samples.distances import (
    energy_distance,
    frechet_distance,
    mmd,
    polynomial_mmd,
    sliced_wasserstein,
)
from ppl_gen.inference.samples.features import (
    PCA,
    Classifier,
    classifier_features,
    inception_features,
)
from ppl_gen.inference.samples.moments import Moments, moments
from ppl_gen.inference.samples.permutation import TwoSample, two_sample_test
from ppl_gen.inference.samples.precision_recall import PrecisionRecall, precision_recall
from ppl_gen.inference.simulators.match import match_mmd, match_moments
from ppl_gen.inference.simulators.matched import Matched

__all__ = [
    "IWAE",
    "PCA",
    "AdversarialLoss",
    "Amortisation",
    "Amortised",
    "AnalyticELBO",
    "ByDatum",
    "Calibration",
    "Classifier",
    "ClassifierTest",
    "Codes",
    "Collapse",
    "Comparison",
    "Compressed",
    "Converged",
    "ConvergenceWarning",
    "Corrected",
    "Criticism",
    "CycleErrors",
    "DReG",
    "Detection",
    "Directions",
    "Draws",
    "Estimate",
    "FreeBits",
    "GameFit",
    "GapBelow",
    "Gaps",
    "GaussianGuide",
    "GaussianMixtureByDatum",
    "GradedPosterior",
    "GuideChoice",
    "GuideFit",
    "Imputation",
    "KHatBelow",
    "LowRankByDatum",
    "Matched",
    "Moments",
    "NotFinite",
    "Overlap",
    "Pathfinder",
    "Patience",
    "Plateau",
    "PrecisionRecall",
    "ProgramFit",
    "RateDistortionCurve",
    "ReconstructionValidation",
    "Record",
    "Result",
    "Retrieval",
    "Rule",
    "Sandwich",
    "Share",
    "StickingTheLanding",
    "TwoSample",
    "Validation",
    "accuracy",
    "adversarial_step",
    "affinity",
    "aggregate_draws",
    "ais",
    "amortise",
    "annealed",
    "attribute_directions",
    "bdmc",
    "bidirectional_step",
    "choose_guide",
    "classification_step",
    "classifier_features",
    "classifier_test",
    "code_distance",
    "code_information",
    "collapse",
    "compare",
    "compress",
    "correct",
    "criticise",
    "cycle_errors",
    "cycle_step",
    "decode",
    "decompress",
    "detection",
    "elbo",
    "encode",
    "energy_distance",
    "fit",
    "fit_cycle",
    "fit_gan",
    "fit_guide",
    "fit_program",
    "frechet_distance",
    "full_covariance",
    "gaps",
    "greedy_step",
    "hmc",
    "improbability",
    "impute",
    "inception_features",
    "information_loss",
    "iterate",
    "label_probabilities",
    "lattice",
    "log_evidence",
    "losses",
    "match_mmd",
    "match_moments",
    "match_step",
    "mmd",
    "moment_step",
    "moments",
    "moving_average",
    "nearest",
    "nuts",
    "objectives",
    "one_pass",
    "overlap",
    "polynomial_mmd",
    "posterior",
    "precision_recall",
    "quantised_codes",
    "random_walk",
    "rate_distortion",
    "rate_distortion_curve",
    "reconstruction_error",
    "reconstruction_step",
    "retrieval",
    "same_family",
    "sbc",
    "sliced_wasserstein",
    "squared_error",
    "svi_step",
    "ticks",
    "to_arviz",
    "traversal",
    "two_sample_test",
]
