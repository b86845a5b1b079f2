"""Ready-made flows, one a file. Assembly only: every line is a bijector that can be used by itself."""

from nvpjax.models.autoregressive import iaf, maf
from nvpjax.models.flow_plus_plus import flow_plus_plus, flow_plus_plus_dequantizer
from nvpjax.models.glow import glow
from nvpjax.models.nice import nice
from nvpjax.models.real_nvp import real_nvp
from nvpjax.models.real_nvp_vectors import real_nvp_vectors
from nvpjax.models.spline_coupling import spline_coupling

__all__ = [
    "flow_plus_plus",
    "flow_plus_plus_dequantizer",
    "glow",
    "iaf",
    "maf",
    "nice",
    "real_nvp",
    "real_nvp_vectors",
    "spline_coupling",
]
