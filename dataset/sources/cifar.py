"""CIFAR-10 and CIFAR-100, read from the binary or the python archive, and downloaded if they are missing."""
import os
import pickle
import pickletools
from dataclasses import dataclass

import numpy as np

from corruptions.utils.errors import UserError
from corruptions.utils.files import file_hash
from dataset.sources.base import ImageDataset
from dataset.sources.download import download, unpack

URL = "https://www.cs.toronto.edu/~kriz/"
PIXELS = 3 * 32 * 32


@dataclass(frozen=True)
class Layout:
    """The layout of a published archive: its file names, and the MD5 that goes with it."""

    archive: str
    md5: str
    folder: str
    files: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Cifar:
    """The constants in which the two data sets differ."""

    class_names: tuple[str, ...]
    corrupted_folder: str
    label_bytes: int  # per record of the binary layout; only the last byte is used as the label
    label_key: bytes  # in a file of the python layout
    binary: Layout
    python: Layout
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @property
    def classes(self):
        """The number of classes."""
        return len(self.class_names)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can "
    "castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin "
    "elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard "
    "lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear "
    "pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark "
    "shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone "
    "television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)

CIFAR = {
    "cifar10": Cifar(
        class_names=CIFAR10_CLASSES, corrupted_folder="CIFAR-10-C", label_bytes=1, label_key=b"labels",
        binary=Layout("cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530", "cifar-10-batches-bin", {
            "train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}),
        python=Layout("cifar-10-python.tar.gz", "c58f30108f718f92721af3b95e74349a", "cifar-10-batches-py", {
            "train": tuple(f"data_batch_{i}" for i in range(1, 6)), "test": ("test_batch",)}),
        mean=(0.4914, 0.4822, 0.4465), std=(0.2471, 0.2435, 0.2616)),
    "cifar100": Cifar(
        class_names=tuple(CIFAR100_NAMES.split()), corrupted_folder="CIFAR-100-C", label_bytes=2,
        label_key=b"fine_labels",
        binary=Layout("cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8", "cifar-100-binary", {
            "train": ("train.bin",), "test": ("test.bin",)}),
        python=Layout("cifar-100-python.tar.gz", "eb9058c3a382ffc7106e4002c42a8d85", "cifar-100-python", {
            "train": ("train",), "test": ("test",)}),
        mean=(0.5071, 0.4867, 0.4408), std=(0.2675, 0.2565, 0.2761)),
}


# An array in a pickle has about six tuples. More, in each other, could crash where one is the key of a dict.
MOST_TUPLES = 32


def check_instructions(instructions, size):
    """Check the instructions of a pickle, as `pickletools.genops` gives them, before it is loaded.

    This also finds lengths beyond the end of the file.

    Args:
        instructions (iterator): the instructions.
        size (int): size of the file in bytes.

    Raises:
        pickle.UnpicklingError: the pickle could take any memory, or any time to hash a tuple that has itself in it many
            times.
    """
    before, tuples, memo, tuples_in_memo = "", 0, 0, set()
    for instruction, argument, _ in instructions:
        name = instruction.name
        if name in ("PUT", "LONG_BINPUT") and argument > size:
            raise pickle.UnpicklingError(f"it asks for room for {argument} objects")
        if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            if before.startswith("TUPLE"):
                tuples_in_memo.add(memo if argument is None else argument)
            memo += 1
        tuples += name.startswith("TUPLE")
        if tuples > MOST_TUPLES or name in ("DUP", "FROZENSET") or name.endswith("GET") and argument in tuples_in_memo:
            raise pickle.UnpicklingError("it has more tuples than arrays need")
        before = name


class StoredDtype:
    """A dtype of integers in a pickle. NumPy's own would take any state, also one that reads outside of an array."""

    def __init__(self, name, *_):
        self.dtype = np.dtype(name.decode() if isinstance(name, bytes) else name)
        if self.dtype.kind not in "iu":
            raise pickle.UnpicklingError(f"it has an array of {self.dtype}")

    def __setstate__(self, state):
        order = state[1].decode() if isinstance(state[1], bytes) else state[1]
        self.dtype = self.dtype.newbyteorder(order)


class StoredArray:
    """An array of integers in a pickle.

    Attributes:
        array (numpy.ndarray): the array, once its content has been read.
    """

    def __init__(self, *_):
        self.array = None

    def __setstate__(self, state):
        _, shape, stored, is_fortran, content = state
        self.array = np.frombuffer(content, stored.dtype).reshape(shape, order="F" if is_fortran else "C")


class ArrayUnpickler(pickle.Unpickler):
    """An unpickler that builds only plain containers and `StoredArray`, and calls nothing else that a file names."""

    def find_class(self, module, name):
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct":
            return StoredArray
        if (module, name) == ("numpy", "ndarray"):
            return name  # an argument of `_reconstruct`, which is not called
        if (module, name) == ("numpy", "dtype"):
            return StoredDtype
        if (module, name) == ("_codecs", "encode"):  # how Python 3 writes bytes for Python 2
            return lambda text, encoding: text.encode("latin1")
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_binary(path, spec):
    """Read records of label bytes and planar RGB values.

    Returns:
        tuple: images, uint8 (N, 32, 32, 3); labels, int32 (N,).

    Raises:
        UserError: the file does not have a whole number of records, or a label is out of range.
    """
    values = np.fromfile(path, np.uint8)
    record = spec.label_bytes + PIXELS
    if values.size == 0 or values.size % record:
        raise UserError(f"{path}: {values.size} bytes is not a whole number of records of {record}; "
                        "fetch the file again")
    records = values.reshape(-1, record)
    return _checked(path, records[:, spec.label_bytes:], records[:, spec.label_bytes - 1], spec)


def read_python(path, spec):
    """Read a pickled dictionary of `data` (N, 3072) and labels. The result is as in `read_binary`.

    Raises:
        UserError: the file is not a pickle of this form, or holds anything but arrays and plain containers.
    """
    try:
        with open(path, "rb") as file:
            check_instructions(pickletools.genops(file), os.fstat(file.fileno()).st_size)
            file.seek(0)
            content = ArrayUnpickler(file, encoding="bytes").load()
        images, labels = (getattr(part, "array", part) for part in (content[b"data"], content[spec.label_key]))
        if not isinstance(images, np.ndarray):
            raise pickle.UnpicklingError("its data are not an array")
        if not isinstance(labels, np.ndarray) and not all(type(label) is int for label in labels):
            raise pickle.UnpicklingError("its labels are not integers")
    except OSError:
        raise
    except Exception as error:  # a damaged pickle can raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a CIFAR batch in the python layout ({reason}); fetch the file again") from error
    return _checked(path, images, labels, spec)


def _checked(path, images, labels, spec):
    labels = np.asarray(labels)
    if (getattr(images, "dtype", None) != np.uint8 or images.shape != (len(labels), PIXELS)
            or labels.dtype.kind not in "ui" or labels.ndim != 1 or len(labels) == 0
            or labels.min() < 0 or labels.max() >= spec.classes):
        raise UserError(f"{path}: not uint8 images of {PIXELS} values, each with a label from 0 to {spec.classes - 1}; "
                        "fetch the file again")
    images = images.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images), labels.astype(np.int32)


def extract(archive, layout, data_dir):
    """Unpack a published archive. Its folder appears with all its files, or not at all.

    Raises:
        UserError: the archive is damaged, or is not the published one, or another process does not finish unpacking it.
    """
    if file_hash(archive, "md5") != layout.md5:
        raise UserError(f"{archive}: damaged, or not the published archive (its MD5 is not {layout.md5}); delete it "
                        f"and fetch it again, or unpack other images of this layout into the folder {layout.folder}")

    def find_root(temporary):
        root = os.path.join(temporary, layout.folder)
        for file in (file for files in layout.files.values() for file in files):
            os.stat(os.path.join(root, file))
        return root
    unpack([archive], os.path.join(data_dir, layout.folder), find_root)


def find_layout(name, data_dir):
    """Find the layout that has its folder in `data_dir`, unpacked or downloaded if needed. Binary comes before python.

    Returns:
        tuple: the layout; the function that reads its files.

    Raises:
        UserError: neither layout is there, and the download fails.
    """
    spec = CIFAR[name]
    readers = ((spec.binary, read_binary), (spec.python, read_python))
    for layout, reader in readers:
        if os.path.isdir(os.path.join(data_dir, layout.folder)):
            return layout, reader
    for layout, reader in readers:
        archive = os.path.join(data_dir, layout.archive)
        if os.path.isfile(archive):
            extract(archive, layout, data_dir)
            return layout, reader
    archive = download(URL + spec.binary.archive, spec.binary.md5, data_dir, f"{name} is not in {data_dir}",
                       f"put {spec.binary.archive} or {spec.python.archive} from {URL} into {data_dir}, or name "
                       "another folder with --data_dir")
    extract(archive, spec.binary, data_dir)
    return spec.binary, read_binary


def load_cifar(name, data_dir):
    """Read CIFAR-10 or CIFAR-100.

    Args:
        name (str): 'cifar10' or 'cifar100'.
        data_dir (str): folder with one of the four archives, unpacked or not. If all are missing, the binary archive is
            downloaded into it.

    Returns:
        ImageDataset: images of 32x32; CIFAR-100 has the fine labels.

    Raises:
        UserError: a file is missing or damaged.
    """
    spec = CIFAR[name]
    layout, reader = find_layout(name, data_dir)
    images, labels = {}, {}
    for part, files in layout.files.items():
        paths = [os.path.join(data_dir, layout.folder, file) for file in files]
        missing = [path for path in paths if not os.path.isfile(path)]
        if missing:
            raise UserError(f"{missing[0]}: not there; delete the folder {layout.folder} and unpack "
                            f"{layout.archive} again")
        batches = [reader(path, spec) for path in paths]
        images[part] = np.concatenate([batch[0] for batch in batches])
        labels[part] = np.concatenate([batch[1] for batch in batches])
    return ImageDataset(name, spec.corrupted_folder, spec.classes, images, labels, spec.mean, spec.std,
                        class_names=spec.class_names)
