"""Bijectors with one fault each, and what each fault is: the kit must catch every one.

Each is a small correct bijector with one thing wrong, of the kinds that are found in real flows. ``MUTANTS`` is all of
them, ``CLASSES`` by the class of the fault; ``python -m experiments.kit.mutants`` runs the kit over them and writes
which check caught which.
"""

from __future__ import annotations

from experiments.kit.faults_contract import DTYPES, TRANSFORMED, VALUES
from experiments.kit.faults_modes import BATCHES, CONTEXTS, INIT_INVERSE, STATES, TRAINING
from experiments.kit.faults_numbers import INVERSES, LOG_DETS
from experiments.kit.faults_parts import COUPLING, Mutant
from experiments.kit.faults_places import FAR_OUT, FAR_PARAMETERS, FORMS

__all__ = ["CLASSES", "COUPLING", "MUTANTS", "Mutant"]

CLASSES: dict[str, tuple[Mutant, ...]] = {
    "log-dets": LOG_DETS,
    "inverses": INVERSES,
    "training mode": TRAINING,
    "context": CONTEXTS,
    "rows and batches": BATCHES,
    "init_inverse": INIT_INVERSE,
    "changes of form": FORMS,
    "parameters far away": FAR_PARAMETERS,
    "far out": FAR_OUT,
    "dtypes": DTYPES,
    "state": STATES,
    "values and purity": VALUES,
    "gradients and transformations": TRANSFORMED,
}
MUTANTS: tuple[Mutant, ...] = tuple(mutant for mutants in CLASSES.values() for mutant in mutants)
