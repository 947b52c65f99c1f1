"""Accuracy on adversarial images of the fast gradient sign method: python main.py --evaluate RUN --fgsm 2/255 4/255"""
import os

import mindspore as ms
import mindspore.nn as nn
import mindspore.ops as ops
import numpy as np
from tqdm import tqdm

from corruptions.utils.files import require_writable_folder, write_csv, write_json
from dataset.pipeline import iterate_arrays
from losses.cross_entropy import cross_entropy
from losses.evaluation.labelled_images import scores_of_sets
from losses.evaluation.network import require_finite
from losses.evaluation.predict import describe_network
from losses.evaluation.trained_network import find_network, load_test_images
from models.loading import load_network


class FastGradientSign(nn.Cell):
    """The logits for images that a step along the sign of the loss's gradient has changed (Goodfellow 2015).

    With images x in 0..1, it is the network at clip(x + epsilon sign(dL/dx), 0, 1), as in the DAMP authors' code. The
    network is used in evaluation mode.

    Inputs: images float32 (N, 3, H, W), normalised; labels int32 (N,); epsilon float32 (), for values in 0..1.
    Outputs: logits float32 (N, K).

    Args:
        network (nn.Cell): normalised images to logits.
        mean, std (tuple of float): normalisation, as in `ImageDataset`.
    """

    def __init__(self, network, mean, std):
        super().__init__(auto_prefix=False)
        self.network = network
        self.mean, self.std = (ms.Tensor(np.reshape(values, (1, 3, 1, 1)), ms.float32) for values in (mean, std))
        self.gradient = ops.grad(self.loss)  # with respect to the images

    def loss(self, images, labels):
        return cross_entropy(self.network(images), labels).sum()

    def construct(self, images, labels, epsilon):
        # The sign is that of the gradient with respect to values in 0..1, because std is positive.
        pixels = images * self.std + self.mean + epsilon * ops.sign(self.gradient(images, labels))
        return self.network((ops.clamp(pixels, 0.0, 1.0) - self.mean) / self.std)


def evaluate_fgsm(path, epsilons, model=None, dataset=None, data_dir=None, eval_batch_size=None,
                  num_workers=1, show_progress=False, **options):
    """Classify the clean test images after an attack of each strength, print a table, and write it beside the network.

    The files are `fgsm.json` and `fgsm.csv`. An attack of strength 0 leaves the images as they are.

    Args:
        path, model, dataset, data_dir: as in `evaluate_run`.
        epsilons (list of float): strengths, 0 to 1, for values in 0..1.
        eval_batch_size, num_workers, show_progress: as in `evaluate_run`.
        options: values of `dataset.SOURCE_OPTIONS`, for a network without a config.json.

    Returns:
        dict: content of the JSON file. `attacks` has for each strength a dict of `epsilon`, `top1`, `top5`, `nll`,
        `ece`, as in `scores_of_sets`.

    Raises:
        UserError: as in `evaluate_run`.
    """
    trained, model, dataset = find_network(path, model, dataset)
    require_writable_folder("--evaluate", trained.folder)
    source, _ = load_test_images(trained, model, dataset, data_dir, options)
    network, weights = load_network(model, source.classes, trained.checkpoint)
    attack = FastGradientSign(network, source.mean, source.std)
    attack.set_train(False)
    labels, strengths = source.labels["test"], sorted({0.0, *epsilons})
    outputs = {epsilon: [] for epsilon in strengths}
    [batches] = iterate_arrays([source.images["test"]], labels, source.mean, source.std,
                               trained.eval_batch_size(eval_batch_size), num_workers)
    with tqdm(total=len(labels), desc="attacking", unit=" images", leave=False,
              disable=False if show_progress else None) as bar:
        for images, targets, count in batches:
            for epsilon in strengths:
                logits = attack(images, targets, ms.Tensor(epsilon, ms.float32)).asnumpy()
                outputs[epsilon].append(logits[:int(count)])
            bar.update(int(count))
    rows = []
    for epsilon, parts in outputs.items():
        logits = np.concatenate(parts)
        require_finite(logits, trained.checkpoint)
        rows.append({"epsilon": epsilon, **scores_of_sets(logits, labels[:, None].tolist())})
    record = {"attack": "fgsm", "dataset": source.name, "test_images": len(labels), **describe_network(model, source),
              "checkpoint": os.path.basename(trained.checkpoint), "checkpoint_sha256": trained.sha256,
              "epochs": weights.epochs, "fingerprint": source.test_fingerprint.to_dict(), "attacks": rows}
    write_csv(trained.file("fgsm.csv"), {key: [row[key] for row in rows] for key in rows[0]})
    write_json(trained.file("fgsm.json"), record)
    print(f"\nfast gradient sign method on {source.name}, {len(labels)} test images: {model}\n"
          f"{'epsilon':>10}{'top-1 (%)':>10}{'top-5 (%)':>10}{'NLL':>8}{'ECE':>8}")
    for row in rows:
        print(f"{row['epsilon']:10.5f}{100 * row['top1']:10.2f}{100 * row['top5']:10.2f}{row['nll']:8.3f}"
              f"{row['ece']:8.3f}")
    print(f"results are in {trained.file('fgsm')}.json and .csv")
    return record
