"""Published files, fetched where they are missing."""
import os

from utils.cli import DISK_ERRORS
from utils.errors import UserError
from utils.files import with_filename


def download(url, md5, folder, missing, advice):
    """Fetch a file, whose checksum must be the published one.

    Args:
        url (str): its address, which ends with its name.
        md5 (str): its MD5.
        folder (str): where it goes; made if need be.
        missing (str): what is not there, for the error.
        advice (str): what to do instead, for the error.

    Returns:
        str: path of the file.

    Raises:
        UserError: it could not be fetched, or pooch, an optional package, is not installed.
        OSError: the disk is full; it names the folder.
    """
    try:
        import pooch
    except ImportError as error:
        raise UserError(f"{missing}, and to download it takes the package pooch; pip install pooch, or "
                        f"{advice}") from error
    pooch.get_logger().setLevel("WARNING")  # the progress bar says enough
    try:
        with with_filename(folder):
            os.makedirs(folder, exist_ok=True)
            return pooch.retrieve(url, "md5:" + md5, os.path.basename(url), folder,
                                  downloader=pooch.HTTPDownloader(progressbar=True, timeout=30))
    except (ValueError, OSError) as error:  # those of requests, which pooch uses, are OSErrors
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        raise UserError(f"{missing} and could not be downloaded ({type(error).__name__}); {advice}") from error
