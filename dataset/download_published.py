"""Download corrupted test sets that others have published: python dataset/download_published.py CIFAR-10-C

A test set goes into DATA_DIR/published/NAME, where `main.py --test_corrupted` reads it. The archives of a test set are
removed after they have been unpacked, so until then it takes up to twice their size.
"""
import contextlib
import os
import sys
from dataclasses import dataclass

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

if __name__ == "__main__":  # before the imports that take long
    from corruptions.utils.startup import begin_imports
    begin_imports("download_published.py")
    import utils.runtime.requirements  # noqa: F401, it reports missing packages

from corruptions import CORRUPTIONS  # noqa: E402
from corruptions.utils.cli import Parser, listing  # noqa: E402
from corruptions.utils.errors import UserError, exit_on_error  # noqa: E402
from corruptions.utils.files import file_hash, require_writable_folder  # noqa: E402
from dataset.find_published import CORRUPTION_FOLDERS  # noqa: E402
from dataset.sources.download import download, unpack  # noqa: E402

ZENODO = "https://zenodo.org/records"
UNPACK_SECONDS = 24 * 3600  # ImageNet-C has millions of files


@dataclass(frozen=True)
class Published:
    """A published test set.

    Attributes:
        summary (str): what it holds, for the help.
        record (int): its number at Zenodo.
        archives (dict): name of each of its archives to the MD5 that Zenodo states.
    """

    summary: str
    record: int
    archives: dict[str, str]


PUBLISHED = {
    "CIFAR-10-C": Published("19 corruptions of CIFAR-10, 2.9 GB", 2535967,
                            {"CIFAR-10-C.tar": "56bf5dcef84df0e2308c6dcbcbbd8499"}),
    "CIFAR-100-C": Published("19 corruptions of CIFAR-100, 2.9 GB", 3555552,
                             {"CIFAR-100-C.tar": "11f0ed0f1191edbf9fa23466ae6021d3"}),
    "Tiny-ImageNet-C": Published("the 15 common corruptions of TinyImageNet, 1.8 GB", 8206060,
                                 {"Tiny-ImageNet-C.tar": "f9c9a9dbdc11469f0b850190f7ad8be1"}),
    "Tiny-ImageNet-C-extra": Published("four more corruptions of TinyImageNet", 8206060,
                                       {"Tiny-ImageNet-C-extra.tar": "0db0588d243cf403ef93449ec52b70eb"}),
    "ImageNet-C": Published("the 15 common corruptions of ImageNet, 50 GB", 2235448,
                            {"noise.tar": "e80562d7f6c3f8834afb1ecf27252745",
                             "blur.tar": "2d8e81fdd8e07fef67b9334fa635e45c",
                             "weather.tar": "33ffea4db4d93fe4a428c40a6ce0c25d",
                             "digital.tar": "89157860d7b10d5797849337ca2e5c03"}),
    "ImageNet-C-extra": Published("four more corruptions of ImageNet, 16 GB", 2235448,
                                  {"extra.tar": "d492dfba5fc162d8ec2c3cd8ee672984"}),
}


def has_corruptions(folder):
    """Whether a folder holds arrays or folders of corruptions, or the folders of their groups."""
    names = {os.path.splitext(name)[0] for name in os.listdir(folder)}
    return not names.isdisjoint([*CORRUPTIONS, *CORRUPTION_FOLDERS])


def find_root(folder):
    """Return the folder that holds the corruptions, which is `folder` or a folder that alone lies in it.

    Raises:
        FileNotFoundError: there is none.
    """
    entries = os.listdir(folder)
    while len(entries) == 1 and entries[0] not in (*CORRUPTIONS, *CORRUPTION_FOLDERS) \
            and os.path.isdir(os.path.join(folder, entries[0])):
        folder = os.path.join(folder, entries[0])
        entries = os.listdir(folder)
    if not has_corruptions(folder):
        raise FileNotFoundError(f"{folder}: holds no corruption")
    return folder


def fetch(archive, md5, page, folder, name):
    """Return the path of an archive in `folder`. It is downloaded if it is missing.

    Raises:
        UserError: it is there and damaged, or cannot be fetched.
    """
    path = os.path.join(folder, archive)
    if not os.path.isfile(path):
        return download(f"{page}/files/{archive}", md5, folder, f"{name}: {archive} is not in {folder}",
                        f"put {archive} from {page} into {folder}")
    if file_hash(path, "md5") != md5:
        raise UserError(f"{path}: damaged (its MD5 is not {md5}); delete it, and fetch it again from {page}")
    return path


def download_published(name, data_dir):
    """Download a published test set and unpack it, unless it is there already.

    Args:
        name (str): a name of `PUBLISHED`.
        data_dir (str): folder that `published/NAME` goes into.

    Returns:
        str: the folder of the test set. It appears with all its files, or not at all.

    Raises:
        UserError: an archive cannot be fetched, or is damaged, or a folder of this name holds something else.
        OSError: the disk is full.
    """
    published = PUBLISHED[name]
    parent = os.path.join(data_dir, "published")
    folder = os.path.join(parent, name)
    if os.path.isdir(folder):
        if not has_corruptions(folder):
            raise UserError(f"{folder}: holds no corruption; remove it, or name another --data_dir")
        # A process that was killed may have left the archives.
        remove_files(os.path.join(parent, archive) for archive in published.archives)
        return folder
    require_writable_folder("--data_dir", data_dir)
    page = f"{ZENODO}/{published.record}"
    print(f"{name}: from {page}", flush=True)
    archives = [fetch(archive, md5, page, parent, name) for archive, md5 in published.archives.items()]
    print(f"{name}: unpacking", flush=True)
    unpack(archives, folder, find_root, seconds=UNPACK_SECONDS)
    remove_files(archives)
    return folder


def remove_files(paths):
    """Remove files, but for those that another process has removed."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)


def create_parser():
    parser = Parser(prog="download_published.py", description="Download corrupted test sets that others have published "
                    "and check their checksums. main.py --test_corrupted DIR tests on them. Until a test set is "
                    "unpacked, it takes twice the size of its archives.")
    parser.add_argument("names", nargs="+", choices=list(PUBLISHED), metavar="NAME",
                        help=listing(PUBLISHED))
    parser.add_argument("--data_dir", default="./data", metavar="DIR",
                        help="folder of the data sets; NAME goes into DIR/published/NAME")
    return parser


def main(argv=None):
    parser = create_parser()
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        for name in dict.fromkeys(args.names):
            folder = download_published(name, args.data_dir)
            print(f"{name} is in {folder}; --test_corrupted {folder} tests on it")


if __name__ == "__main__":
    main()
