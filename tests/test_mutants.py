"""The kit catches every fault of its table, by the check that is made for it; what is whole passes."""

from dataclasses import dataclass

import numpy as np
import pytest

from experiments.kit.faults import COUPLING, MUTANTS
from nvpjax import BatchNorm
from nvpjax.bijector import StatelessBijector, zero_log_det
from nvpjax.testing import CHECKS, examine_bijector


def examine(bijector, event=(2,), **options):
    example = np.random.default_rng(0).uniform(-2, 2, (4, *event))
    return examine_bijector(bijector, example, **options)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.fault)
def test_mutant_is_caught_by_the_check_that_is_made_for_it(mutant):
    report = examine_bijector(**{"checks": (mutant.check,), **mutant.examined_with()})
    assert [result.check for result in report.failures] == [mutant.check]


def test_the_faults_are_sixty_and_more_and_the_eleven_that_slipped_are_among_them():
    assert len({mutant.fault for mutant in MUTANTS}) == len(MUTANTS) >= 60
    assert sum(mutant.slipped for mutant in MUTANTS) == 11


@pytest.mark.parametrize("bijector", [COUPLING, BatchNorm()], ids=["coupling", "batch-norm"])
def test_what_the_mutants_are_made_of_passes(bijector):
    assert examine(bijector).failures == ()


def test_every_check_has_a_fault_made_for_it():
    assert set(CHECKS) == {mutant.check for mutant in MUTANTS}


def test_failure_names_the_check_the_smallest_example_and_the_seed():
    nan_at_zero = next(mutant for mutant in MUTANTS if mutant.fault == "NaN at one input")
    (failure,) = examine(nan_at_zero.bijector, checks=("round trip",), seed=3, dtypes=("float32",)).failures
    assert "parameters of seed 0" in failure.detail and "x = [[0. 0.]" in failure.detail


@dataclass(frozen=True)
class Raising(StatelessBijector):
    """Raises in one of its methods, or when it is printed."""

    where: str
    error: type[Exception] = RuntimeError

    def init_params(self, key, x, context=None):
        self._perhaps_raise("init")
        return ()

    def forward_and_log_det(self, params, x, context):
        self._perhaps_raise("forward")
        return x, zero_log_det(x)

    def inverse_and_log_det(self, params, y, context):
        self._perhaps_raise("inverse")
        return y, zero_log_det(y)

    def __repr__(self):
        self._perhaps_raise("repr")
        return "Raising"

    def _perhaps_raise(self, here):
        if here == self.where:
            raise self.error("no such thing" if here != "repr" else "")


@pytest.mark.parametrize("where", ["init", "forward", "inverse", "repr"])
@pytest.mark.parametrize("error", [RuntimeError, AssertionError, ValueError], ids=lambda error: error.__name__)
def test_a_bijector_that_raises_fails_the_checks_that_call_it_and_ends_none(where, error):
    report = examine(Raising(where, error), dtypes=("float32",), cases=2)
    failed = {failure.check: failure.detail for failure in report.failures}
    assert [result.check for result in report.results] == list(CHECKS) and failed
    assert all(detail for detail in failed.values())
    if where == "repr":
        assert set(failed) == {"value"} and "Raising" in report.bijector
    else:
        assert "no such thing" in failed["round trip"]


def test_calls_that_are_refused_are_failures_with_their_words():
    column = next(mutant for mutant in MUTANTS if "where y has another" in mutant.fault)
    failed = {failure.check: failure.detail for failure in examine(column.bijector, dtypes=("float32",)).failures}
    assert failed["round trip"].startswith("ValueError: ScaledColumn: expected params")


def test_unknown_checks_are_refused():
    with pytest.raises(ValueError, match="expected checks among"):
        examine(COUPLING, checks=("speed",))


@pytest.mark.parametrize("example", [np.float32(1), np.zeros((0, 2)), (np.zeros((2, 1)), np.zeros((3, 1)))])
def test_examples_without_a_batch_are_refused(example):
    with pytest.raises(ValueError, match=r"expected an example of arrays \(batch, \*event\)"):
        examine_bijector(COUPLING, example)
