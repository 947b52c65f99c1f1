"""A trained network on disk, found by the folder of its run or by a checkpoint."""
import os
from dataclasses import dataclass
from functools import cached_property

from utils.errors import UserError
from utils.files import file_hash
from utils.records.checkpoint import newest_checkpoint
from utils.records.settings import read_settings

WEIGHT_SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")  # of files with weights: MindSpore's, PyTorch's, anybody's


@dataclass(frozen=True)
class TrainedNetwork:
    """A checkpoint and what is known of it.

    Attributes:
        path (str): as it was named, for errors.
        folder (str): where its records lie.
        checkpoint (str or None): path of the weights; None where a run has kept none.
        prefix (str): first part of the names of files about it, so that those of several checkpoints differ.
        config (dict): settings of its run; empty where there is no config.json.
    """

    path: str
    folder: str
    checkpoint: str | None
    prefix: str
    config: dict

    def file(self, name):
        """Path of a file about it."""
        return os.path.join(self.folder, self.prefix + name)

    @cached_property
    def sha256(self):
        """Hash of the checkpoint."""
        return file_hash(self.checkpoint)

    def setting(self, option, given, known=None):
        """The value of an option of `main.py`, from the settings of the run, or else from the command line.

        Args:
            option (str): its name.
            given (str or None): its value on the command line.
            known (collection of str or None): values that there are, if that is to be checked.

        Raises:
            UserError: the two differ, there is neither, or the value is not known.
        """
        value = self.config.get(option, given)
        if value is None:
            raise UserError(f"{self.path}: no config.json beside it says what it is; give -m and -d")
        if given not in (None, value):
            raise UserError(f"--{option} {given}: {self.path} is of {value}; leave the option out")
        if known is not None and value not in known:
            raise UserError(f"{self.path}: is of {option} {value}, and there are only {', '.join(known)}")
        return value


def find_trained(flag, path):
    """Find a network by the folder of its run, which means the newest checkpoint there, or by a checkpoint.

    Args:
        flag (str): the option that names it, for errors.
        path (str): the folder or the checkpoint.

    Returns:
        TrainedNetwork

    Raises:
        UserError: there is neither.
    """
    if os.path.isdir(path):
        config = _config(path)
        if not config:
            raise UserError(f"{flag} {path}: no run with a config.json is there; name a run's folder, LOG_DIR/NAME, or "
                            "a checkpoint")
        return TrainedNetwork(path, path, newest_checkpoint(path), "", config)
    if not os.path.isfile(path) or not path.endswith(WEIGHT_SUFFIXES):
        raise UserError(f"{flag} {path}: no such run or checkpoint; name a run's folder, LOG_DIR/NAME, or a file that "
                        f"ends in {', '.join(WEIGHT_SUFFIXES)}")
    folder, name = os.path.dirname(path) or ".", os.path.basename(path)
    stem, suffix = os.path.splitext(name)
    kind = "" if suffix == ".ckpt" else f"_{suffix[1:]}"  # a .ckpt and what it was made from may lie side by side
    return TrainedNetwork(path, folder, path, f"{stem}{kind}_", _config(folder))


def _config(folder):
    return read_settings(folder) or {}
