"""Which check of ``nvpjax.testing`` catches which fault: Markdown tables by class, and an error if one goes through.

python -m experiments.kit.mutants
"""

from __future__ import annotations

import sys

import jax

from experiments.kit.faults import CLASSES, Mutant
from nvpjax.testing import CHECKS, examine_bijector


def caught_by(mutant: Mutant) -> list[str]:
    """The checks that failed, the one that is made for it first."""
    failed = [result.check for result in examine_bijector(**mutant.examined_with()).failures]
    return sorted(failed, key=lambda check: check != mutant.check)


def main() -> int:
    jax.config.update("jax_num_cpu_devices", 2)
    caught, missed = dict.fromkeys(CHECKS, 0), []
    totals = ["| class | faults | caught | by the check made for it |\n|---|---|---|---|"]
    print("| class | fault | caught by |\n|---|---|---|")
    for kind, mutants in CLASSES.items():
        found = [(mutant, caught_by(mutant)) for mutant in mutants]
        for mutant, failed in found:
            fault = mutant.fault.replace("|", "\\|")
            name = f"*{fault}*" if mutant.slipped else fault
            print(f"| {kind} | {name} | {', '.join(failed) or '**nothing**'} |", flush=True)
            for check in failed:
                caught[check] += 1
        missed += [mutant.fault for mutant, failed in found if not failed]
        as_meant = sum(mutant.check in failed for mutant, failed in found)
        totals.append(f"| {kind} | {len(found)} | {sum(bool(failed) for _, failed in found)} | {as_meant} |")
        jax.clear_caches()
    print("\n" + "\n".join(totals))
    print("\n| check | faults caught |\n|---|---|")
    for check, number in caught.items():
        print(f"| {check} | {number} |")
    number = sum(map(len, CLASSES.values()))
    print(f"\n{number - len(missed)} of {number} faults caught. In italics: those that slipped through earlier checks.")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
