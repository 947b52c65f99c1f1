"""A train step for anybody's network and loop."""
import numbers

import numpy as np

from utils.runtime.device import collect_graphs
from losses.collectives import convert_sync_batchnorm
from losses.components import DATA_STRATEGIES, OBJECTIVES, PERTURBATIONS
from losses.config.checks import check_workers
from losses.config.resolve import resolve
from losses.optimizers import OPTIMIZERS, ClipByGlobalNorm, weight_decay_mask
from losses.schedules import SCHEDULES
from losses.step.build import create_train_step
from losses.step.weights import Stacked
from models.stacked import BATCH_NORMS, has_batch_norm
from utils.errors import UserError
from utils.runtime import distributed

# Options that are about the loop around a step, or the data before it.
RUN_OPTIONS = ("total_epoch", "batch_size", "schedule", "train_on", "draw", "crop", "sampling", "group_every", *(
    option for table in (DATA_STRATEGIES, SCHEDULES) for row in table.values() for option in row.defaults))


def create_step(network, method="sharpdro", num_groups=6, dataset="cifar10", seed=0, group_sizes=None, **options):
    """Build the train step of a method: `step.train_batch(images, labels, groups)` takes one step.

    The step is the method's objective and perturbation, joined in one graph. What `jtt`, `eiil`, `corrupt_aug` and
    `rare_aug` do to the data is not part of it. Options that are not given have the defaults of the method and
    of its paper's recipe; `damp` therefore cuts a batch into 8 sub-batches, and its size must be a multiple of that.

    Args:
        network (nn.Cell): float32 images (N, C, H, W) to float32 logits (N, K).
        method (str): a key of `losses.methods.METHODS`.
        num_groups (int): number of distributions, the clean one included.
        dataset (str): the one whose published defaults are taken, 'cifar10' or 'cifar100'.
        seed (int): seed of a noise, 0 to 2^32 - 1.
        group_sizes (list of int): training images of each distribution, which group_adjustment needs; where one alone
            has some, the weights over distributions lie on it from the start.
        options: lr, optimizer, momentum, nesterov, clip_norm, weight_decay, decay, num_sub_batches, sync_bn, recipe,
            objective, perturbation, and what these read, such as rho, sigma, step_size; named as the options of
            `main.py`, which explains them.

    Returns:
        losses.step.train_step.TrainStep: its `train_batch` says what it takes and returns;
            `losses.schedules.set_learning_rate` sets the learning rate of its `optimizer`.

    Raises:
        UserError: an unknown method or option, or one that has no effect.
    """
    useless = [option for option in options if option in RUN_OPTIONS]
    if useless:
        raise UserError(f"{useless[0]}: is of a run, not of a step; leave it out")
    if options.get("group_loss") == "validation":
        raise UserError("group_loss 'validation': the validation images are of a run, not of a step; use 'batch' or "
                        "'last_seen'")
    collect_graphs()
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
    step.must_check_stacking = isinstance(step.graph.model, Stacked)  # the network is anybody's
    return step


def are_sizes(values, number):
    """Whether `values` are so many whole numbers of 0 or more, not all 0."""
    values = np.asarray(values)
    return values.shape == (number,) and values.dtype.kind in "iu" and values.min() >= 0 and values.any()


def create_optimizer(weights, settings):
    """The optimiser of `MethodConfig` for some weights (list of Parameter): a cell that takes their gradients."""
    optimizer = OPTIMIZERS[settings.optimizer].create(weights, weight_decay_mask(weights, settings.decay),
                                                      **settings.optimizer_options)
    return ClipByGlobalNorm(optimizer, settings.clip_norm) if settings.clip_norm else optimizer


def build_step(network, settings, num_groups, seed, group_sizes=None):
    """The train step of `MethodConfig`; other arguments, result and errors as in `create_step`."""
    check_workers(settings)
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
    step = create_train_step(network, objective, perturbation, optimizer, settings.num_sub_batches, sync_bn)
    step.num_groups = num_groups if OBJECTIVES[settings.objective].reads_groups else None
    return step
