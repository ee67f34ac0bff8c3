"""Networks that take any leading axes: perceptrons, convolutions, and a context beside them."""

from ppl_gen.nn.condition import Condition, context_width
from ppl_gen.nn.convolution import conv_decoder, conv_features, pyramid
from ppl_gen.nn.layers import Activation, Batched, Shape, mlp
from ppl_gen.nn.missing import ZeroFilled, network_of_data

__all__ = [
    "Activation",
    "Batched",
    "Condition",
    "Shape",
    "ZeroFilled",
    "context_width",
    "conv_decoder",
    "conv_features",
    "mlp",
    "network_of_data",
    "pyramid",
]
