"""Trained networks that come with the project: python -m models.zoo

`zoo:NAME` stands for one of them in --init_checkpoint, --evaluate and --baseline of main.py, and in
`models.create_model(..., pretrained="zoo:NAME")`. `zoo.json` in the folder `weights` describes them.
"""
import argparse
import os
import re
import sys

if not __package__:  # `python models/zoo.py` looks for modules in this file's folder first
    sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

from corruptions.utils import cli
from corruptions.utils.errors import UserError, exit_on_error
from corruptions.utils.files import file_hash, read_json, write_json
from corruptions.utils.locks import file_lock

FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "weights")
INDEX = "zoo.json"
PREFIX = "zoo:"
# The settings of the run that describe the network and its data, for evaluations.
SETTINGS = ("method", "title", "recipe", "dataset", "corruption", "num_severity", "num_per_class", "total_epoch",
            "seed", "model", "classes", "image_size", "mean", "std", "interpolation", "mindspore")
RESTORE = ("download the project again, or restore it with git checkout -- models/weights; --add a network of your own "
           "again")
LOCK_SECONDS = 60  # to wait for another process that adds a network
LEFT_OUT = ("data_dir", "log_dir", "desc", "save_last")  # options that change neither weights nor accuracy


def zoo_networks(folder=FOLDER):
    """Return the networks of the zoo, a dict of names to entries (dict).

    An entry has the file's `sha256`, the `config` of the run, its `command`, and the `fingerprint` of its clean test
    images. `accuracy` is the test accuracy in 0..1 at severity 0 (clean) to the largest. `common_accuracy` in 0..1 is
    the mean over the common corruptions and their severities, on the first `common_images` test images; both may be
    None.

    Raises:
        UserError: the list of networks is damaged.
    """
    path = os.path.join(folder, INDEX)
    networks = read_json(path)
    if networks is None and os.path.exists(path):
        raise UserError(f"{path}: is damaged; {RESTORE}")
    return networks or {}


def find_zoo(flag, name, folder=FOLDER):
    """Return the file and the entry of a network of the zoo.

    Args:
        flag (str): the option that names the network, for errors; may be ''.
        name (str): 'zoo:NAME'.
        folder (str): folder of the zoo.

    Returns:
        tuple: path of the .safetensors file (str); entry (dict), as in `zoo_networks`.

    Raises:
        UserError: there is no such network, or its file is missing or damaged.
    """
    networks, key, place = zoo_networks(folder), name.removeprefix(PREFIX), f"{flag} {name}".strip()
    if key not in networks:
        known = ", ".join(f"{PREFIX}{known}" for known in networks) or f"none in {folder}; {RESTORE}"
        raise UserError(f"{place}: no such network; choose from {known}")
    path = os.path.join(folder, f"{key}.safetensors")
    if not os.path.isfile(path) or file_hash(path) != networks[key]["sha256"]:
        raise UserError(f"{place}: {path} is missing or damaged; {RESTORE}")
    return path, networks[key]


def weight_file(text):
    """An argument type: the absolute path of an existing file, or 'zoo:NAME' as it is."""
    if not text.startswith(PREFIX):
        return cli.existing_file(text)
    try:
        weight_path(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


weight_file.stored_type = str  # as for `cli.existing_file`


def weight_path(path, flag=""):
    """Return a path, or the file that 'zoo:NAME' stands for; None for None. Errors are as in `find_zoo`."""
    return find_zoo(flag, path)[0] if path is not None and path.startswith(PREFIX) else path


def add_run(name, run, folder=FOLDER):
    """Put the last checkpoint of a run into the zoo, with its settings and its accuracy.

    Args:
        name (str): name of the network in the zoo; an entry of this name is replaced.
        run (str): folder of a run that has ended.
        folder (str): folder of the zoo.

    Raises:
        UserError: `run` is not the folder of a run that has ended, an earlier version made it, the checkpoint after its
            last epoch is missing or damaged, or the name has letters that a file name cannot have.
    """
    import utils.runtime.device  # noqa: F401, first: it sets the environment that MindSpore reads
    from models.convert import convert
    from utils.options import command_line
    from utils.records.checkpoint import Progress, progress_of, read_checkpoint
    from utils.records.reading import read_results
    from utils.records.trained import find_trained
    if not re.fullmatch(r"[A-Za-z0-9_.+-]+", name) or name.startswith("."):
        raise UserError(f"{name}: is not a name for a network; use letters, digits, _, + and -")
    if not os.path.isdir(run):
        raise UserError(f"{run}: is not the folder of a run; name one")
    trained, results = find_trained("RUN", run), read_results(run)
    if results is None or trained.checkpoint is None:
        raise UserError(f"{run}: has not ended; --resume it")
    if progress_of(read_checkpoint(trained.checkpoint)) != Progress(results["epochs"]):
        raise UserError(f"{run}: its results are after {results['epochs']} epochs, and the checkpoint after them is "
                        "missing or damaged; put it back, or repeat the run")
    evaluation = read_json(os.path.join(run, "evaluation_common.json")) or {}
    is_of_checkpoint = evaluation.get("checkpoint_sha256") == trained.sha256
    if not {"given", "fingerprints"} <= set(trained.config):
        raise UserError(f"{run}: was made by an earlier version, which did not store what the zoo needs; repeat "
                        "the run")
    given = {option: value for option, value in trained.config["given"].items() if option not in LEFT_OUT}
    entry = {"config": {option: trained.config.get(option) for option in SETTINGS}, "command": command_line(given),
             "fingerprint": trained.config["fingerprints"]["test"], "accuracy": results["test"]["accuracy"],
             "common_accuracy": common_accuracy(evaluation) if is_of_checkpoint else None,
             "common_images": evaluation.get("test_images") if is_of_checkpoint else None}
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f"{name}.safetensors")
    with file_lock(os.path.join(folder, ".lock"), folder, LOCK_SECONDS):
        networks = zoo_networks(folder)
        convert(trained.checkpoint, path)
        write_json(os.path.join(folder, INDEX), {**networks, name: {"sha256": file_hash(path), **entry}})


def common_accuracy(evaluation):
    """Return the mean accuracy of an evaluation (dict) over its corruptions and severities."""
    rows = [row["accuracy"] for row in evaluation["corrupted"].values()]
    return sum(map(sum, rows)) / sum(map(len, rows))


def zoo_table(folder=FOLDER):
    """Return the networks as a Markdown table, for the README."""
    lines = ["| `zoo:` | method | network | data | clean | severity 5 | common corruptions (images) | SHA-256 |",
             "|" + " --- |" * 8]
    for name, entry in zoo_networks(folder).items():
        config, accuracy = entry["config"], entry["accuracy"]
        data = f"{config['dataset']}, {config['corruption'].replace('_', ' ')}"
        numbers = [accuracy[0], accuracy[5] if len(accuracy) > 5 else None, entry["common_accuracy"]]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in numbers]
        if entry.get("common_images"):  # earlier versions have none
            cells[-1] += f" ({entry['common_images']})"
        lines.append(f"| `{name}` | {config['title']} | {config['model']} | {data} | {' | '.join(cells)} | "
                     f"`{entry['sha256'][:8]}` |")
    return "\n".join(lines) + "\n"


def zoo_commands(folder=FOLDER):
    """Return the commands that trained the networks, as text."""
    return "\n".join(f"{entry['command']}    # {name}" for name, entry in zoo_networks(folder).items()) + "\n"


def main(argv=None):
    parser = cli.Parser(prog="python -m models.zoo", description=f"{__doc__.splitlines()[0].partition(':')[0]}.")
    parser.add_argument("--add", nargs=2, metavar=("NAME", "RUN"),
                        help="add the last checkpoint of a run; a network of this name is replaced")
    args = parser.parse_args(argv)
    with exit_on_error(parser.prog):
        if args.add:
            add_run(*args.add)
        cli.print_text(f"{zoo_table()}\n{zoo_commands()}")


if __name__ == "__main__":
    main()
