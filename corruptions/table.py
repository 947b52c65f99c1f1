"""The table of all corruptions, in the order of the published benchmarks, and the named sets of them."""
import copyreg

from corruptions import blur, digital, noise, weather  # noqa: F401, they fill the table
from corruptions.bar import cover, patterns, warps  # noqa: F401, they fill it, too
from corruptions.bar_levels import ALIASES, BAR
from corruptions.registry import CORRUPTIONS, Corruption
from corruptions.severities import NEAREST, SEVERITY_CONSTANTS, severity_constants
from corruptions.utils.errors import UserError

# The fifteen corruptions of the published benchmarks, and four that were meant for validation (Hendrycks 2019).
COMMON = ("gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
          "snow", "frost", "fog", "brightness", "contrast", "elastic_transform", "pixelate", "jpeg_compression")
VALIDATION = ("gaussian_blur", "saturate", "speckle_noise", "spatter")
OTHERS = sorted(set(CORRUPTIONS) - {*COMMON, *VALIDATION, *BAR})
for name in (*COMMON, *VALIDATION, *OTHERS, *BAR):
    CORRUPTIONS[name] = CORRUPTIONS.pop(name)
ALL = tuple(name for name in CORRUPTIONS if name not in BAR)
SETS = {"common": COMMON, "all": ALL, "bar": BAR, "all+bar": ALL + BAR}


def known_names(words):
    """Return names of corruptions as the table has them, a tuple. `words` is a sequence of names and of keys of `SETS`,
    which stand for all of a set.

    Raises:
        UserError: a name is unknown.
    """
    known = tuple(ALIASES.get(name, name) for word in words for name in SETS.get(word, (word,)))
    for name in known:
        if name not in CORRUPTIONS:
            raise UserError(f"corruption {name}: unknown; choose from {', '.join([*SETS, *CORRUPTIONS])}")
    return known


def set_words(names):
    """Return a list of corruptions as text: keys of `SETS`, then the names that these sets lack, 'common, spatter'."""
    words, rest = [], list(names)
    for word, members in sorted(SETS.items(), key=lambda item: -len(item[1])):  # the largest first
        if set(members) <= set(rest):
            words.append(word)
            rest = [name for name in rest if name not in members]
    return ", ".join([*words, *rest])


def set_title(words, number):
    """Return the title of a set of corruptions, such as 'common (15 corruptions)'."""
    return f"{words} ({number} corruption{'' if number == 1 else 's'})"


def check_usable(names, severities, options):
    """Check that corruptions can be made, before the work begins.

    Args:
        names (sequence of str): corruptions.
        severities (sequence): severities, int or float.
        options (Options): options with a preset, or with None for images of every size.

    Raises:
        UserError: a preset has no constants of a corruption, a corruption has no effect between two severities, or the
            textures of frost or the backend of the motion blurs are missing.
    """
    for name in names:
        for preset in [options.preset] if options.preset else NEAREST:
            if options.preset or name in SEVERITY_CONSTANTS[preset]:
                for severity in severities:
                    severity_constants(name, severity, preset)
    if "frost" in names:
        weather.frost_textures(options.frost_dir, 1)
    if blur.uses_backend(names):
        blur.check_backend(options.backend, names)


def find_corruption(name):
    """Return the `Corruption` called `name`."""
    return CORRUPTIONS[name]


# Pickled by name, because pickle cannot find the decorated function under its own name.
copyreg.pickle(Corruption, lambda corruption: (find_corruption, (corruption.name,)))
