"""`settings.json` in a target folder: the settings that all images there were made with."""
import os

from corruptions.jobs.provenance import textures_digest
from utils.errors import UserError
from utils.files import file_lock, is_writable, read_json, remove_temporary, write_json

SETTINGS_FILE = "settings.json"
SETTINGS_SECONDS = 60  # jobs that begin at the same time wait for each other to write the settings


def has_settings(folder, settings, besides=None):
    """Whether the folder has been written with these settings before; False if nothing is in it, or only the file
    `besides`.

    Raises:
        UserError: it was made with other settings or from other images, or has files that were made without any.
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
    either = {**settings, **stored}
    for key in ("frost_textures", "transparency"):  # a command without frost, or an earlier version, has none
        if key not in stored or key not in settings:
            either.pop(key, None)
    changed = [key for key in either if stored.get(key) != settings.get(key)]
    if changed:
        raise UserError(f"{folder}: was made with other settings ({', '.join(changed)}; see {SETTINGS_FILE} there); "
                        "name a new folder, or use the old settings")
    return True


def with_textures(stored):
    """Settings that were read. Those of an earlier version have the folder of the frost textures, not their hash."""
    folder = stored.get("frost_dir")
    stored = {key: value for key, value in stored.items() if key != "frost_dir"}
    if folder is not None:
        try:
            stored["frost_textures"] = textures_digest(folder)
        except (OSError, TypeError):
            stored["frost_textures"] = f"those that lay in {folder}"
    return stored


def write_settings(folder, settings):
    """Record settings in a folder, beside what earlier commands have recorded there, such as their frost textures."""
    stored = read_json(os.path.join(folder, SETTINGS_FILE))
    both = {**settings, **(with_textures(stored) if isinstance(stored, dict) else {})}
    if both != stored:
        write_json(os.path.join(folder, SETTINGS_FILE), both)


def use_settings(folder, settings):
    """Record settings in a folder, made where missing.

    Raises:
        UserError: as `has_settings`; or it has none and cannot be written.
    """
    os.makedirs(folder, exist_ok=True)
    if not is_writable(folder):  # all may be there nevertheless
        if not has_settings(folder, settings):
            raise UserError(f"{folder}: cannot be written; let it be written, or name another folder")
        return
    with file_lock(os.path.join(folder, ".lock"), folder, SETTINGS_SECONDS):
        remove_temporary(os.path.join(folder, SETTINGS_FILE))
        has_settings(folder, settings)
        write_settings(folder, settings)
