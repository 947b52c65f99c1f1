"""From batches to tensors, read ahead: arrays by threads, files, which take longer, by processes."""
import collections
import functools
import itertools
import mmap
import os

import mindspore as ms
import mindspore.dataset as ds
import numpy as np
from joblib.externals import loky

from corruptions.generate import ignore_interrupts, single_threaded
from dataset.batches import Chain, EvaluationBatches
from utils.errors import UserError

IDLE_SECONDS = 60  # processes that have nothing to do for so long end, and start again when they have


def held_batches(images, source, number, batch_size):
    """Batches of test images, held in memory to be used several times.

    Args:
        images (numpy.ndarray, dataset.corrupted.MadeImages or files): the test images at some severity, uint8
            (N, H, W, 3).
        source (Source): of the images.
        number (int or None): how many, spread evenly over all N; all of them where that is None or more than N.
        batch_size (int): images in a batch, as of `EvaluationBatches`.

    Returns:
        list: tuples of tensors, as `EvaluationBatches` gives arrays.
    """
    labels = source.labels["test"]
    chosen = np.linspace(0, len(labels) - 1, min(number or len(labels), len(labels))).round().astype(int)
    return hold(EvaluationBatches(images, labels, chosen, source.mean, source.std, batch_size))


def hold(source):
    """All batches of a source as a list of tuples of tensors."""
    return [tuple(map(ms.Tensor, source[k])) for k in range(len(source))]


def array_by_array(arrays, labels, mean, std, batch_size, workers):
    """Iterate over arrays of images that have the same labels: for each, an iterator over all its batches, as
    `EvaluationBatches` gives them, to be exhausted before the next is taken.
    """
    sources = [EvaluationBatches(images, labels, np.arange(len(labels)), mean, std, batch_size) for images in arrays]
    stream = batches(Chain(sources), workers)
    for images, source in zip(arrays, sources, strict=True):
        yield itertools.islice(stream, len(source))
        release_pages(images)


def release_pages(array):
    """Let go of the pages of a memory-mapped array that have been read; they stay in the system's file cache."""
    if isinstance(array, np.memmap):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def batches(source, workers):
    """Iterate over a source's batches as tuples of MindSpore tensors, read ahead by `workers` threads or processes."""
    if len(source) == 0:
        return iter(())
    if source.reads_files:
        return read_ahead(source, workers)
    workers = min(workers, os.cpu_count(), len(source))  # more than there are processors is refused
    data = ds.GeneratorDataset(source, list(source.columns), shuffle=False, num_parallel_workers=workers,
                               python_multiprocessing=False)
    return data.create_tuple_iterator(num_epochs=1)


@functools.lru_cache(maxsize=1)
def reading_processes(workers):
    """The processes that read images, the same ones at every call. Joblib's, which corrupt arrays, are others: it
    cannot do with an executor that it has not made.
    """
    return loky.ProcessPoolExecutor(workers, timeout=IDLE_SECONDS, initializer=ignore_interrupts)


def read_ahead(source, workers):
    """As `batches`, by processes, which this one tells what to make: they hold no list of files, and of what they have
    made only the next few batches wait here.

    Raises:
        UserError: an image cannot be read, or a process was killed.
    """
    processes = reading_processes(workers)
    ahead = collections.deque()

    def next_batch():
        made, rest = ahead.popleft()
        return tuple(map(ms.Tensor, source.finish(made.result(), rest)))
    try:
        for k in range(len(source)):
            make, arguments, rest = source.draw(k)
            ahead.append((processes.submit(single_threaded, make, *arguments), rest))
            if len(ahead) > 2 * workers:
                yield next_batch()
        while ahead:
            yield next_batch()
    except loky.process_executor.TerminatedWorkerError as error:
        reading_processes.cache_clear()
        raise UserError("a process that reads images was killed, perhaps because memory was full; --num_workers 1 "
                        "takes least") from error
    finally:
        for made, _ in ahead:
            made.cancel()
