"""Evaluation of a trained network under many corruptions, from a run's folder or a checkpoint to the records.

It is separate from the run. The settings of the run name the network and the data.
"""
import os
from functools import partial

from corruptions.utils.files import require_writable_folder
from dataset import load_source
from losses.evaluation.baselines import load_baseline, locate_baseline
from losses.evaluation.evaluation_set import load_evaluation_set
from losses.evaluation.network import evaluate_network
from losses.evaluation.trained_network import find_network, load_test_images, run_options
from models.loading import load_network
from utils.records.trained import TrainedNetwork


def evaluate_run(path, corruptions=None, baseline=None, model=None, dataset=None, data_dir=None, eval_batch_size=None,
                 num_workers=1, show_progress=False, corrupted_from="auto", test_corrupted=None, severities=None,
                 **options):
    """Evaluate a network on clean and corrupted test images, print a table, and write JSON and CSV beside it.

    Args:
        path (str): folder of a run, which stands for its newest checkpoint, or a file with weights, as in
            `models.weight_files.read_weights`.
        corruptions (str, list of str or None): one or more keys of `corruptions.CORRUPTIONS`, or names of corruptions
            in `test_corrupted`; None takes the common corruptions, or all in `test_corrupted`.
        baseline (str or None): baseline of the corruption errors: a run, a checkpoint, the JSON file of an evaluation,
            or `ALEXNET`. A run or a checkpoint is evaluated first if it has no evaluation on the same corruptions and
            test images.
        model, dataset (str or None): network and data set of a checkpoint without a config.json beside it.
        data_dir (str or None): folder of the data sets; None takes the run's folder, or else ./data.
        eval_batch_size (int or None): images in a batch; None takes the run's batch size, or else 128.
        num_workers (int): number of processes, or for arrays threads, that read or make images.
        show_progress (bool): whether to show the progress bar even if the output is not a terminal.
        corrupted_from (str): source of the corrupted images, a key of `dataset.corrupted.STORAGE_MODES`.
        test_corrupted (str or None): folder of published corrupted images to use instead, as in `find_published`.
        severities (list of int or None): severities of the corrupted images, each 1 to 5; None takes all that there
            are.
        options: values of `dataset.SOURCE_OPTIONS`, for a checkpoint without a config.json beside it.

    Returns:
        dict: content of the JSON file.

    Raises:
        UserError: a file is missing or damaged, or options do not fit the network or the data.
    """
    trained, model, dataset = find_network(path, model, dataset)
    require_writable_folder("--evaluate", trained.folder)
    reference = None if baseline is None else locate_baseline(baseline, dataset)

    source, data_dir = load_test_images(trained, model, dataset, data_dir, options)
    load_images = partial(load_evaluation_set, data_dir=data_dir, workers=num_workers, show_progress=show_progress,
                          corrupted_from=corrupted_from, test_corrupted=test_corrupted)
    test = load_images(source, corruptions=corruptions, severities=severities,
                       batch_size=trained.eval_batch_size(eval_batch_size))
    load_network(model, source.classes, trained.checkpoint)  # finds a wrong checkpoint now
    relative_to = None
    if baseline is not None:
        test_of_baseline, is_shown = test, True
        if isinstance(reference, TrainedNetwork):  # it may have been trained on other images of the data set
            source = load_source(dataset, data_dir,
                                 **run_options(reference, dataset, {} if reference.config else options))
            source.check_run(reference.config, reference.path)
            test_of_baseline = load_images(source, corruptions=test.names, severities=test.severities,
                                           batch_size=test.batch_size)
            is_shown = os.path.realpath(reference.checkpoint or "") != os.path.realpath(trained.checkpoint)
        relative_to = load_baseline(baseline, reference, model, test_of_baseline, is_shown)
    return evaluate_network(trained, model, test, relative_to, test.stored(trained, model))
