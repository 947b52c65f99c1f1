"""The choice of a step's algorithm and parts, the one place that handles sub-batches, copies and ranks together."""
import mindspore.nn as nn

from losses.collectives import AllGatherRows, AllReduceGradients
from losses.cross_entropy import TrainingLoss
from losses.objectives import MeanOverChunks
from losses.step.accumulation import AccumulatedStep
from losses.step.algorithms import NoisyStep, OnePassStep, TwoPassStep
from losses.step.gradients import AccumulateGradients, ApplyAccumulated, ApplyChunked, ApplyGradients
from losses.step.mixed_precision import Autocast, LossScaling, NanOnOverflow, SkipOnOverflow
from losses.step.train_step import TrainStep
from losses.step.weights import InPlace, NoPerturbation, PresampledNoise, Stacked
from models.stacked import StackedNetwork, running_statistics
from utils.runtime import distributed


def create_train_step(network, objective, perturbation, optimizer, sub_batches=1, sync_bn=False, loss=None,
                      micro_batches=1, mixed_precision=False):
    """Return the step that an objective and a perturbation need, with no more passes than they need.

    Args:
        network (nn.Cell): map from images to logits.
        objective (Objective): the objective to minimise.
        perturbation (nn.Cell or None): the perturbation, which gives the weights at which the last gradient is taken.
        optimizer (nn.Optimizer): the optimizer that moves the weights.
        sub_batches (int): M, parts of a batch, each with a risk and a perturbation of its own. Each of W ranks has M/W.
        sync_bn (bool): whether BatchNorm takes its statistics over all sub-batches, each seen through its own perturbed
            weights. If true, all sub-batches go through the graph at once, as chunks of the batch. Otherwise they go
            one after the other, each with statistics of its own.
        loss (TrainingLoss or None): loss of a sample; None for the cross-entropy.
        micro_batches (int): N, parts of a batch that go through the network one after the other, with the gradient of
            the whole batch. If it is above 1, there must be one rank and one sub-batch.
        mixed_precision (bool): whether the passes are in mixed precision (`losses/step/mixed_precision.py`).

    Returns:
        TrainStep: the step.

    Raises:
        UserError: `micro_batches` is above 1, and the network draws random numbers.
    """
    weights, world_size = optimizer.parameters, distributed.world_size()
    local_sub_batches = max(1, sub_batches // world_size)
    chunks = local_sub_batches if sync_bn else 1
    accumulation_steps = local_sub_batches // chunks
    is_whole = sub_batches == 1
    is_accumulating = accumulation_steps > 1 or not is_whole and world_size > 1

    is_noise = perturbation is not None and not perturbation.needs_gradient
    is_two_pass = objective.compares_passes or perturbation is not None and perturbation.needs_gradient
    is_stacked = chunks > 1 and perturbation is not None
    algorithm = TwoPassStep if is_two_pass else NoisyStep if is_noise and not is_stacked else OnePassStep

    # A pass at perturbed weights must leave the weights as they were, and a second pass the running statistics, too.
    # Copies of the network share only the running statistics.
    restored = list(weights) if algorithm is not OnePassStep and not is_stacked else []
    if is_two_pass:
        restored += network.untrainable_params()
    if is_stacked:
        model = Stacked(StackedNetwork(network, chunks), weights, restored)
    else:
        gather_logits = AllGatherRows() if is_whole and world_size > 1 else nn.Identity()
        model = InPlace(network, weights, restored, gather_logits)
    presampled_noise = None
    graph_perturbation = NoPerturbation() if perturbation is None else perturbation
    if is_stacked and is_noise:
        points = model.perturbed_weights
        noisy_weights = points.clone(prefix="saved.noisy", init="zeros") if is_two_pass else points
        graph_perturbation = presampled_noise = PresampledNoise(perturbation, weights, noisy_weights, chunks)

    scaling, move_weights = None, optimizer
    if mixed_precision:
        model.network = Autocast(model.network)
        scaling = LossScaling([*network.untrainable_params(), *objective.get_parameters()])
        move_weights = SkipOnOverflow(optimizer, scaling)
        if is_two_pass:
            graph_perturbation = NanOnOverflow(graph_perturbation)

    # A graph that accumulates gradients leaves their all-reduce to the end of the batch.
    all_reduce = all_reduce_second = nn.Identity()
    if world_size > 1:
        all_reduce = AllReduceGradients(weights, [] if sync_bn else running_statistics(network))
        all_reduce_second = AllReduceGradients(weights, [])
    if is_accumulating:
        accumulated = weights.clone(prefix="saved.accumulated", init="zeros")
        apply_accumulated = ApplyAccumulated(objective, move_weights, accumulated, all_reduce)
        update = AccumulateGradients(accumulated, 1 / (accumulation_steps * world_size))
        all_reduce = all_reduce_second = nn.Identity()
    else:
        apply_accumulated = None
        update = ApplyGradients(move_weights) if is_whole else ApplyChunked(objective, move_weights)

    if micro_batches > 1:
        used = graph_perturbation if algorithm is not OnePassStep else None
        graph = AccumulatedStep(model, objective, used, move_weights, loss or TrainingLoss(), is_two_pass,
                                micro_batches, scaling)
        return TrainStep(network, objective, perturbation, optimizer, graph, 1, 1, None, None, scaling)
    graph_objective = objective if is_whole else MeanOverChunks(objective, chunks)
    graph = algorithm(model, graph_objective, graph_perturbation, all_reduce, all_reduce_second, update,
                      loss or TrainingLoss(), scaling)
    return TrainStep(network, objective, perturbation, optimizer, graph, sub_batches, accumulation_steps,
                     apply_accumulated, presampled_noise, scaling)
