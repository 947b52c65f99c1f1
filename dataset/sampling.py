"""Names of the ways in which training images are drawn and cropped (`dataset/batches.py`), with what they are."""
from corruptions.utils.errors import UserError

SAMPLINGS = {
    "uniform": "all training images with equal chance",
    "balanced": "all severities with equal chance",
}

SAMPLERS = {
    "replacement": "draw each batch from all training images",
    "permutation": "use every image once in an epoch, without the last incomplete batch",
}

CROP_MODES = {
    "none": "flip only",
    "reflect_pad": "flip and crop after mirrored padding by 1/8",
    "zero_pad": "flip and crop after padding by 4 with zeros",
    "random_resized": "flip, and resize a random part, for images in files",
}

INTERPOLATIONS = {"bilinear": "linear", "bicubic": "cubic"}
CROP_AREA = (0.08, 1.0)  # area of a random resized crop, as a fraction of the image


def check_names(crop, sampling, sampler):
    """Raise a `UserError` unless the names are keys of `CROP_MODES`, `SAMPLINGS` and `SAMPLERS`."""
    for option, value, names in (("crop", crop, CROP_MODES), ("sampling", sampling, SAMPLINGS),
                                 ("sampler", sampler, SAMPLERS)):
        if value not in names:
            raise UserError(f"{option} {value}: unknown; choose from {', '.join(names)}")
