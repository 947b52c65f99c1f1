"""The train step of a method, for a user's own network and training loop."""
import numbers

import numpy as np

from utils.runtime.device import collect_graphs, saturates
from corruptions.utils.errors import UserError
from losses.collectives import convert_sync_batchnorm
from losses.components import DATA_STRATEGIES, OBJECTIVES, OPTIMIZERS, PERTURBATIONS
from losses.config.checks import check_value, check_world_size
from losses.config.resolve import resolve
from losses.cross_entropy import TrainingLoss
from losses.optimizers import ClipByGlobalNorm, weight_decay_mask
from losses.schedules import SCHEDULES
from losses.step.build import create_train_step
from losses.step.weights import Stacked
from models.stacked import BATCH_NORMS, has_batch_norm
from utils.options import with_new_names
from utils.runtime import distributed

# These options concern the loop around a step or the data before it, so `create_step` does not take them.
RUN_OPTIONS = ("total_epoch", "batch_size", "schedule", "train_on", "sampler", "crop", "crop_area", "rand_augment",
               "sampling", "group_update_every",
               *(option for table in (DATA_STRATEGIES, SCHEDULES) for row in table.values() for option in row.defaults))


def create_step(network, method="sharpdro", num_groups=6, dataset="cifar10", seed=0, group_sizes=None, **options):
    """Build the train step of a method: `step.train_batch(images, labels, groups)` takes one step.

    The step joins the method's objective and perturbation in one graph. The data strategies of `jtt`, `eiil`,
    `corrupt_aug` and `rare_aug` are not part of it. Options that are not given have the defaults of the method and of
    its paper's recipe. So `damp` cuts a batch into 8 sub-batches, and the batch size must be a multiple of 8.

    Args:
        network (nn.Cell): float32 images (N, C, H, W) to float32 logits (N, K).
        method (str): a key of `losses.methods.METHODS`.
        num_groups (int): number of distributions, including the clean one.
        dataset (str): the data set that selects the published defaults, any name of `-d`.
        seed (int): seed of a noise, 0 to 2^32 - 1.
        group_sizes (list of int): numbers of training images of each distribution, which group_adjustment needs. If
            only one distribution has training images, it has all weight over distributions from the start.
        options: lr, optimizer, momentum, nesterov, clip_norm, weight_decay, weight_decay_on, num_sub_batches, sync_bn,
            accumulate, amp, mixup (with two labels for each sample), label_smoothing, recipe, objective, perturbation,
            and the options that these read, such as rho, sigma, step_size. The names are the names of the options of
            `main.py`, and its help explains them.

    Returns:
        losses.step.train_step.TrainStep: the step. Its `train_batch` documents inputs and outputs.
            `losses.schedules.set_learning_rate` sets the learning rate of its `optimizer`.

    Raises:
        UserError: a method or an option is unknown, or an option has no effect.

    With `amp`, a step whose gradient overflows float16 is skipped. `step.scaling.skipped_steps` counts such steps.
    """
    options = with_new_names(options)
    useless = [option for option in options if option in RUN_OPTIONS]
    if useless:
        raise UserError(f"{useless[0]}: belongs to a run, not to a step; leave it out")
    if options.get("group_loss") == "validation":
        raise UserError("group_loss 'validation': validation images belong to a run, not to a step; use 'batch' or "
                        "'last_seen'")
    collect_graphs()
    for option, value in (("dataset", dataset), ("seed", seed)):
        check_value(option, value)
    settings = resolve(method, dataset, **options)
    if options.get("sync_bn") and not has_batch_norm(network):
        raise UserError("sync_bn: the network has no BatchNorm; leave it out")
    if settings.options.get("group_adjustment") and group_sizes is None:
        raise UserError("group_adjustment: needs group_sizes, the number of training images of each distribution")
    if not isinstance(num_groups, numbers.Integral) or isinstance(num_groups, bool) or num_groups < 1:
        raise UserError(f"num_groups {num_groups}: must be a whole number of 1 or more")
    if group_sizes is not None and not are_sizes(group_sizes, num_groups):
        raise UserError(f"group_sizes {group_sizes}: must have the number of training images of each of the "
                        f"{num_groups} distributions (num_groups)")
    step = build_step(network, settings, num_groups, seed, group_sizes)
    step.must_check_stacking = isinstance(step.graph.model, Stacked)  # a user's network may not be stackable
    return step


def are_sizes(values, number):
    """Whether `values` are `number` whole numbers of 0 or more, not all 0."""
    values = np.asarray(values)
    return values.shape == (number,) and values.dtype.kind in "iu" and values.min() >= 0 and values.any()


def create_optimizer(weights, settings):
    """Return the optimizer that `settings` (MethodConfig) describe: a cell that takes the gradients of the weights.

    Args:
        weights (list of Parameter): the weights to move.
        settings (MethodConfig): the settings of the training.
    """
    optimizer = OPTIMIZERS[settings.optimizer].create(weights, weight_decay_mask(weights, settings.weight_decay_on),
                                                      **settings.optimizer_options)
    return ClipByGlobalNorm(optimizer, settings.clip_norm) if settings.clip_norm else optimizer


def build_step(network, settings, num_groups, seed, group_sizes=None):
    """Return the train step of a `MethodConfig`. Other arguments, result and errors are as in `create_step`."""
    check_world_size(settings)
    if settings.amp and saturates():
        raise UserError("--amp: this device gives the largest number where float16 overflows, so that no step could be "
                        "skipped; leave it out, or unset MS_ASCEND_CHECK_OVERFLOW_MODE")
    optimizer = create_optimizer(network.trainable_params(), settings)

    def create(part, *arguments, **more):
        options = {option: settings.options[option] for option in part.defaults if option not in RUN_OPTIONS}
        return part.create(*arguments, **options, **more)
    sizes = {"group_sizes": group_sizes} if "group_adjustment" in OBJECTIVES[settings.objective].defaults else {}
    objective = create(OBJECTIVES[settings.objective], num_groups, **sizes)
    perturbation = create(PERTURBATIONS[settings.perturbation], optimizer.parameters, seed, settings.num_sub_batches)
    sync_bn = settings.sync_bn and has_batch_norm(network)
    if sync_bn and distributed.world_size() > 1:
        convert_sync_batchnorm(network, BATCH_NORMS)
    step = create_train_step(network, objective, perturbation, optimizer, settings.num_sub_batches, sync_bn,
                             TrainingLoss(settings.mixup, settings.label_smoothing), settings.accumulate or 1,
                             bool(settings.amp))
    step.num_groups = num_groups if OBJECTIVES[settings.objective].reads_groups else None
    return step
