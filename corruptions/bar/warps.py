"""C-bar's displacements of pixels, and its blur."""
import functools

import numpy as np
import scipy.sparse
from scipy import ndimage, special

from corruptions.bar.places import between, by_strips, cut, framed, one_by_one, strips
from corruptions.registry import register

TURNS = 21  # number of angles in circular_motion_blur
TURNED_AT_ONCE = 1 << 12  # pixels
REFRACTION = 4  # refractive index of the water in caustic_refraction


@register()
@one_by_one
def ripple(image, level, rng):
    """Shift rows and columns along waves.

    Their amplitude is 0.0025 `level` of the shorter side.
    """
    size = min(image.shape[:2])
    amplitude = level * 0.025 / 10 * size
    wavelengths = rng.uniform(0.1, 0.3, 2) * size
    phases = rng.uniform(0, 2 * np.pi, 2)
    frame = framed(image)

    def shifted(strip, *places):
        return between(frame, *(place + amplitude * np.sin(2 * np.pi * place / wavelength + phase)
                                for place, wavelength, phase in zip(places, wavelengths, phases, strict=True)))
    return by_strips(image, shifted)


@register()
@one_by_one
def pinch_and_twirl(image, constants, rng):
    """Pinch disks and turn them to the left or to the right.

    The constants are the level, of which 10 turns the centre by a right angle, and the number of disks along the
    shorter side.
    """
    level, along = constants
    height, width, _ = image.shape
    size = min(height, width)
    if along > size:
        raise ValueError(f"more disks than the {size} pixels along the shorter side")
    side, (down, right) = size // along, (along * length // size for length in (height, width))
    radius, amount = side / 2, level * 0.4 / 10 + 0.1
    turns = (1 - 2 * rng.randint(0, 2, (right, down)).T) * (level * (np.pi / 2) / 10)
    frame = framed(image.astype(np.float32))

    def turned(strip, rows, columns):
        """Turn the pixels of a strip; each pixel belongs to the square cell of one disk, or to none."""
        (row_cells, y), (column_cells, x) = (np.divmod(places, side) for places in (rows, columns))
        y, x = y - radius, x - radius
        distance = np.sqrt(y ** 2 + x ** 2)
        inside = (distance <= radius) & (np.round(distance, 3) != 0) & (row_cells < down) & (column_cells < right)
        share = np.where(inside, distance / radius, 1)
        pinch = np.sin(np.pi * 0.5 * share) ** -amount
        y, x = y * pinch, x * pinch
        row_cells, column_cells = (np.minimum(cells, count - 1).astype(np.int64)
                                   for cells, count in ((row_cells, down), (column_cells, right)))
        angle = turns[row_cells, column_cells] * (1 - share) ** 2
        cosine, sine = np.cos(angle), np.sin(angle)
        centre_row, centre_column = row_cells * side + radius, column_cells * side + radius
        return between(frame, np.where(inside, centre_row + (y * cosine - x * sine), rows),
                       np.where(inside, centre_column + (y * sine + x * cosine), columns))
    return by_strips(image, turned)


def caustics(rows, columns, time):
    """Return the light that a moving surface of water throws on the ground, 0 to 1.

    The published code follows the shader by Joltz0r and Dave Hoskins.

    Args:
        rows, columns (numpy.ndarray): places, (R, 1) and (S,); the pattern repeats after 1 in each direction.
        time (float): time of the moving surface.

    Returns:
        numpy.ndarray: float64 (R, S).
    """
    start_y, start_x = (places % 1 * 6.28318530718 - 250 for places in (rows, columns))
    y, x, total = start_y, start_x, 1.0
    for turn in range(5):
        now = time * (1 - 3.5 / (turn + 1))
        y, x = (start_y + (np.cos(now - y) + np.sin(now + x)), start_x + (np.sin(now - x) + np.cos(now + y)))
        length = np.sqrt((start_y / (np.sin(y + now) / 0.005)) ** 2 + (start_x / (np.cos(x + now) / 0.005)) ** 2)
        total = total + 1 / length
    total /= 5
    bright = 1.17 - total ** 1.4
    return np.clip(np.abs(bright) ** 8.0, 0, 1)


@register()
@one_by_one
def caustic_refraction(image, level, rng):
    """Distort and light the image as if seen through moving water.

    It is 0.05 `level` of the shorter side deep.
    """
    height, width, _ = image.shape
    size = min(height, width)
    time = rng.uniform(0.5, 2)
    scale = rng.uniform(0.75, 1.25) * size
    depth, lighting = level * (0.5 * size) / 10, level * 2 / 10
    water = np.empty((height, width))
    for strip, rows, columns in strips(height, width):
        water[strip] = caustics(rows / scale, columns / scale, time)
    water = np.pad(ndimage.gaussian_filter(water, 1), 1)
    frame = framed(image.astype(np.float32) / 255)

    def refracted(strip, rows, columns):
        near = water[int(rows[0, 0]):int(rows[-1, 0]) + 3]  # one more row on both sides
        down, right = near[2:, 1:-1] - near[:-2, 1:-1], near[1:-1, 2:] - near[1:-1, :-2]
        slope = down ** 2 + right ** 2
        upright, slope = 1 / np.sqrt(slope + 1), np.sqrt(slope)
        bent = np.arcsin(np.sin(np.arccos(upright)) / REFRACTION)
        # The ray comes from above and becomes cos(bent) n + sin(bent) m. n is the normal; m is at right angles to n and
        # coplanar with n and the ray. Where the water is nearly flat, the ray goes straight on.
        with np.errstate(invalid="ignore"):
            shift = np.cos(bent) * upright - np.sin(bent) * upright / slope
        shift = np.where(upright >= 1 - 1e-3, 0, shift)
        rows, columns = (places + np.round(shift * tilt * depth, 3)
                         for places, tilt in ((rows, down), (columns, right)))
        values = between(frame, rows, columns)
        for lit in (-right * lighting, down * lighting):  # one after the other, to round as the published class
            values += lit[..., None].astype(np.float32)
        return np.clip(values, 0, 1).astype(np.float64) * 255
    return by_strips(image, refracted)


@register(colour=True)
@one_by_one
def transverse_chromatic_abberation(image, level, rng):
    """Enlarge the channels by different factors.

    They are 1, 1 + 0.025 `level` and 1 + 0.05 `level`, in any order; cubic splines smooth the result.
    """
    height, width, _ = image.shape
    scale = level * 0.5 / 10
    out = np.empty_like(image)
    for channel, factor in enumerate(np.array((1, 1 + scale / 2, 1 + scale))[rng.permutation(3)]):
        zoomed = ndimage.zoom(image[..., channel], factor, prefilter=False)
        top, left = (zoomed.shape[0] - height) // 2, (zoomed.shape[1] - width) // 2
        out[..., channel] = zoomed[top:top + height, left:left + width]
    return out


def spline_weights(share):
    """Return the cubic spline weights (K, 4) of the four pixels around a place.

    The place is `share` (K,) of the way from the second pixel to the third.
    """
    rest = 1 - share
    first, second, third = (rest * rest * rest / 6, (share * share * (share - 2) * 3 + 4) / 6,
                            (rest * rest * (rest - 2) * 3 + 4) / 6)
    weights = np.empty((len(share), 4))
    weights[:, 0], weights[:, 1], weights[:, 2], weights[:, 3] = first, second, third, 1 - first - second - third
    return weights


@functools.lru_cache(maxsize=80)  # enough for an image of 224x224, 60 MB
def rotation(height, width, angle, begin, end):
    """Return a sparse matrix for the rows `begin` to `end` of an image (height, width) that is turned about its centre.

    `angle` is in degrees. The matrix acts on the spline coefficients of the image. Places outside of the image become
    black, as in `scipy.ndimage.rotate`.
    """
    cosine, sine = special.cosdg(angle), special.sindg(angle)
    y, x = (np.arange(begin, end)[:, None] - (height - 1) / 2), np.arange(width) - (width - 1) / 2
    y, x = (cosine * y + sine * x + (height - 1) / 2).ravel(), (cosine * x - sine * y + (width - 1) / 2).ravel()
    inside = (y >= 0) & (y <= height - 1) & (x >= 0) & (x <= width - 1)

    def along(places, size):
        """Return the four neighbours of each place, mirrored at the edges, and their weights."""
        first = np.floor(places)
        neighbours = np.abs(first.astype(np.int32)[:, None] + np.arange(-1, 3, dtype=np.int32))
        return np.minimum(neighbours, 2 * (size - 1) - neighbours), spline_weights(places - first)
    (rows, row_weights), (columns, column_weights) = along(y[inside], height), along(x[inside], width)
    weights = np.einsum("ki,kj->kij", row_weights, column_weights).ravel()
    rows *= width
    indices = (rows[:, :, None] + columns[:, None, :]).ravel()
    ends = np.zeros(inside.size + 1, np.int32)
    np.cumsum(16 * inside, out=ends[1:])
    return scipy.sparse.csr_array((weights, indices, ends), (inside.size, height * width))


@register(is_random=False)
def circular_motion_blur(images, level, rngs, options):
    """Mean of the image turned by many angles.

    They are -1.5 `level` to 1.5 `level` degrees in 21 steps; the smaller ones weigh more.
    """
    count, height, width, channels = images.shape
    splines = (images.transpose(1, 2, 0, 3).astype(np.float32) / 255).astype(np.float64)
    for axis in (0, 1):
        splines = ndimage.spline_filter1d(splines, 3, axis, mode="constant")
    # A negative angle does to the mirror image what the positive angle does to the image. The lower half of the image
    # is the upper half of the image upside down.
    splines = np.stack((splines, splines[:, ::-1], splines[::-1], splines[::-1, ::-1]), axis=2)
    splines = splines.reshape(height * width, -1)
    steps = 2 * np.arange(TURNS) / (TURNS - 1) - 1
    factors = np.exp(-2 * steps ** 2)
    out, half = np.empty(images.shape, np.uint8), -(-height // 2)
    rows = max(1, TURNED_AT_ONCE // width)
    for top in range(0, half, rows):
        end = min(top + rows, half)
        upper, lower = [None] * TURNS, [None] * TURNS
        for k in range(TURNS // 2, TURNS):
            operator = rotation(height, width, steps[k] * (level * 15 / 10), top, end)
            turned = (operator @ splines).astype(np.float32).reshape(-1, width, 4, count, channels)
            upper[k], upper[TURNS - 1 - k] = turned[:, :, 0], turned[:, ::-1, 1]
            lower[k], lower[TURNS - 1 - k] = turned[::-1, ::-1, 3], turned[::-1, :, 2]
        for strip, layers in ((slice(height - end, height - top), lower), (slice(top, end), upper)):
            total = np.zeros_like(layers[0])
            for layer, factor in zip(layers, factors, strict=True):
                total += np.float32(factor) * layer
            total /= np.float32(sum(factors))
            total *= 255
            out[:, strip] = cut(total).transpose(2, 0, 1, 3)
    return out
