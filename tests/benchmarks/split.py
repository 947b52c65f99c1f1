"""Time the Poisson split of CIFAR-10's 50 000 labels: python tests/benchmarks/split.py"""
import os
import statistics
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import numpy as np  # noqa: E402

from dataset.poisson import poisson_split  # noqa: E402

labels = np.random.RandomState(0).permutation(np.repeat(np.arange(10), 5000))
times = []
for seed in range(21):
    start = time.perf_counter()
    split = poisson_split(labels, 4000, 6, seed)
    times.append(time.perf_counter() - start)
print(f"counts {split.counts}, validation {len(split.validation)}: median {1000 * statistics.median(times):.1f} ms")
