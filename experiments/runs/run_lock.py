"""One run directory, one run: a second one that is started there is refused."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from experiments.errors import UserError
from experiments.runs.files import open_own


@contextlib.contextmanager
def locked(run_dir: Path) -> Iterator[None]:
    """Hold RUN_DIR/lock. The system lets go of it when a process ends, however it ends."""
    path = run_dir / "lock"
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        file = open_own(path, "a+")
    except OSError as error:
        raise UserError(f"{run_dir} cannot be written ({error.strerror}): choose another --run-dir") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            raise UserError(f"{run_dir} is in use by {holder}: wait for it, or choose another --run-dir") from None
        try:
            os.truncate(file.fileno(), 0)
            os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}".encode())  # at once, no buffer
        except OSError as error:
            raise UserError(f"{run_dir} cannot be written ({error.strerror}): choose another --run-dir") from None
        yield
