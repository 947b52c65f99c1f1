"""Time the corruptions beside the published ones: python tests/benchmarks/corruptions.py PUBLISHED

PUBLISHED is a script, such as the authors' CLONE/corruptions/make_cifar_c.py, or hendrycks/robustness's, or the
folder CLONE/imagenet_c_bar of facebookresearch/augmentation-corruption. Both sides corrupt the same arrays on one core,
in turns; the functions of the scripts take and return PIL images, ours draw from a random stream of each image's own,
as the generator does. `--workers` compares one process with several instead, and `--cores` counts the hours that data
sets take, both without a script.
"""
import os
import shutil
import statistics
import sys
import tempfile
import time
from functools import partial

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
if __name__ == "__main__":  # NumPy reads them when it is imported
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402
from skimage import data  # noqa: E402

from corruptions import CORRUPTIONS, SETS, Options  # noqa: E402
from corruptions.generate import corrupt_range  # noqa: E402
from corruptions.jobs.arrays import write_arrays  # noqa: E402
from corruptions.jobs.folders import check_image_files, corrupt_folder  # noqa: E402
from corruptions.utils.checksums import array_digest  # noqa: E402
from corruptions.utils.cli import Parser, positive_int  # noqa: E402
from corruptions.utils.errors import exit_on_error  # noqa: E402
from corruptions.weather import frost_folder  # noqa: E402
from dataset.image_files import centre_crop, read_transformed  # noqa: E402
from dataset.sources.imagenet import SHORTER, SIDE  # noqa: E402
from tests.benchmarks.published import load_published, published_bar  # noqa: E402

WIDTH = max(map(len, CORRUPTIONS))


def crops(count, size):
    """Square crops of photographs, uint8 (count, size, size, 3)."""
    rng = np.random.RandomState(0)
    photos = [data.astronaut(), data.coffee(), data.chelsea()]
    images = []
    for k in range(count):
        photo = photos[k % 3]
        top, left = rng.randint(photo.shape[0] - size), rng.randint(photo.shape[1] - size)
        images.append(photo[top:top + size, left:left + size])
    return np.stack(images)


def print_row(name, milliseconds):
    theirs, ours = milliseconds
    print(f"{name:{WIDTH}s}  {theirs:12.3f}  {ours:7.3f}  {theirs / ours:6.1f}")


def compare(args):
    """Print, for each corruption, milliseconds an image of both sides and their ratio."""
    published = load_published(args.script, frost_folder(None), args.size)
    family = "bar" if os.path.isdir(args.script) else "all"
    images = crops(args.images, args.size)
    blocks = np.array_split(np.arange(args.images), args.blocks)
    rows = {}
    print(f"{'corruption':{WIDTH}s}  published ms  ours ms   ratio")
    for name in SETS[family]:
        theirs = published.get(name)
        if theirs is None:
            print(f"{name:{WIDTH}s}  needs Wand and ImageMagick")
            continue
        seconds = []
        for block in blocks:
            start = time.perf_counter()
            for k in block:
                theirs(images[k], args.severity)
            middle = time.perf_counter()
            corrupt_range(images[block[0]:block[-1] + 1], name, args.severity, 0, block[0])
            seconds.append(((middle - start) / len(block), (time.perf_counter() - middle) / len(block)))
        milliseconds = 1000 * np.median(seconds, axis=0)
        print_row(name, milliseconds)
        rows[name] = milliseconds
    print_row("sum", sum(rows.values()))
    if family == "bar":
        print_row("sum of the published ten", sum(rows[name] for name in published_bar(args.script, args.size)))


def scale(args):
    """Print how much faster `--workers` processes than one corrupt a .npy file in every way at five severities."""
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        np.save(os.path.join(folder, "images.npy"), crops(args.images, args.size))
        images = np.load(os.path.join(folder, "images.npy"), mmap_mode="r")
        images_digest = array_digest(images)

        def corrupt_all(workers):
            start = time.perf_counter()
            for name in SETS["all"]:
                paths = {k: os.path.join(folder, "out", str(k), f"{name}.npy") for k in range(1, 6)}
                write_arrays(images, paths, name, 0, Options(), workers, False, name, images_digest)
            shutil.rmtree(os.path.join(folder, "out"))
            return time.perf_counter() - start

        corrupt_all(args.workers)  # starts the processes
        for _ in range(args.blocks):
            seconds = [corrupt_all(1), corrupt_all(args.workers)]
            ratios.append(seconds[0] / seconds[1])
            print(f"1 worker {seconds[0]:.1f} s, {args.workers} workers {seconds[1]:.1f} s")
    print(f"{args.workers} workers / 1: median {statistics.median(ratios):.2f} times as fast")


def on_paper(args):
    """Measure the processor time that ImageNet's images take from file to file, and print the hours on many cores."""
    read = partial(read_transformed, transform=partial(centre_crop, side=SIDE, shorter=SHORTER))
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in"), os.path.join(folder, "out")
        os.mkdir(source)
        for k in range(args.images):
            photo = (data.astronaut(), data.coffee())[k % 2]
            top, left = k % (photo.shape[0] - 375), k % (photo.shape[1] - 500)
            Image.fromarray(photo[top:top + 375, left:left + 500]).save(os.path.join(source, f"{k}.jpg"), quality=90)
        start = time.process_time()
        check_image_files([os.path.join(source, name) for name in os.listdir(source)], read, "jpeg")
        reading = 1000 * (time.process_time() - start) / args.images
        start = time.process_time()
        corrupt_folder(source, target, SETS["all"], range(1, 6), 0, Options(), 1, "jpeg", False, False, read=read)
        total = 1000 * (time.process_time() - start) / args.images
        writing = (total - 2 * reading) / (5 * len(SETS["all"]))  # an image is read to check it, and to corrupt it
    print(f"ms to read an image of 500x375 and crop it: {reading:.1f}; to corrupt and store it: {writing:.1f}")
    print(f"{'hours on so many cores':44s}" + "".join(f"{cores:>9d}" for cores in args.cores))
    for title, images, names in (("50 000 images, 19 corruptions, 5 severities", 50000, len(SETS["all"])),
                                 ("1 281 167 images, 1 corruption, 5 severities", 1281167, 1)):
        hours = images * (2 * reading + 5 * names * writing) / 3.6e6
        print(f"{title:44s}" + "".join(f"{hours / cores:9.3f}" for cores in args.cores))


def main(argv=None):
    parser = Parser(prog="corruptions.py", description=__doc__.splitlines()[0])
    parser.add_argument("script", nargs="?", metavar="PUBLISHED", help="script of corruptions, or folder of C-bar")
    parser.add_argument("--images", type=positive_int, default=10000, help="number of images")
    parser.add_argument("--size", type=positive_int, default=32, help="side of the images; the script's own")
    parser.add_argument("--severity", type=int, choices=range(1, 6), default=3,
                        help="of the comparison with PUBLISHED; the others take all five")
    parser.add_argument("--blocks", type=positive_int, default=5, help="turns; the median counts")
    parser.add_argument("--workers", type=positive_int, default=None, help="compare this many processes with one")
    parser.add_argument("--cores", nargs="+", type=positive_int, default=None, metavar="N",
                        help="print the hours that ImageNet takes on so many, measured on a few images")
    args = parser.parse_args(argv)
    cv2.setNumThreads(1)
    with exit_on_error(parser.prog):
        if args.cores:
            on_paper(args)
        elif args.workers:
            scale(args)
        elif args.script:
            compare(args)
        else:
            parser.error("give a published script, --workers or --cores")


if __name__ == "__main__":
    main()
