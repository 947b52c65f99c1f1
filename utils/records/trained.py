"""A trained network on disk, identified by the folder of its run or by a checkpoint."""
import os
from dataclasses import dataclass
from functools import cached_property

from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash
from models.zoo import PREFIX, find_zoo
from utils.records.checkpoint import newest_checkpoint
from utils.records.settings import read_settings

WEIGHT_SUFFIXES = (".ckpt", ".pth", ".pt", ".safetensors")  # files with weights of MindSpore, PyTorch, or any library

ZOO_RECORDS = os.path.join("logs", "zoo")  # folder for the evaluations of networks of the zoo


@dataclass(frozen=True)
class TrainedNetwork:
    """A checkpoint with its folder and its settings.

    Attributes:
        path (str): path as the user named it, for errors.
        folder (str): folder of its records.
        checkpoint (str or None): path of the weights; None if the run has no checkpoint.
        prefix (str): prefix of the names of its record files, so that the files of several checkpoints differ.
        config (dict): settings of its run; empty if there is no config.json.
        zoo_fingerprint (dict or None): for a network of the zoo, the `Fingerprint` of the clean test images behind the
            accuracy in its table.
    """

    path: str
    folder: str
    checkpoint: str | None
    prefix: str
    config: dict
    zoo_fingerprint: dict | None = None

    def file(self, name):
        """Return the path of a record file of this network."""
        return os.path.join(self.folder, self.prefix + name)

    @cached_property
    def sha256(self):
        """SHA-256 hash of the checkpoint."""
        return file_hash(self.checkpoint)

    def eval_batch_size(self, given=None):
        """Return the number of images in a batch of an evaluation: the given one, or the run's, or else 128."""
        return given or self.config.get("eval_batch_size", 128)

    def setting(self, option, given, known=None):
        """Return the value of an option of `main.py`, from the settings of the run, or else from the command line.

        Args:
            option (str): name of the option.
            given (str or None): value on the command line.
            known (collection of str or None): allowed values; None allows all.

        Raises:
            UserError: the two values differ, both are missing, or the value is not allowed.
        """
        value = self.config.get(option, given)
        if value is None:
            raise UserError(f"{self.path}: no config.json beside it says what it is; give -m and -d")
        if given not in (None, value):
            raise UserError(f"--{option} {given}: {self.path} was made with --{option} {value}; leave the option out")
        if known is not None and value not in known:
            raise UserError(f"{self.path}: has {option} {value}, and this version has only {', '.join(known)}")
        return value


def find_trained(flag, path):
    """Find a trained network by a checkpoint or by the folder of its run.

    A folder stands for the newest checkpoint in it.

    Args:
        flag (str): the option that names the network, for errors.
        path (str): the folder or the checkpoint, or 'zoo:NAME' for a network of `models.zoo`.

    Returns:
        TrainedNetwork

    Raises:
        UserError: `path` is neither a run nor a checkpoint.
    """
    if path.startswith(PREFIX):
        checkpoint, entry = find_zoo(flag, path)
        return TrainedNetwork(path, ZOO_RECORDS, checkpoint, f"{path.removeprefix(PREFIX)}_", entry["config"],
                              entry["fingerprint"])
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
    kind = "" if suffix == ".ckpt" else f"_{suffix[1:]}"  # a .ckpt may lie beside the file it was made from
    return TrainedNetwork(path, folder, path, f"{stem}{kind}_", _config(folder))


def _config(folder):
    return read_settings(folder) or {}
