"""How corrupted images were made: from which clean images, and with what.

A file `NAME.json` beside a set `NAME`, an array or a folder, says so. It has the hash of the set's content, so that
other images that somebody puts in its place are not taken for it.
"""
import os

from corruptions.registry import DEFAULTS
from corruptions.weather import FROST_FILES, frost_folder
from utils.checksums import array_digest, file_checksums, new_hash
from utils.files import read_json, write_json


def options_identity(options, names):
    """The options that pixels depend on, plain values. Frost textures are known by their content, wherever they lie.

    Args:
        options (Options): what can be chosen.
        names (collection of str): the corruptions.

    Raises:
        UserError: a frost texture is missing.
    """
    identity = {"preset": options.preset, "backend": options.backend}
    if "frost" in names:
        identity["frost_textures"] = textures_digest(options.frost_dir)
    return identity


def textures_digest(folder):
    """Hash of the frost textures in a folder, or of those of imagecorruptions; 32 hexadecimal digits."""
    folder = frost_folder(folder)
    checksums = file_checksums([os.path.join(folder, name) for name in FROST_FILES])
    return new_hash(repr(checksums).encode()).hexdigest()


def recipe(clean, name, severity, seed, options=DEFAULTS, **more):
    """How corrupted images are made, plain values.

    Args:
        clean (str): hash of the clean images.
        name (str): a key of `CORRUPTIONS`.
        severity (int): 1 to 5.
        seed (int): of the random streams.
        options (Options): what can be chosen.
        more: what else the pixels depend on, such as a file's format.
    """
    return {"clean_images": clean, "corruption": name, "severity": severity, "seed": seed,
            **options_identity(options, [name]), **more}


def record_path(path):
    """The file that says how the array or the folder `path` was made."""
    return f"{path}.json"


def write_record(path, made, pixels):
    """Write down how the set `path` was made (as in `recipe`), and the hash of its content."""
    write_json(record_path(path), {"made": made, "pixels": pixels})


def read_made(path, pixels):
    """How the set `path`, whose content has the hash `pixels`, was made; None where no record says so."""
    record = read_json(record_path(path))
    is_of_it = isinstance(record, dict) and record.get("pixels") == pixels and isinstance(record.get("made"), dict)
    return record["made"] if is_of_it else None


def array_identity(images):
    """The hash of an array, and how it was made where that is known: it lies in a file with a record."""
    pixels = array_digest(images)
    path = getattr(images, "filename", None)
    return pixels, None if path is None else read_made(path, pixels)
