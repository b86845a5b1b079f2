"""Which check of ``nvpjax.testing`` catches which fault: a Markdown table, and an error if one goes through.

python -m experiments.kit.mutants
"""

from __future__ import annotations

import sys

import jax
import numpy as np

from experiments.kit.faults import MUTANTS, Mutant
from nvpjax.testing import CHECKS, examine_bijector


def examine(mutant: Mutant):
    example = np.random.default_rng(0).uniform(-2, 2, (4, *mutant.event))
    return examine_bijector(mutant.bijector, example, **{"cases": 10, **mutant.options})


def main() -> int:
    jax.config.update("jax_num_cpu_devices", 2)
    missed, caught_by = [], dict.fromkeys(CHECKS, 0)
    print("| fault | caught by |\n|---|---|")
    for mutant in MUTANTS:
        failed = [result.check for result in examine(mutant).failures]
        failed.sort(key=lambda check: check != mutant.check)  # the one that is made for it first
        for check in failed:
            caught_by[check] += 1
        missed += [] if failed else [mutant.fault]
        print(f"| {mutant.fault} | {', '.join(failed) or '**nothing**'} |", flush=True)
    print("\n| check | faults caught |\n|---|---|")
    for check, number in caught_by.items():
        print(f"| {check} | {number} |")
    print(f"\n{len(MUTANTS) - len(missed)} of {len(MUTANTS)} faults caught.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
