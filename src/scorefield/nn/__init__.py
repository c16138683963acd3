"""Networks: functions of a noisy input and of one number that tells how noisy it is.

Every network here is called ``network(x, c, label=None)`` and returns a tensor like ``x``; a classifier is called
``network(x, c)`` and returns logits, (batch, classes). The number ``c`` is whatever the caller decided to embed (999 t,
a table index, log sigma, a quarter of the log-SNR); a network knows no SDE and never divides by sigma.
"""

from scorefield.nn.classify import Encoder, PerceptronClassifier, WideResNet
from scorefield.nn.mlp import MLP
from scorefield.nn.ncsn import NCSN
from scorefield.nn.ncsnv2 import NCSNv2
from scorefield.nn.unet import UNet

__all__ = ["MLP", "NCSN", "Encoder", "NCSNv2", "PerceptronClassifier", "UNet", "WideResNet"]
