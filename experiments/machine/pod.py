"""Several processes that train one model: joining them, what they agree on, and who is missing.

jax.distributed finds the processes and jax's collectives carry the numbers. What is added here: each process keeps a
file fresh in the run directory, so that one that never came, was killed or hangs is named, and nobody waits forever.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from experiments.errors import Interrupted, UserError, in_one_line
from experiments.runs.files import write_atomically

LAUNCHERS = {  # what tells a process its number and how many there are
    "SLURM": ("SLURM_PROCID", "SLURM_NTASKS"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    "Kubernetes indexed job": ("JOB_COMPLETION_INDEX", ""),
    "TPU": ("TPU_WORKER_ID", ""),
}


@dataclass(frozen=True)
class Multihost:
    """How the processes of a pod find each other."""

    multihost: bool = False
    """Train with several processes, started by SLURM, Open MPI or on a TPU pod, which jax recognises, or by hand."""
    coordinator: str | None = None
    """HOST:PORT of process 0, where nothing can be recognised."""
    num_processes: int | None = None
    """How many processes there are, beside --coordinator."""
    process_id: int | None = None
    """Which one this is, 0 …, beside --coordinator."""
    timeout: float = 600.0
    """Seconds to wait for a process that has not started, has ended or makes no step."""

    def __post_init__(self):
        by_hand = (self.coordinator, self.num_processes, self.process_id)
        if any(value is not None for value in by_hand):
            if None in by_hand or not self.multihost:
                raise UserError(
                    "--coordinator, --num-processes and --process-id go together, and with --multihost; got "
                    f"{self.coordinator}, {self.num_processes}, {self.process_id}, {self.multihost}"
                )
            if not 0 <= self.process_id < self.num_processes:
                raise UserError(f"--process-id {self.process_id}: expected 0 to {self.num_processes - 1}")
            if ":" not in self.coordinator:
                raise UserError(f"--coordinator {self.coordinator}: expected HOST:PORT, of process 0")
        if self.timeout <= 0:
            raise UserError(f"--timeout {self.timeout}: expected seconds, more than 0")


def is_first() -> bool:
    """Whether this process writes what is written once: metrics, pictures, lines for people."""
    return jax.process_index() == 0


def is_one_of_many() -> bool:
    """Whether there are other processes."""
    return jax.process_count() > 1


def barrier(name: str) -> None:
    """Wait until all processes are here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def all_agree(value: bool) -> bool:
    """Whether ``value`` holds in every process."""
    return bool(np.all(gather(np.array(value))))


def gather(array: np.ndarray) -> np.ndarray:
    """Stack an array of every process, ``(processes, *shape)``, in the order of their numbers."""
    return multihost_utils.process_allgather(array) if jax.process_count() > 1 else np.asarray(array)[None]


def expect_same(**values: str | int) -> None:
    """Raise UserError in every process of the pod where one has another value: a pod trains one model on one data set.

    All processes call it together.
    """
    for name, of_each in _of_all(values).items():
        if len(set(of_each)) > 1:
            different = next(number for number, value in enumerate(of_each) if value != of_each[0])
            raise UserError(
                f"the processes of the pod differ in {name}: {of_each[0]} in process 0, "
                f"{of_each[different]} in process {different}; start all with the same command, code and data"
            )


def _of_all(values: dict) -> dict[str, list]:
    """Of each value, what every process has, in the order of their numbers."""
    text = np.frombuffer(json.dumps(values).encode(), np.uint8)
    longest = int(gather(np.array(len(text))).max())
    texts = gather(np.pad(text, (0, longest - len(text)), constant_values=ord(" ")))
    of_each = [json.loads(row.tobytes()) for row in texts]
    names = dict.fromkeys(name for there in of_each for name in there)
    return {name: [there.get(name, "nothing") for there in of_each] for name in names}


@contextlib.contextmanager
def first_process_before_others() -> Iterator[None]:
    """Process 0 does what is inside, then the others."""
    if not is_first():
        barrier("process 0 is through")
    yield
    if is_first():
        barrier("process 0 is through")


def rows(batch_size: int) -> slice:
    """Which rows of a global batch are this process's."""
    local = batch_size // jax.process_count()
    return slice(jax.process_index() * local, (jax.process_index() + 1) * local)


@contextlib.contextmanager
def joined(options: Multihost, run_dir: Path) -> Iterator[Watch | None]:
    """Connect to the other processes of the pod, and watch them; None where there is one process only."""
    if not options.multihost:
        yield None
        return
    watch = Watch(run_dir, *_place(options), options.timeout, options.coordinator)
    watch.start()
    try:
        # The runtime's own limits end the process with a C++ trace that names nobody: the watch shall be first.
        limit = int(2 * options.timeout) + 60
        jax.distributed.initialize(
            options.coordinator,
            options.num_processes,
            options.process_id,
            coordinator_bind_address=_bind_address(options.coordinator),
            initialization_timeout=limit,
            heartbeat_timeout_seconds=limit,
        )
    except (RuntimeError, ValueError):
        watch.stop()
        raise UserError(
            f"no pod was found{_at(options.coordinator)}: start under SLURM, Open MPI or on a TPU pod, or give "
            "--coordinator HOST:PORT --num-processes N --process-id I"
        ) from None
    try:
        watch.connected(jax.process_index(), jax.process_count())
        print(f"process {jax.process_index()} of {jax.process_count()}: {jax.local_device_count()} devices", flush=True)
        _check_shared(run_dir)
        _connect_devices()
        yield watch
    except Interrupted:  # all processes end, at the same step
        watch.finish()
        raise
    except jax.errors.JaxRuntimeError as error:
        watch.collective_failed(error)
    except Exception as error:
        watch.leave(error)
    watch.finish()


def no_step_due(watch: Watch | None) -> None:
    """Say that something comes that is no step and takes as long as it takes, such as an evaluation."""
    if watch:
        watch.busy()


def _bind_address(coordinator: str | None) -> str | None:
    """Where process 0 listens: on all interfaces, jax's choice; on loopback where all processes are on one machine."""
    host, _, port = (coordinator or "").rpartition(":")
    return f"127.0.0.1:{port}" if host in ("localhost", "127.0.0.1") else None


def _at(coordinator: str | None) -> str:
    return f" at {coordinator}" if coordinator else ""


def _place(options: Multihost) -> tuple[int | None, int | None]:
    """The number of this process and of all, as far as it can be known before connecting."""
    if options.process_id is not None:
        return options.process_id, options.num_processes
    for index, total in LAUNCHERS.values():
        if index in os.environ:
            try:
                return int(os.environ[index]), int(os.environ[total]) if total in os.environ else None
            except ValueError:
                raise UserError(f"expected numbers in {index} and {total}, got {os.environ[index]}") from None
    return None, None


def _connect_devices() -> None:
    """Let all devices meet now, while all processes are here.

    The CPU backend connects devices at their first collective, and waits 30 s for the others, no more: processes that
    compile the first step for different times would miss each other.
    """
    ones = np.ones(jax.local_device_count(), np.float32)
    jax.block_until_ready(jax.pmap(lambda one: jax.lax.psum(one, "devices"), "devices")(ones))


def _check_shared(run_dir: Path) -> None:
    here = sorted(path.name for path in (run_dir / Watch.FOLDER).glob("*.json"))
    expected = [f"{number}.json" for number in range(jax.process_count())]
    missing = sorted(set(expected) - set(here))
    if not all_agree(not missing):
        raise UserError(
            f"{run_dir} is not one folder for all processes (process {jax.process_index()} misses {missing}): put "
            "--run-dir on storage that all of them share"
        )


class Watch(threading.Thread):
    """Keeps RUN_DIR/processes/NUMBER.json fresh, and ends this process when another one is gone or hangs.

    A collective waits for all processes, and no exception can be raised in a thread that waits in it: so the process is
    ended from here, with a line that names who is missing. Checkpoints are whole at any moment, so nothing is lost.
    """

    FOLDER = "processes"
    STALE = 90.0
    """Seconds without a sign of life, at most: file systems of clusters show a change up to a minute late."""

    def __init__(
        self, run_dir: Path, number: int | None, processes: int | None, timeout: float, coordinator: str | None = None
    ):
        super().__init__(daemon=True)
        self._coordinator = coordinator
        self._folder = run_dir / self.FOLDER
        self._name = str(number) if number is not None else f"{socket.gethostname()}-{os.getpid()}"
        self._processes, self._timeout, self._interval = processes, timeout, min(10.0, timeout / 10)
        self._step, self._moved, self._connected = 0, time.monotonic(), False
        self._error = ""
        self._busy = True  # compiling, evaluating: no step is due
        self._ending = threading.Event()
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._refuse_two()
            self._write()
        except OSError as error:
            raise UserError(f"{self._folder} cannot be written ({error.strerror}): choose another --run-dir") from None

    def _refuse_two(self) -> None:
        """Raise UserError where another process of this number is alive: a second pod would end the first."""
        path = self._folder / f"{self._name}.json"
        with contextlib.suppress(OSError, ValueError):
            before, there = path.stat().st_mtime_ns, json.loads(path.read_text())
            # Three looks of a process that is alive; of one that was killed the file may be as young as its last.
            deadline = time.monotonic() + 3 * self._interval - max(0.0, time.time() - before / 1e9)
            while not there["error"] and time.monotonic() < deadline:
                time.sleep(0.1)
                if path.stat().st_mtime_ns != before:
                    raise UserError(
                        f"process {self._name} of another pod is alive in {self._folder.parent} (host {there['host']}, "
                        f"process {there['pid']}): wait until it has ended, or choose another --run-dir"
                    )

    def connected(self, number: int, processes: int) -> None:
        (self._folder / f"{self._name}.json").unlink(missing_ok=True)
        self._name, self._processes, self._connected = str(number), processes, True
        self._write()
        self._moved = time.monotonic()
        barrier("all have their number")

    def step(self, step: int) -> None:
        """Tell that a step is done, and that the next one is due."""
        self._step, self._moved, self._busy = step, time.monotonic(), False

    def begin(self, step: int) -> None:
        """Tell from which step a run goes on; the first one compiles, so none is due yet."""
        self._step = step

    def busy(self) -> None:
        """Tell that something else than steps comes, which takes as long as it takes."""
        self._busy = True

    def stop(self) -> None:
        """Look and write no more, where there is no pod."""
        self._ending.set()
        self.join()
        (self._folder / f"{self._name}.json").unlink(missing_ok=True)

    def finish(self) -> None:
        """Look and write no more, at the end of a run, once all processes are there."""
        barrier("the run is over")
        self._ending.set()
        self.join()
        barrier("nobody looks any more")  # before the file goes: it would be missed
        (self._folder / f"{self._name}.json").unlink(missing_ok=True)

    def missing(self) -> list[str]:
        """Say of each other process that is not fresh what is known of it."""
        said, seen = [], self._seen()
        for name in map(str, range(self._processes or 0)):
            if name not in seen:
                said.append(f"process {name} has not started, or sees another {self._folder.parent}")
                continue
            age, there = seen[name]
            who = f"process {name} on {there['host']}"
            if there["error"] and age > self._interval:  # or all end by the same error, each for itself
                said.append(f"{who} ended at step {there['step']}: {there['error']}")
            elif age > min(self.STALE, self._timeout / 2):
                said.append(f"{who} gave its last sign {age:.0f} s ago, at step {there['step']}")
        return said

    def run(self) -> None:
        while not self._ending.wait(self._interval):
            try:
                self._write()
                missing = self.missing()
            except OSError:
                continue  # full or unreachable for a moment: what matters fails with an error of its own
            waited = time.monotonic() - self._moved
            if not self._connected and waited > self._timeout:
                number = self._processes or "an unknown number of"
                if not missing and self._coordinator:
                    missing = [f"no coordinator answers{_at(self._coordinator)}, or another pod's: is that process 0?"]
                self._end(f"waited {waited:.0f} s for {number} processes{_at(self._coordinator)}", missing)
            elif self._connected and missing:
                self._end("the pod is not whole", missing)
            elif self._connected and not self._busy and waited > self._timeout:
                self._end(f"no step for {waited:.0f} s after step {self._step}", self._behind())

    def leave(self, error: Exception) -> None:
        """End this process by an error of its own, and tell the others, who learn it from this watch's file."""
        self._ending.set()
        self.join()
        self._error = in_one_line(error)
        if not isinstance(error, UserError | OSError):
            traceback.print_exc()
        print(f"error: process {self._name}: {self._error}", file=sys.stderr, flush=True)
        self._write()
        if is_first():  # with this process the runtime of the others ends too, by a C++ trace: let them see this first
            deadline = time.monotonic() + 3 * self._interval
            while time.monotonic() < deadline and not all(there["error"] for _, there in self._seen().values()):
                time.sleep(0.1)
        os._exit(2 if isinstance(error, UserError | OSError) else 1)  # jax would wait for the others at exit

    def collective_failed(self, error: Exception) -> None:
        """End this process after a collective has failed, once it is known who is gone; do not wait for the others."""
        # Another that is gone is noticed by then. A failure of this process alone (full memory) ends it then too.
        deadline = time.monotonic() + min(self.STALE, self._timeout / 2) + 3 * self._interval
        while time.monotonic() < deadline and not self.missing():
            time.sleep(min(1.0, self._interval))
        self._end(f"a collective failed ({str(error).splitlines()[0][:160]})", self.missing())

    def _seen(self) -> dict[str, tuple[float, dict]]:
        """Of each process of this pod, by its number: the age of its file, in seconds, and what is in it."""
        fresh = (self._folder / f"{self._name}.json").stat().st_mtime  # the storage's clock, not this machine's
        seen = {}
        for name in map(str, range(self._processes or 0)):  # there may be files of a larger pod that was killed
            path = self._folder / f"{name}.json"
            try:
                seen[name] = (fresh - path.stat().st_mtime, json.loads(path.read_text()))
            except (OSError, ValueError):
                continue
        return seen

    def _behind(self) -> list[str]:
        steps = {name: there["step"] for name, (_, there) in self._seen().items()}
        least = min(steps.values())
        return [f"process {name} is at step {step}" for name, step in sorted(steps.items()) if step == least]

    def _end(self, what: str, who: list[str]) -> None:
        causes = "; ".join(who) or "all processes still give signs of life"
        print(
            f"error: process {self._name}: {what}: {causes}. This process ends too; see the output of that one, and "
            "start all with the same command: they go on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)  # not sys.exit: a thread cannot, and jax would wait for the others at exit

    def _write(self) -> None:
        there = {"host": socket.gethostname(), "pid": os.getpid(), "step": self._step, "error": self._error}
        write_atomically(self._folder / f"{self._name}.json", json.dumps(there))
