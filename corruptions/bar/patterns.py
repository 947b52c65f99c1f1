"""C-bar's patterns, which are added to an image, mixed with it, or used as a mask."""
import numpy as np
import scipy.fft

from corruptions.bar.places import by_strips, cut, inner_random, one_by_one
from corruptions.registry import register

LATTICE = 256  # Perlin noise repeats after this many cells
OCTAVES = (1, 2, 4, 8, 16)


def spectral_noise(height, width, power, random):
    """Return noise with a given power at each frequency and random phases.

    The noise is float64 (height, width) with standard deviation 1.

    Args:
        height, width (int): size of the noise.
        power (callable): map from the squared distances of frequencies from the lowest one, in cycles over the shorter
            side, to their amplitudes.
        random (numpy.random.RandomState): generator that draws the phases of one half of the spectrum; the other half
            has the same phases, turned by 180 degrees.
    """
    size, half = min(height, width), width // 2
    phases = random.uniform(0, 2 * np.pi, (height, half))
    spectrum = np.empty((height, width), np.complex128)
    spectrum.real[:, :half] = np.cos(phases)
    spectrum.imag[:, :half] = np.sin(phases)
    spectrum[:, width - half:] = spectrum[::-1, half - 1::-1]
    if width % 2:
        phases = random.uniform(0, 2 * np.pi, height // 2)
        phases = np.concatenate((phases, np.zeros(height % 2), phases[::-1]))
        spectrum.real[:, half] = np.cos(phases)
        spectrum.imag[:, half] = np.sin(phases)
    rows, columns = ((np.arange(side) - side / 2) * (size / side) for side in (height, width))
    spectrum *= power(rows[:, None] ** 2 + columns ** 2)
    spectrum = np.roll(spectrum, (height // 2, half), axis=(0, 1))
    noise = scipy.fft.ifft2(spectrum, overwrite_x=True).real.copy()
    noise /= noise.std()
    return noise


@register()
@one_by_one
def blue_noise_sample(image, level, rng):
    """Blacken the pixels where blue noise is low.

    Its amplitude grows with the frequency, its standard deviation is 1, and low is below 0.3 `level` - 2.5.
    """
    noise = spectral_noise(*image.shape[:2], np.sqrt, inner_random(rng))
    return image * (noise > level * 3.0 / 10 - 2.5)[..., None]


@register()
@one_by_one
def brownish_noise(image, level, rng):
    """Add noise whose amplitude falls with the square of the frequency.

    Each channel has its own; the standard deviation is 6.4 `level` grey levels.
    """
    random = inner_random(rng)
    noise = np.stack([spectral_noise(*image.shape[:2], lambda squared: 1 / (squared + 1), random)
                      for _ in range(image.shape[2])], axis=-1)
    noise *= level * 64 / 10
    noise += image
    return cut(noise)


@register()
@one_by_one
def single_frequency_greyscale(image, level, rng):
    """Add a plane wave.

    Its amplitude is 19.6 `level` grey levels.
    """
    frequency = rng.uniform(-np.pi, np.pi)
    second_frequency = rng.uniform(-abs(frequency), abs(frequency))
    across, down = np.array((frequency, second_frequency))[rng.permutation(2)]
    phase = rng.uniform(0, 2 * np.pi)
    intensity = level * 196 / 10
    return by_strips(image, lambda strip, rows, columns:
                     strip + (intensity * np.sin(columns * across + rows * down + phase))[..., None])


@register()
@one_by_one
def cocentric_sine_waves(image, level, rng):
    """Add rings with wavy borders.

    The brightness of each rises outwards, by 12.8 `level` grey levels.
    """
    height, width, _ = image.shape
    size = min(height, width)
    right, down = rng.uniform(0, (width, height))
    waves = rng.uniform(0, 10)
    amplitude, ring_width = rng.uniform(0, size / 10), rng.uniform(0, size / 10)

    def with_rings(strip, rows, columns):
        rows, columns = rows - down, columns - right
        rings = np.sqrt(columns ** 2 + rows ** 2)
        rings += np.sin(np.arctan2(columns, rows) * waves) * amplitude
        rings %= ring_width
        rings /= ring_width
        rings -= 1 / 2
        rings *= level * 128 / 10
        return strip + rings[..., None]
    return by_strips(image, with_rings)


@register(colour=True)
@one_by_one
def plasma_noise(image, level, rng):
    """Mix with streaks of colour, waves of waves.

    They add at most 6.4 `level` grey levels, and as many of 255 parts of the image are taken away.
    """
    time = rng.uniform(0, 6 * np.pi)
    waves = rng.randint(4, 7)
    sharpness = rng.uniform(0.5, 1)
    scale = rng.uniform(0.075, 0.2) * min(image.shape[:2])
    intensity = level * 64 / 10

    def with_streaks(strip, rows, columns):
        x, y = columns / scale, rows / scale
        frequency = delay = damping = 1.0
        for _ in range(waves):
            across = np.cos(y * frequency + time / delay) / damping
            down = np.sin(x * frequency + time / delay) / damping
            x, y = x + (across - 0.3 * down), y + (down + 0.3 * across)
            frequency, delay, damping = frequency * 1.93, delay * 1.15, damping * (2.25 - sharpness)
        noise = np.stack((np.sin(x - time), np.sin((x + y + np.sin(time)) * 0.5), np.sin(y + time)), axis=-1)
        noise *= intensity
        noise += (1 - intensity / 255) * strip
        return noise
    return by_strips(image, with_streaks)


class PerlinNoise:
    """Perlin's gradient noise on a lattice of cells that repeats after `LATTICE` cells.

    Args:
        random (numpy.random.RandomState): generator that draws the gradients and their order.
    """

    def __init__(self, random):
        count = 2 * LATTICE + 2
        gradients = random.randint(0, 2 ** 31, (count, 2)) % (2 * LATTICE) - LATTICE
        # The published code divides by zero where both numbers are 0, for one gradient in 2^18.
        self.gradients = gradients / np.maximum(np.sqrt((gradients ** 2).sum(axis=1, keepdims=True)), 1)
        self.order = np.arange(count)
        for last, partner in zip(range(LATTICE - 1, -1, -1), random.randint(0, 2 ** 31, LATTICE) % LATTICE,
                                 strict=True):
            self.order[[last, partner]] = self.order[[partner, last]]
        self.order[LATTICE:] = self.order[:LATTICE + 2]
        self.gradients[LATTICE:] = self.gradients[:LATTICE + 2]

    def __call__(self, x, y):
        """Return the noise at x (R,) and y (S,), in cells; float64 (R, S)."""
        (x, near_x, step_x), (y, near_y, step_y) = self.cells(x), self.cells(y)
        x, step_x = x[:, None], step_x[:, None]

        def edge(row, y):
            """Interpolate between both ends of a cell edge in the direction of x."""
            near, far = self.order[near_x], self.order[(near_x + 1) % LATTICE]
            start, end = (self.gradients[self.order[node[:, None] + row]] for node in (near, far))
            start = x * start[..., 0] + y * start[..., 1]
            end = (x - 1) * end[..., 0] + y * end[..., 1]
            end -= start
            end *= step_x
            end += start
            return end
        first, second = edge(near_y, y), edge((near_y + 1) % LATTICE, y - 1)
        second -= first
        second *= step_y
        second += first
        second *= 1.5
        return second

    @staticmethod
    def cells(places):
        """Return the position of places in their cells, 0..1; the cell numbers; the smooth step between cell ends."""
        places = places + 16 * LATTICE
        inside = places % 1
        return inside, places.astype(np.int64) % LATTICE, inside ** 2 * (3 - 2 * inside)


@register()
@one_by_one
def perlin_noise(image, level, rng):
    """Mix with clouds, the sum of Perlin noises of five frequencies.

    They make 0.05 `level` parts of the result.
    """
    noise = PerlinNoise(inner_random(rng))
    scale = 1 / (32 * min(image.shape[:2]) / 224)
    share = level * 0.5 / 10

    def with_turbulence(strip, rows, columns):
        rows, columns = rows[:, 0] * scale, columns * scale
        turbulence = sum(np.abs(noise(octave * rows, octave * columns)) / octave for octave in OCTAVES)
        turbulence *= 0.5
        turbulence += 0.5
        turbulence = 255 * share * np.clip(turbulence, 0, 1)
        return (1 - share) * strip.astype(np.float32) + turbulence[..., None]
    return by_strips(image, with_turbulence)
