"""The kit on the bijectors of distrax, flowjax, bijx and TFP, as they are installed: a Markdown table.

    pip install ".[peers]"
    python -m experiments.kit.peers [--library distrax flowjax bijx tfp] [--cases 5]

What a library calls a bijector passes through a thin adapter, in float32 and float64, without changes. A failure is a
place to look, not a verdict: ``docs/peers.md`` says for each what was found, with a reproduction without the kit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import jax
import numpy as np
import tyro

from experiments.kit.peers_zoo import PEERS, Peer
from nvpjax.testing import CHECKS, examine_bijector

CHECKED = tuple(check for check in CHECKS if check != "value")
"""All checks but that of equality: foreign bijectors hold arrays, and do not claim to be values."""


LAYERS = 8
"""As many elementary bijectors as the deepest of the table is made of: generous to all others."""


@dataclass(frozen=True)
class Options:
    library: tuple[str, ...] = ("distrax", "flowjax", "bijx", "tfp")
    """Which libraries."""
    cases: int = 5
    """Points drawn beside the example, for each check."""


def examine(peer: Peer, cases: int) -> list[tuple[str, str]]:
    """What failed: (check, detail)."""
    example = np.random.default_rng(0).uniform(peer.low, peer.high, (4, *peer.event)).astype(np.float32)
    try:
        bijector = peer.build()
        with jax.enable_x64(True):  # what it holds is made in float64, and so is the reference
            in_float64 = peer.build()
        report = examine_bijector(
            bijector,
            example,
            dtypes=("float32", "float64"),
            domain=peer.domain,
            checks=CHECKED,
            cases=cases,
            in_float64=in_float64,
            layers=LAYERS,
        )
    except Exception as error:  # one that cannot even be built is a line of the table
        return [("build", f"{type(error).__name__}: {str(error).splitlines()[0]}")]
    return [(failure.check, failure.detail) for failure in report.failures]


def main(options: Options) -> None:
    jax.config.update("jax_num_cpu_devices", 2)
    started, lines = time.perf_counter(), []
    for library in options.library:
        peers = [peer for peer in PEERS if peer.library == library]
        whole = 0
        print(f"\n### {library}\n\n| bijector | failed | first detail |\n|---|---|---|", flush=True)
        for peer in peers:
            failed = examine(peer, options.cases)
            jax.clear_caches()  # the compiled programs of them all would fill gigabytes
            whole += not failed
            if failed:
                detail = failed[0][1].replace("|", "¦").replace("\n", " ")[:160]
                print(f"| {peer.name} | {', '.join(check for check, _ in failed)} | {detail} |", flush=True)
        lines.append(f"{library}: {whole} of {len(peers)} pass all {len(CHECKED)} checks")
    print(f"\n{'; '.join(lines)}. {time.perf_counter() - started:.0f} s.")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
