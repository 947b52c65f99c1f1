"""Find the weights among everything that a training program has put into a file."""
import functools
import os
from collections import Counter
from dataclasses import dataclass, field, replace

from corruptions.utils.errors import UserError
from models.torch_files import refusal
from models.torch_names import torch_name
from models.unpickle import Placeholder, Tensor

# Keys under which training programs put a `state_dict` among other things, and names under which DataParallel and
# torch.compile have the whole network.
WRAPPERS = ("state_dict", "model_state_dict", "model_dict", "model", "net", "network", "algorithm")
SHELLS = {"module", "_orig_mod"}
FLOATS = ("float64", "float32", "float16", "bfloat16")
DEPTH = 3  # levels of nested dicts that are searched for tensors


@dataclass(frozen=True)
class Weights:
    """The content of a file.

    Attributes:
        path (str): name of the file.
        tensors (dict): PyTorch's names to `Tensor`.
        left_out (list of str): other content of the file, such as the state of an optimiser.
        prefix (str): prefix that every name has in the file and that is taken off here, such as 'module.'.
        elsewhere (list of str): names of tensors in the file that do not begin with the prefix. These are left out,
            too.
        keys (tuple of str): keys that lead to the `state_dict` from the outermost dict of a file of PyTorch.
        others (list of str): keys of other dicts of tensors beside it, such as the weights of an exponential average.
        epochs (int or None): number of epochs that a checkpoint of this project was trained; None for other files.
    """

    path: str
    tensors: dict
    left_out: list = field(default_factory=list)
    prefix: str = ""
    elsewhere: list = field(default_factory=list)
    keys: tuple = ()
    others: list = field(default_factory=list)
    epochs: int | None = None

    @property
    def notes(self):
        """Lines of text about what was taken from the file, and what was not."""
        return [*([self.prefix_description] if self.prefix else []),
                *([self.others_description] if self.others else [])]

    @property
    def others_description(self):
        """A line of text about other networks in the file."""
        return f"taken are the weights in {'.'.join(self.keys)}; also there: {', '.join(self.others)}"

    @property
    def prefix_description(self):
        """A line of text about the prefix."""
        if not self.elsewhere:
            return f"taken off, before every name: {self.prefix}"
        parts = part_names(self.elsewhere, self.prefix)
        return f"taken are the names that begin with {self.prefix}, without it; left out: {parts}"


def part_names(names, *more_names):
    """Return how names begin, and how many begin so, as text.

    A beginning ends with the first part in which the names, or `more_names`, differ.
    """
    shared = "".join(os.path.commonprefix([*names, *more_names]).rpartition(".")[:2])
    parts = Counter(shared + "".join(name.removeprefix(shared).partition(".")[:2]) for name in names)
    return ", ".join(f"{part} ({count})" for part, count in parts.items())


def find_state_dict(path, content, network):
    """Return the weights in the content of a file of PyTorch: a `state_dict`, or a dict that has one.

    An entry that is not a tensor is left out, unless it may be a weight. The network tells whether it may be. Without a
    network, a dot in its name tells.
    """
    if isinstance(content, Placeholder):
        raise refusal(path, content)
    outer, others, keys, tensors, network_names = [], [], (), {}, weight_names(network)

    def may_be_weight(name, value):
        if not tensors:
            return keys or value.is_module or "." in name or name in WRAPPERS
        if network is not None:
            return any(name == known or name.endswith(f".{known}") for known in network_names)
        return value.is_module or value.is_tensor or "." in name
    if isinstance(content, dict):
        keys = _place(content)
        for wrapper in keys:
            for key, value in content.items():
                if key != wrapper:
                    (others if isinstance(value, dict) and _tensors(value) else outer).append(str(key))
            content = content[wrapper]
        tensors = _tensors(content)
        for name, value in content.items():
            if isinstance(value, Placeholder) and may_be_weight(str(name), value):
                raise refusal(path, value, (*keys, str(name)))
            if isinstance(name, Placeholder):
                raise refusal(path, name, (*keys, str(name)))
    if not tensors:
        raise UserError(f"{path}: holds no state_dict, neither itself nor as {', '.join(WRAPPERS)}; save one with "
                        "torch.save(module.state_dict(), ...)")
    return Weights(path, tensors, [*outer, *(str(name) for name in content if name not in tensors)], keys=keys,
                   others=others)


def _place(content, depth=DEPTH):
    """Return the keys, among `WRAPPERS`, that lead to the nearest dict with tensors."""
    inside = [key for key in WRAPPERS if isinstance(content.get(key), dict)]
    places = [(key,) for key in inside]
    if depth > 1 and not _tensors(content) and not any(_tensors(content[key]) for key in inside):
        places += [(key, *_place(content[key], depth - 1)) for key in inside]

    def has_tensors(keys):
        return bool(_tensors(functools.reduce(dict.__getitem__, keys, content)))
    return next(filter(has_tensors, places), places[0] if places else ())


def _tensors(content):
    return {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}


def weight_names(network):
    return set() if network is None else {torch_name(parameter.name) for parameter in network.get_parameters()}


def fitting_prefixes(names, wanted):
    """Count for each prefix the wanted names that follow it. A prefix ends in a dot, or is empty."""
    prefix_counts = Counter()
    for name in names:
        parts = name.split(".")
        prefix_counts.update("".join(f"{part}." for part in parts[:start]) for start in range(len(parts))
                             if ".".join(parts[start:]) in wanted)
    return prefix_counts


def without_prefix(weights, network):
    """Return `Weights` without a prefix that all names share, as the names of a module within another module do.

    The prefix is chosen so that as many names as possible are the network's without it. If no names are, or there is no
    network, only `SHELLS` are taken off. The result may not be the whole network, while a prefix that only some names
    have gives the whole network. Then these names are taken.
    """
    tensors = weights.tensors
    is_counter = {name: value.dtype not in FLOATS and value.array.size == 1 for name, value in tensors.items()}
    *parts, _ = os.path.commonprefix([name for name in tensors if not is_counter[name]]).split(".")
    network_names = weight_names(network)
    fitting = fitting_prefixes(tensors, network_names)

    def fit(prefix):
        return fitting[prefix], len(prefix) if SHELLS.issuperset(prefix.split(".")[:-1]) else 0
    prefix = max(("".join(f"{part}." for part in parts[:number]) for number in range(len(parts) + 1)), key=fit)
    whole = [known for known, number in fitting.items() if number == len(network_names)]
    is_shared = prefix in whole or len(whole) != 1
    if not is_shared:
        [prefix] = whole
    if not prefix:
        return weights
    rest = [name for name in tensors if not name.startswith(prefix)]  # if shared: counters, such as SWA's n_averaged
    network_tensors = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    return replace(weights, tensors=network_tensors, prefix=prefix,
                   left_out=[*weights.left_out, *(rest if is_shared else [])], elsewhere=[] if is_shared else rest)
