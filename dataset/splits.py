"""Who is trained on at which severity, in any data set."""
from dataset.imagenet30 import listed_split
from dataset.poisson import check_split_options, make_split


def make_split_for(source, num_severity, seed, num_per_class=None, path=None, num_val=None, train_on="poisson",
                   val_share=None):
    """The split that a command line asks for: as the data set's own lists say, if it has such and images at all
    severities are trained on, or else as `make_split` returns.

    Args:
        source (ImageDataset): the data set.
        Others as in `make_split`.

    Returns:
        Split

    Raises:
        UserError: something does not fit.
    """
    if source.lists is not None and path is None and train_on == "poisson":
        check_split_options(num_per_class, path, num_val, train_on, val_share)
        return listed_split(source, num_severity, seed, num_per_class, num_val)
    if train_on == "poisson" and path is None:
        num_per_class = num_per_class or source.num_per_class
    return make_split(source.labels["train"], num_severity, seed, num_per_class, path, num_val, train_on, val_share)
