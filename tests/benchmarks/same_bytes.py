"""Hashes of everything that small jobs write, to compare two versions: python tests/benchmarks/same_bytes.py OUT.json

    python tests/benchmarks/same_bytes.py before.json --checkout OTHER_CHECKOUT
    python tests/benchmarks/same_bytes.py after.json --compare before.json

The jobs are twelve runs, one of them stopped and resumed, a comparison, an evaluation, and a folder and an array of
corrupted images. They take ten minutes on two cores.
"""
import argparse
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
from PIL import Image

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TRAINING = ("-d photos -m wideresnet10 -n 16 --num_val 5 -b 40 --total_epoch 2 --eval_every 2 --log_train 1 --save_last"
            " --num_workers 1 --eval_batch_size 250")
METHODS = {
    "sharpdro": "--method sharpdro",
    "agnostic": "--method sharpdro_agnostic",
    "group_dro": "--method group_dro --group_loss last_seen",
    "irm": "--method irm --irm_lambda 5 --irm_anneal 2",
    "rex": "--method rex --rex_beta 2",
    "sam": "--method sam --recipe sharpdro --num_sub_batches 4",
    "asam": "--method asam --recipe sharpdro",
    "damp": "--method damp --train_on poisson",
    "daap_group_dro": "--method daap --recipe sharpdro --objective group_dro",
    "jtt": "--method jtt --stage_one_epochs 1",
    "eiil": "--method eiil --stage_one_epochs 1",
    "rare_aug": "--method rare_aug --record_norm",
}
# What differs from one run of the same version to the next: times and memory, and pictures and pages that show them.
TIMED = {"seconds", "peak_memory_gib"}
SKIPPED = re.compile(r"log\.txt|cost\.json|.*\.png|.*\.html")


def run(checkout, *words, is_stopped_after=None):
    """Run a program of a checkout; or stop it by SIGTERM as soon as a file is there."""
    process = subprocess.Popen([sys.executable, *words], cwd=checkout, stdout=subprocess.DEVNULL)
    while is_stopped_after is not None and process.poll() is None:
        if os.path.exists(is_stopped_after):
            process.send_signal(signal.SIGTERM)
            break
        time.sleep(0.05)
    if process.wait() not in (0, 128 + signal.SIGTERM):
        sys.exit(f"{' '.join(words)}: ended with {process.returncode}")


def carry_out(checkout, folder):
    """Carry out all jobs of a checkout in a folder; yield the name of each as it ends."""
    data, logs = os.path.join(folder, "data"), os.path.join(folder, "logs")
    training = [*TRAINING.split(), "--data_dir", data, "--log_dir", logs]
    for name, options in METHODS.items():
        run(checkout, "main.py", *training, "--desc", name, *options.split())
        yield name
    options = ["--desc", "resumed", *METHODS["sharpdro"].split()]
    path = os.path.join(logs, "resumed_dsetphotos_sever6_corrgaussian_noise_sharpdro_wideresnet10_seed0")
    run(checkout, "main.py", *training, *options, is_stopped_after=os.path.join(path, "0_model.ckpt"))
    run(checkout, "main.py", "--resume", path)
    yield "resumed"
    run(checkout, "main.py", *training, "--desc", "two", "--method", "erm", "sam", "--seed", "0", "1")
    yield "comparison"
    run(checkout, "main.py", "--evaluate", path, "-c", "fog", "contrast")
    yield "evaluation"
    images = np.random.RandomState(0).randint(0, 256, (6, 40, 48, 3)).astype(np.uint8)
    os.makedirs(os.path.join(folder, "images", "a"))
    np.save(os.path.join(folder, "images.npy"), images)
    for k, image in enumerate(images):
        Image.fromarray(image).save(os.path.join(folder, "images", "a", f"{k}.png"))
    for kind, source in (("folder", "images"), ("array", "images.npy")):
        run(checkout, "-m", "corruptions", kind, os.path.join(folder, source), os.path.join(folder, f"{kind}_made"),
            "-c", "fog", "snow", "elastic_transform", "caustic_refraction", "--severity", "1", "5", "--workers", "1")
        yield kind


def content(path, folder):
    """The bytes of a file that are compared: without times, and without the folder in which everything lies."""
    with open(path, "rb") as file:
        value = file.read()
    if path.endswith(".json"):
        value = json.dumps(without_times(json.loads(value)), sort_keys=True).encode()
    elif path.endswith(".svg"):
        value = re.sub(rb"<metadata>.*?</metadata>", b"", value, flags=re.DOTALL)
    return value.replace(folder.encode(), b"")


def without_times(value):
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMED}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def hashes(folder):
    """Relative name of every file that counts to the SHA-256 of its content, a dict."""
    paths = sorted(os.path.join(root, name) for root, _, names in os.walk(folder) for name in names
                   if not SKIPPED.fullmatch(name))
    return {os.path.relpath(path, folder): hashlib.sha256(content(path, folder)).hexdigest() for path in paths}


def main():
    parser = argparse.ArgumentParser(prog="same_bytes.py", description=__doc__.splitlines()[0])
    parser.add_argument("output", metavar="OUT.json", help="file for the hashes")
    parser.add_argument("--checkout", default=ROOT, help="which version (default: this one)")
    parser.add_argument("--compare", metavar="JSON", help="hashes of another version, to say what differs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name in carry_out(os.path.abspath(args.checkout), folder):
            print(name, flush=True)
        result = hashes(folder)
    with open(args.output, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
    if args.compare:
        with open(args.compare, encoding="utf-8") as file:
            before = json.load(file)
        different = [name for name in sorted(before.keys() | result.keys()) if before.get(name) != result.get(name)]
        print("\n".join(different), f"{len(different)} of {len(result)} files differ", sep="\n")
        sys.exit(1 if different else 0)


if __name__ == "__main__":
    main()
