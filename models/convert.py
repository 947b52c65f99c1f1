"""Weights from PyTorch and back: python -m models.convert IN OUT

One of the two is a .ckpt of MindSpore, the other a `state_dict` of PyTorch (.pth, .pt) or a .safetensors file. Of
IN the content tells which it is.
"""
import os
import sys

if not __package__:  # `python models/convert.py` looks for modules in this file's folder first
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    from corruptions.utils.startup import begin_imports
    begin_imports("python -m models.convert")

from collections import Counter

import utils.runtime.device  # noqa: F401, first: it reports missing packages
from corruptions.utils.cli import Parser, or_list, positive_int, validated_by
from corruptions.utils.errors import UserError, exit_on_error
from corruptions.utils.files import read_json
from dataset.inputs import NORMALISATIONS
from models import FAMILIES, MODELS, create_model, find_model, is_model, models_list
from models.loading import check_compatible, classifier_of
from models.torch_names import COUNTER
from models.weight_files import format_of, keep_a_prefix, read_weights, write_weights
from models.zoo import weight_path
from utils.records.settings import is_run_config
from utils.records.trained import WEIGHT_SUFFIXES

KEPT_OPTIONS = ("image_size", "mean", "std", "interpolation")  # of the run of a .ckpt, in a .safetensors file


def kept_options(config):
    """Return the options of `KEPT_OPTIONS` of a run (dict of its settings), with the normalisation of its data set."""
    options = {option: config[option] for option in KEPT_OPTIONS if config.get(option) is not None}
    if config.get("dataset") in NORMALISATIONS:
        mean, std = map(list, NORMALISATIONS[config["dataset"]])
        options = {"mean": mean, "std": std, **options}
    return options


def classes_of(weights, name, network):
    """Return the number of classes in weights, according to the classifier of the network called `name`.

    Raises:
        UserError: the weights have no such classifier.
    """
    last = classifier_of(network)
    classifier_weight = weights.tensors.get(f"{last}.weight")
    if classifier_weight is None or classifier_weight.array.ndim != 2:
        way_out = keep_a_prefix(weights, network) or ("name another network with -m, or give --classes to see what "
                                                      "else differs")
        raise UserError(f"{weights.path}: does not belong to {name}, because it has no {last}.weight with two axes, "
                        f"its classifier; {way_out}")
    return len(classifier_weight.array)


def convert(source, target, model=None, classes=None):
    """Convert a file of PyTorch or a .safetensors file to a .ckpt, or a .ckpt to one of these.

    Args:
        source, target (str): the files. Their formats follow from the content (`models.weight_files.format_of`) and
            from the suffix. `source` may be 'zoo:NAME'. `target` is replaced as a whole or left as it was.
        model (str or None): network that the weights have to fit, as in `models.find_model`. None takes the network of
            the run if a .ckpt lies in the folder of a run. If there is no run either, names are mapped by rule, and
            nothing is compared.
        classes (int or None): number of logits of this network; None takes the number from the file.

    Returns:
        list of str: lines that report what was done.

    Raises:
        UserError: `source` is damaged, does not fit the network, or would run code; `target` cannot be written.
        OSError: `source` cannot be read.
    """
    source = weight_path(source)
    suffixes = [os.path.splitext(path)[1] for path in (source, target)]
    is_file, has_suffixes = os.path.isfile(source), set(suffixes) <= set(WEIGHT_SUFFIXES)
    kind = format_of(source) if is_file and has_suffixes else suffixes[0]
    if [kind, suffixes[1]].count(".ckpt") != 1 or not has_suffixes:
        content = "" if kind == suffixes[0] else f"; by its content {source} is a {kind}"
        raise UserError(f"{source}, {target}: one of the two names has to end in .ckpt, the other in "
                        f"{', '.join(WEIGHT_SUFFIXES[1:])}{content}")
    if not is_file:
        raise UserError(f"{source}: no such file")
    if os.path.realpath(source) == os.path.realpath(target):
        raise UserError(f"{target}: is the file to read; name another to write")
    config = read_json(os.path.join(os.path.dirname(source), "config.json")) if kind == ".ckpt" else None
    config = config if is_run_config(config) else {}
    if model is None and kind == ".ckpt":
        model = config.get("model") if is_model(config.get("model") or "") else None
    if model is None and classes is not None:
        raise UserError("--classes: needs a network; name it with -m")
    network = None if model is None else create_model(model, classes or 2)
    weights = read_weights(source, network)
    description = None
    if network is not None:
        if classes is None:
            classes = classes_of(weights, model, network)
            network = create_model(model, classes)
        description = f"{model} with {classes} classes"
        check_compatible(network, weights, description)
    try:
        write_weights(target, weights, network, kept_options(config))
    except OSError as error:
        raise UserError(f"{target}: cannot be written ({error.strerror or error}); name another place") from error
    return report(weights, target, description)


def report(weights, target, description):
    """Return lines that report what was converted. `description` names the network; None if nothing was compared."""
    tensors = weights.tensors
    counters = [name for name in tensors if name.rpartition(".")[2] == COUNTER]
    fits = "names mapped by rule; -m NAME would compare them with a network"
    if description is not None:
        fits = f"all of {description}, none missing"
    lines = [f"{weights.path}: {len(tensors) - len(counters)} tensors, {fits}"]
    if counters:
        lines.append(f"kept, though nothing here reads them: {len(counters)} counters {COUNTER}")
    dtypes = Counter(value.dtype for name, value in tensors.items() if name not in counters)
    changes = {"float16": "float32, exactly", "bfloat16": "float32, exactly", "float64": "float32, rounded"}
    if description is None or not target.endswith(".ckpt"):
        del changes["float64"]
    if not target.endswith(".ckpt"):
        del changes["float16"]
    lines += [f"{count} tensors of {dtype} became {changes[dtype]}" for dtype, count in dtypes.items()
              if dtype in changes]
    lines += weights.notes
    if weights.left_out:
        roots = Counter(name.partition(".")[0] for name in weights.left_out)
        lines.append("left out, not weights: " + ", ".join(
            f"{root} ({count})" if count > 1 else root for root, count in roots.items()))
    return [*lines, f"written to {target}"]


def main(argv=None):
    parser = Parser(prog="python -m models.convert", description="Turn a file with PyTorch's weights into a checkpoint "
                    "of MindSpore, or back. Nothing in a file is run, and PyTorch is not needed.")
    parser.add_argument("source", metavar="IN", help="a state_dict of PyTorch 1.6 or later (.pth, .pt), alone or in a "
                                                     "dict with other things; .safetensors; .ckpt; or zoo:NAME")
    parser.add_argument("target", metavar="OUT", help="file to write, .ckpt, or from one .pth, .pt or .safetensors")
    parser.add_argument("-m", "--model", type=or_list(models_list, validated_by(find_model)), metavar="NAME",
                        default=None,
                        help=f"network that the weights have to fit: {', '.join(MODELS)}, {FAMILIES} (default: that of "
                             "the run in whose folder a .ckpt lies; else names are mapped by rule)")
    parser.add_argument("--classes", type=positive_int, metavar="K", default=None,
                        help="classes of the network (default: as many as in the file)")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        print("\n".join(convert(args.source, args.target, args.model, args.classes)))


if __name__ == "__main__":
    main()
