"""How far a deep affine coupling chain in float32 comes back: |x − inverse(forward(x))|, beside distrax and flowjax.

    pip install ".[peers]"
    python -m experiments.kit.inversion [--points 20000] [--layers 64] [--strengths 0.25 0.5 1.0]

One set of random weights a strength, far from initialisation, in all three libraries:

    passed, changed = halves of x, exchanged from layer to layer;   (t, r) = W₂·tanh(W₁·passed + b₁) + b₂
    y = changed·exp(s) + t,    s = tanh(r);    W₂ and b₂ have entries of size strength/√16

The layers are nvpjax's ``Coupling`` with ``PaperAffine``, distrax's ``SplitCoupling`` with ``ScalarAffine``, flowjax's
``Coupling`` with ``Affine``, its network's weights and the form of its scale replaced. ``Repeat`` runs them all
(distrax has no scan, and a ``distrax.Chain`` of 64 compiles for 20 s). That they are one function is measured, in
float64.

The error of a point is the largest over its 8 entries. ‖J⁻¹‖, the largest singular value of the inverse's Jacobian
(float64), is how much an error in y grows on the way back. The last column is the worst error in units of what one
rounding of y explains, ε·‖J⁻¹‖·max|y| of that point: near 1, the map is at fault and not the program.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import tyro

from nvpjax import ActNorm, Additive, Chain, ChannelMask, Coupling, PaperAffine, Repeat, TanhBound
from nvpjax.bijector import Bijector, StatelessBijector
from nvpjax.nets import MLP
from nvpjax.testing.adapters import from_distrax, from_flowjax

HALF, WIDTH = 4, 16
HEAD = (
    "| chain | library | median | 99.9 % | worst | ‖J⁻¹‖ median | ‖J⁻¹‖ of the 100 worst "
    "| worst, of what y's rounding explains |"
)


@dataclass(frozen=True)
class Options:
    points: int = 20_000
    """Points, standard normal."""
    layers: int = 64
    """Couplings, an even number."""
    strengths: tuple[float, ...] = (0.25, 0.5, 1.0)
    """Sizes of what the network gives; the rows that show what helps are of the last."""
    seed: int = 0
    """Seed of weights and points."""


@dataclass(frozen=True)
class Built(StatelessBijector):
    """A bijector of another library, built from its params whenever it is called, so that ``Repeat`` can run it."""

    build: Callable[[dict], Bijector]

    def forward_and_log_det(self, params, x, context):
        return self.build(params).forward_and_log_det((), x, context)

    def inverse_and_log_det(self, params, y, context):
        return self.build(params).inverse_and_log_det((), y, context)


def distrax_pair(pair):
    import distrax

    def coupling(k, W1, b1, W2, b2):
        return distrax.SplitCoupling(
            HALF, 1, lambda h: jnp.tanh(h @ W1[k] + b1[k]) @ W2[k] + b2[k], affine, swap=k == 1
        )

    def affine(theta):
        return distrax.ScalarAffine(shift=theta[..., :HALF], log_scale=jnp.tanh(theta[..., HALF:]))

    return from_distrax(distrax.Chain([coupling(1, *pair), coupling(0, *pair)]))  # it applies the last one first


def flowjax_pair(pair):
    import equinox
    import paramax
    from flowjax.bijections import Affine, Chain, Coupling, Permute

    scale = paramax.Parameterize(lambda r: jnp.exp(jnp.tanh(r)), jnp.zeros(()))
    affine = equinox.tree_at(lambda affine: affine.scale, Affine(), scale)
    rows = np.arange(2 * HALF).reshape(2, HALF).T.ravel()  # its network gives t₁ r₁ t₂ r₂ …, ours t₁ t₂ … r₁ r₂ …
    sizes = {"untransformed_dim": HALF, "dim": 2 * HALF, "nn_width": WIDTH, "nn_depth": 1, "nn_activation": jnp.tanh}

    def coupling(k, W1, b1, W2, b2):
        new = [W1[k].T, b1[k], W2[k].T[rows], b2[k][rows]]
        coupling = Coupling(jax.random.key(0), transformer=affine, **sizes)
        return equinox.tree_at(lambda c: [a for d in c.conditioner.layers for a in (d.weight, d.bias)], coupling, new)

    swap = Permute(jnp.roll(jnp.arange(2 * HALF), HALF))
    return from_flowjax(Chain([coupling(0, *pair), swap, coupling(1, *pair), swap]))


def nvpjax_chain(weights, x, transform=PaperAffine(), normalized=False):  # noqa: B008
    """Give the chain, its params and its state; ``ActNorm`` is measured on x, layer by layer."""
    outputs = HALF * transform.parameters_per_element  # (t, r); an additive coupling takes the first half
    network = MLP(hidden=(WIDTH,), activation=jnp.tanh)
    couplings = [Coupling(ChannelMask(passes), transform, network) for passes in ("first", "second")]
    layers = [bijector for coupling in couplings for bijector in (coupling, *[ActNorm()] * normalized)]

    def start(x, pair):
        params = []
        for place, bijector in enumerate(layers):
            W1, b1, W2, b2 = (array[place // (1 + normalized)] for array in pair)
            dense = {"kernel": W1, "bias": b1}, {"kernel": W2[:, :outputs], "bias": b2[:outputs]}
            of_network = {f"Dense_{k}": dense[k] for k in (0, 1)}
            actnorm = isinstance(bijector, ActNorm)
            mine = {"transform": transform.init(jax.random.key(0)), "conditioner": of_network}
            params.append(bijector.init(jax.random.key(0), x)[0] if actnorm else mine)
            x = bijector.forward(params[-1], {}, x)[0]
        return x, tuple(params)

    return Repeat(Chain(layers), len(weights[0])), jax.lax.scan(start, x, weights)[1], ({},) * len(layers)


def foreign(pair):
    return lambda weights, x: (Repeat(Built(pair), len(weights[0])), weights, ())


def draw(options: Options, strength: float):
    """Weights, pair by pair on axis 0, and points; exact in float32."""
    generator = np.random.default_rng(options.seed)
    sizes = {(HALF, WIDTH): HALF**-0.5, (WIDTH,): HALF**-0.5, (WIDTH, 2 * HALF): strength * WIDTH**-0.5}
    shapes = [*sizes, (2 * HALF,)]
    weights = [
        np.float32(sizes.get(shape, strength * WIDTH**-0.5) * generator.normal(size=(options.layers // 2, 2, *shape)))
        for shape in shapes
    ]
    return weights, np.float32(generator.normal(size=(options.points, 2 * HALF)))


@partial(jax.jit, static_argnums=(0, 1))
def apply(bijector, direction, params, state, x):
    if direction == "jacobian":
        return jax.vmap(jax.jacfwd(lambda row: bijector.inverse(params, state, row[None])[0][0]))(x)
    return getattr(bijector, direction)(params, state, x)[0]


def in_dtype(dtype, function, *arguments):
    with jax.enable_x64(dtype == "float64"):
        arguments = jax.tree.map(lambda a: jnp.asarray(a, dtype), arguments)
        return jax.tree.map(np.asarray, function(*arguments))


def row(name: str, library: str, build, weights, x, dtype: str = "float32") -> np.ndarray:
    """Print a row of the table; give what forward gives in float64."""
    bijector, params, state = build(weights, x)
    forward, inverse = partial(apply, bijector, "forward"), partial(apply, bijector, "inverse")
    y = in_dtype(dtype, forward, params, state, x)
    error = np.abs(in_dtype(dtype, inverse, params, state, y).astype(np.float64) - x).max(axis=1)
    exact = in_dtype("float64", forward, params, state, x)
    some = exact[np.argsort(error)[-100:]], exact[:400]  # the worst points, and others
    norms = [
        np.linalg.norm(in_dtype("float64", partial(apply, bijector, "jacobian"), params, state, part), 2, axis=(1, 2))
        for part in some
    ]
    explained = float(np.finfo(dtype).eps) * norms[0][-1] * np.abs(some[0][-1]).max()
    numbers = (np.median(error), np.quantile(error, 0.999), error.max(), np.median(norms[1]), norms[0].max())
    print(
        f"| {name} | {library} | {' | '.join(f'{n:.1e}' for n in numbers)} | {error.max() / explained:.1f} |",
        flush=True,
    )
    return exact


def main(options: Options) -> None:
    print(f"{HEAD}\n|{'---|' * 8}")
    libraries = {"nvpjax": nvpjax_chain, "distrax": foreign(distrax_pair), "flowjax": foreign(flowjax_pair)}
    libraries = {name: build for name, build in libraries.items() if importlib.util.find_spec(name)}
    difference = 0.0
    for strength in options.strengths:
        weights, x = draw(options, strength)
        name = f"{options.layers} layers, strength {strength:g}"
        exact = [row(name, library, build, weights, x) for library, build in libraries.items()]
        difference = max(difference, *(np.abs(y / exact[0] - 1).max() for y in exact))
    fewer = [array[: max(1, options.layers // 8)] for array in weights]
    help_with = {
        "the same in float64": (nvpjax_chain, weights, "float64"),
        f"{2 * len(fewer[0])} layers": (nvpjax_chain, fewer, "float32"),
        "additive couplings": (partial(nvpjax_chain, transform=Additive()), weights, "float32"),
        "scale bounded by TanhBound(0.2)": (
            partial(nvpjax_chain, transform=PaperAffine(TanhBound(0.2))),
            weights,
            "float32",
        ),
        "actnorm after each layer": (partial(nvpjax_chain, normalized=True), weights, "float32"),
    }
    for name, (build, of, dtype) in help_with.items():
        row(f"strength {strength:g}, {name}", "nvpjax", build, of, x, dtype)
    print(
        f"\n{options.points:,} points a row; in float64 the chains of {', '.join(libraries)} are one function to "
        f"{difference:.0e} (relative)."
    )


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
