"""Training batches: each epoch in a new order, each batch a function of the seed and the step alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import grain

from experiments.config import Config
from experiments.data.data import Example, InMemory
from experiments.machine import pod


def training_batches(examples: Sequence[Example], config: Config, first_step: int = 0) -> Iterator[Example]:
    """Give batches without end, dicts of arrays ``(batch_size, ...)``, each epoch in a new order.

    The batch of a step depends on the seed and the step alone, so a resumed run goes on with ``first_step``, on however
    many processes. In a pod each process gets its rows of it, ``(batch_size / processes, ...)``, and reads no others.
    """
    training, data = config.training, config.data
    stream = grain.MapDataset.source(examples).seed(training.seed).shuffle().repeat().random_map(data.augmented)
    mine = pod.rows(training.batch_size)
    rows = grain.MapDataset.source(_RowsOfBatches(stream, training.batch_size, mine))
    batches = rows.batch(mine.stop - mine.start, drop_remainder=True)
    in_memory = isinstance(examples, InMemory)
    options = grain.ReadOptions(num_threads=0, prefetch_buffer_size=0) if in_memory else grain.ReadOptions()
    iterator = iter(batches.to_iter_dataset(options))
    iterator.set_state({"next_index": first_step})
    return iterator


class _RowsOfBatches:
    """Of a stream that is cut into batches, the same rows of each."""

    def __init__(self, stream, batch_size: int, rows: slice):
        self._stream, self._batch_size, self._rows = stream, batch_size, rows
        self._number = rows.stop - rows.start

    def __len__(self) -> int:
        return len(self._stream) // self._batch_size * self._number

    def __getitem__(self, index: int) -> Example:
        batch, row = divmod(index, self._number)
        return self._stream[batch * self._batch_size + self._rows.start + row]
