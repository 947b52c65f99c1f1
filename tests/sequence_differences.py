"""By how much sequences here differ from the published data sets: python tests/sequence_differences.py

Prints, over four photographs of scikit-image, the mean absolute difference of the values and the share of values that
differ. The published scripts store frames as H.264 videos, with the options below. The script for 64 pixels blurs the
original photograph. OpenCV 5 computes tilt otherwise than OpenCV 4, so its line is about the installed one. Needs
ffmpeg with libx264.
"""
import os
import subprocess
import tempfile

import cv2
import numpy as np
from PIL import Image
from skimage import data

from corruptions import PERTURBATION_SETS, PERTURBATIONS, perturb
from corruptions.blur import line_blur

PHOTOS = (data.astronaut, data.chelsea, data.coffee, data.rocket)
MOVED = ("-crf", "20")  # the options for all perturbations but noise
NOISY = ("-tune", "grain")


def photograph(load, side):
    """Return a photograph, uint8 (side, side, 3)."""
    image = Image.fromarray(load())
    edge = min(image.size)
    return np.asarray(image.crop((0, 0, edge, edge)).resize((side, side), Image.Resampling.BICUBIC))


def as_video(frames, options):
    """Return frames, uint8 (F, H, W, 3), after they have been stored as a video of the published format."""
    with tempfile.TemporaryDirectory() as folder:
        for number, frame in enumerate(frames):
            Image.fromarray(frame).save(os.path.join(folder, f"img{number}.png"))
        video = os.path.join(folder, "video.mp4")
        run = ["ffmpeg", "-v", "error"]
        subprocess.run([*run, "-r", "1", "-framerate", "1", "-i", os.path.join(folder, "img%01d.png"), "-vcodec",
                        "libx264", *options, "-preset", "veryslow", "-y", video], check=True)
        raw = subprocess.run([*run, "-i", video, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], check=True,
                             capture_output=True).stdout
    return np.frombuffer(raw, np.uint8).reshape(frames.shape)


def blurred_before(image):
    """Frames of motion_blur of the published script for 64 pixels, out of an image uint8 (H, W, 3)."""
    frames = (line_blur(image, 14, 3, (number - 30) * 5, "numpy") for number in range(31))
    return np.stack([np.asarray(Image.fromarray(frame).resize((64, 64), Image.Resampling.BILINEAR))
                     for frame in frames])


def warped(image):
    """Frames of tilt by `cv2.warpPerspective` of the installed version, out of an image uint8 (H, W, 3)."""
    side = len(image)
    return np.stack([cv2.warpPerspective(image, tilt_matrix(degrees, side), (side, side))
                     for degrees in range(-15, 16)])


def tilt_matrix(degrees, side):
    """Return the matrix (3, 3) of the published script for an image of `side` pixels a side."""
    angle, far = np.deg2rad(degrees), np.sqrt(2) * side
    cosine, sine, half = np.cos(angle), np.sin(angle), side / 2
    down = np.array([[1, 0, -half], [0, 1, -half], [0, 0, 1], [0, 0, 1]])
    about_x = np.array([[1, 0, 0, 0], [0, cosine, -sine, 0], [0, sine, cosine, 0], [0, 0, 0, 1]])
    about_y = np.array([[cosine, 0, -sine, 0], [0, 1, 0, 0], [sine, 0, cosine, 0], [0, 0, 0, 1]])
    away = np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, far], [0, 0, 0, 1]])
    up = np.array([[far, 0, half, 0], [0, far, half, 0], [0, 0, 1, 0]])
    return up @ away @ about_x @ about_y @ down


def report(title, pairs):
    """Print how much two lists of frames differ."""
    gaps = [np.abs(first.astype(int) - second) for first, second in pairs]
    print(f"{title:44}{np.mean([gap.mean() for gap in gaps]):8.2f} grey levels, in "
          f"{np.mean([(gap > 0).mean() for gap in gaps]):6.1%} of values")


def main():
    large = [photograph(load, 256) for load in PHOTOS]
    for name in PERTURBATION_SETS["common"]:
        frames = [perturb(image, name, crop=224, key=number) for number, image in enumerate(large)]
        options = NOISY if PERTURBATIONS[name].is_noise else MOVED
        report(f"H.264, {name}, 224 pixels", [(one, as_video(one, options)) for one in frames])
    # Both have frames from -150 or -180 degrees to 0; those at -150, -135, ..., 0 are in both.
    pairs = []
    for load in PHOTOS:
        ours, published = perturb(photograph(load, 64), "motion_blur"), blurred_before(photograph(load, 300))
        pairs.append((ours[[5, 10, 15, 20]], published[[3, 12, 21, 30]]))
    report("motion_blur at 64, blurred at 300 pixels", pairs)
    report(f"tilt by OpenCV {cv2.__version__}, 224 pixels",
           [(perturb(image, "tilt", key=0), warped(image)) for image in (photograph(load, 224) for load in PHOTOS)])


if __name__ == "__main__":
    main()
