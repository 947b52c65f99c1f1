"""C-bar's shapes that cover parts of an image: squares, lines, and the light of sparkles."""
import numpy as np
from skimage.draw import line_aa

from corruptions.bar.places import by_strips, inner_random, one_by_one
from corruptions.registry import register

GREY = 128


@register()
@one_by_one
def checkerboard_cutout(image, level, rng):
    """Cover some squares of a rotated chessboard with grey.

    They are a share of 0.1 `level` of those fields.
    """
    size = min(image.shape[:2])
    angle = rng.uniform(0, 2 * np.pi)
    field = max(rng.uniform(0.1, 0.25) * size, 1)
    count = int(4 * size // field)  # number of fields along each side; on long images they repeat
    grey = inner_random(rng).uniform(size=(count, count)) < level / 10

    def covered(strip, rows, columns):
        right = (np.cos(angle) * rows + np.sin(angle) * columns) / field
        down = (-np.sin(angle) * rows + np.cos(angle) * columns) / field
        one_colour = (right % 2).astype(np.int8) == (down % 2).astype(np.int8)
        chosen = grey[right.astype(np.int64) % count, down.astype(np.int64) % count]
        return np.where((one_colour & chosen)[..., None], GREY, strip)
    return by_strips(image, covered)


@register()
@one_by_one
def lines(image, level, rng):
    """Draw grey lines, all in about the same direction.

    There are 0.1 `level` for each pixel of the shorter side.
    """
    height, width, _ = image.shape
    size = min(height, width)
    angle, variation = rng.uniform(0, 2 * np.pi), rng.uniform(0.1, 1)
    random = inner_random(rng)
    out = image.copy()
    for place in random.uniform(size=(int(level / 10 * size), 3)):
        row, column = height * place[0], width * place[1]
        direction = angle + 2 * np.pi * variation * (place[2] - 0.5)
        down, right = np.cos(direction) * size, np.sin(direction) * size
        rows, columns, shares = line_aa(int(row - down), int(column - right), int(row + down), int(column + right))
        inside = (rows >= 0) & (columns >= 0) & (rows < height) & (columns < width)
        rows, columns, shares = rows[inside], columns[inside], shares[inside, None]
        out[rows, columns] = (1 - shares) * out[rows, columns].astype(np.float32) + shares * GREY
    return out


def light(rows, columns, centres, rays, exponent):
    """Return the share of light at places, 0 to 1, where rays of different lengths start from the centres of stars.

    Args:
        rows, columns (numpy.ndarray): the places, (R, 1) and (S,).
        centres (numpy.ndarray): row and column of each star's centre, (K, 2).
        rays (list of numpy.ndarray): the lengths of each star's rays, in pixels.
        exponent (float): speed at which a ray fades; 1 means with the square of the distance.

    Returns:
        numpy.ndarray: float64 (K, R, S).
    """
    counts = np.array([len(lengths) for lengths in rays])
    around = np.concatenate([np.append(lengths, lengths[:2]) for lengths in rays])  # the last angle is the first angle
    starts = np.cumsum(counts + 2) - counts - 2
    rows, columns = rows - centres[:, 0, None, None], columns - centres[:, 1, None, None]
    share = np.arctan2(columns, rows)
    share += np.pi
    share /= 2 * np.pi
    share *= counts[:, None, None]
    first = share.astype(np.int64)
    share -= first
    first += starts[:, None, None]
    length = around[first]
    first += 1
    length += share * (around[first] - length)
    length *= length
    length /= rows ** 2 + columns ** 2 + 1e-4
    if exponent != 1:
        length **= exponent
    share -= 0.5
    share *= share
    np.subtract(1, share, out=share)
    share *= length
    return np.clip(share, 0, 1, out=share)


@register()
@one_by_one
def sparkles(image, level, rng):
    """Five white stars.

    Their rays are 0.01 `level` of the shorter side, more or less, and at least 1 pixel long.
    """
    height, width, _ = image.shape
    radius = level * 0.1 / 10 * min(height, width)
    centres = rng.uniform(0, (height, width), (5, 2))
    random = inner_random(rng)
    rays = [np.maximum(1, radius + 25 / 100 * radius * random.randn(count)) for count in rng.randint(50, 200, 5)]

    def lit(strip, rows, columns):
        for share in light(rows, columns, centres, rays, 1):
            strip = strip.astype(np.float32).astype(np.float64)  # the published class rounds between stars
            strip += share[..., None] * (255 - strip)
        return strip
    return by_strips(image, lit)


@register()
@one_by_one
def inverse_sparkles(image, level, rng):
    """Fade to white everywhere except in one star.

    Its rays are a quarter of the shorter side long; the larger `level` is, the faster it fades.
    """
    height, width, _ = image.shape
    radius = 0.25 * min(height, width)
    centre = rng.uniform(0.25, 0.75, 2) * (height, width)
    random = inner_random(rng)
    lengths = radius + 25 / 100 * radius * random.randn(rng.randint(50, 200))
    exponent = (100 - (100 - level * 65 / 10)) / 50  # rounds as the published class

    def faded(strip, rows, columns):
        [share] = light(rows, columns, centre[None], [lengths], exponent)
        return 255 + share[..., None] * (strip - 255.0)
    return by_strips(image, faded)
