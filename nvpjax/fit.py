"""From arrays in memory to a density, in one call: the steps of ``training`` in a loop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from importlib.util import find_spec
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from nvpjax.bijector import PyTree
from nvpjax.checked import expect_batch, expect_key
from nvpjax.convolves import is_slow_in_a_loop
from nvpjax.flow import Density, Flow
from nvpjax.objectives import Batch, Likelihood, Objective
from nvpjax.places import is_measured
from nvpjax.training import create_train_state, make_eval_step, make_measure_step, make_train_step

LEARNING_RATE = 2e-3
MEASURED = 30
"""Batches that the moments of batch normalisation are measured on anew before each evaluation."""
LEAST_STEPS = 25
"""Between evaluations, however few rows there are."""
STEPS_WITHOUT_DATA = 100
"""Between evaluations, where there are no rows."""
DRAWN = 40
"""Batches of draws to evaluate on, where there are no rows: the best of few would be the best for these few."""
WARMUP = 100
"""Steps over which Adam's rate rises."""
CLIP = 10.0
"""The largest norm of a gradient that Adam sees."""
MOST_SKIPPED = 10
"""Steps in a row that may be skipped because they were not finite."""


class History(NamedTuple):
    """How a fit went, one entry an evaluation: what people plot."""

    steps: np.ndarray
    """Steps before each evaluation."""
    training: np.ndarray
    """Nats an example of the training batches since the evaluation before, those that are not finite left out."""
    validation: np.ndarray
    """Nats an example of the rows held out; NaN without any."""
    best: int
    """The step whose parameters were given back."""
    skipped: int
    """Steps whose loss or gradients were not finite: they changed nothing."""


class Fitted(NamedTuple):
    """What ``fit`` gives: a density with its numbers, and how it came about."""

    density: Density
    history: History


def fit(
    key: jax.Array,
    flow: Flow | Objective,
    x: PyTree = None,
    context: PyTree = None,
    *,
    steps: int = 5000,
    batch_size: int = 64,
    learning_rate: float = LEARNING_RATE,
    validation: float = 0.1,
    evaluate_every: int | None = None,
    patience: int | None = 10,
    optimizer: optax.GradientTransformation | None = None,
    average_decay: float | None = None,
    progress: bool = True,
) -> Fitted:
    """Fit a flow to data in memory: ``density, history = fit(key, flow, x)``.

        minimise   mean over training rows of −log p(x | context), or of another objective's nats
        give back  the parameters with the fewest mean nats on rows held out

    Shuffled mini-batches; a share of the rows held out at random; Adam with clipped gradients, its rate rising over the
    first steps and falling along a cosine over ``steps``; an end where ``patience`` evaluations bring nothing better.
    Moments of batch normalisation are measured anew before each evaluation (``training.make_measure_step``), and a
    step whose loss or gradient is not finite is skipped and counted. Equal keys give equal results on one machine. The
    steps of an evaluation's round are one compiled loop, but for models that convolve on a CPU, where loops are slow.
    Another fit of an equal flow, with equal options and as many rows, compiles nothing: seeds and ensembles are cheap.

    Bring data, and a context, to about unit scale first: nothing is standardised, so that log p is that of the x you
    gave. A context of thousands makes networks sure of what they have not seen, and nothing says so.

    Args:
        key: for initialisation, the rows held out, the order of rows, and noise.
        flow: a ``Flow``, which is fitted by maximum likelihood, or any ``Objective``.
        x: for a flow, data ``(rows, *event)`` of a floating dtype, or a tree of such arrays. For an objective, the dict
            of arrays that its batches are made of (``{"image": …, "label": …}``), or None where it needs no data
            (``ReverseKL``). numpy or jax arrays; float64 becomes float32 unless jax's x64 is on.
        context: ``(rows, …)``, what the density of each row is conditional on; for an objective it belongs into x.
        steps: at most, and the length of the learning rate's cosine.
        batch_size: rows a step, or all where there are fewer; without data, draws a step.
        learning_rate: the highest of Adam's.
        validation: the share of rows that is held out. With 0 all steps are done, and the last parameters given back.
            Without data it is 40 batches of draws that training does not see.
        evaluate_every: steps between evaluations, about; by default one pass over the rows, and at least 25; without
            data 100.
        patience: evaluations in a row without a better one that end the fit; None: all steps are done.
        optimizer: in place of the one described.
        average_decay: keep averages of the parameters by this decay (0.999, say), evaluate and give back these.
        progress: show a bar in a terminal where ``rich`` is installed, in a notebook where ``ipywidgets`` is too.

    Result: ``density``, a ``Density`` with ``log_prob`` and ``sample``; ``history``, in nats an example. Of objectives
    that learn more than a flow (``LearnedDequantization``), the flow's part alone is given back: train those with the
    steps of ``training``.

    Errors: TypeError for whole numbers in a flow's x, or what is no flow or objective; ValueError for numbers that are
    not finite, or of which the flow has no density (the row is named), arrays of different numbers of rows, too few
    rows to hold any out, options out of range; FloatingPointError after more than 10 skipped steps in a row, or where
    no evaluation was finite.

    Reference: Prechelt, *Early stopping, but when?*, 1998, sec. 2 (by patience); Kingma, Ba, *Adam*, 2015.

    >>> import jax
    >>> from nvpjax import Flow, Triangular, fit
    >>> x = 3 + 2 * jax.random.normal(jax.random.key(0), (1000, 2))
    >>> density, history = fit(jax.random.key(1), Flow(Triangular()), x, learning_rate=0.05, steps=500)
    >>> density.sample(jax.random.key(2), 5).shape, density.log_prob(x).shape
    ((5, 2), (1000,))
    >>> bool(abs(history.validation.min() - 4.2) < 0.3)  # the entropy: log 2πe + log 4
    True
    """
    expect_key("fit", key)
    _check_options(steps, batch_size, validation, evaluate_every, patience)
    _check_rates(learning_rate, average_decay)
    if optimizer is not None and learning_rate != LEARNING_RATE:
        raise ValueError("fit: expected learning_rate or optimizer, got both: an optimizer has a rate of its own.")
    objective, data, number = _objective_and_data(flow, x, context)
    init_key, rows_key, noise_key, measure_key, evaluation_key = jax.random.split(key, 5)
    rng = np.random.default_rng(np.asarray(jax.random.bits(rows_key, (4,))))
    if number is None:  # rows are draws
        rows, held_out = np.arange(batch_size), np.arange(DRAWN * batch_size if validation else 0)
        evaluate_every = evaluate_every or STEPS_WITHOUT_DATA
    else:
        rows, held_out = _divided(rng, number, validation)
        evaluate_every = evaluate_every or max(LEAST_STEPS, len(rows) // batch_size)
    batch_size = min(batch_size, len(rows))
    batches = _shuffled(rng, rows, batch_size)
    rounds = _rounds(steps, evaluate_every)

    programs = _programs_of(objective, optimizer or _Adam(learning_rate, steps), average_decay)
    first = _batch(data, next(batches))
    train_state = programs.start(init_key, first)
    train, measure, evaluate = programs.loops(train_state, rows[:batch_size], noise_key, data)
    measures = is_measured(train_state.state)

    def nats_of(variables, chosen):
        padded = np.resize(chosen, (-(-len(chosen) // batch_size), batch_size))
        _, nats = evaluate(variables, padded, evaluation_key, data)
        return np.asarray(nats, np.float64).ravel()[: len(chosen)]

    history, best, fewest, waited = [], None, math.inf, 0
    unseen = None if number is None else np.arange(number)  # rows to look at where something is not finite
    with _bar(len(rounds), progress) as tell:
        for steps_of_round in rounds:
            train_state, metrics = train(train_state, _stacked(batches, steps_of_round), noise_key, data)
            step, nats = int(train_state.step), np.asarray(metrics["nats"], np.float64)
            if unseen is not None and not np.all(np.isfinite(nats)):
                _check_rows(nats_of(programs.start(init_key, first).evaluated, unseen))
                unseen = None
            _check_skipped(metrics["skipped_in_a_row"], step, of_draws=number is None)
            if measures:
                params, state = train_state.evaluated
                keys = jax.random.split(jax.random.fold_in(measure_key, step), MEASURED)
                state, _ = measure(state, (keys, _stacked(batches, MEASURED)), params, data)
                train_state = train_state.with_measured(state, of_averages=average_decay is not None)
            if len(held_out):
                now = float(np.mean(nats_of(train_state.evaluated, held_out)))
                if unseen is not None and not math.isfinite(now):
                    _check_rows(nats_of(programs.start(init_key, first).evaluated, unseen))
                    unseen = None
            else:
                now = math.nan
            finite = nats[np.isfinite(nats)]
            history.append((step, np.mean(finite) if len(finite) else math.nan, now))
            tell(history[-1])
            if now < fewest or not len(held_out):
                best, fewest, waited = (step, train_state.evaluated), now, 0
            else:
                waited += 1
                if patience is not None and waited >= patience:
                    break
    if best is None:
        raise FloatingPointError(
            f"fit: expected finite nats on the rows held out, got none in {len(history)} evaluations. Look for "
            "rows far from all others, bring the data to about unit scale, or lower the learning rate."
        )
    taken, of_training, of_held_out = map(np.array, zip(*history))
    params, state = best[1]
    density = objective.flow.at(objective.flow_params(params), objective.flow_state(state))
    return Fitted(density, History(taken, of_training, of_held_out, best[0], int(train_state.skipped)))


def _objective_and_data(flow, x, context) -> tuple[Objective, Batch, int | None]:
    """The objective, a batch of all rows, and their number; None where there is no data."""
    if isinstance(flow, Flow):
        if x is None:
            raise ValueError("fit: expected data x for a flow, got none. What is fitted without data is a ReverseKL.")
        x, context = jax.tree.map(np.asarray, (x, context))
        expect_batch(flow, x, context)
        objective, data = Likelihood(flow), {"x": x} if context is None else {"x": x, "context": context}
    elif isinstance(flow, Objective):
        if not (x is None or isinstance(x, dict)) or context is not None:
            raise TypeError(
                f"fit: expected for {type(flow).__name__} one dict of arrays with all that its batches have, got "
                f"{type(x).__name__}{'' if context is None else ' and a context'}: such as {{'image': …, 'label': …}}."
            )
        objective, data = flow, jax.tree.map(np.asarray, x or {})
    else:
        hint = ": flow = model.build(event_shape) makes one" if hasattr(flow, "build") else ""
        raise TypeError(f"fit: expected a Flow or an Objective after the key, got {type(flow).__name__}{hint}.")
    data = jax.tree.map(jnp.asarray, data)
    leaves = jax.tree.leaves(data)
    if not leaves:
        return objective, data, None
    rows = {leaf.shape[:1] for leaf in leaves}
    if len(rows) > 1 or () in rows:
        raise ValueError(
            f"fit: expected arrays of as many rows, axis 0 of each, got shapes {jax.tree.map(jnp.shape, data)}."
        )
    for leaf in _floating(data):
        bad = np.flatnonzero(~np.isfinite(leaf).reshape(len(leaf), -1).all(axis=1))
        if len(bad):
            raise ValueError(
                f"fit: expected finite numbers, got NaN or infinity in {len(bad)} of {len(leaf)} rows, the first is "
                f"row {bad[0]}. Leave these rows out."
            )
    return objective, data, len(leaves[0])


def _divided(rng: np.random.Generator, number: int, validation: float) -> tuple[np.ndarray, np.ndarray]:
    """The rows to train on, and those held out."""
    order, held_out = rng.permutation(number), round(validation * number)
    if held_out == number or (validation and not held_out):
        raise ValueError(
            f"fit: expected rows enough for a validation share of {validation}, got {number}, of which {held_out} "
            "would be held out. Give more rows, another share, or validation=0, which trains for all the steps."
        )
    return order[held_out:], order[:held_out]


def _shuffled(rng: np.random.Generator, rows: np.ndarray, batch_size: int) -> Iterator[np.ndarray]:
    """Batches without end: every pass in an order of its own, without the rows that fill no batch."""
    while True:
        yield from rng.permutation(rows)[: len(rows) // batch_size * batch_size].reshape(-1, batch_size)


def _rounds(steps: int, evaluate_every: int) -> list[int]:
    """The steps of each round: all alike where some number of rounds near to what was asked for divides the steps,
    since a loop of another length is another program to compile; else the last has the rest too."""
    wanted = max(1, round(steps / evaluate_every))
    dividing = [number for number in range(max(1, 3 * wanted // 4), 4 * wanted // 3 + 1) if steps % number == 0]
    number = min(dividing, key=lambda number: abs(number - wanted), default=wanted)
    length, rest = divmod(steps, number)
    return [length] * (number - 1) + [length + rest]


def _stacked(batches: Iterator[np.ndarray], number: int) -> np.ndarray:
    return np.stack([next(batches) for _ in range(number)])


def _batch(data: Batch, rows: jax.Array | np.ndarray) -> Batch:
    return {**jax.tree.map(lambda leaf: leaf[rows], data), "index": rows}


class _Adam(NamedTuple):
    """Adam whose rate rises over the first steps and falls along a cosine over the rest: a value, unlike optax's."""

    learning_rate: float
    steps: int

    def build(self) -> optax.GradientTransformation:
        warmup = min(WARMUP, self.steps // 10)
        schedule = optax.warmup_cosine_decay_schedule(0.0, self.learning_rate, warmup, self.steps)
        return optax.chain(optax.clip_by_global_norm(CLIP), optax.adam(schedule))


class _Programs:
    """What is compiled for one objective and optimiser: another fit of the same compiles nothing."""

    def __init__(
        self, objective: Objective, optimizer: optax.GradientTransformation | _Adam, average_decay: float | None
    ):
        if isinstance(optimizer, _Adam):
            optimizer = optimizer.build()
        train_step = make_train_step(objective, optimizer, average_decay=average_decay)
        measure_step, eval_step = make_measure_step(objective), make_eval_step(objective)

        def train(train_state, rows, key, data):
            return train_step(train_state, key, _batch(data, rows))

        def measure(state, keyed_rows, params, data):
            key, rows = keyed_rows
            return measure_step(params, state, key, _batch(data, rows))

        def evaluate(variables, rows, key, data):
            params, state = variables
            return variables, eval_step(params, state, key, _batch(data, rows))

        self.start = jax.jit(partial(create_train_state, objective, optimizer, averages=average_decay is not None))
        self._steps = train, measure, evaluate
        self._loops: list[Callable] = []

    def loops(self, *arguments_of_train) -> list[Callable]:
        """Training, measuring and evaluation over batches of rows."""
        if not self._loops:
            scan = not is_slow_in_a_loop(jax.make_jaxpr(self._steps[0])(*arguments_of_train).jaxpr)
            self._loops = [_loop(step, scan=scan) for step in self._steps]
        return self._loops


_kept_programs = lru_cache(maxsize=8)(_Programs)


def _programs_of(
    objective: Objective, optimizer: optax.GradientTransformation | _Adam, average_decay: float | None
) -> _Programs:
    """Those of a fit before, where there was one: for another seed, an ensemble, or other rows of as many."""
    try:
        return _kept_programs(objective, optimizer, average_decay)
    except TypeError:  # a foreign distribution or function inside that does not hash
        return _Programs(objective, optimizer, average_decay)


def _loop(step: Callable, *, scan: bool) -> Callable:
    """Build ``run(carry, xs, *others)``: ``step(carry, x, *others) -> (carry, output)`` over the leading axis of xs.

    With ``scan`` one program for all of them, else one after the other.
    """
    step = jax.jit(step)
    if scan:
        return jax.jit(lambda carry, xs, *others: jax.lax.scan(lambda carry, x: step(carry, x, *others), carry, xs))

    def run(carry, xs, *others):
        outputs = []
        for number in range(len(jax.tree.leaves(xs)[0])):
            carry, output = step(carry, jax.tree.map(lambda leaf: leaf[number], xs), *others)  # noqa: B023
            outputs.append(output)
        return carry, jax.tree.map(lambda *leaves: jnp.stack(leaves), *outputs)

    return run


def _floating(tree: PyTree) -> list[jax.Array]:
    return [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]


def _check_skipped(skipped_in_a_row: jax.Array, step: int, *, of_draws: bool) -> None:
    most = int(np.max(skipped_in_a_row))
    if most > MOST_SKIPPED:
        hint = (
            "Is log_density finite at every draw? Where it ends, a map from its domain (Log, Logit) comes first in it"
            if of_draws
            else "Bring the data to about unit scale"
        )
        raise FloatingPointError(
            f"fit: expected finite losses and gradients, got {most} steps in a row without, up to step {step}. {hint}, "
            "or lower the learning rate."
        )


def _check_rows(nats: np.ndarray) -> None:
    """Of all rows, at the parameters that training begins with. Huge ones are left to training."""
    bad = np.flatnonzero(np.isnan(nats))
    if len(bad):
        raise ValueError(
            f"fit: expected rows that the flow takes, got {len(bad)} of {len(nats)} whose log p is NaN before any step,"
            f" the first is row {bad[0]}. A zero before Log or Logit is such a row: leave these rows out, or shrink "
            "the interval. Where a layer starts from the first batch, as ActNorm does, one of its rows spoils all."
        )


def _check_options(steps, batch_size, validation, evaluate_every, patience) -> None:
    given = [number for number in (steps, batch_size, evaluate_every, patience) if number is not None]
    if not all(isinstance(number, int | np.integer) and number >= 1 for number in given):
        raise ValueError(
            "fit: expected whole numbers >= 1 as steps, batch_size, evaluate_every and patience, got "
            f"{steps}, {batch_size}, {evaluate_every} and {patience}."
        )
    if not 0 <= validation < 1:
        raise ValueError(f"fit: expected a validation share of at least 0 and below 1, got {validation}.")


def _check_rates(learning_rate, average_decay) -> None:
    if not 0 < learning_rate < math.inf or not (average_decay is None or 0 <= average_decay < 1):
        raise ValueError(
            "fit: expected a learning_rate above 0 and an average_decay of at least 0 and below 1, or None, got "
            f"{learning_rate} and {average_decay}."
        )


@contextlib.contextmanager
def _bar(rounds: int, shown: bool) -> Iterator[Callable]:
    """A bar where there is somebody to see it and rich to draw it; gives what is to be told of each evaluation."""
    if not shown or find_spec("rich") is None:
        yield lambda entry: None
        return
    from rich.progress import Progress

    bar = Progress(transient=True)
    in_notebook = bar.console.is_jupyter and find_spec("ipywidgets") is not None  # without, rich warns and draws none
    # No bar in a log file. Not rich's is_terminal: FORCE_COLOR, which notebooks set for programs, makes that true.
    bar.disable = not (bar.console.file.isatty() or in_notebook)
    with bar:
        task = bar.add_task("compiling", total=rounds)

        def tell(entry: tuple[int, float, float]) -> None:
            step, training, validation = entry
            bar.update(task, advance=1, description=f"step {step}: {training:.3f} nats, held out {validation:.3f}")

        yield tell
