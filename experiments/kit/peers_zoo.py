"""One table of the public bijectors of distrax, flowjax, bijx and TFP (on JAX), for checks that run over all of them.

    for peer in PEERS:
        bijector = peer.build()                 # imports the library, and adapts its bijector to our contract
        check_bijector(bijector, examples in (peer.low, peer.high))

No parameters are those of the identity: there, a wrong log-det passes. Whatever is random has a fixed seed. Arrays are
made at ``build``, so that a build inside ``jax.enable_x64(True)`` gives a bijector in float64.

distrax 0.1.9 and TFP need ``tfp-nightly``: with the files of tensorflow-probability 0.25.0 they do not import on JAX
0.10. A bijector made in one dtype does not always run in the other (TFP refuses, flowjax's ``Scan`` fails): build it
anew for each.

Known to fail, and kept: flowjax ``householder_scan`` (its inverse does not invert), bijx ``to_fourier_data`` (its
log-det), TFP ``softfloor`` (its inverse), and bijx ``coupling_flow_spline`` (its inverse, in float32). TFP
``rational_quadratic_spline``, ``real_nvp_spline`` and ``scale_matvec_lu`` do not run under jit with JAX 0.10.2.

Left out, by library, and why:

- distrax: ``Bijector``, ``Linear`` (abstract).
- flowjax: ``AdditiveCondition``, ``EmbedCondition`` (need a condition; an entry has none), ``Planar`` with tanh and
  ``BlockAutoregressiveNetwork`` by itself (no inverse, documented), ``Identity``.
- bijx: ``ContFlowDiffrax``, ``ContFlowRK4``, ``ContFlowCG``, ``ConvVF``, ``AutoJacVF`` (by ODE solvers only),
  ``Identity``.
- TFP: ``AbsoluteValue``, ``Split``, ``Pad`` (not bijections of arrays of one size), ``IteratedSigmoidCentered``,
  ``SoftmaxCentered``, ``UnitVector``, ``CorrelationCholesky``, ``CholeskyOuterProduct``, ``CholeskyToInvCholesky``,
  ``MatrixInverseTriL``, ``FillTriangular``, ``FillScaleTriL`` (onto or from a manifold: no square Jacobian),
  ``JointMap``, ``Restructure``, ``ScaleMatvecLinearOperatorBlock`` (structures of arrays), ``Composition`` (abstract),
  ``FFJORD`` (by an ODE solver only), ``MatvecLU`` (the old name of ``ScaleMatvecLU``), ``Identity``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.bijector import Bijector
from nvpjax.testing.adapters import from_bijx, from_distrax, from_flowjax, from_tfp


class Peer(NamedTuple):
    """One bijector of another library: how to make it, and where to try it."""

    library: str
    name: str
    build: Callable[[], Bijector]
    event: tuple[int, ...]
    low: float
    """Examples are drawn from (low, high): inside the domain, and invertible in float32."""
    high: float
    domain: tuple[float, float]
    """The true domain of forward, elementwise."""


INFINITY = float("inf")
REAL = (-INFINITY, INFINITY)
POSITIVE = (0.0, INFINITY)
UNIT = (0.0, 1.0)


def _array(*values) -> jax.Array:
    return jnp.asarray(np.array(values, np.float64))


def _normal(seed: int, *shape: int, size: float = 1.0) -> jax.Array:
    return jnp.asarray(size * np.random.default_rng(seed).normal(size=shape))


def _matrix(seed: int, dim: int) -> jax.Array:
    """A matrix that is well conditioned, of determinant other than one."""
    return 1.5 * jnp.eye(dim) + _normal(seed, dim, dim, size=0.3)


def _network(seed: int, inputs: int, *outputs: int) -> Callable[[jax.Array], jax.Array]:
    """A conditioner of one hidden layer: ``(..., inputs)`` to ``(..., *outputs)``, values of size one half."""
    hidden, last = _normal(seed, inputs, 8), _normal(seed + 1, 8, int(np.prod(outputs)), size=0.3)

    def apply(x):
        return (jnp.tanh(x @ hidden + 0.1) @ last).reshape(*x.shape[:-1], *outputs)

    return apply


# -------------------------------------------------------------------------------------------------------------- distrax


def _distrax(make: Callable[[Any], Any]) -> Callable[[], Bijector]:
    def build():
        import distrax

        return from_distrax(make(distrax))

    return build


def _distrax_spline(d, seed=0, boundary="unconstrained", shape=(2,)):
    return d.RationalQuadraticSpline(_normal(seed, *shape, 3 * 5 + 1), -3.0, 3.0, boundary_slopes=boundary)


def _distrax_affine(d):
    return lambda params: d.ScalarAffine(shift=params[..., 0], log_scale=params[..., 1])


def _distrax_masked(d):
    return d.MaskedCoupling(jnp.array([True, False]), _network(1, 2, 2, 2), _distrax_affine(d))


def _distrax_masked_spline(d):
    return d.MaskedCoupling(
        jnp.array([True, False]), _network(2, 2, 2, 16), lambda params: d.RationalQuadraticSpline(params, -3.0, 3.0)
    )


def _distrax_split(d, swap=False):
    return d.SplitCoupling(1, 1, _network(3, 1, 1, 2), _distrax_affine(d), swap=swap)


def _distrax_split_3(d):
    return d.SplitCoupling(1, 1, _network(4, 1, 2, 2), _distrax_affine(d))


def _distrax_chain(d):
    layers = [d.Block(d.Tanh(), 1), _distrax_masked(d), d.UnconstrainedAffine(_matrix(5, 2), _array(0.1, -0.2))]
    return d.Chain(layers)


def _distrax_low_rank(d):
    return d.DiagPlusLowRankLinear(_array(1.3, 0.6, 2.0), _normal(6, 3, 1, size=0.5), _normal(7, 3, 1, size=0.5))


DISTRAX = (
    Peer("distrax", "tanh", _distrax(lambda d: d.Tanh()), (2,), -3, 3, REAL),
    Peer("distrax", "sigmoid", _distrax(lambda d: d.Sigmoid()), (2,), -5, 5, REAL),
    Peer("distrax", "gumbel_cdf", _distrax(lambda d: d.GumbelCDF()), (2,), -2, 5, REAL),
    Peer("distrax", "shift", _distrax(lambda d: d.Shift(_array(0.7, -1.2))), (2,), -3, 3, REAL),
    Peer("distrax", "scalar_affine", _distrax(lambda d: d.ScalarAffine(0.3, scale=-1.7)), (2,), -3, 3, REAL),
    Peer(
        "distrax",
        "scalar_affine_log_scale",
        _distrax(lambda d: d.ScalarAffine(_array(0.3, 1.0), log_scale=_array(0.5, -0.8))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("distrax", "lambda_sinh", _distrax(lambda d: d.Lambda(jnp.sinh)), (2,), -3, 3, REAL),
    Peer(
        "distrax",
        "lambda_affine_tanh",
        _distrax(lambda d: d.Lambda(lambda x: jnp.tanh(0.5 * x + 0.1))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("distrax", "lambda_log", _distrax(lambda d: d.Lambda(jnp.log)), (2,), 0.1, 5, POSITIVE),
    Peer("distrax", "lambda_cube", _distrax(lambda d: d.Lambda(lambda x: x**3)), (2,), 0.3, 3, REAL),
    Peer("distrax", "spline", _distrax(_distrax_spline), (2,), -4, 4, REAL),
    Peer("distrax", "spline_identity", _distrax(lambda d: _distrax_spline(d, 1, "identity")), (2,), -4, 4, REAL),
    Peer(
        "distrax",
        "spline_lower_identity",
        _distrax(lambda d: _distrax_spline(d, 2, "lower_identity")),
        (2,),
        -4,
        4,
        REAL,
    ),
    Peer(
        "distrax",
        "spline_upper_identity",
        _distrax(lambda d: _distrax_spline(d, 3, "upper_identity")),
        (2,),
        -4,
        4,
        REAL,
    ),
    Peer(
        "distrax",
        "spline_circular",
        _distrax(lambda d: _distrax_spline(d, 4, "circular")),
        (2,),
        -2.9,
        2.9,
        (-3.0, 3.0),
    ),
    Peer("distrax", "diag_linear", _distrax(lambda d: d.DiagLinear(_array(-1.4, 0.3))), (2,), -3, 3, REAL),
    Peer("distrax", "diag_plus_low_rank_linear", _distrax(_distrax_low_rank), (3,), -3, 3, REAL),
    Peer("distrax", "triangular_linear", _distrax(lambda d: d.TriangularLinear(_matrix(1, 2))), (2,), -3, 3, REAL),
    Peer(
        "distrax",
        "triangular_linear_upper",
        _distrax(lambda d: d.TriangularLinear(_matrix(1, 3), is_lower=False)),
        (3,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "distrax",
        "lower_upper_triangular_affine",
        _distrax(lambda d: d.LowerUpperTriangularAffine(_matrix(2, 2), _array(0.5, -1.0))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "distrax",
        "unconstrained_affine",
        _distrax(lambda d: d.UnconstrainedAffine(_matrix(3, 2), _array(0.5, -1.0))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("distrax", "masked_coupling", _distrax(_distrax_masked), (2,), -3, 3, REAL),
    Peer("distrax", "masked_coupling_spline", _distrax(_distrax_masked_spline), (2,), -4, 4, REAL),
    Peer("distrax", "split_coupling", _distrax(_distrax_split), (2,), -3, 3, REAL),
    Peer("distrax", "split_coupling_swap", _distrax(lambda d: _distrax_split(d, swap=True)), (2,), -3, 3, REAL),
    Peer("distrax", "split_coupling_uneven", _distrax(_distrax_split_3), (3,), -3, 3, REAL),
    Peer("distrax", "block", _distrax(lambda d: d.Block(d.Sigmoid(), 2)), (2, 2), -4, 4, REAL),
    Peer("distrax", "chain", _distrax(_distrax_chain), (2,), -1.5, 1.5, REAL),
    Peer("distrax", "inverse", _distrax(lambda d: d.Inverse(d.Tanh())), (2,), -0.95, 0.95, (-1.0, 1.0)),
    Peer("distrax", "inverse_chain", _distrax(lambda d: d.Inverse(_distrax_split(d))), (2,), -3, 3, REAL),
)


# -------------------------------------------------------------------------------------------------------------- flowjax


def _flowjax(make: Callable[[Any], Any], moved: float = 0.0) -> Callable[[], Bijector]:
    """``moved``: the standard deviation of noise added to every float array, of those that start as the identity."""

    def build():
        from flowjax import bijections

        if not moved:
            return from_flowjax(make(bijections))
        with jax.enable_x64(False):  # the same draws from its keys, whatever the dtype
            bijection = make(bijections)
        return from_flowjax(_flowjax_moved(bijection, moved))

    return build


def _flowjax_moved(bijection, size):
    import equinox

    arrays, rest = equinox.partition(bijection, equinox.is_inexact_array)
    leaves, structure = jax.tree.flatten(arrays)
    leaves = [leaf.astype(float) + _normal(seed, *leaf.shape, size=size) for seed, leaf in enumerate(leaves)]
    return equinox.combine(jax.tree.unflatten(structure, leaves), rest)


def _flowjax_spline(f):
    return f.RationalQuadraticSpline(knots=5, interval=3)


def _flowjax_splines(f):
    import equinox

    return f.Vmap(equinox.filter_vmap(lambda: _flowjax_spline(f), axis_size=2)(), in_axes=equinox.if_array(0))


def _flowjax_coupling(f, transformer=None, dim=2):
    transformer = f.Affine() if transformer is None else transformer
    return f.Coupling(
        jax.random.key(1),
        transformer=transformer,
        untransformed_dim=dim // 2,
        dim=dim,
        nn_width=8,
        nn_depth=1,
        nn_activation=jnp.tanh,
    )


def _flowjax_autoregressive(f, transformer=None, dim=2):
    transformer = f.Affine() if transformer is None else transformer
    return f.MaskedAutoregressive(
        jax.random.key(2), transformer=transformer, dim=dim, nn_width=8, nn_depth=1, nn_activation=jnp.tanh
    )


def _flowjax_block_autoregressive(f):
    from functools import partial

    from flowjax.root_finding import bisect_check_expand_search, root_finder_to_inverter

    network = f.BlockAutoregressiveNetwork(jax.random.key(3), dim=2, depth=1, block_dim=4)
    search = partial(bisect_check_expand_search, midpoint=jnp.zeros(2), width=5, atol=1e-6)
    return f.NumericalInverse(network, root_finder_to_inverter(search))


def _flowjax_scan(f):
    import equinox

    return f.Scan(equinox.filter_vmap(f.Affine)(_normal(1, 3, 2), jnp.exp(_normal(2, 3, 2, size=0.5))))


def _flowjax_householders(f):
    import equinox

    return f.Scan(equinox.filter_vmap(f.Householder)(_normal(3, 2, 3)))


def _flowjax_flow(name, **options):
    def make(f):
        from flowjax import distributions, flows

        base = distributions.Normal(jnp.zeros(2))
        return getattr(flows, name)(jax.random.key(4), base_dist=base, flow_layers=2, **options).bijection

    return make


FLOWJAX = (
    Peer("flowjax", "tanh", _flowjax(lambda f: f.Tanh((2,))), (2,), -3, 3, REAL),
    Peer("flowjax", "leaky_tanh", _flowjax(lambda f: f.LeakyTanh(1.5, (2,))), (2,), -3, 3, REAL),
    Peer("flowjax", "leaky_tanh_wide", _flowjax(lambda f: f.LeakyTanh(3.0, (2,))), (2,), -4, 4, REAL),
    Peer("flowjax", "sigmoid", _flowjax(lambda f: f.Sigmoid((2,))), (2,), -5, 5, REAL),
    Peer("flowjax", "softplus", _flowjax(lambda f: f.SoftPlus((2,))), (2,), -3, 3, REAL),
    Peer("flowjax", "exp", _flowjax(lambda f: f.Exp((2,))), (2,), -3, 3, REAL),
    Peer("flowjax", "power", _flowjax(lambda f: f.Power(1.7, (2,))), (2,), 0.1, 3, POSITIVE),
    Peer("flowjax", "power_negative", _flowjax(lambda f: f.Power(-0.5, (2,))), (2,), 0.1, 3, POSITIVE),
    Peer("flowjax", "affine", _flowjax(lambda f: f.Affine(_array(0.3, -1.0), _array(1.7, 0.4))), (2,), -3, 3, REAL),
    Peer("flowjax", "loc", _flowjax(lambda f: f.Loc(_array(0.3, -1.0))), (2,), -3, 3, REAL),
    Peer("flowjax", "scale", _flowjax(lambda f: f.Scale(_array(1.7, 0.4))), (2,), -3, 3, REAL),
    Peer(
        "flowjax",
        "triangular_affine",
        _flowjax(lambda f: f.TriangularAffine(_array(0.3, -1.0), _matrix(1, 2))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "flowjax",
        "triangular_affine_upper",
        _flowjax(lambda f: f.TriangularAffine(_array(0.3, -1.0, 0.5), _matrix(1, 3), lower=False)),
        (3,),
        -3,
        3,
        REAL,
    ),
    Peer("flowjax", "spline", _flowjax(_flowjax_splines, moved=0.7), (2,), -4, 4, REAL),
    Peer(
        "flowjax",
        "planar_leaky_relu",
        _flowjax(lambda f: f.Planar(jax.random.key(5), dim=2, negative_slope=0.1), moved=0.7),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("flowjax", "householder", _flowjax(lambda f: f.Householder(_array(0.8, -0.3))), (2,), -3, 3, REAL),
    Peer("flowjax", "householder_scan", _flowjax(_flowjax_householders), (3,), -3, 3, REAL),
    Peer("flowjax", "discrete_cosine", _flowjax(lambda f: f.DiscreteCosine((4,))), (4,), -3, 3, REAL),
    Peer("flowjax", "permute", _flowjax(lambda f: f.Permute(jnp.array([2, 0, 1]))), (3,), -3, 3, REAL),
    Peer("flowjax", "flip", _flowjax(lambda f: f.Flip((2,))), (2,), -3, 3, REAL),
    Peer(
        "flowjax",
        "reshape",
        _flowjax(lambda f: f.Reshape(f.Affine(_normal(4, 4), jnp.exp(_normal(5, 4))), (2, 2))),
        (2, 2),
        -3,
        3,
        REAL,
    ),
    Peer("flowjax", "indexed", _flowjax(lambda f: f.Indexed(f.Exp((2,)), jnp.array([0, 2]), (3,))), (3,), -3, 3, REAL),
    Peer("flowjax", "invert", _flowjax(lambda f: f.Invert(f.Tanh((2,)))), (2,), -0.95, 0.95, (-1.0, 1.0)),
    Peer(
        "flowjax",
        "chain",
        _flowjax(lambda f: f.Chain([f.TriangularAffine(_array(0.1, 0.2), _matrix(2, 2)), f.Tanh((2,)), f.Flip((2,))])),
        (2,),
        -1.2,
        1.2,
        REAL,
    ),
    Peer("flowjax", "concatenate", _flowjax(lambda f: f.Concatenate([f.Exp((1,)), f.Tanh((1,))])), (2,), -2, 2, REAL),
    Peer("flowjax", "stack", _flowjax(lambda f: f.Stack([f.Exp((2,)), f.SoftPlus((2,))])), (2, 2), -2, 2, REAL),
    Peer(
        "flowjax",
        "vmap",
        _flowjax(lambda f: f.Vmap(f.Affine(_array(0.5, 1.0), _array(2.0, 0.3)), axis_size=2)),
        (2, 2),
        -3,
        3,
        REAL,
    ),
    Peer(
        "flowjax",
        "sandwich",
        _flowjax(lambda f: f.Sandwich(_flowjax_splines(f), f.LeakyTanh(3.0, (2,))), moved=0.5),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("flowjax", "scan", _flowjax(_flowjax_scan), (2,), -3, 3, REAL),
    Peer("flowjax", "coupling", _flowjax(_flowjax_coupling, moved=0.3), (2,), -3, 3, REAL),
    Peer("flowjax", "coupling_uneven", _flowjax(lambda f: _flowjax_coupling(f, dim=3), moved=0.3), (3,), -3, 3, REAL),
    Peer(
        "flowjax",
        "coupling_spline",
        _flowjax(lambda f: _flowjax_coupling(f, _flowjax_spline(f)), moved=0.3),
        (2,),
        -4,
        4,
        REAL,
    ),
    Peer("flowjax", "masked_autoregressive", _flowjax(_flowjax_autoregressive, moved=0.3), (2,), -3, 3, REAL),
    Peer(
        "flowjax",
        "masked_autoregressive_4",
        _flowjax(lambda f: _flowjax_autoregressive(f, dim=4), moved=0.3),
        (4,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "flowjax",
        "masked_autoregressive_spline",
        _flowjax(lambda f: _flowjax_autoregressive(f, _flowjax_spline(f)), moved=0.3),
        (2,),
        -4,
        4,
        REAL,
    ),
    Peer("flowjax", "block_autoregressive", _flowjax(_flowjax_block_autoregressive, moved=0.3), (2,), -2, 2, REAL),
    Peer("flowjax", "coupling_flow", _flowjax(_flowjax_flow("coupling_flow"), moved=0.2), (2,), -3, 3, REAL),
    Peer(
        "flowjax",
        "masked_autoregressive_flow",
        _flowjax(_flowjax_flow("masked_autoregressive_flow"), moved=0.2),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "flowjax",
        "planar_flow",
        _flowjax(_flowjax_flow("planar_flow", negative_slope=0.1), moved=0.5),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "flowjax",
        "triangular_spline_flow",
        _flowjax(_flowjax_flow("triangular_spline_flow"), moved=0.3),
        (2,),
        -2,
        2,
        REAL,
    ),
)


# ----------------------------------------------------------------------------------------------------------------- bijx


def _bijx(make: Callable[[Any, Any], Any], moved: float = 0.0) -> Callable[[], Bijector]:
    """``make(bijx, rngs)``; ``moved``: as in ``_flowjax``, of every ``nnx.Param``."""

    def build():
        import bijx
        from flax import nnx

        if not moved:
            return from_bijx(make(bijx, nnx.Rngs(0)))
        with jax.enable_x64(False):
            bijection = make(bijx, nnx.Rngs(0))
        return from_bijx(_bijx_moved(bijection, moved))

    return build


def _bijx_moved(module, size):
    from flax import nnx

    graph, params, rest = nnx.split(module, nnx.Param, ...)
    leaves, structure = jax.tree.flatten(params)
    leaves = [leaf.astype(float) + _normal(seed, *leaf.shape, size=size) for seed, leaf in enumerate(leaves)]
    return nnx.merge(graph, jax.tree.unflatten(structure, leaves), rest)


def _bijx_coupling(b, rngs, split=True, event=4):
    """Affine coupling on a checkerboard mask, with a conditioner of one hidden layer."""
    mask = b.checker_mask((event,), True)
    affine = b.ModuleReconstructor(b.AffineLinear(rngs=rngs))
    inputs, outputs = (mask.count_secondary, mask.count_primary) if split else (event, event)
    return b.GeneralCouplingLayer(_network(1, inputs, outputs, affine.params_total_size), mask, affine, split=split)


def _bijx_radial(b, rngs):
    return b.Radial(b.RayTransform(b.SoftPlus()), _array(0.3, -0.2), _array(0.2, -0.4))


def _bijx_radial_conditional(b, rngs):
    ray = b.ModuleReconstructor(b.RayTransform(b.AffineLinear(rngs=rngs)))
    return b.RadialConditional(ray, _network(2, 2, ray.params_total_size), _array(0.3, -0.2), _array(0.2, -0.4))


def _bijx_scan(b, rngs):
    from flax import nnx

    make = nnx.split_rngs(splits=3)(nnx.vmap(lambda rngs: b.AffineLinear((2,), (2,), rngs=rngs)))
    return b.ScanChain(make(rngs))


def _bijx_spline_flow(b, rngs):
    return b.coupling_flow(
        4, lambda rngs: b.MonotoneRQSpline(6, (), rngs=rngs), n_coupling_layers=2, width=8, rngs=rngs
    )


def _bijx_cubic_flow(b, rngs):
    factory = b.init_for("cubic", architecture="coupling", depth=2)
    return b.coupling_flow(4, factory, n_coupling_layers=2, n_copies=2, width=8, rngs=rngs)


def _bijx_spectrum(b, shape):
    momenta = b.fourier.fft_momenta(shape).reshape(*shape[:-1], shape[-1] // 2 + 1, len(shape))
    return b.SpectrumScaling(jnp.exp(0.3 * jnp.sum(jnp.cos(momenta), axis=-1)))  # s(k) = s(−k), or irfft drops a part


def _bijx_fourier(b, rngs):
    return b.ToFourierData((4, 4), b.fourier.FFTRep.comp_real, unpack=True)


def _bijx_flip(b, rngs):
    return b.MetaLayer(lambda x: x[..., ::-1], lambda y: y[..., ::-1])


BIJX = (
    Peer(
        "bijx",
        "gaussian_cdf",
        _bijx(lambda b, r: b.GaussianCDF(_array(1.0, 0.3), _array(0.4, -0.5))),
        (2,),
        -2,
        2,
        REAL,
    ),
    Peer("bijx", "tan", _bijx(lambda b, r: b.Tan()), (2,), 0.05, 0.95, UNIT),
    Peer("bijx", "sigmoid", _bijx(lambda b, r: b.Sigmoid()), (2,), -5, 5, REAL),
    Peer("bijx", "tanh", _bijx(lambda b, r: b.Tanh()), (2,), -3, 3, REAL),
    Peer("bijx", "exponential", _bijx(lambda b, r: b.Exponential()), (2,), -3, 3, REAL),
    Peer("bijx", "softplus", _bijx(lambda b, r: b.SoftPlus()), (2,), -3, 3, REAL),
    Peer("bijx", "power", _bijx(lambda b, r: b.Power(_array(1.7, 0.4))), (2,), 0.1, 3, POSITIVE),
    Peer("bijx", "sinh", _bijx(lambda b, r: b.Sinh()), (2,), -3, 3, REAL),
    Peer(
        "bijx",
        "affine_linear",
        _bijx(lambda b, r: b.AffineLinear(_array(0.5, -0.8), _array(0.3, 1.0))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("bijx", "scaling", _bijx(lambda b, r: b.Scaling(_array(-1.7, 0.4))), (2,), -3, 3, REAL),
    Peer("bijx", "shift", _bijx(lambda b, r: b.Shift(_array(0.7, -1.2))), (2,), -3, 3, REAL),
    Peer("bijx", "beta_stretch", _bijx(lambda b, r: b.BetaStretch(_array(1.5, -0.2))), (2,), 0.05, 0.95, UNIT),
    Peer("bijx", "spline", _bijx(lambda b, r: b.MonotoneRQSpline(6, (2,), rngs=r), moved=0.7), (2,), -0.2, 1.2, REAL),
    Peer(
        "bijx",
        "cubic_rational",
        _bijx(lambda b, r: b.CubicRational(_array(0.3, 0.0), _array(1.0, -1.0), _array(0.2, 0.5))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "bijx",
        "sinh_conjugation",
        _bijx(lambda b, r: b.SinhConjugation(*(_normal(seed, 2, size=0.5) for seed in range(5)))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "bijx",
        "cubic_conjugation",
        _bijx(
            lambda b, r: b.CubicConjugation(_array(0.3, -0.2), _array(1.0, -0.7), _array(0.1, 0.5), _array(-1.0, 0.2))
        ),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("bijx", "radial", _bijx(_bijx_radial), (2,), -3, 3, REAL),
    Peer("bijx", "radial_conditional", _bijx(_bijx_radial_conditional), (2,), -3, 3, REAL),
    Peer(
        "bijx",
        "complex_scaling_of_reals",
        _bijx(lambda b, r: b.ComplexScaling((2,), complex_mask=jnp.zeros(2), rngs=r), moved=0.5),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("bijx", "spectrum_scaling", _bijx(lambda b, r: _bijx_spectrum(b, (4, 4))), (4, 4), -3, 3, REAL),
    Peer("bijx", "spectrum_scaling_odd", _bijx(lambda b, r: _bijx_spectrum(b, (3,))), (3,), -3, 3, REAL),
    Peer("bijx", "free_theory_scaling", _bijx(lambda b, r: b.FreeTheoryScaling(0.5, (4, 4))), (4, 4), -3, 3, REAL),
    Peer("bijx", "to_fourier_data", _bijx(_bijx_fourier), (4, 4), -3, 3, REAL),
    Peer("bijx", "meta_layer_flip", _bijx(_bijx_flip), (2,), -3, 3, REAL),
    Peer(
        "bijx", "expand_dims", _bijx(lambda b, r: b.Chain(b.ExpandDims(), b.Sinh(), b.SqueezeDims())), (2,), -3, 3, REAL
    ),
    Peer("bijx", "reshape", _bijx(lambda b, r: b.Chain(b.Reshape((2, 2), (4,)), b.Sinh())), (2, 2), -3, 3, REAL),
    Peer("bijx", "binary_mask", _bijx(lambda b, r: b.checker_mask((4,), True)), (4,), -3, 3, REAL),
    Peer("bijx", "inverse", _bijx(lambda b, r: b.Inverse(b.Sinh())), (2,), -3, 3, REAL),
    Peer("bijx", "conditional_inverse", _bijx(lambda b, r: b.CondInverse(b.Sinh(), True)), (2,), -3, 3, REAL),
    Peer("bijx", "frozen", _bijx(lambda b, r: b.Frozen(b.Sinh())), (2,), -3, 3, REAL),
    Peer("bijx", "partial", _bijx(lambda b, r: b.Partial(b.Tan())), (2,), 0.05, 0.95, UNIT),
    Peer(
        "bijx",
        "chain",
        _bijx(lambda b, r: b.Chain(b.AffineLinear(_array(0.5, -0.8), _array(0.3, 1.0)), b.Tanh())),
        (2,),
        -1.5,
        1.5,
        REAL,
    ),
    Peer("bijx", "scan_chain", _bijx(_bijx_scan, moved=0.5), (2,), -3, 3, REAL),
    Peer("bijx", "coupling", _bijx(_bijx_coupling), (4,), -3, 3, REAL),
    Peer("bijx", "coupling_2", _bijx(lambda b, r: _bijx_coupling(b, r, event=2)), (2,), -3, 3, REAL),
    Peer("bijx", "coupling_by_product", _bijx(lambda b, r: _bijx_coupling(b, r, split=False)), (4,), -3, 3, REAL),
    Peer("bijx", "coupling_flow_spline", _bijx(_bijx_spline_flow, moved=0.3), (4,), -0.2, 1.2, REAL),
    Peer("bijx", "coupling_flow_cubic", _bijx(_bijx_cubic_flow, moved=0.2), (4,), -2, 2, REAL),
    Peer(
        "bijx",
        "realnvp_flow",
        _bijx(lambda b, r: b.realnvp_flow(4, n_coupling_layers=3, width=8, rngs=r), moved=0.05),
        (4,),
        -2,
        2,
        REAL,
    ),
    Peer(
        "bijx",
        "realnvp_conv_flow",
        _bijx(lambda b, r: b.realnvp_conv_flow((4, 4, 1), n_coupling_layers=2, hidden_channels=[4], rngs=r), moved=0.2),
        (4, 4, 1),
        -2,
        2,
        REAL,
    ),
)


# ------------------------------------------------------------------------------------------------------------------ TFP


def _tfp(make: Callable[[Any], Any]) -> Callable[[], Bijector]:
    def build():
        from tensorflow_probability.substrates import jax as tfp

        return from_tfp(make(tfp.bijectors))

    return build


def _tfp_spline(t):
    def widths(seed):  # positive, and of sum 6: the spline runs from −3 to 3
        return 6 * jax.nn.softmax(_normal(seed, 2, 5, size=0.7))

    return t.RationalQuadraticSpline(widths(1), widths(2), jnp.exp(_normal(3, 2, 4, size=0.5)), range_min=-3.0)


def _tfp_autoregressive(t):
    weights = jnp.tril(_normal(4, 3, 3), -1)

    def shift_and_log_scale(y):
        hidden = y @ weights.T  # yᵢ enters only what comes after i
        return jnp.sin(hidden), 0.5 * jnp.tanh(2 * hidden)

    return t.MaskedAutoregressiveFlow(shift_and_log_scale)


def _tfp_real_nvp(t, num_masked=1, size=2):
    network = _network(5, abs(num_masked), size - abs(num_masked), 2)

    def shift_and_log_scale(x, units, **condition):
        out = network(x)
        return out[..., 0], out[..., 1]

    return t.RealNVP(num_masked=num_masked, shift_and_log_scale_fn=shift_and_log_scale)


def _tfp_real_nvp_spline(t):
    network = _network(6, 1, 1, 14)

    def spline(x, units, **condition):
        widths, heights, slopes = jnp.split(network(x), [5, 10], axis=-1)
        return t.RationalQuadraticSpline(
            6 * jax.nn.softmax(widths), 6 * jax.nn.softmax(heights), jnp.exp(slopes), range_min=-3.0
        )

    return t.RealNVP(num_masked=1, bijector_fn=spline)


def _tfp_lu(t):
    return t.ScaleMatvecLU(_matrix(6, 3), jnp.array([1, 2, 0]))


def _tfp_operator(t):
    from tensorflow_probability.substrates.jax import tf2jax

    return t.ScaleMatvecLinearOperator(tf2jax.linalg.LinearOperatorFullMatrix(_matrix(7, 2)))


def _tfp_chain(t):
    return t.Chain([t.Tanh(), t.ScaleMatvecTriL(jnp.tril(_matrix(8, 2))), t.Shift(_array(0.1, 0.2))])


TFP = (
    Peer("tfp", "ascending", _tfp(lambda t: t.Ascending()), (3,), -2, 2, REAL),
    Peer("tfp", "blockwise", _tfp(lambda t: t.Blockwise([t.Exp(), t.Tanh()], [1, 1])), (2,), -2, 2, REAL),
    Peer("tfp", "chain", _tfp(_tfp_chain), (2,), -1.2, 1.2, REAL),
    Peer("tfp", "cumsum", _tfp(lambda t: t.Cumsum()), (3,), -3, 3, REAL),
    Peer("tfp", "exp", _tfp(lambda t: t.Exp()), (2,), -3, 3, REAL),
    Peer("tfp", "expm1", _tfp(lambda t: t.Expm1()), (2,), -3, 3, REAL),
    Peer(
        "tfp",
        "frechet_cdf",
        _tfp(lambda t: t.FrechetCDF(_array(-0.3, 0.0), _array(1.5, 0.7), _array(1.2, 0.8))),
        (2,),
        0.4,
        4,
        POSITIVE,
    ),
    Peer(
        "tfp",
        "generalized_pareto",
        _tfp(lambda t: t.GeneralizedPareto(_array(0.5, -1.0), _array(1.2, 0.7), _array(0.4, -0.6))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer(
        "tfp",
        "generalized_extreme_value_cdf",
        _tfp(lambda t: t.GeneralizedExtremeValueCDF(_array(0.2, -0.1), _array(1.5, 1.2), _array(0.3, 0.2))),
        (2,),
        -1.5,
        4,
        (-4.8, INFINITY),
    ),
    Peer(
        "tfp",
        "gompertz_cdf",
        _tfp(lambda t: t.GompertzCDF(_array(0.3, 0.5), _array(0.7, 0.4))),
        (2,),
        0.05,
        3,
        POSITIVE,
    ),
    Peer("tfp", "gumbel_cdf", _tfp(lambda t: t.GumbelCDF(_array(0.2, -0.1), _array(1.5, 0.8))), (2,), -1.2, 4, REAL),
    Peer("tfp", "householder", _tfp(lambda t: t.Householder(_array(0.8, -0.3))), (2,), -3, 3, REAL),
    Peer(
        "tfp",
        "inline",
        _tfp(
            lambda t: t.Inline(
                forward_fn=jnp.sinh,
                inverse_fn=jnp.arcsinh,
                forward_log_det_jacobian_fn=lambda x: jnp.log(jnp.cosh(x)),
                forward_min_event_ndims=0,
            )
        ),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("tfp", "invert", _tfp(lambda t: t.Invert(t.Tanh())), (2,), -0.95, 0.95, (-1.0, 1.0)),
    Peer(
        "tfp",
        "kumaraswamy_cdf",
        _tfp(lambda t: t.KumaraswamyCDF(_array(1.7, 0.6), _array(0.8, 2.2))),
        (2,),
        0.05,
        0.9,
        UNIT,
    ),
    Peer(
        "tfp",
        "lambert_w_tail",
        _tfp(lambda t: t.LambertWTail(_array(0.2, -0.3), _array(1.2, 0.8), _array(0.1, 0.3))),
        (2,),
        -3,
        3,
        REAL,
    ),
    Peer("tfp", "log", _tfp(lambda t: t.Log()), (2,), 0.1, 5, POSITIVE),
    Peer("tfp", "log1p", _tfp(lambda t: t.Log1p()), (2,), -0.9, 5, (-1.0, INFINITY)),
    Peer("tfp", "masked_autoregressive_flow", _tfp(_tfp_autoregressive), (3,), -3, 3, REAL),
    Peer("tfp", "moyal_cdf", _tfp(lambda t: t.MoyalCDF(_array(0.2, -0.1), _array(1.5, 0.8))), (2,), -1.5, 4, REAL),
    Peer("tfp", "normal_cdf", _tfp(lambda t: t.NormalCDF()), (2,), -3, 3, REAL),
    Peer("tfp", "permute", _tfp(lambda t: t.Permute([2, 0, 1])), (3,), -3, 3, REAL),
    Peer("tfp", "power", _tfp(lambda t: t.Power(_array(1.7, 0.4))), (2,), 0.1, 3, POSITIVE),
    Peer("tfp", "power_odd", _tfp(lambda t: t.Power(3.0)), (2,), -3, 3, REAL),
    Peer("tfp", "power_transform", _tfp(lambda t: t.PowerTransform(0.4)), (2,), -2, 3, (-2.5, INFINITY)),
    Peer("tfp", "rational_quadratic_spline", _tfp(_tfp_spline), (2,), -4, 4, REAL),
    Peer("tfp", "rayleigh_cdf", _tfp(lambda t: t.RayleighCDF(_array(1.5, 0.8))), (2,), 0.1, 2.5, POSITIVE),
    Peer("tfp", "real_nvp", _tfp(_tfp_real_nvp), (2,), -3, 3, REAL),
    Peer("tfp", "real_nvp_last_masked", _tfp(lambda t: _tfp_real_nvp(t, num_masked=-1, size=3)), (3,), -3, 3, REAL),
    Peer("tfp", "real_nvp_spline", _tfp(_tfp_real_nvp_spline), (2,), -4, 4, REAL),
    Peer("tfp", "reciprocal", _tfp(lambda t: t.Reciprocal()), (2,), 0.2, 4, POSITIVE),
    Peer("tfp", "reshape", _tfp(lambda t: t.Reshape([4], [2, 2])), (2, 2), -3, 3, REAL),
    Peer("tfp", "scale", _tfp(lambda t: t.Scale(_array(-1.7, 0.4))), (2,), -3, 3, REAL),
    Peer("tfp", "scale_log", _tfp(lambda t: t.Scale(log_scale=_array(0.5, -0.8))), (2,), -3, 3, REAL),
    Peer("tfp", "scale_matvec_diag", _tfp(lambda t: t.ScaleMatvecDiag(_array(-1.4, 0.3))), (2,), -3, 3, REAL),
    Peer("tfp", "scale_matvec_linear_operator", _tfp(_tfp_operator), (2,), -3, 3, REAL),
    Peer("tfp", "scale_matvec_lu", _tfp(_tfp_lu), (3,), -3, 3, REAL),
    Peer("tfp", "scale_matvec_tril", _tfp(lambda t: t.ScaleMatvecTriL(jnp.tril(_matrix(8, 2)))), (2,), -3, 3, REAL),
    Peer("tfp", "shift", _tfp(lambda t: t.Shift(_array(0.7, -1.2))), (2,), -3, 3, REAL),
    Peer(
        "tfp",
        "shifted_gompertz_cdf",
        _tfp(lambda t: t.ShiftedGompertzCDF(_array(0.3, 0.5), _array(0.7, 0.4))),
        (2,),
        0.1,
        4,
        POSITIVE,
    ),
    Peer("tfp", "sigmoid", _tfp(lambda t: t.Sigmoid()), (2,), -5, 5, REAL),
    Peer("tfp", "sigmoid_low_high", _tfp(lambda t: t.Sigmoid(_array(-1.0, 0.5), _array(2.0, 0.8))), (2,), -4, 4, REAL),
    Peer("tfp", "sinh", _tfp(lambda t: t.Sinh()), (2,), -3, 3, REAL),
    Peer("tfp", "sinh_arcsinh", _tfp(lambda t: t.SinhArcsinh(_array(0.5, -0.3), _array(1.5, 0.6))), (2,), -3, 3, REAL),
    Peer("tfp", "soft_clip", _tfp(lambda t: t.SoftClip(_array(-1.0, -2.0), _array(2.0, 1.0), 0.7)), (2,), -3, 3, REAL),
    Peer("tfp", "softfloor", _tfp(lambda t: t.Softfloor(_array(0.8, 0.4))), (2,), -2, 2, REAL),
    Peer("tfp", "softplus", _tfp(lambda t: t.Softplus(_array(1.5, 0.5), low=_array(0.1, -1.0))), (2,), -3, 3, REAL),
    Peer("tfp", "softsign", _tfp(lambda t: t.Softsign()), (2,), -3, 3, REAL),
    Peer("tfp", "softsign_wide", _tfp(lambda t: t.Softsign()), (2,), -2000, 2000, REAL),
    Peer("tfp", "square", _tfp(lambda t: t.Square()), (2,), 0.1, 3, POSITIVE),
    Peer("tfp", "tanh", _tfp(lambda t: t.Tanh()), (2,), -3, 3, REAL),
    Peer("tfp", "transform_diagonal", _tfp(lambda t: t.TransformDiagonal(t.Exp())), (2, 2), -2, 2, REAL),
    Peer("tfp", "transpose", _tfp(lambda t: t.Transpose(perm=[1, 0])), (2, 2), -3, 3, REAL),
    Peer(
        "tfp", "weibull_cdf", _tfp(lambda t: t.WeibullCDF(_array(1.5, 0.8), _array(1.2, 0.7))), (2,), 0.1, 2, POSITIVE
    ),
)

PEERS = DISTRAX + FLOWJAX + BIJX + TFP
