"""The kit catches every fault of its table, by the check that is made for it; what is whole passes."""

import numpy as np
import pytest

from experiments.kit.faults import COUPLING, MUTANTS
from nvpjax import BatchNorm
from nvpjax.testing import CHECKS, examine_bijector


def examine(bijector, event=(2,), **options):
    example = np.random.default_rng(0).uniform(-2, 2, (4, *event))
    return examine_bijector(bijector, example, **options)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_mutant_is_caught_by_the_check_that_is_made_for_it(mutant):
    report = examine(mutant.bijector, mutant.event, **{"checks": (mutant.check,), **mutant.options})
    assert [result.check for result in report.failures] == [mutant.check]


@pytest.mark.parametrize("bijector", [COUPLING, BatchNorm()], ids=["coupling", "batch-norm"])
def test_what_the_mutants_are_made_of_passes(bijector):
    assert examine(bijector).failures == ()


def test_every_check_but_those_of_compilation_has_a_fault_made_for_it():
    assert set(CHECKS) - {mutant.check for mutant in MUTANTS} == {"vmap"}


def test_failure_names_the_check_the_smallest_example_and_the_seed():
    nan_at_zero = next(mutant for mutant in MUTANTS if mutant.fault == "NaN at one input")
    (failure,) = examine(nan_at_zero.bijector, checks=("round trip",), seed=3, dtypes=("float32",)).failures
    assert "parameters of seed 0" in failure.detail and "x = [[0. 0.]" in failure.detail


def test_unknown_checks_are_refused():
    with pytest.raises(ValueError, match="expected checks among"):
        examine(COUPLING, checks=("speed",))


@pytest.mark.parametrize("example", [np.float32(1), np.zeros((0, 2)), (np.zeros((2, 1)), np.zeros((3, 1)))])
def test_examples_without_a_batch_are_refused(example):
    with pytest.raises(ValueError, match=r"expected an example of arrays \(batch, \*event\)"):
        examine_bijector(COUPLING, example)
