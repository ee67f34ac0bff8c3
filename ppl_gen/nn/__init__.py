"""Networks that take any leading axes: perceptrons, convolutions, recurrent cells, and a context
beside them.
"""

from ppl_gen.nn.attention import Window
from ppl_gen.nn.condition import Condition, context_width
from ppl_gen.nn.convolution import conv_decoder, conv_features, pyramid
from ppl_gen.nn.layers import Activation, Batched, Shape, mlp
from ppl_gen.nn.missing import ZeroFilled, mlp_of_data, network_of_data
from ppl_gen.nn.recurrent import LSTM, LSTMState

__all__ = [
    "LSTM",
    "Activation",
    "Batched",
    "Condition",
    "LSTMState",
    "Shape",
    "Window",
    "ZeroFilled",
    "context_width",
    "conv_decoder",
    "conv_features",
    "mlp",
    "mlp_of_data",
    "network_of_data",
    "pyramid",
]
