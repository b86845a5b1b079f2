"""Train a flow on images or on a table, data-parallel over the devices of this machine or of a pod.

Usage: python -m experiments.train CONFIG [--model MODEL] [--run-dir DIR] [--steps N] [--batch-size N] [--seed N] [...]

CONFIG is a file under experiments/configs: data, a model, and how it is trained. --model puts another model in its
place, --noise another noise for pixels; --help then shows that one's own options. A run directory that holds
checkpoints of this run is taken up where it stopped, on as many devices as there are now. What a run leaves there:
config.json, starts.jsonl (code, packages, machine and command of each start), metrics.jsonl, TensorBoard events,
checkpoints/, samples_STEP.png.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from experiments import command_line
from experiments.choices import CHOICES, with_choices
from experiments.config import Config
from experiments.configs import configs_to_train
from experiments.errors import Interrupted, UserError, printable
from experiments.machine import pod
from experiments.machine.pod import Multihost
from experiments.runs.build import build_objective, build_train_step, train_state_like
from experiments.runs.checkpoints import Checkpoints
from experiments.runs.config_file import to_json
from experiments.runs.directory import check_run_directory
from experiments.runs.evaluation import evaluate_examples, make_evaluators
from experiments.runs.health import Health
from experiments.runs.interruption import Interruption
from experiments.runs.metrics import MetricsLog, NoLog, training_seconds
from experiments.runs.opening import open_run, run_key, start_of
from experiments.runs.progress import TrainingProgress
from experiments.runs.provenance import write_start
from experiments.runs.steps import Steps, stopped
from experiments.runs.validation import Validation
from nvpjax.parallel import parallel_train_step, replicate


@dataclass(frozen=True)
class Arguments:
    config: tyro.conf.OmitArgPrefixes[Config]
    run_dir: Path | None = None
    """Where the run is kept; runs/CONFIG by default. One that holds this run's checkpoints is resumed."""
    pod: tyro.conf.OmitArgPrefixes[Multihost] = Multihost()
    keep: int = 2
    """Latest checkpoints that are kept, beside the best."""
    max_skipped: int = 10
    """Steps in a row with a loss or gradients that are not finite; one more ends the run."""

    def __post_init__(self):
        if self.keep < 1 or self.max_skipped < 0:
            raise UserError(f"expected --keep >= 1 and --max-skipped >= 0, got {self.keep} and {self.max_skipped}")


def train(
    config: Config,
    run_dir: Path,
    *,
    keep: int = 2,
    max_skipped: int = 10,
    test: bool = True,
    watch: pod.Watch | None = None,
) -> str:
    """Train, and give the line that says what came out and where. SIGTERM and SIGINT raise ``Interrupted``.

    Without ``test`` the test images are left alone. In a pod all processes call it, each with its ``watch``.
    """
    config = config.opened()
    training = config.training
    build_objective(config)  # what does not go together is refused before a directory is made
    with contextlib.ExitStack() as stack:
        examples = open_run(config, run_dir, stack)
        interruption = stack.enter_context(Interruption())
        checkpoints = stack.enter_context(Checkpoints(run_dir, keep, going_on=True, config=to_json(config)))
        start = start_of(config, run_dir, checkpoints, examples)

        seconds = training_seconds(run_dir, start.step)
        progress = TrainingProgress(config, start.step, run_dir, seconds, quiet=not pod.is_first())
        log = stack.enter_context(MetricsLog(run_dir, start.step, again=start.owed) if pod.is_first() else NoLog())
        health = Health(config, max_skipped, progress.say, log)
        if pod.is_first():
            write_start(run_dir, start.step)

        train_step, evaluators = parallel_train_step(build_train_step(config)), make_evaluators(config)
        made = (checkpoints, log, progress, interruption)
        validation = Validation(config, run_dir, run_key(config), *examples, evaluators, *made)
        steps = Steps(config, train_step, validation, health, progress, log, interruption, watch)
        steps.go(start.step, replicate(start.train_state), start.owed, examples.train)
        checkpoints.wait()

        if not test:
            return f"{config.name}: {progress.summary()}; metrics and checkpoints in {run_dir}"
        # The test images, once, with the best checkpoint.
        best = checkpoints.restore_best(train_state_like(config))
        if best is None:
            raise UserError(f"nothing trained: --steps {training.steps}; ask for at least 1")
        best_step, best_state = best
        test_examples = config.data.examples("test")
        pod.no_step_due(watch)
        ask = interruption.between
        state = replicate(best_state)
        try:
            result = evaluate_examples(evaluators, state, test_examples, config.data, training.batch_size, progress=ask)
        except Interrupted as interrupted:
            raise stopped(interrupted, config, training.steps, run_dir) from None
    data = config.data
    given = " given their labels" if config.classes else ""
    score = f"{result[data.unit]:.4f} ± {result['standard_error']:.4f} {data.said_unit}{data.quality(result)}"
    return (
        f"{config.name}: test {score} on {result['examples']} examples{given}, from step {best_step} (best on "
        f"validation examples, of {training.steps}); {progress.summary()}; round-trip error "
        f"{result['round_trip_error']:.1e}, train/eval gap {result['train_eval_gap']:+.4f}; samples, metrics and "
        f"checkpoints in {run_dir}"
    )


def main(arguments: Sequence[str]) -> None:
    configs, rest = with_choices(configs_to_train(), arguments)
    offered = {name: (summary, Arguments(config)) for name, (summary, config) in configs.items()}
    if rest and rest[0] in offered:
        summary, of_config = offered[rest[0]]
        offered[rest[0]] = summary + CHOICES, of_config
    options = command_line.parse(
        lambda: tyro.extras.overridable_config_cli(
            offered, args=rest, prog="python -m experiments.train", description=__doc__
        )
    )
    if not options.config.data.known:
        print(f"reading {options.config.data.dataset} ...", flush=True)
    config, run_dir = options.config.opened(), options.run_dir or Path("runs") / options.config.name
    check_run_directory(config, run_dir)  # before anything of a pod is written there
    with pod.joined(options.pod, run_dir) as watch:
        for remark in (*config.data.remarks(), *config.training.remarks()) if pod.is_first() else ():
            print(printable(remark))
        line = train(config, run_dir, keep=options.keep, max_skipped=options.max_skipped, watch=watch)
        if pod.is_first():
            print(line)


if __name__ == "__main__":
    command_line.run(main, training=True)
