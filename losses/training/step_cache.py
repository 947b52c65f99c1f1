"""Compiled steps that several runs of one process, or several processes, share."""
import mindspore.ops as ops

from utils.runtime.device import collect_graphs, set_seed
from losses.config.table import GRAPH_OPTIONS
from losses.create import build_step
from losses.evaluation.cells import EvaluationStep, GradientNorm
from models import create_model
from models.dropout import find_dropout
from utils.runtime.compile_cache import compile_cached


class StepCache:
    """A network and the cells that train and evaluate it.

    The cells of the last run are used again, without a new compilation, if the next run has the same graph. Then only
    the values of parameters and the learning rate differ. Cells with dropout are not used again, because their random
    numbers would go on where the last run has ended.
    """

    def __init__(self):
        self._key = self._kept = None

    def get(self, config, classes, group_sizes):
        """Return network, step, `EvaluationStep` and `GradientNorm` in their state at the start of a run.

        Args:
            config (RunConfig): settings of the run.
            classes (int): number of logits of the network.
            group_sizes (list of int): numbers of training images of each distribution that the objective distinguishes.
        """
        method, num_groups = config.method, len(group_sizes)
        set_seed(config.seed)  # the initial weights do not depend on what was trained before
        network = create_model(config.model, classes)
        step = build_step(network, method, num_groups, config.seed, group_sizes)
        is_noisy = not (step.perturbation is None or step.perturbation.needs_gradient)
        key = (config.model, classes, num_groups, *(getattr(method, option) for option in GRAPH_OPTIONS),
               method.step_options, config.seed if is_noisy else None)
        if key != self._key or find_dropout(network) is not None:
            self._key, self._kept = key, None
            collect_graphs()
            self._kept = network, step, EvaluationStep(network), GradientNorm(network)
            return self._kept
        for cached, fresh in zip(self._kept[1].get_parameters(), step.get_parameters(), strict=True):
            ops.assign(cached, fresh)
        return self._kept

    def compile(self, config, shape, log):
        """Compile the step, or load it from the folder of compiled steps, if the settings of the run name one.

        `shape` is the shape of an image, (C, H, W). `log` is as in `compile_cached`.
        """
        if config.compile_cache is not None:
            step = self._kept[1]
            inputs = step.example_inputs(config.method.batch_size, shape)
            compile_cached(step.graph, inputs, config.compile_cache,
                           (self._key, step.accumulation_steps, bool(config.fast_math)), log)
