"""Log-derivatives far out, in float32: nvpjax beside distrax, flowjax, bijx and TFP, against sixty decimal digits.

    pip install ".[peers]"
    python -m experiments.kit.far_ends

Every entry is forward's log_det of one number. Bold is what is not finite, or off by more than 1e-5 of the truth.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from decimal import Decimal, getcontext
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

import nvpjax
from nvpjax.testing.adapters import from_bijx, from_distrax, from_flowjax, from_tfp

getcontext().prec = 60
ONE, TWO = Decimal(1), Decimal(2)
EVERYWHERE = (-1e4, -90.0, -17.0, -8.0, 8.0, 17.0, 90.0, 1e4)
INSIDE = (-1 + 2**-20, -0.999, 0.999, 1 - 2**-20)
UNIT = (1e-30, 1e-6, 1 - 2**-20)
LIBRARIES = ("nvpjax", "distrax", "flowjax", "bijx", "tfp")


class Map(NamedTuple):
    """A map, its log-derivative in decimal numbers, where it is looked at, and how each library calls it."""

    name: str
    truth: Callable[[Decimal], Decimal]
    places: tuple[float, ...]
    builders: dict[str, Callable[[], nvpjax.Bijector]]


def log_cosh(x: Decimal) -> Decimal:
    return ((x.exp() + (-x).exp()) / TWO).ln()


def maps() -> list[Map]:
    # Each library is imported where it is installed, and only then looked up by the names in the table.
    found = {name: importlib.util.find_spec(name) is not None for name in ("distrax", "flowjax", "bijx")}
    if found["distrax"]:
        import distrax
        from tensorflow_probability.substrates.jax import bijectors as tfb
    if found["flowjax"]:
        from flowjax import bijections
    if found["bijx"]:
        import bijx

    def table(ours, **theirs):
        installed = {"tfp": found["distrax"], **found}
        return {"nvpjax": lambda: ours, **{name: build for name, build in theirs.items() if installed[name]}}

    def sigmoid_log_derivative(x):
        return -(ONE + x.exp()).ln() - (ONE + (-x).exp()).ln()

    return [
        Map(
            "softplus",
            lambda x: -(ONE + (-x).exp()).ln(),
            EVERYWHERE,
            table(
                nvpjax.Softplus(),
                flowjax=lambda: from_flowjax(bijections.SoftPlus()),
                bijx=lambda: from_bijx(bijx.SoftPlus()),
                tfp=lambda: from_tfp(tfb.Softplus()),
            ),
        ),
        Map(
            "sigmoid",
            sigmoid_log_derivative,
            EVERYWHERE,
            table(
                nvpjax.Sigmoid(),
                distrax=lambda: from_distrax(distrax.Sigmoid()),
                flowjax=lambda: from_flowjax(bijections.Sigmoid()),
                bijx=lambda: from_bijx(bijx.Sigmoid()),
                tfp=lambda: from_tfp(tfb.Sigmoid()),
            ),
        ),
        Map(
            "tanh",
            lambda x: -TWO * log_cosh(x),
            EVERYWHERE,
            table(
                nvpjax.Tanh(),
                distrax=lambda: from_distrax(distrax.Tanh()),
                flowjax=lambda: from_flowjax(bijections.Tanh()),
                bijx=lambda: from_bijx(bijx.Tanh()),
                tfp=lambda: from_tfp(tfb.Tanh()),
            ),
        ),
        Map(
            "exp",
            lambda x: x,
            EVERYWHERE,
            table(
                nvpjax.Exp(),
                flowjax=lambda: from_flowjax(bijections.Exp()),
                bijx=lambda: from_bijx(bijx.Exponential()),
                tfp=lambda: from_tfp(tfb.Exp()),
            ),
        ),
        Map(
            "sinh",
            log_cosh,
            EVERYWHERE,
            table(
                nvpjax.Sinh(),
                distrax=lambda: from_distrax(distrax.Lambda(jnp.sinh, jnp.arcsinh)),
                bijx=lambda: from_bijx(bijx.Sinh()),
                tfp=lambda: from_tfp(tfb.Sinh()),
            ),
        ),
        Map(
            "arcsinh",
            lambda x: -(ONE + x * x).ln() / TWO,
            EVERYWHERE,
            table(
                nvpjax.Arcsinh(),
                bijx=lambda: from_bijx(bijx.Sinh().invert()),
                tfp=lambda: from_tfp(tfb.Invert(tfb.Sinh())),
            ),
        ),
        Map(
            "normal CDF",
            lambda x: -(x * x + (TWO * Decimal("3.14159265358979323846264338327950288419716939937510582")).ln()) / TWO,
            EVERYWHERE,
            table(
                nvpjax.NormalCDF(),
                bijx=lambda: from_bijx(bijx.GaussianCDF(jnp.log(jnp.expm1(1.0)), jnp.zeros(()))),
                tfp=lambda: from_tfp(tfb.NormalCDF()),
            ),
        ),
        Map(
            "leaky relu, slope 0.1",
            lambda x: Decimal(float(np.float32(0.1))).ln() if x < 0 else Decimal(0),
            EVERYWHERE,
            table(nvpjax.LeakyReLU(0.1)),
        ),
        Map(
            "artanh",
            lambda x: -(ONE - x * x).ln(),
            INSIDE,
            table(
                nvpjax.Arctanh(),
                distrax=lambda: from_distrax(distrax.Inverse(distrax.Tanh())),
                flowjax=lambda: from_flowjax(bijections.Invert(bijections.Tanh())),
                bijx=lambda: from_bijx(bijx.Tanh().invert()),
                tfp=lambda: from_tfp(tfb.Invert(tfb.Tanh())),
            ),
        ),
        Map(
            "logit",
            lambda x: -(x.ln() + (ONE - x).ln()),
            UNIT,
            table(
                nvpjax.Logit(0.0),
                distrax=lambda: from_distrax(distrax.Inverse(distrax.Sigmoid())),
                flowjax=lambda: from_flowjax(bijections.Invert(bijections.Sigmoid())),
                bijx=lambda: from_bijx(bijx.Sigmoid().invert()),
                tfp=lambda: from_tfp(tfb.Invert(tfb.Sigmoid())),
            ),
        ),
    ]


def main() -> None:
    print(f"| map | x | truth | {' | '.join(LIBRARIES)} |\n|{'---|' * (3 + len(LIBRARIES))}")
    right, asked = dict.fromkeys(LIBRARIES, 0), dict.fromkeys(LIBRARIES, 0)
    for name, truth, places, builders in maps():
        for place in places:
            x = np.float32(place)
            true = float(truth(Decimal(float(x))))
            cells = []
            for library in LIBRARIES:
                if library not in builders:
                    cells.append("")
                    continue
                given = float(builders[library]().forward((), (), jnp.full((1,), x))[1][0])
                good = np.isfinite(given) and abs(given - true) <= 1e-5 * max(abs(true), 1e-30)
                right[library], asked[library] = right[library] + good, asked[library] + 1
                cells.append(f"{given:.6g}" if good else f"**{given:.6g}**")
            print(f"| {name} | {x:.7g} | {true:.6g} | {' | '.join(cells)} |", flush=True)
    counts = ", ".join(f"{library} {right[library]} of {asked[library]}" for library in LIBRARIES if asked[library])
    print(f"\nRight: {counts}.")


if __name__ == "__main__":
    main()
