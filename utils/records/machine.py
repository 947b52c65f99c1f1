"""What the numbers of a run depend on besides its settings: device, precision, processors, MindSpore, and the code."""
from utils.runtime.device import MINDSPORE_VERSION
from corruptions.utils.cli import cpu_count
from utils.records.settings import MACHINE_KEYS
from utils.runtime.compile_cache import code

DIGITS = 10  # of the hash of the code


def machine(device):
    """Return a dict of plain values for the `config.json` of a run on a device."""
    return dict(zip(MACHINE_KEYS, (device, MINDSPORE_VERSION, cpu_count(), code()[:DIGITS]), strict=True))


def machine_text(config):
    """Return these entries of a `config.json`, and its `fast_math`, as text."""
    processors = config.get("processors") if config.get("device") == "CPU" else None
    return (f"{config.get('device')}{' with --fast_math' if config.get('fast_math') else ''}"
            f"{f' with {processors} processors' if processors else ''} (MindSpore {config.get('mindspore')}, code "
            f"{config.get('code')})")
