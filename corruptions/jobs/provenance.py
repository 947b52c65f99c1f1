"""The provenance of corrupted images: the clean images and the settings that they were made from.

A file `NAME.json` beside a set `NAME`, which is an array or a folder, records the provenance. The record has the hash
of the content of the set, so that other images that somebody puts in its place are not mistaken for the set.
"""

from corruptions.registry import DEFAULTS
from corruptions.utils.checksums import array_digest, file_checksums, new_hash
from corruptions.utils.files import read_json, write_json
from corruptions.weather import frost_paths


def options_identity(options, names):
    """Return the options that pixels depend on, as plain values. Frost textures are identified by content, not by path.

    Args:
        options (Options): the options.
        names (collection of str): names of the corruptions.

    Raises:
        UserError: a frost texture is missing.
    """
    identity = {"preset": options.preset, "backend": options.backend}
    if "frost" in names:
        identity["frost_textures"] = textures_digest(options.frost_dir)
    return identity


def textures_digest(folder):
    """Return the hash of the frost textures in a folder, or in imagecorruptions; 32 hexadecimal digits."""
    checksums = file_checksums(frost_paths(folder))
    return new_hash(repr(checksums).encode()).hexdigest()


def recipe(clean, name, severity, seed, options=DEFAULTS, **more):
    """Return a description of how corrupted images are made, as plain values.

    Args:
        clean (str): hash of the clean images.
        name (str): a key of `CORRUPTIONS`.
        severity (float or list): 1 to 5; a list for an array that has several, one after the other.
        seed (int): seed of the random streams.
        options (Options): the options.
        more: other values that the pixels depend on, such as the format of a file.
    """
    return {"clean_images": clean, "corruption": name, "severity": severity, "seed": seed,
            **options_identity(options, [name]), **more}


def record_path(path):
    """Return the path of the record of how the array or the folder `path` was made."""
    return f"{path}.json"


def write_record(path, made, pixels):
    """Write the record of how the set `path` was made (as in `recipe`), with the hash of its content."""
    write_json(record_path(path), {"made": made, "pixels": pixels})


def read_made(path, pixels):
    """Return how the set `path` with the content hash `pixels` was made, or None if no record says it."""
    record = read_json(record_path(path))
    is_of_it = isinstance(record, dict) and record.get("pixels") == pixels and isinstance(record.get("made"), dict)
    return record["made"] if is_of_it else None


def recorded_pixels(path):
    """Return the content hash that the record of the set `path` has, or None if there is no record."""
    record = read_json(record_path(path))
    return record.get("pixels") if isinstance(record, dict) else None


def array_identity(images):
    """Return the hash of an array, and how it was made; the latter is None unless its file has a record."""
    pixels = array_digest(images)
    path = getattr(images, "filename", None)
    return pixels, None if path is None else read_made(path, pixels)
