"""Clouds made by the diamond-square algorithm. Those of long images are made in a small part of their own memory."""
import copy
import itertools

import numpy as np

WHOLE_SIDE = 1024  # a larger cloud is made row by row
DISCARDED_AT_ONCE = 1 << 16


def clouds(height, width, decay, rngs):
    """The upper left corners of square clouds, which are scaled to 0..1 over the whole square.

    Args:
        height, width (int): of the corners; the clouds' side is the next power of two of the longer one.
        decay (float): factor by which the roughness shrinks when the squares are halved.
        rngs (list): a source of random numbers for each cloud.

    Returns:
        numpy.ndarray: float64 (N, height, width).
    """
    side = 2 ** (max(height, width) - 1).bit_length()
    grid, roughness = np.zeros((len(rngs), 1, 1)), 100.0
    whole = min(side, WHOLE_SIDE)
    draws = np.stack([rng.uniform(size=whole ** 2 - 1) for rng in rngs])
    while (count := grid.shape[1]) < whole:
        new = draws[:, count ** 2 - 1:4 * count ** 2 - 1].reshape(-1, 3, count, count)
        grid, roughness = refine(grid, scaled(new, roughness)), roughness / decay
    if side > WHOLE_SIDE:
        return np.stack([corner_by_rows(coarse, side, height, width, roughness, decay, rng)
                         for coarse, rng in zip(grid, rngs, strict=True)])
    grid -= grid.min(axis=(1, 2), keepdims=True)
    grid /= grid.max(axis=(1, 2), keepdims=True)
    return grid[:, :height, :width]


def scaled(draws, roughness):
    """The noise of a cloud that draws from 0..1 stand for."""
    noise = draws * (2 * roughness)
    noise -= roughness
    noise *= roughness
    return noise


def refine(corners, noise):
    """Halve the squares of clouds (N, side, side), which repeat beyond their borders: first come the squares' centres,
    then the middles of their upper sides, then those of their left sides, each the mean of four neighbours, with
    `noise` (N, 3, side, side).
    """
    count, side, _ = corners.shape
    fine = np.empty((count, 2 * side, 2 * side))
    fine[:, ::2, ::2] = corners
    vertical = corners + rolled(corners, 1, axis=1)
    centres = fine[:, 1::2, 1::2] = (vertical + rolled(vertical, 1, axis=2)) / 4 + noise[:, 0]
    horizontal = corners + rolled(corners, 1, axis=2)
    fine[:, ::2, 1::2] = ((centres + rolled(centres, -1, axis=1)) + horizontal) / 4 + noise[:, 1]
    fine[:, 1::2, ::2] = ((centres + rolled(centres, -1, axis=2)) + vertical) / 4 + noise[:, 2]
    return fine


def rolled(grids, first, axis):
    """`numpy.roll` in less time, so that index `first` comes first."""
    every = (slice(None),) * axis
    return np.concatenate((grids[(*every, slice(first, None))], grids[(*every, slice(first))]), axis)


def corner_by_rows(coarse, side, height, width, roughness, decay, rng):
    """Halve the squares of one cloud until its side is `side`, and scale it; all of it is made, a corner is kept.

    Rows pass through all resolutions in the order last, first, second, ...: each needs the centres above it, and those
    above the first row are in the last.
    """
    rows, count = [coarse[-1], *coarse[:-1]], len(coarse)
    while count < side:
        rows = refined_rows(rows, count, roughness, rng)
        count, roughness = 2 * count, roughness / decay
    corner = np.empty((height, width))
    smallest, largest = np.inf, -np.inf
    for index, row in enumerate(rows, start=-1):
        smallest, largest = min(smallest, row.min()), max(largest, row.max())
        if index % side < height:
            corner[index % side] = row[:width]
    corner -= smallest
    corner /= largest - smallest
    return corner


def refined_rows(rows, side, roughness, rng):
    """`refine` for one cloud (side, side), taken and returned as an iterator of rows: last, first, second, ...

    `rng` is moved past all numbers that are needed here before the first row is asked for.
    """
    centre_noise = noise_rows(side, roughness, rng, last_first=True)
    upper_noise = noise_rows(side, roughness, rng, last_first=False)
    left_noise = noise_rows(side, roughness, rng, last_first=True)

    def with_upper_sides(corners, centres_above, centres):
        total = (centres + centres_above) + (corners + rolled(corners, 1, axis=0))
        return alternate(corners, total / 4 + next(upper_noise))

    def generate(rows):
        last = corners = next(rows)
        last_centres = centres_above = None
        for corners_below in itertools.chain(rows, [last]):
            vertical = corners + corners_below
            centres = (vertical + rolled(vertical, 1, axis=0)) / 4 + next(centre_noise)
            if last_centres is None:
                last_centres = centres
            else:
                yield with_upper_sides(corners, centres_above, centres)
            yield alternate(((centres + rolled(centres, -1, axis=0)) + vertical) / 4 + next(left_noise), centres)
            corners, centres_above = corners_below, centres
        yield with_upper_sides(last, centres_above, last_centres)
    return generate(iter(rows))


def alternate(even, odd):
    row = np.empty(2 * len(even))
    row[::2], row[1::2] = even, odd
    return row


def noise_rows(side, roughness, rng, last_first):
    """The noise of `refine`, (side, side), as an iterator of rows in their order, or with the last one first.

    `rng` is moved past them at once; the rows are drawn from a copy of it.
    """
    rows = copy.deepcopy(rng)

    def draw(source):
        return scaled(source.uniform(size=side), roughness)

    skip(rng, (side - 1) * side)
    last = draw(rng)
    others = (draw(rows) for _ in range(side - 1))
    return itertools.chain([last], others) if last_first else itertools.chain(others, [last])


def skip(rng, count):
    """Move a source of random numbers past `count` of `uniform`'s: at once if it can jump, as PCG64, or by drawing."""
    if hasattr(rng, "bit_generator") and hasattr(rng.bit_generator, "advance"):
        rng.bit_generator.advance(count)
        return
    for first in range(0, count, DISCARDED_AT_ONCE):
        rng.uniform(size=min(DISCARDED_AT_ONCE, count - first))
