"""Severity constants: for each image size that has published ones, corruption to its five values, severity 1 first.

Sources: hendrycks/robustness `make_cifar_c.py` for 32, as the SharpDRO release has it.
"""

SEVERITIES = {
    32: {
        # standard deviation of the noise, images in 0..1
        "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
        # photons per unit of brightness
        "shot_noise": (500, 250, 100, 75, 50),
        # share of values that are replaced
        "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),
        # standard deviation of the noise relative to the value
        "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),
        # added to the V of HSV
        "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
        # factor on the distance from the channel's mean
        "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
        # size of the small image relative to the image
        "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),
        # JPEG quality
        "jpeg_compression": (80, 65, 58, 50, 40),
    },
}


def constants(name, severity, shape):
    """Constants of a corruption at a severity, from the table whose size is nearest to the image's shorter side.

    Args:
        name (str): corruption.
        severity (int): 1 to 5.
        shape (tuple of int): the image's shape, height and width first.

    Returns:
        The constant or tuple of constants; its meaning is the corruption's own.
    """
    size = min(SEVERITIES, key=lambda s: abs(s - min(shape[:2])))
    return SEVERITIES[size][name][severity - 1]
