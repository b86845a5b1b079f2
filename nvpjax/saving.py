"""A density as a file: what its flow is, in JSON, and its arrays; nothing that could run."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from nvpjax.description import Known, describe, make
from nvpjax.flow import Density

FORMAT = 1


def save(path: str | os.PathLike[str], density: Density, known: Known = ()) -> None:
    """Write a density to a file: its flow's description as JSON, its arrays bit for bit.

    ``known`` are the classes and functions that the flow has of your own, as ``load`` will want them. Nothing is
    pickled. The file is whole or is not there: it is written beside ``path`` and moved.

    Errors: TypeError for a flow that holds what no file can describe: a class or a function that is not ``known``, a
    lambda, a conditioner's closure; it says which, and where. OSError where the file cannot be written.

    >>> import jax, jax.numpy as jnp, tempfile
    >>> from nvpjax import MAF
    >>> flow = MAF(layers=1, hidden=(4,)).build((2,))
    >>> density = flow.at(*flow.init(jax.random.key(0), jnp.zeros((8, 2))))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/density.npz", density)
    ...     again = load(f"{folder}/density.npz")
    >>> again.flow == flow, bool(jnp.array_equal(again.log_prob(jnp.ones((1, 2))), density.log_prob(jnp.ones((1, 2)))))
    (True, True)
    """
    if not isinstance(density, Density):
        raise TypeError(f"save: expected a Density, as fit and flow.at(params, state) give it, got {type(density)}.")
    described, arrays = describe(density, "density", known)
    shapes = [{"shape": array.shape, "dtype": str(array.dtype)} for array in arrays]
    document = json.dumps({"format": FORMAT, "density": described, "arrays": shapes}).encode()
    held = {f"array_{i}": _as_bytes(array) for i, array in enumerate(arrays)}
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"save: expected a folder {path.parent} to write {path.name} to, got none.")
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(beside, "wb") as file:
            np.savez(file, allow_pickle=False, description=np.frombuffer(document, np.uint8), **held)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike[str], known: Known = ()) -> Density:
    """Read the density that ``save`` wrote; its flow equals the one that was saved.

    A file from elsewhere can do no harm: it makes values of nvpjax's classes, of arrays, and of what is ``known``.

    Errors: ValueError for a file that ``save`` did not write, that is cut or changed, or that names what this version
    of nvpjax does not have or ``known`` does not hold. OSError where there is none.
    """
    whole = io.BytesIO(Path(path).read_bytes())
    try:
        if not zipfile.is_zipfile(whole):
            raise ValueError("nvpjax.save did not write it, or it is cut")
        whole.seek(0)  # is_zipfile has read to the end
        with np.load(whole, allow_pickle=False) as held:
            if "description" not in held:
                raise ValueError("nvpjax.save did not write it")
            document = json.loads(bytes(held["description"]))
            if document["format"] != FORMAT:
                raise ValueError(f"its format is {document['format']}, this version reads {FORMAT}")
            arrays = [_from_bytes(held[f"array_{i}"], **one) for i, one in enumerate(document["arrays"])]
        density = make(document["density"], arrays, known)
        if not isinstance(density, Density):
            raise ValueError(f"it holds {type(density).__name__}, no Density")
    except Exception as error:  # zip's, numpy's and json's complaints of what they did not write: many kinds
        raise ValueError(f"load: {path} cannot be read: {error}.") from error
    return density


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """bfloat16 and its like are no dtypes of numpy's own files."""
    return np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)


def _from_bytes(held: np.ndarray, shape: Sequence[int], dtype: str) -> jax.Array:
    array = np.frombuffer(held.tobytes(), jnp.dtype(dtype)).reshape(shape)
    made = jnp.asarray(array)
    if made.dtype != array.dtype:
        raise ValueError(f"it holds {array.dtype}, and jax makes {made.dtype} of it: set jax_enable_x64")
    return made
