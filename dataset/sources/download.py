"""Download of published files that are missing."""
import os

from corruptions.utils.cli import DISK_ERRORS
from corruptions.utils.errors import UserError
from corruptions.utils.files import with_filename


def download(url, md5, folder, missing, advice):
    """Fetch a file. Its checksum must be the published one.

    Args:
        url (str): address of the file, which ends with its name.
        md5 (str): MD5 of the file.
        folder (str): folder that the file goes into; made if needed.
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
        with with_filename(folder):
            os.makedirs(folder, exist_ok=True)
            return pooch.retrieve(url, "md5:" + md5, os.path.basename(url), folder,
                                  downloader=pooch.HTTPDownloader(progressbar=True, timeout=30))
    except (ValueError, OSError) as error:  # errors of requests, which pooch uses, are OSErrors
        if getattr(error, "errno", None) in DISK_ERRORS:
            raise
        raise UserError(f"{missing} and could not be downloaded ({type(error).__name__}); {advice}") from error
