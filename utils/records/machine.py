"""What the last bits of a run depend on besides its settings: the device, its precision, the processors, MindSpore."""
from utils.runtime.device import MINDSPORE_VERSION
from corruptions.utils.cli import cpu_count


def machine(device):
    """Return a dict of plain values for the `config.json` of a run on a device."""
    return {"device": device, "mindspore": MINDSPORE_VERSION, "processors": cpu_count()}


def machine_text(config):
    """Return these entries of a `config.json`, and its `fast_math`, as text."""
    processors = config.get("processors") if config.get("device") == "CPU" else None
    return (f"{config.get('device')}{' with --fast_math' if config.get('fast_math') else ''}"
            f"{f' with {processors} processors' if processors else ''} (MindSpore {config.get('mindspore')})")
