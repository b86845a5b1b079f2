"""Coupling networks. The only folder that imports Flax, and it imports nothing else of nvpjax."""

from nvpjax.nets.conditioner import FlaxConditioner
from nvpjax.nets.convolution import ConvolutionNet
from nvpjax.nets.gated import GatedNet
from nvpjax.nets.made import MADE
from nvpjax.nets.mlp import MLP
from nvpjax.nets.residual import ResidualNet

__all__ = ["MADE", "MLP", "ConvolutionNet", "FlaxConditioner", "GatedNet", "ResidualNet"]
