"""Published files: downloading and unpacking them."""
import glob
import os
import shutil
import tarfile

from corruptions.utils.errors import DISK_ERRORS, UserError
from corruptions.utils.files import TMP_MARK, make_folder, with_filename
from corruptions.utils.locks import file_lock


def download(url, md5, folder, missing, advice):
    """Fetch a file. Its checksum must be the published one.

    Args:
        url (str): address of the file, which ends with its name.
        md5 (str): MD5 of the file.
        folder (str): folder that the file goes into; made if needed, and removed again if the download fails.
        missing (str): name of what is missing, for the error.
        advice (str): what to do instead, for the error.

    Returns:
        str: path of the file.

    Raises:
        UserError: the file could not be fetched, or pooch, an optional package, is not installed.
        OSError: the disk is full; the error names the folder.
    """
    try:
        import pooch
    except ImportError as error:
        raise UserError(f"{missing}, and to download it takes the package pooch; pip install pooch, or "
                        f"{advice}") from error
    pooch.get_logger().setLevel("WARNING")  # the progress bar is enough
    try:
        with with_filename(folder), make_folder(folder):
            return pooch.retrieve(url, "md5:" + md5, os.path.basename(url), folder,
                                  downloader=pooch.HTTPDownloader(progressbar=True, timeout=30))
    except (ValueError, OSError) as error:  # errors of requests, which pooch uses, are OSErrors
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        raise UserError(f"{missing} and could not be downloaded ({type(error).__name__}); {advice}") from error


def unpack(archives, folder, find_root, seconds=600):
    """Unpack archives. The folder appears with all their files, or not at all.

    If several processes call this, only one unpacks.

    Args:
        archives (list of str): tar files.
        folder (str): folder to make, in the folder of the archives or another existing one.
        find_root (callable): maps the folder of what was unpacked to the folder in it that becomes `folder`. It raises
            FileNotFoundError if files are missing.
        seconds (float): time to wait for another process that unpacks.

    Raises:
        UserError: an archive is damaged or lacks files, or another process does not finish unpacking it.
        OSError: the disk is full; the error names the folder.
    """
    parent, name = os.path.split(folder)
    with with_filename(folder), file_lock(os.path.join(parent, f".{name}.lock"), folder, seconds):
        if not os.path.isdir(folder):  # another process may have unpacked it meanwhile
            _unpack(archives, folder, find_root)


def _unpack(archives, folder, find_root):
    parent, name = os.path.split(folder)
    partial = f"{TMP_MARK}.{name}"
    for leftover in glob.glob(os.path.join(glob.escape(parent), f".*{partial}")):  # of a killed process
        shutil.rmtree(leftover)
    temporary = os.path.join(parent, f".{os.getpid()}{partial}")
    try:
        for archive in archives:
            try:
                with tarfile.open(archive) as tar:
                    tar.extractall(temporary, filter="data")
            except (tarfile.TarError, EOFError) as error:
                raise UserError(f"{archive}: damaged; delete it and fetch it again") from error
        try:
            root = find_root(temporary)
        except FileNotFoundError as error:
            raise UserError(f"{archives[0]}: damaged, or without all files of the folder {name}; delete it and fetch "
                            "it again") from error
        os.sync()
        os.rename(root, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
