"""Corrupted images on disk: arrays and folders, made by several processes, resumed after a stop.

No half-written file has a final name. An array is filled under a temporary name, with a journal of how far it is, and a
later run goes on from there; in a folder, the images that are there are left alone.
"""
import contextlib
import fcntl
import glob
import io
import json
import os
import sys
import zlib
from dataclasses import asdict

import numpy as np
from PIL import Image
from tqdm import tqdm

from corruptions.contract import CORRUPTIONS, check_images
from corruptions.generate import corrupt_range, image_stream, in_parallel
from utils.errors import UserError
from utils.files import PARTIAL, naming, replacing, write_json

SETTINGS_FILE = "settings.json"
JPEG_OPTIONS = {"quality": 85, "optimize": True}  # as the published scripts store images
FILES_AT_A_TIME = 16
CHUNK_PIXELS = 512 * 32 * 32  # a worker takes images of about so many pixels out of an array at a time


def lock(descriptor, path):
    """Hold an open file or folder until it is closed.

    Raises:
        UserError: another process holds it.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise UserError(f"{path}: another process is writing this; wait until it ends") from error


def read_json(path):
    """What a JSON file holds, or None where it is missing or damaged."""
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except (OSError, ValueError):
        return None


def partial_path(path):
    """Temporary name of an array that is being made."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}{PARTIAL}")


def write_arrays(images, paths, name, seed, options, workers, show_progress, title):
    """Corrupt an array and store it at each severity; the files get their names when all are whole.

    Args:
        images (numpy.ndarray): uint8 (N, H, W) or (N, H, W, C); may be memory-mapped.
        paths (dict): severity to the .npy file to write; files that are there are skipped.
        name (str): corruption.
        seed (int): seed of the images' random streams.
        options (Options): what else can be chosen.
        workers (int): processes.
        show_progress (bool): show the progress bar even where the output is no terminal.
        title (str): stands before the bar.

    Raises:
        UserError: another process is making these files.
    """
    paths = {severity: path for severity, path in paths.items() if not os.path.exists(path)}
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": images.shape})
    header = header.getvalue()
    settings = {"name": name, "seed": seed, **asdict(options), "images": zlib.crc32(np.ascontiguousarray(images))}
    size = max(1, CHUNK_PIXELS // (images.shape[1] * images.shape[2]))
    with contextlib.ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(images) * len(paths), desc=title, unit=" images",
                                       disable=False if show_progress else None))
        for severity, path in paths.items():
            os.makedirs(os.path.dirname(path), exist_ok=True)
            partial, journal = partial_path(path), partial_path(path) + ".json"
            file = stack.enter_context(open(partial, "ab"))
            lock(file, path)
            record = read_json(journal)
            is_new = os.fstat(file.fileno()).st_size < len(header)
            if is_new or record is None or record != {**settings, "done": record.get("done")}:
                record = {**settings, "done": 0}
                file.truncate(0)
                file.write(header)
                file.flush()
            bar.update(record["done"])
            tasks = ((images, slice(first, first + size), name, severity, seed, options, partial, len(header))
                     for first in range(record["done"], len(images), size))
            for count in in_parallel(workers, _corrupt_into, tasks):
                record["done"] += count
                write_json(journal, record)
                bar.update(count)
            with naming(path):
                os.fsync(file.fileno())
        for path in paths.values():
            os.replace(partial_path(path), path)
            os.remove(partial_path(path) + ".json")


def _corrupt_into(images, part, name, severity, seed, options, path, header_bytes):
    """Corrupt a part of an array and store it at its place in a .npy file; return the number of images."""
    corrupted = corrupt_range(images[part], name, severity, seed, part.start, options)
    with naming(path), open(path, "r+b") as file:
        file.seek(header_bytes + part.start * corrupted[:1].nbytes)
        file.write(corrupted.data)
    return len(corrupted)


def is_being_made(path):
    """Whether an earlier run has begun the array `path` and not ended it."""
    return os.path.exists(partial_path(path))


def list_images(folder):
    """The image files below a folder, known by their suffix, as sorted paths relative to it.

    Raises:
        UserError: the folder is missing or has none.
    """
    if not os.path.isdir(folder):
        raise UserError(f"{folder}: no such folder; name a folder of images")
    suffixes = Image.registered_extensions()
    names = [os.path.relpath(os.path.join(root, file), folder) for root, _, files in os.walk(folder) for file in files
             if os.path.splitext(file)[1].lower() in suffixes and not file.startswith(".")]
    if not names:
        raise UserError(f"{folder}: has no image in it or its sub-folders; name a folder of images")
    return sorted(names)


def read_image(path):
    """Read an image file.

    Returns:
        numpy.ndarray: uint8 (H, W) for a grey image, (H, W, 3) else; transparency is dropped.

    Raises:
        UserError: the file is missing, no image, damaged, deeper than 8 bits, or too small.
    """
    try:
        with Image.open(path) as image:
            if image.mode[0] in "IF":
                raise UserError(f"{path}: has more than 8 bits a channel; convert it to 8 bits first")
            pixels = np.asarray(image if image.mode == "L" else image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: not a readable image ({str(error).splitlines()[0]}); repair or remove it") from error
    try:
        check_images(pixels[None])
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return pixels


def write_image(path, pixels, image_format):
    """Store an image as 'jpeg' (quality 85, as the published scripts) or 'png'."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with replacing(path) as temporary:
        options = JPEG_OPTIONS if image_format == "jpeg" else {}
        Image.fromarray(pixels).save(temporary, image_format.upper(), **options)


def corrupted_name(name, image_format):
    """The name of a corrupted image: that of the original, with the suffix of the format where it has another."""
    stem, suffix = os.path.splitext(name)
    if image_format == "png":
        return stem + ".png"
    return name if suffix.lower() in (".jpg", ".jpeg") else stem + ".jpg"


def _problem(path):
    try:
        read_image(path)
    except UserError as error:
        return str(error)
    return None


def _corrupt_files(source, target, numbered, names, severities, seed, options, image_format):
    for index, file in numbered:
        stored = corrupted_name(file, image_format)
        tasks = [(name, severity, os.path.join(target, name, str(severity), stored))
                 for name in names for severity in severities]
        tasks = [task for task in tasks if not os.path.exists(task[2])]
        if tasks:
            image = read_image(os.path.join(source, file))
        for name, severity, path in tasks:
            stream = image_stream(seed, name, severity, index)
            write_image(path, CORRUPTIONS[name](image, severity, stream, options), image_format)
    return len(numbered)


def use_settings(folder, settings):
    """Record settings in a folder, made where missing.

    Raises:
        UserError: the folder has other settings, or files that were made without any.
    """
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, SETTINGS_FILE)
    stored = read_json(path)
    if stored is None and any(not entry.startswith(".") for entry in os.listdir(folder)):
        raise UserError(f"{folder}: has files, but no {SETTINGS_FILE} that says how they were made; name a new folder")
    if stored is not None and stored != settings:
        changed = ", ".join(key for key in settings if stored.get(key) != settings[key])
        raise UserError(f"{folder}: was made with other settings ({changed}; see {SETTINGS_FILE} there); "
                        "name a new folder, or use the old settings")
    if stored is None:
        write_json(path, settings)


def corrupt_folder(source, target, names, severities, seed, options, workers, image_format, skip_bad, show_progress):
    """Corrupt the images of a folder: SOURCE/CLASS/FILE becomes TARGET/CORRUPTION/SEVERITY/CLASS/FILE.

    All images are read once before anything is written. Image i of the sorted list draws from the stream of (seed,
    corruption, severity, i).

    Args:
        source, target (str): folders.
        names (list of str): corruptions.
        severities (list of int): each 1 to 5.
        seed (int): seed of the random streams.
        options (Options): what else can be chosen.
        workers (int): processes.
        image_format (str): 'jpeg' or 'png'.
        skip_bad (bool): leave out files that cannot be read, with a warning.
        show_progress (bool): show progress bars even where the output is no terminal.

    Raises:
        UserError: an image cannot be read, or the target has other settings.
    """
    if os.path.commonpath([os.path.realpath(source), os.path.realpath(target)]) == os.path.realpath(source):
        raise UserError(f"{target}: lies inside the source {source}; name a folder outside of it")
    files = list_images(source)
    hidden = False if show_progress else None
    problems = {}
    checks = in_parallel(workers, _problem, ((os.path.join(source, file),) for file in files))
    for file, problem in zip(files, tqdm(checks, "checking", len(files), unit=" images", disable=hidden), strict=True):
        if problem:
            problems[file] = problem
    if problems and not skip_bad:
        raise UserError(f"{next(iter(problems.values()))}; or pass --skip-bad ({len(problems)} of {len(files)} files)")
    for problem in problems.values():
        print(f"warning: skipped {problem}", file=sys.stderr)
    same_name = len(files) - len({corrupted_name(file, image_format) for file in files})
    if same_name:
        raise UserError(f"{source}: {same_name} files would get the name of another that differs in its suffix; "
                        "rename them")

    numbered = [(index, file) for index, file in enumerate(files) if file not in problems]
    os.makedirs(target, exist_ok=True)
    folder = os.open(target, os.O_RDONLY)
    try:
        lock(folder, target)
        use_settings(target, {"seed": seed, **asdict(options), "format": image_format})
        for leftover in glob.glob(os.path.join(glob.escape(target), "**", f".*{PARTIAL}.*"), recursive=True,
                                  include_hidden=True):
            os.remove(leftover)
        groups = [numbered[k:k + FILES_AT_A_TIME] for k in range(0, len(numbered), FILES_AT_A_TIME)]
        results = in_parallel(workers, _corrupt_files, (
            (source, target, group, names, severities, seed, options, image_format) for group in groups))
        with tqdm(total=len(numbered), desc="corrupting", unit=" images", disable=hidden) as bar:
            for count in results:
                bar.update(count)
    finally:
        os.close(folder)
