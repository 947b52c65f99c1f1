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
    loss = loss or TrainingLoss()
    weights, world_size = optimizer.parameters, distributed.world_size()
    local_sub_batches = max(1, sub_batches // world_size)
    chunks = local_sub_batches if sync_bn else 1
    accumulation_steps = local_sub_batches // chunks
    is_whole = sub_batches == 1
    is_stacked = chunks > 1 and perturbation is not None

    algorithm = choose_algorithm(objective, perturbation, is_stacked)
    model = create_perturbable_model(network, weights, algorithm, num_copies=chunks if is_stacked else 1,
                                     gathers_logits=is_whole and world_size > 1)
    presampled_noise = None
    graph_perturbation = NoPerturbation() if perturbation is None else perturbation
    if is_stacked and not perturbation.needs_gradient:
        graph_perturbation = presampled_noise = create_presampled_noise(perturbation, model, algorithm, chunks)

    scaling, move_weights = None, optimizer
    if mixed_precision:
        model.network = Autocast(model.network)
        scaling = LossScaling([*network.untrainable_params(), *objective.get_parameters()])
        move_weights = SkipOnOverflow(optimizer, scaling)
        if algorithm is TwoPassStep:
            graph_perturbation = NanOnOverflow(graph_perturbation)

    if micro_batches > 1:
        used = None if algorithm is OnePassStep else graph_perturbation
        graph = AccumulatedStep(model, objective, used, move_weights, loss, algorithm is TwoPassStep, micro_batches,
                                scaling)
        return TrainStep(network, objective, perturbation, optimizer, graph, scaling=scaling)

    all_reduce = all_reduce_second = nn.Identity()
    if world_size > 1:
        all_reduce = AllReduceGradients(weights, [] if sync_bn else running_statistics(network))
        all_reduce_second = AllReduceGradients(weights, [])
    apply_accumulated = None
    if accumulation_steps > 1 or not is_whole and world_size > 1:
        accumulated = weights.clone(prefix="saved.accumulated", init="zeros")
        update = AccumulateGradients(accumulated, 1 / (accumulation_steps * world_size))
        # The gradients are summed over ranks once, after the last sub-batch.
        apply_accumulated = ApplyAccumulated(objective, move_weights, accumulated, all_reduce)
        all_reduce = all_reduce_second = nn.Identity()
    else:
        update = ApplyGradients(move_weights) if is_whole else ApplyChunked(objective, move_weights)

    graph = algorithm(model, objective if is_whole else MeanOverChunks(objective, chunks), graph_perturbation,
                      all_reduce, all_reduce_second, update, loss, scaling)
    return TrainStep(network, objective, perturbation, optimizer, graph, sub_batches=sub_batches,
                     accumulation_steps=accumulation_steps, apply_accumulated=apply_accumulated,
                     presampled_noise=presampled_noise, scaling=scaling)


def choose_algorithm(objective, perturbation, is_stacked):
    """Return the class of the step: two passes only if a gradient moves the weights, or if the passes are compared.

    Copies of the network (`is_stacked`) have their noisy weights before the graph runs, so the graph perturbs nothing.
    """
    if objective.compares_passes or perturbation is not None and perturbation.needs_gradient:
        return TwoPassStep
    return OnePassStep if perturbation is None or is_stacked else NoisyStep


def create_perturbable_model(network, weights, algorithm, num_copies, gathers_logits):
    """Return the model of a step: the network itself, or copies of it, each with perturbed weights of its own.

    Args:
        network (nn.Cell): map from images to logits.
        weights (ParameterTuple): the weights that are trained.
        algorithm (type): the class of the step.
        num_copies (int): number of copies; 1 for the network itself.
        gathers_logits (bool): whether the risk takes the logits of all ranks.

    Returns:
        InPlace or Stacked: the model.
    """
    # A pass at perturbed weights must leave the weights as they were, and a second pass the running statistics, too.
    restored = network.untrainable_params() if algorithm is TwoPassStep else []
    if num_copies > 1:  # copies share only the running statistics
        return Stacked(StackedNetwork(network, num_copies), weights, restored)
    if algorithm is not OnePassStep:
        restored = [*weights, *restored]
    return InPlace(network, weights, restored, AllGatherRows() if gathers_logits else nn.Identity())


def create_presampled_noise(noise, model, algorithm, num_copies):
    """Return the `PresampledNoise` of the copies of a `Stacked` model.

    A second pass needs its noisy weights beside the copies, whose weights are those of the first pass until then.
    """
    points = model.perturbed_weights
    noisy_weights = points.clone(prefix="saved.noisy", init="zeros") if algorithm is TwoPassStep else points
    return PresampledNoise(noise, model.weights, noisy_weights, num_copies)
