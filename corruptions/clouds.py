"""Clouds made by the diamond-square algorithm.

Only parts of a large cloud are computed: the corner that is needed, and the surroundings of the smallest and the
largest value. The cloud is scaled by these two values.
"""
import numpy as np

WHOLE_SIDE = 1024  # only parts of a larger cloud are computed
DISCARDED_AT_ONCE = 1 << 16
REFINED_AT_ONCE = 1 << 17  # values: few enough to stay in the processor's cache
GAP = 512  # skipping fewer numbers takes longer than drawing them
REACH = 2  # the values in a square depend only on corners at most this many squares away from its own


def clouds(height, width, decay, rngs):
    """Return the upper left corners of square clouds; each cloud is scaled to 0..1 over the whole square.

    Args:
        height, width (int): size of the corners; the side of the clouds is the longer one, rounded up to a power of
            two.
        decay (float): factor by which the roughness shrinks when the squares are halved.
        rngs (list): a random number generator for each cloud.

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
    """Return the noise of a cloud for draws from 0..1; the noise overwrites the draws."""
    draws *= 2 * roughness
    draws -= roughness
    draws *= roughness
    return draws


def refine(corners, noise):
    """Halve the squares of clouds (N, H, W), which repeat beyond their borders.

    First come the centres of the squares, then the middles of their upper sides, then the middles of their left sides.
    Each new value is the mean of four neighbours plus its `noise` (N, 3, H, W).
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
    """Roll grids as `numpy.roll` does, in less time, so that index `first` comes first."""
    every = (slice(None),) * axis
    return np.concatenate((grids[(*every, slice(first, None))], grids[(*every, slice(first))]), axis)


def corner_in_parts(grid, side, height, width, roughness, decay, rng):
    """Halve the squares of one cloud, `grid`, until its side is `side`, and scale it; return its upper left corner.

    Corners keep their values when squares are halved, and the noise is bounded. So most squares can never get a value
    beyond the present smallest and largest value. Only the other squares and the squares of the corner are needed:
    their rows and columns are computed where they cross.
    """
    count, grid_places = len(grid), [np.arange(len(grid))] * 2  # the places of the grid's rows and columns
    while count < side:
        halvings = (side // count).bit_length() - 1
        near = near_extremes(grid, most_change(halvings, roughness, decay))
        squares = [needed_squares(lines, near.any(axis=1 - axis), -(-length * count // side), count)
                   for axis, (lines, length) in enumerate(zip(grid_places, (height, width), strict=True))]
        finer = [around(2 * lines, -REACH, REACH + 1, 2 * count) for lines in squares]
        grid, grid_places = refined_crossing(grid, grid_places, finer, count, roughness, rng), finer
        count, roughness = 2 * count, roughness / decay
    smallest, largest = grid.min(), grid.max()
    corner = grid[:height, :width]
    corner -= smallest
    corner /= largest - smallest
    return corner


def refined_crossing(grid, kept, finer, side, roughness, rng):
    """Halve the squares of a cloud (side, side) and return some rows and columns of the finer cloud.

    `rng` is advanced past all numbers of the finer cloud.

    Args:
        grid (numpy.ndarray): (H, W), the rows and columns of the cloud at the places `kept`.
        kept, finer (list): ascending places of rows and of columns, `kept` in the cloud and `finer` in the finer cloud.
        roughness (float): roughness of the noise.

    Returns:
        numpy.ndarray: the finer cloud where the rows and columns `finer` cross.
    """
    rows, columns = [around(lines // 2, -1, 1, side) for lines in finer]  # sources of the finer rows and columns
    noise = noise_at(rows, columns, side, roughness, rng)
    result = np.empty([len(lines) for lines in finer])
    at_once = max(16, REFINED_AT_ONCE // len(finer[1]))
    for first in range(0, len(result), at_once):
        made = finer[0][first:first + at_once]
        corners = around(made // 2, -1, 1, side), columns
        fine = refine(crossing(grid, kept, corners)[None], noise[None, :, positions(rows, corners[0])])[0]
        # At the borders of the left-out parts, `fine` is meaningless; these values are not used.
        result[first:first + at_once] = crossing(fine, [around(2 * lines, 0, 1, 2 * side) for lines in corners],
                                                 (made, finer[1]))
    return result


def most_change(halvings, roughness, decay):
    """Return how far the values of a square can go beyond the corners around it in this many halvings.

    A centre adds at most its noise, `roughness` squared, to a mean of corners. The middle of a side adds as much to a
    mean of two corners and two centres.
    """
    return sum(1.5 * (roughness / decay ** halving) ** 2 for halving in range(halvings))


def near_extremes(grid, change):
    """Return where a grid's values are so near to the smallest or largest value that `change` could lead beyond it."""
    smallest, largest = grid.min(), grid.max()
    change += 1e-9 * (largest - smallest)  # for the rounding of sums
    return (grid <= smallest + change) | (grid >= largest - change)


def needed_squares(lines, near, length, count):
    """Return the rows (or columns) of squares that are still needed.

    Args:
        lines (numpy.ndarray): ascending places of the existing rows.
        near (numpy.ndarray): for each existing row, whether it has a value near an extreme.
        length (int): number of rows at the beginning that the corner needs.
        count (int): number of rows in the whole cloud.

    Returns:
        numpy.ndarray: ascending places of the needed rows.
    """
    candidates = around(lines[near], -REACH, REACH, count)
    # A candidate without all of its surroundings has been ruled out before.
    reached = (candidates[:, None] + np.arange(-REACH, REACH + 1)) % count
    return np.union1d(np.arange(length), candidates[np.isin(reached, lines).all(axis=1)])


def around(places, first, last, count):
    """Return all places at the offsets `first` to `last` from `places`, modulo `count`; ascending."""
    return np.unique((places[:, None] + np.arange(first, last + 1)) % count)


def crossing(grid, lines, wanted):
    """Return some rows and columns of a grid; `lines` has the places of all of them, `wanted` of the returned ones."""
    rows, columns = map(positions, lines, wanted)
    return grid[rows][:, columns]


def positions(places, wanted):
    """Return the indices in `places` of the places `wanted`, both ascending.

    Consecutive indices are returned as a slice, which needs no copy.
    """
    indices = np.searchsorted(places, wanted)
    return slice(indices[0], indices[-1] + 1) if indices[-1] - indices[0] + 1 == len(indices) else indices


def noise_at(rows, columns, side, roughness, rng):
    """Return the noise of `refine` in some rows and columns of a cloud (side, side).

    `rng` is advanced past all numbers of the noise. The first third of the numbers is for the centres.

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
    """Advance a random generator by `count` draws of `uniform`: by a jump if it can, as PCG64, otherwise by drawing."""
    if hasattr(rng, "bit_generator") and hasattr(rng.bit_generator, "advance"):
        rng.bit_generator.advance(count)
        return
    for first in range(0, count, DISCARDED_AT_ONCE):
        rng.uniform(size=min(DISCARDED_AT_ONCE, count - first))
