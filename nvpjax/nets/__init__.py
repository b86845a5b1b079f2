"""Networks that tell bijectors how to act. The only folder that imports Flax, and it imports nothing else of nvpjax."""

from nvpjax.nets.angles import OfAngles
from nvpjax.nets.causal_transformer import CausalTransformer
from nvpjax.nets.conditioner import Network
from nvpjax.nets.contraction import Contraction, ContractiveConvolutions, ContractiveMLP
from nvpjax.nets.convolution import ConvolutionNet
from nvpjax.nets.field import ConcatSquash, FieldOfImages
from nvpjax.nets.flax_conditioner import FlaxConditioner
from nvpjax.nets.gated import GatedNet
from nvpjax.nets.label_embedding import LabelEmbedding
from nvpjax.nets.labelled_contraction import LabelledContraction
from nvpjax.nets.made import MADE
from nvpjax.nets.mlp import MLP
from nvpjax.nets.nested_transformer import NestedTransformer
from nvpjax.nets.nnx_conditioner import NNXConditioner
from nvpjax.nets.residual import ResidualNet
from nvpjax.nets.rounded import Rounded
from nvpjax.nets.transformer import Transformer

__all__ = [
    "MADE",
    "MLP",
    "CausalTransformer",
    "ConcatSquash",
    "Contraction",
    "ContractiveConvolutions",
    "ContractiveMLP",
    "ConvolutionNet",
    "FieldOfImages",
    "FlaxConditioner",
    "GatedNet",
    "LabelEmbedding",
    "LabelledContraction",
    "NNXConditioner",
    "NestedTransformer",
    "Network",
    "OfAngles",
    "ResidualNet",
    "Rounded",
    "Transformer",
]
