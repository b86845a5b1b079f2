"""Ready-made flows, one a file. Assembly only: every line is a bijector that can be used by itself."""

from nvpjax.models.autoregressive import IAF, MAF
from nvpjax.models.circular_spline_coupling import CircularSplineCoupling
from nvpjax.models.ffjord import FFJORD, FFJORDVectors
from nvpjax.models.flow_plus_plus import FlowPlusPlus, FlowPlusPlusDequantizer
from nvpjax.models.glow import Glow, GlowDequantizer
from nvpjax.models.jet import Jet
from nvpjax.models.model import Model
from nvpjax.models.nice import NICE
from nvpjax.models.real_nvp import RealNVP
from nvpjax.models.real_nvp_vectors import RealNVPVectors
from nvpjax.models.residual_flow import ResidualFlow, ResidualFlowVectors
from nvpjax.models.spline_coupling import SplineCoupling
from nvpjax.models.tarflow import TarFlow

__all__ = [
    "FFJORD",
    "IAF",
    "MAF",
    "NICE",
    "CircularSplineCoupling",
    "FFJORDVectors",
    "FlowPlusPlus",
    "FlowPlusPlusDequantizer",
    "Glow",
    "GlowDequantizer",
    "Jet",
    "Model",
    "RealNVP",
    "RealNVPVectors",
    "ResidualFlow",
    "ResidualFlowVectors",
    "SplineCoupling",
    "TarFlow",
]

MODELS: dict[str, type[Model]] = {
    "real_nvp": RealNVP,
    "real_nvp_vectors": RealNVPVectors,
    "nice": NICE,
    "glow": Glow,
    "flow_plus_plus": FlowPlusPlus,
    "maf": MAF,
    "iaf": IAF,
    "spline_coupling": SplineCoupling,
    "tarflow": TarFlow,
    "jet": Jet,
    "residual_flow": ResidualFlow,
    "residual_flow_vectors": ResidualFlowVectors,
    "ffjord": FFJORD,
    "ffjord_vectors": FFJORDVectors,
}
"""The models by name, as programs and files call them. Of a table's columns, which programs standardise, none is an
angle: ``CircularSplineCoupling`` is not among them."""
