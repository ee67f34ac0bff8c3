"""Networks: perceptrons and convolutions that take any leading axes, and the context that joins
their input.
"""

from ppl_gen.nn.layers import (
    Activation,
    Batched,
    Condition,
    Shape,
    context_width,
    conv_decoder,
    conv_features,
    mlp,
    pyramid,
)

__all__ = [
    "Activation",
    "Batched",
    "Condition",
    "Shape",
    "context_width",
    "conv_decoder",
    "conv_features",
    "mlp",
    "pyramid",
]
