"""The identity of a set of images. Code that reuses or resumes something compares fingerprints, never names."""
from dataclasses import asdict, dataclass, fields

from corruptions.utils.errors import UserError


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a set of images, clean or corrupted, in arrays or files.

    Attributes:
        images (int): number of images.
        labels (str or None): hash of the labels; None for corrupted images, which have the labels of the clean images.
        pixels (str or None): hash of the content; None for images that are made when they are read.
        made (dict or None): how the images were made, or how they will be made when they are read; the same on disk
            and in memory (`corruptions.jobs.provenance.recipe`). None if this is not known.
    """

    images: int
    labels: str | None = None
    pixels: str | None = None
    made: dict | None = None

    @classmethod
    def from_dict(cls, values):
        """Return the fingerprint in a JSON file, or None if `values` is not a fingerprint."""
        if not isinstance(values, dict) or values.keys() != {field.name for field in fields(cls)}:
            return None
        return cls(**values) if values["made"] is None or isinstance(values["made"], dict) else None

    def to_dict(self):
        """Return plain values for a JSON file."""
        return asdict(self)


def difference(before, now):
    """Return a few words on how two sets of images differ, or None if they are the same.

    If it is known for both sets how they were made, that decides. Otherwise their pixels decide.
    """
    if before.images != now.images:
        return f"{before.images} images before, {now.images} now"
    if before.labels != now.labels:
        return "other labels"
    if None not in (before.made, now.made):
        changed = [key for key in {**before.made, **now.made} if before.made.get(key) != now.made.get(key)]
        return f"another {', '.join(changed).replace('_', ' ')}" if changed else None
    if None in (before.pixels, now.pixels):
        origins = ["made by this program" if fingerprint.made else "of unknown origin" for fingerprint in (before, now)]
        return f"{origins[0]} before, {origins[1]} now"
    return None if before.pixels == now.pixels else "other pixels"


def first_difference(stored, fingerprints):
    """Compare the fingerprints in a file with the fingerprints of the present images.

    Args:
        stored: content of the file: a dict of names to the dicts of fingerprints, unless the file is damaged.
        fingerprints (dict): names to `Fingerprint`.

    Returns:
        tuple or None: the first name with different images, and a few words on the difference; None if all are equal.
    """
    for name, now in fingerprints.items():
        before = Fingerprint.from_dict(stored.get(name)) if isinstance(stored, dict) else None
        changed = difference(before, now) if before else "it does not say which"
        if changed:
            return name, changed
    return None


# Names of the sets of images of a run: in its settings, and in error messages.
WORDS = {"train": "training", "test": "test", "train_corrupted": "corrupted training",
         "test_corrupted": "corrupted test"}


def require_same(before, now, path, advice):
    """Check that sets of images are the same as in an earlier run.

    Args:
        before (dict or None): keys of `WORDS` to the fingerprints in the settings of the run, as dicts. A set that is
            missing here is not compared.
        now (dict): keys of `WORDS` to `Fingerprint`.
        path (str): the run's folder, for the error.
        advice (str): the way out, for the error.

    Raises:
        UserError: a set of images has changed, or its stored fingerprint cannot be read.
    """
    for name, word in WORDS.items():
        stored = (before or {}).get(name)
        if stored is None or name not in now:
            continue
        earlier = Fingerprint.from_dict(stored)
        if earlier is None:
            raise UserError(f"{path}: its entry about the {word} images is damaged; put the old config.json back, or "
                            "begin another run")
        changed = difference(earlier, now[name])
        if changed:
            raise UserError(f"{path}: had other {word} images than there are now ({changed}); {advice}")
