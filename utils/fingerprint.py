"""The identity of a set of images. Whatever is reused or resumed compares fingerprints, and never names."""
from dataclasses import asdict, dataclass, fields

from utils.errors import UserError


@dataclass(frozen=True)
class Fingerprint:
    """The identity of a set of images, clean or corrupted, in arrays or files.

    Attributes:
        images (int): number of images.
        labels (str or None): hash of their labels; None for corrupted images, which have the labels of the clean ones.
        pixels (str or None): hash of the content; None for images that are made when they are read.
        made (dict or None): how the images were made, or will be when they are read, the same on disk and in memory
            (`corruptions.jobs.provenance.recipe`). None where nobody knows.
    """

    images: int
    labels: str | None = None
    pixels: str | None = None
    made: dict | None = None

    @classmethod
    def from_dict(cls, values):
        """The fingerprint in a JSON file, or None where `values` is none."""
        if not isinstance(values, dict) or values.keys() != {field.name for field in fields(cls)}:
            return None
        return cls(**values) if values["made"] is None or isinstance(values["made"], dict) else None

    def to_dict(self):
        """Plain values for a JSON file."""
        return asdict(self)


def difference(before, now):
    """Say in a few words how two sets of images differ; None if they are the same.

    How they were made decides where that is known of both, and otherwise their pixels.
    """
    if before.images != now.images:
        return f"{before.images} images before, {now.images} now"
    if before.labels != now.labels:
        return "other labels"
    if None not in (before.made, now.made):
        changed = [key for key in {**before.made, **now.made} if before.made.get(key) != now.made.get(key)]
        return f"another {', '.join(changed).replace('_', ' ')}" if changed else None
    if None in (before.pixels, now.pixels):
        origins = ["made by this program" if one.made else "of unknown origin" for one in (before, now)]
        return f"{origins[0]} before, {origins[1]} now"
    return None if before.pixels == now.pixels else "other pixels"


def first_difference(stored, fingerprints):
    """Compare the fingerprints in a file with those of the images that are there.

    Args:
        stored: what the file has, which is a dict of names to the dicts of fingerprints if it is not damaged.
        fingerprints (dict): names to `Fingerprint`.

    Returns:
        tuple or None: the first name whose images are others, and a few words about it; None if there is none.
    """
    for name, now in fingerprints.items():
        before = Fingerprint.from_dict(stored.get(name)) if isinstance(stored, dict) else None
        changed = difference(before, now) if before else "it does not say which"
        if changed:
            return name, changed
    return None


# The sets of images of a run, as its settings name them and as errors do.
WORDS = {"train": "training", "test": "test", "train_corrupted": "corrupted training",
         "test_corrupted": "corrupted test"}


def require_same(before, now, path, advice):
    """Make sure that sets of images are those of an earlier run.

    Args:
        before (dict or None): keys of `WORDS` to the fingerprints in the settings of the run, dicts; where a set is
            missing, nothing is known of it.
        now (dict): keys of `WORDS` to `Fingerprint`.
        path (str): the run's folder, for the error.
        advice (str): the way out, for the error.

    Raises:
        UserError: a set is another.
    """
    for name, word in WORDS.items():
        stored = (before or {}).get(name)
        if stored is None or name not in now:
            continue
        earlier = Fingerprint.from_dict(stored)
        if earlier is None:
            raise UserError(f"{path}: its settings say of the {word} images what cannot be read; put back the "
                            "config.json that it was, or begin another run")
        changed = difference(earlier, now[name])
        if changed:
            raise UserError(f"{path}: had other {word} images than there are now ({changed}); {advice}")
