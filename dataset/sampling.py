"""Names of the ways in which training images are drawn and cropped (`dataset/batches.py`), with what they are."""
from corruptions.utils.errors import UserError

SAMPLINGS = {
    "uniform": "training images are drawn with equal chance",
    "balanced": "every distribution is drawn with equal chance",
}

SAMPLERS = {
    "replacement": "every batch is drawn anew from all training images",
    "permutation": "an epoch passes over every training image once, in a random order, and leaves out the last "
                   "incomplete batch",
}

CROP_MODES = {
    "none": "images as they are",
    "reflect_pad": "at random after mirrored padding by 1/8",
    "zero_pad": "at random after padding by 4 with zeros",
    "random_resized": "a random part of the image, resized, for images in files",
}

INTERPOLATIONS = {"bilinear": "linear", "bicubic": "cubic"}
CROP_AREA = (0.08, 1.0)  # area of a random resized crop, as a fraction of the image


def check_names(crop, sampling, sampler):
    """Raise a `UserError` unless the names are keys of `CROP_MODES`, `SAMPLINGS` and `SAMPLERS`."""
    for option, value, names in (("crop", crop, CROP_MODES), ("sampling", sampling, SAMPLINGS),
                                 ("sampler", sampler, SAMPLERS)):
        if value not in names:
            raise UserError(f"{option} {value}: unknown; there are {', '.join(names)}")
