"""Time single corruptions beside other libraries: python tests/benchmarks/libraries.py -o libraries.csv

The other libraries are imagecorruptions, albumentations and kornia; those that are not installed are left out. All
libraries corrupt the same photograph on one core, in turns, at 32 and 224 pixels and at 12 megapixels. Constants are
those of severity 3 for 224 pixels, or the nearest that a library takes; at 32 pixels this project takes those for 32.
kornia gets a float tensor, whose conversion is not timed. Writes milliseconds an image, the median of several rounds. A
call of more than 5 seconds is timed once, the first time. A library whose call fails has no row.
"""
import contextlib
import os
import statistics
import sys
import time
import warnings

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

import cv2  # noqa: E402
from skimage import data  # noqa: E402

from corruptions import CORRUPTIONS, corrupt  # noqa: E402
from corruptions.utils.cli import Parser, positive_int  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.utils.files import require_writable_file, write_csv  # noqa: E402

SIZES = {"32": (32, 32, 100), "224": (224, 224, 10), "12MP": (3000, 4000, 1)}  # height, width, calls in a round
SLOW_SECONDS = 5
HERE = "here"


def imagecorruptions():
    from imagecorruptions import corrupt as published
    from imagecorruptions import get_corruption_names
    return {name: lambda image, name=name: published(image, severity=3, corruption_name=name)
            for name in get_corruption_names("all")}


def albumentations():
    import albumentations as A
    transforms = {
        "gaussian_noise": A.GaussNoise(std_range=(0.18, 0.18), p=1), "shot_noise": A.ShotNoise((0.08, 0.08), p=1),
        "impulse_noise": A.SaltAndPepper((0.09, 0.09), p=1), "defocus_blur": A.Defocus((6, 6), (0.5, 0.5), p=1),
        "glass_blur": A.GlassBlur(sigma=1, max_delta=2, iterations=3, p=1), "motion_blur": A.MotionBlur((15, 15), p=1),
        "zoom_blur": A.ZoomBlur((1.21, 1.21), (0.02, 0.02), p=1), "snow": A.RandomSnow(p=1), "fog": A.RandomFog(p=1),
        "brightness": A.RandomBrightnessContrast((0.3, 0.3), (0, 0), p=1),
        "contrast": A.RandomBrightnessContrast((0, 0), (-0.8, -0.8), p=1),
        "elastic_transform": A.ElasticTransform(alpha=12, sigma=2.4, p=1), "pixelate": A.Downscale((0.4, 0.4), p=1),
        "jpeg_compression": A.ImageCompression(quality_range=(15, 15), p=1),
        "gaussian_blur": A.GaussianBlur(0, (3, 3), p=1),
        "saturate": A.HueSaturationValue((0, 0), (60, 60), (0, 0), p=1), "spatter": A.Spatter(p=1),
        "transverse_chromatic_abberation": A.ChromaticAberration(p=1)}
    return {name: lambda image, transform=transform: transform(image=image)["image"]
            for name, transform in transforms.items()}


def kornia():
    import torch
    from kornia import augmentation as K
    torch.set_num_threads(1)
    transforms = {
        "gaussian_noise": K.RandomGaussianNoise(0, 0.18, p=1), "impulse_noise": K.RandomSaltAndPepperNoise(0.09, p=1),
        "motion_blur": K.RandomMotionBlur((15, 15), 45, 0.5, p=1), "brightness": K.RandomBrightness((1.3, 1.3), p=1),
        "contrast": K.RandomContrast((0.2, 0.2), p=1), "elastic_transform": K.RandomElasticTransform(p=1),
        "jpeg_compression": K.RandomJPEG((15, 15), p=1), "gaussian_blur": K.RandomGaussianBlur((25, 25), (3, 3), p=1),
        "saturate": K.RandomSaturation((2, 2), p=1), "snow": K.RandomSnow(p=1)}
    tensors = {}

    def call(image, transform):
        if image.shape not in tensors:  # before the time counts, in the first call
            tensors[image.shape] = torch.from_numpy(image.transpose(2, 0, 1).copy())[None] / 255
        return transform(tensors[image.shape])
    return {name: lambda image, transform=transform: call(image, transform) for name, transform in transforms.items()}


def here():
    return {name: lambda image, name=name: corrupt(image, name, 3, key=0) for name in CORRUPTIONS}


LIBRARIES = {HERE: here, "imagecorruptions": imagecorruptions, "albumentations": albumentations, "kornia": kornia}


def milliseconds(calls, image, repeats, rounds):
    """Time calls of several libraries in turns.

    Args:
        calls (dict): library to a function of an image.
        image (numpy.ndarray): uint8 (H, W, 3).
        repeats (int): calls in a round.
        rounds (int): number of rounds.

    Returns:
        dict: library to milliseconds of a call, without the libraries whose call fails.
    """
    times, slow = {}, set()
    for library, call in calls.items():  # compiles, and fills caches
        with contextlib.suppress(Exception):
            start = time.perf_counter()
            call(image)
            seconds = time.perf_counter() - start
            times[library] = [seconds] if seconds > SLOW_SECONDS else []
            slow.update([library] if seconds > SLOW_SECONDS else [])
    for _ in range(rounds):
        for library in times.keys() - slow:
            start = time.perf_counter()
            for _ in range(repeats):
                calls[library](image)
            times[library].append((time.perf_counter() - start) / repeats)
    return {library: 1000 * statistics.median(values) for library, values in times.items()}


def main():
    parser = Parser(prog="libraries.py", description="Time corruptions beside other libraries, on one core.",
                    epilog=f"libraries: {', '.join(LIBRARIES)}")
    parser.add_argument("-o", "--output", default="libraries.csv", help="table to write")
    parser.add_argument("--rounds", type=positive_int, default=5, help="rounds of each measurement")
    parser.add_argument("-c", "--corruption", nargs="+", choices=CORRUPTIONS, default=list(CORRUPTIONS), metavar="NAME",
                        help="corruptions")
    parser.add_argument("--size", nargs="+", choices=SIZES, default=list(SIZES), help="sizes")
    args = parser.parse_args()
    with exit_on_error(parser.prog):
        require_writable_file("--output", args.output)
        cv2.setNumThreads(1)
        warnings.simplefilter("ignore")
        functions = {}
        for library, load in LIBRARIES.items():
            try:
                functions[library] = load()
            except ImportError as error:
                print(f"warning: {library} is left out: {error}", file=sys.stderr)
        rows = []
        for size in args.size:
            height, width, repeats = SIZES[size]
            image = cv2.resize(data.astronaut(), (width, height), interpolation=cv2.INTER_AREA if height < 512 else
                               cv2.INTER_CUBIC)
            for name in args.corruption:
                calls = {library: table[name] for library, table in functions.items() if name in table}
                measured = milliseconds(calls, image, repeats, args.rounds)
                rows += [(name, size, library, f"{value:.3g}") for library, value in measured.items()]
                cells = "".join(f"  {library} {value:.3g}" for library, value in measured.items())
                print(f"{size:5s} {name:32s}{cells}", flush=True)
        write_csv(args.output, dict(zip(("corruption", "size", "library", "milliseconds"), zip(*rows, strict=True),
                                        strict=True)))


if __name__ == "__main__":
    main()
