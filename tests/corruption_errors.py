"""How far our corruptions are from those of the published code, for files with results of it."""
import numpy as np

from corruptions import CORRUPTIONS
from utils.errors import UserError

# Largest difference in grey levels, and the share of values that may differ at all; nothing else may. glass_blur cuts
# off the fraction of a Gaussian blur, whose last bit depends on the processor: among nine pixels of 23 it is 23 on one
# and 23 - 7e-15 on another, where the published function, run there, also gives 22.
CORRUPTION_TOLERANCES = {**dict.fromkeys(("zoom_blur", "motion_blur", "snow"), (1, 0.01)), "glass_blur": (1, 0.0001)}


def compare_corruptions(path):
    """Corrupt the images of a file in the format of `corruptions_32.npz` and compare with what the published code made.

    Args:
        path (str): holds `image-I`, `NAME-SEVERITY-I` and `seed_offset`; each result was drawn after
            `numpy.random.seed(1000 * SEVERITY + I + seed_offset)`.

    Returns:
        dict: corruption to the share of values that differ and the largest difference in grey levels.

    Raises:
        UserError: the file is missing or has another format.
    """
    results = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            offset = int(file["seed_offset"])
            for key in file.files:
                name, _, place = key.partition("-")
                if name not in CORRUPTIONS:
                    continue
                severity, index = map(int, place.split("-"))
                rng = np.random.RandomState(1000 * severity + index + offset)
                ours = CORRUPTIONS[name](file[f"image-{index}"], severity, rng)
                results.setdefault(name, []).append(np.abs(ours.astype(int) - file[key]))
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise UserError(f"{path}: missing, or not in the format of tests/golden/corruptions_32.npz "
                        f"({error})") from error
    return {name: (float(np.mean([(d > 0).mean() for d in differences])), int(max(d.max() for d in differences)))
            for name, differences in results.items()}
