"""Prefetch of batches as tensors: threads read arrays; processes read files, which take longer.

MindSpore's own GeneratorDataset is not used. With several threads it installs its own handlers for SIGTERM and SIGCHLD,
so a run that should stop would be killed.
"""
import collections
import concurrent.futures
import contextlib
import functools
import itertools
import mmap

import mindspore as ms
import numpy as np
from joblib.externals import loky

from corruptions.jobs.parallel import single_threaded, start_executor
from corruptions.utils.errors import ResourceGoneError
from corruptions.utils.signals import interruptible
from dataset.batches import ConcatBatches, EvaluationBatches
from utils.runtime.distributed import rank_and_world_size


def load_batches(images, source, number, batch_size):
    """Return batches of test images that are held in memory to be used several times.

    Args:
        images (numpy.ndarray, dataset.corrupted.LazyCorruptedArray or files): the test images at one severity, uint8
            (N, H, W, 3).
        source (ImageDataset): data set of the images.
        number (int or None): number of images, spread evenly over all N; all of them if it is None or more than N.
        batch_size (int): number of images in a batch, as in `EvaluationBatches`.

    Returns:
        list: tuples of tensors, with the arrays that `EvaluationBatches` gives. With several ranks, the images belong
            to this rank.
    """
    labels = source.labels["test"]
    chosen = np.linspace(0, len(labels) - 1, min(number or len(labels), len(labels))).round().astype(int)
    return materialize(EvaluationBatches(images, labels, chosen, source.mean, source.std, batch_size,
                                         rank_and_world_size()))


def materialize(source):
    """Return all batches of a source as a list of tuples of tensors."""
    return [tuple(map(ms.Tensor, source[k])) for k in range(len(source))]


def iterate_arrays(arrays, labels, mean, std, batch_size, workers):
    """Iterate over arrays of images that have the same labels.

    Yield for each array an iterator over all its batches, as `EvaluationBatches` gives them. Exhaust each iterator
    before taking the next one.
    """
    sources = [EvaluationBatches(images, labels, np.arange(len(labels)), mean, std, batch_size) for images in arrays]
    stream = interruptible(prefetch(ConcatBatches(sources), workers))
    for images, source in zip(arrays, sources, strict=True):
        yield itertools.islice(stream, len(source))
        release_pages(images)


def release_pages(array):
    """Release the pages of a memory-mapped array that have been read. They stay in the system's file cache."""
    if isinstance(array, np.memmap):
        array._mmap.madvise(mmap.MADV_DONTNEED)


def prefetch(source, workers):
    """Iterate over a source's batches as tuples of MindSpore tensors, read ahead by `workers` threads or processes.

    Processes receive the parts of each batch, so they hold no list of files.

    Raises:
        ResourceGoneError: an image cannot be read, or a process was killed.
    """
    def build_in_process(processes, k):
        build, arguments, columns = source.describe(k)
        images = processes.submit(single_threaded, build, *arguments)
        return images, lambda: source.collate(images.result(), columns)

    def build_in_thread(threads, k):
        batch = threads.submit(source.__getitem__, k)
        return batch, batch.result
    if source.reads_files:
        with report_killed_workers():
            submit = functools.partial(build_in_process, reading_processes(workers))
            yield from prefetch_futures(submit, len(source), workers)
    else:
        with concurrent.futures.ThreadPoolExecutor(workers) as threads:
            yield from prefetch_futures(functools.partial(build_in_thread, threads), len(source), workers)


@functools.lru_cache(maxsize=1)
def reading_processes(workers):
    """Return the processes that read images, the same ones at every call.

    The processes that corrupt arrays are others, because they end with a job that is interrupted.
    """
    return start_executor(workers)


@contextlib.contextmanager
def report_killed_workers():
    """Raise a `ResourceGoneError` of one line if a process that reads images was killed.

    The next call of `reading_processes` starts new processes.
    """
    try:
        yield
    except loky.process_executor.TerminatedWorkerError as error:
        reading_processes.cache_clear()
        raise ResourceGoneError("a process that reads images was killed, perhaps because memory was full; "
                                "--num_workers 1 takes least") from error


def prefetch_futures(begin, number, workers):
    """Iterate over batches 0, 1, ... as tuples of tensors. Only the next few batches wait here.

    Args:
        begin (callable): function that starts making batch k. It returns a future, which may be cancelled, and a
            function that waits for the columns.
        number (int): number of batches.
        workers (int): number of threads or processes that make them.
    """
    ahead = collections.deque()

    def next_batch():
        _, wait = ahead.popleft()
        return tuple(map(ms.Tensor, wait()))
    try:
        for k in range(number):
            ahead.append(begin(k))
            if len(ahead) > 2 * workers:
                yield next_batch()
        while ahead:
            yield next_batch()
    finally:
        for future, _ in ahead:
            future.cancel()
