"""Time how training batches of image files are made: python tests/benchmarks/reading.py

Writes JPEG files of 64x64 into a temporary folder. In turns, processes decode each with PIL and corrupt it, and nothing
else, and the data pipeline makes training batches of the same images at the same severity. Prints images/s of both for
one and for two processes, and their ratios, medians of several runs. With --memory it prints instead how much memory a
training of a few steps on 20 000 such files takes, all processes together, beside that of `photos`; with --arrays it
prints how many images of 32x32 a second come out of arrays, whose batches threads make.
"""
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, ROOT)

import utils.runtime.device  # noqa: E402, F401, I001, first: it sets the environment that MindSpore reads

import statistics  # noqa: E402
import subprocess  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from PIL import Image  # noqa: E402

from corruptions import CORRUPTIONS  # noqa: E402
from corruptions.rng import image_stream  # noqa: E402
from corruptions.jobs.parallel import single_threaded  # noqa: E402
from dataset import load_source  # noqa: E402
from dataset.batches import TrainBatches  # noqa: E402
from dataset.image_files import LazyCorruptedFiles  # noqa: E402
from dataset.pipeline import prefetch, reading_processes  # noqa: E402
from dataset.poisson import Split, poisson_split  # noqa: E402
from corruptions.utils.cli import Parser, positive_int  # noqa: E402

BATCH, SEVERITY = 100, 3


def write_files(folder, count):
    """Write so many smooth random JPEG files of 64x64 in ten classes of train, and a few of test."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count), ("test", 100)):
        for i in range(number):
            path = os.path.join(folder, part, f"class{i % 10}", f"{i}.jpg")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            coarse = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
            coarse.resize((64, 64), Image.Resampling.BICUBIC).save(path, quality=90)


def bare(paths, name):
    """Decode and corrupt, and nothing else."""
    for path in paths:
        CORRUPTIONS[name](np.asarray(Image.open(path).convert("RGB")), SEVERITY, image_stream(0, name, SEVERITY, path))


def time_bare(source, name, workers):
    """Images/s of `bare` in so many processes."""
    files = source.images["train"]
    paths = [os.path.join(files.folder, path) for path in files.paths]
    pool = reading_processes(workers)
    list(pool.map(single_threaded, [bare] * workers, [paths[:1]] * workers, [name] * workers))  # start them
    groups = [paths[k:k + BATCH] for k in range(0, len(paths), BATCH)]
    start = time.perf_counter()
    list(pool.map(single_threaded, [bare] * len(groups), groups, [name] * len(groups)))
    return len(paths) / (time.perf_counter() - start)


def time_batches(source, name, workers):
    """Images/s of the data pipeline."""
    files, count = source.images["train"], len(source.images["train"])
    images = [files, *(LazyCorruptedFiles(files, name, severity) for severity in range(1, 6))]
    split = Split([np.arange(count if severity == SEVERITY else 0) for severity in range(6)], np.arange(0))
    stream = prefetch(TrainBatches(images, source.labels["train"], split, source.mean, source.std, BATCH,
                                   range(count // BATCH + 2 * workers + 1), 0), workers)
    for _ in range(2 * workers + 1):  # start the processes, and leave as many ahead at the beginning as at the end
        next(stream)
    start = time.perf_counter()
    made = sum(len(batch[0]) for batch in stream)
    return made / (time.perf_counter() - start)


def print_speed(folder, options):
    """Print images/s and ratios."""
    source = load_source("folder", folder)
    result = {}
    for _ in range(options.runs):
        for workers in (1, 2):
            for kind, timed in (("bare", time_bare), ("batches", time_batches)):
                result.setdefault((kind, workers), []).append(timed(source, options.corruption, workers))
    for workers in (1, 2):
        ratios = [ours / theirs for ours, theirs in zip(result["batches", workers], result["bare", workers],
                                                        strict=True)]
        print(f"{workers} processes: batches {statistics.median(result['batches', workers]):.0f} images/s, decoding "
              f"and {options.corruption} alone {statistics.median(result['bare', workers]):.0f}; ratio "
              f"{statistics.median(ratios):.2f}")
    gains = [double / single for single, double in zip(result["batches", 1], result["batches", 2], strict=True)]
    print(f"two processes against one: {statistics.median(gains):.2f}")


def print_array_speed(options):
    """Print images/s out of arrays of 32x32, by one and by two threads."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (20000, 32, 32, 3), dtype=np.uint8) for _ in range(6)]
    labels = np.arange(20000, dtype=np.int32) % 10
    split = poisson_split(labels, 1800, 6, seed=0, num_val=1)
    for workers in (1, 2):
        result = []
        for _ in range(options.runs):
            source = TrainBatches(images, labels, split, (0.5,) * 3, (0.25,) * 3, BATCH, range(1000), 0)
            stream = prefetch(source, workers)
            next(stream)
            start = time.perf_counter()
            result.append(sum(len(batch[0]) for batch in stream) / (time.perf_counter() - start))
        print(f"{workers} threads: {statistics.median(result):.0f} images/s out of arrays")


def peak_memory(data_options):
    """Peak memory of a short training, GiB: of all its processes, pages that they share counted once."""
    with tempfile.TemporaryDirectory() as logs:
        process = subprocess.Popen(
            [sys.executable, os.path.join(ROOT, "main.py"), *data_options, "-m", "wideresnet10", "--method", "erm",
             "--total_epoch", "1", "--num_val", "1", "--log_dir", logs], stdout=subprocess.DEVNULL)
        peak = 0
        while process.poll() is None:
            total = 0
            for item in (psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)):
                try:
                    total += item.memory_full_info().pss
                except psutil.Error:
                    continue
            peak = max(peak, total)
            time.sleep(0.5)
    if process.returncode:
        raise SystemExit(f"the training ended with {process.returncode}")
    return peak / 2 ** 30


def print_memory(folder):
    """Print the peak memory of a training on the files and on `photos`."""
    files = peak_memory(["-d", "folder", "--data_dir", folder])
    photos = peak_memory(["-d", "photos"])
    print(f"peak memory of a training: {files:.2f} GiB on the files, {photos:.2f} GiB on photos")


def main():
    parser = Parser(description="Time how training batches of image files are made.")
    parser.add_argument("-c", "--corruption", choices=list(CORRUPTIONS), default="gaussian_noise", help="corruption")
    parser.add_argument("--images", type=positive_int, default=4000, help="files")
    parser.add_argument("--runs", type=positive_int, default=5, help="runs of each kind")
    parser.add_argument("--memory", action="store_true", help="measure memory instead")
    parser.add_argument("--arrays", action="store_true", help="time arrays instead")
    options = parser.parse_args()
    if options.arrays:
        print_array_speed(options)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(folder, options.images)
        if options.memory:
            print_memory(folder)
        else:
            print_speed(folder, options)


if __name__ == "__main__":
    main()
