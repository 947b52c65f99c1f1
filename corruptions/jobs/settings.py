"""`settings.json` in a target folder: the settings that all images there were made with."""
import os

from corruptions.blur import uses_backend
from corruptions.jobs.provenance import options_identity, textures_digest
from corruptions.utils.errors import UserError
from corruptions.utils.files import is_writable, read_json, remove_temporary, write_json
from corruptions.utils.locks import file_lock

SETTINGS_FILE = "settings.json"
# Settings that count only where both commands have them: one may use none of it, or be of an earlier version.
SHARED_ONLY = ("frost_textures", "backend", "transparency")
SETTINGS_SECONDS = 60  # jobs that begin at the same time wait for each other to write the settings


def options_settings(options, names):
    """Return the settings that stand for options, as plain values: those that the pixels of `names` depend on.

    Raises:
        UserError: a frost texture is missing.
    """
    settings = options_identity(options, names)
    return settings if uses_backend(names) else {key: value for key, value in settings.items() if key != "backend"}


def has_settings(folder, settings, besides=None):
    """Whether a folder has been written with these settings before; False if it is empty or has only `besides`.

    Raises:
        UserError: the folder was made with other settings or from other images, or has files that were made without
            settings.
    """
    stored = read_json(os.path.join(folder, SETTINGS_FILE))
    if not isinstance(stored, dict):
        if any(not entry.startswith(".") and entry != besides for entry in os.listdir(folder)):
            raise UserError(f"{folder}: has files, but no {SETTINGS_FILE} that says how they were made; name a new "
                            "folder")
        return False
    stored = with_textures(stored)
    if "images" in stored and "images" in settings and stored["images"] != settings["images"]:
        raise UserError(f"{folder}: was made from other images; name a new folder")
    merged = {**settings, **stored}
    for key in SHARED_ONLY:
        if key not in stored or key not in settings:
            merged.pop(key, None)
    changed = [key for key in merged if stored.get(key) != settings.get(key)]
    if changed:
        raise UserError(f"{folder}: was made with other settings ({', '.join(changed)}; see {SETTINGS_FILE} there); "
                        "name a new folder, or use the old settings")
    return True


def with_textures(stored):
    """Return stored settings with the hash of the frost textures.

    The settings of an earlier version have the folder of the frost textures instead of the hash.
    """
    folder = stored.get("frost_dir")
    stored = {key: value for key, value in stored.items() if key != "frost_dir"}
    if folder is not None:
        try:
            stored["frost_textures"] = textures_digest(folder)
        except (OSError, TypeError):
            stored["frost_textures"] = f"those that lay in {folder}"
    return stored


def write_job_settings(folder, settings):
    """Write settings to a folder, merged with what earlier commands have recorded there, such as frost textures."""
    stored = read_json(os.path.join(folder, SETTINGS_FILE))
    both = {**settings, **(with_textures(stored) if isinstance(stored, dict) else {})}
    if both != stored:
        write_json(os.path.join(folder, SETTINGS_FILE), both)


def require_folder_name(path):
    """Raise a `UserError` if a path is not a folder, and cannot become one."""
    if os.path.lexists(path) and not os.path.isdir(path):
        raise UserError(f"{path}: is a file, or a link that leads nowhere; name a folder")


def use_settings(folder, settings):
    """Write settings to a folder, which is made if it is missing.

    Raises:
        UserError: as in `has_settings`; or the folder is a file, or has no settings and cannot be written.
    """
    require_folder_name(folder)
    os.makedirs(folder, exist_ok=True)
    if not is_writable(folder):  # everything may exist nevertheless
        if not has_settings(folder, settings):
            raise UserError(f"{folder}: cannot be written; let it be written, or name another folder")
        return
    with file_lock(os.path.join(folder, ".lock"), folder, SETTINGS_SECONDS):
        remove_temporary(os.path.join(folder, SETTINGS_FILE))
        has_settings(folder, settings)
        write_job_settings(folder, settings)
