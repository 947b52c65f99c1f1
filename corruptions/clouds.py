"""Clouds made by the diamond-square algorithm. Of a large one no more is made than the corner that is needed, and what
surrounds the smallest and the largest value, to which it is scaled."""
import numpy as np

WHOLE_SIDE = 1024  # of a larger cloud only parts are made
DISCARDED_AT_ONCE = 1 << 16
REFINED_AT_ONCE = 1 << 17  # values: few enough to stay in the processor's cache
GAP = 512  # to skip fewer numbers takes longer than to draw them
REACH = 2  # what becomes of a square depends on the corners so many squares away from its own, and on no others


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
        return np.stack([corner_in_parts(coarse, side, height, width, roughness, decay, rng)
                         for coarse, rng in zip(grid, rngs, strict=True)])
    grid -= grid.min(axis=(1, 2), keepdims=True)
    grid /= grid.max(axis=(1, 2), keepdims=True)
    return grid[:, :height, :width]


def scaled(draws, roughness):
    """The noise of a cloud that draws from 0..1 stand for; it overwrites them."""
    draws *= 2 * roughness
    draws -= roughness
    draws *= roughness
    return draws


def refine(corners, noise):
    """Halve the squares of clouds (N, H, W), which repeat beyond their borders: first come the squares' centres, then
    the middles of their upper sides, then those of their left sides, each the mean of four neighbours, with `noise`
    (N, 3, H, W).
    """
    count, height, width = corners.shape
    fine = np.empty((count, 2 * height, 2 * width))
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


def corner_in_parts(grid, side, height, width, roughness, decay, rng):
    """Halve the squares of one cloud, `grid`, until its side is `side`, and scale it; a corner is returned.

    Corners stay when squares are halved, and the noise has bounds. So most squares cannot come to have a value beyond
    the smallest and the largest that are there already. The rows and columns of the others, and those of the corner,
    are made, where they cross.
    """
    count, kept = len(grid), [np.arange(len(grid))] * 2  # `kept` has the places of the grid's rows and columns
    while count < side:
        halvings = (side // count).bit_length() - 1
        near = near_extremes(grid, most_change(halvings, roughness, decay))
        squares = [needed_squares(lines, near.any(axis=1 - axis), -(-length * count // side), count)
                   for axis, (lines, length) in enumerate(zip(kept, (height, width), strict=True))]
        finer = [around(2 * lines, -REACH, REACH + 1, 2 * count) for lines in squares]
        grid, kept = refined_crossing(grid, kept, finer, count, roughness, rng), finer
        count, roughness = 2 * count, roughness / decay
    smallest, largest = grid.min(), grid.max()
    corner = grid[:height, :width]
    corner -= smallest
    corner /= largest - smallest
    return corner


def refined_crossing(grid, kept, finer, side, roughness, rng):
    """Some rows and columns of a cloud (side, side) whose squares are halved.

    Args:
        grid (numpy.ndarray): (H, W), those rows and columns of the cloud that `kept` has the places of.
        kept, finer (list): places of rows and of columns, rising, in the cloud and in the finer one.
        roughness (float): of the noise; `rng` is moved past all numbers for the finer cloud.

    Returns:
        numpy.ndarray: the finer cloud where the rows and columns `finer` cross.
    """
    rows, columns = [around(lines // 2, -1, 1, side) for lines in finer]  # what these are made from
    noise = noise_at(rows, columns, side, roughness, rng)
    result = np.empty([len(lines) for lines in finer])
    at_once = max(16, REFINED_AT_ONCE // len(finer[1]))
    for first in range(0, len(result), at_once):
        made = finer[0][first:first + at_once]
        corners = around(made // 2, -1, 1, side), columns
        fine = refine(crossing(grid, kept, corners)[None], noise[None, :, positions(rows, corners[0])])[0]
        # At the borders of what is left out it is nonsense, which is not asked for.
        result[first:first + at_once] = crossing(fine, [around(2 * lines, 0, 1, 2 * side) for lines in corners],
                                                 (made, finer[1]))
    return result


def most_change(halvings, roughness, decay):
    """How far a square's values can come beyond those of the corners around it, when it is halved so often.

    To a mean of corners a centre adds at most its noise, `roughness` squared; to a mean of two corners and two centres
    the middle of a side adds as much.
    """
    return sum(1.5 * (roughness / decay ** halving) ** 2 for halving in range(halvings))


def near_extremes(grid, change):
    """Where a grid's values are so near to the smallest or the largest that `change` could take them beyond it."""
    smallest, largest = grid.min(), grid.max()
    change += 1e-9 * (largest - smallest)  # sums are rounded
    return (grid <= smallest + change) | (grid >= largest - change)


def needed_squares(lines, near, length, count):
    """The rows (or columns) of squares that are still needed.

    Args:
        lines (numpy.ndarray): the places of the rows that are there, rising.
        near (numpy.ndarray): for each of them whether it has a value near an extreme.
        length (int): number of rows at the beginning that the corner needs.
        count (int): number of rows in the whole cloud.

    Returns:
        numpy.ndarray: their places, rising.
    """
    candidates = around(lines[near], -REACH, REACH, count)
    # A candidate whose surroundings are not all there has been ruled out before.
    reached = (candidates[:, None] + np.arange(-REACH, REACH + 1)) % count
    return np.union1d(np.arange(length), candidates[np.isin(reached, lines).all(axis=1)])


def around(places, first, last, count):
    """All places from `first` to `last` beside some, in a circle of `count`; rising."""
    return np.unique((places[:, None] + np.arange(first, last + 1)) % count)


def crossing(grid, lines, wanted):
    """Some rows and columns of a grid; `lines` and `wanted` have the places of all and of these."""
    rows, columns = map(positions, lines, wanted)
    return grid[rows][:, columns]


def positions(places, wanted):
    """Where some places stand among others, both rising; a slice if they are neighbours, which needs no copy."""
    indices = np.searchsorted(places, wanted)
    return slice(indices[0], indices[-1] + 1) if indices[-1] - indices[0] + 1 == len(indices) else indices


def noise_at(rows, columns, side, roughness, rng):
    """The noise of `refine` in some rows and columns of a cloud (side, side).

    `rng` is moved past all numbers of the noise, of which the first third is for the centres.

    Returns:
        numpy.ndarray: float64 (3, number of rows, number of columns).
    """
    breaks = np.flatnonzero(np.diff(columns) > GAP) + 1
    pieces = [(int(piece[0]), int(piece[-1] - piece[0] + 1), slice(first, first + len(piece)),
               positions(np.arange(piece[0], piece[-1] + 1), piece))
              for first, piece in zip((0, *breaks), np.split(columns, breaks), strict=True)]
    noise, place = np.empty((3, len(rows), len(columns))), 0
    for number, grid in enumerate(noise):
        for row, line in zip(rows.tolist(), grid, strict=True):
            for first, length, target, sources in pieces:
                start = (number * side + row) * side + first
                skip(rng, start - place)
                line[target] = scaled(rng.uniform(size=length), roughness)[sources]
                place = start + length
    skip(rng, 3 * side ** 2 - place)
    return noise


def skip(rng, count):
    """Move a source of random numbers past `count` of `uniform`'s: at once if it can jump, as PCG64, or by drawing."""
    if hasattr(rng, "bit_generator") and hasattr(rng.bit_generator, "advance"):
        rng.bit_generator.advance(count)
        return
    for first in range(0, count, DISCARDED_AT_ONCE):
        rng.uniform(size=min(DISCARDED_AT_ONCE, count - first))
