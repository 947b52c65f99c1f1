"""Record steps with mixed and smoothed labels: PYTHON_WITH_JAX tests/golden/record_mixup.py CLONE

CLONE is a clone of trungtrinh44/DAMP; the Python needs jax and optax. Writes `mixup.json` beside this file: three steps
of SAM and of ASAM on a perceptron, in the format of `damp_sam_asam.json`, by the authors' optimizers. The batch of a
step is mixed and its labels are smoothed in the words of the authors' `train_imagenet_vit.py` and `loader_for_vit.py`,
which cannot be imported without TensorFlow.
"""
import ast
import json
import os
import sys

import numpy as np

CASES = ({"method": "sam", "sub_batches": 1, "rho": 0.05, "mixup": 0.8, "label_smoothing": None},
         {"method": "sam", "sub_batches": 4, "rho": 0.1, "mixup": 0.6, "label_smoothing": 0.1},
         {"method": "asam", "sub_batches": 2, "rho": 0.5, "mixup": 0.8, "label_smoothing": 0.2},
         {"method": "asam", "sub_batches": 1, "rho": 1.0, "mixup": None, "label_smoothing": 0.1})
SETTINGS = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
STEPS, BATCH, INPUTS, HIDDEN, CLASSES = 3, 8, 6, 5, 4


def function_of(path, name, names):
    """A function of a file, run with other names than those that the file imports."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    wanted = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name]
    exec(compile(ast.Module(wanted, []), path, "exec"), names)
    return names[name]


def plain(tree):
    return {layer: {name: np.asarray(value).tolist() for name, value in names.items()} for layer, names in tree.items()}


def main():
    import jax
    import jax.numpy as jnp
    jax.config.update("jax_enable_x64", True)
    clone = sys.argv[1]
    sys.path.insert(0, clone)
    from optimizers import PMAP_BATCH, build_ASAM_optimizer, build_SAM_optimizer
    from optimizers.utils import nesterov
    mixup = function_of(os.path.join(clone, "imagenet", "loader_for_vit.py"), "mixup", {"jnp": jnp})
    entries = []
    for number, case in enumerate(CASES):
        rng = np.random.RandomState(number)
        shapes = {"dense1": {"kernel": (INPUTS, HIDDEN), "bias": (HIDDEN,)}, "norm": {"scale": (HIDDEN,)},
                  "dense2": {"kernel": (HIDDEN, CLASSES), "bias": (CLASSES,)}}
        params = {layer: {name: jnp.asarray(rng.standard_normal(shape) * 0.5) for name, shape in names.items()}
                  for layer, names in shapes.items()}
        params["norm"]["scale"] = 1 + 0.1 * params["norm"]["scale"]
        images, labels = rng.standard_normal((STEPS, BATCH, INPUTS)), rng.randint(0, CLASSES, (STEPS, BATCH))

        def forward(params, batch, is_training):
            x, targets = batch
            hidden = params["norm"]["scale"] * (x @ params["dense1"]["kernel"] + params["dense1"]["bias"])
            logits = jax.nn.relu(hidden) @ params["dense2"]["kernel"] + params["dense2"]["bias"]
            return -(jax.nn.log_softmax(logits, axis=-1) * targets).sum(-1).mean()
        base = nesterov(SETTINGS["lr"], SETTINGS["momentum"], SETTINGS["weight_decay"])
        build = {"sam": lambda: build_SAM_optimizer(case["rho"], case["sub_batches"], base),  # noqa: B023
                 "asam": lambda: build_ASAM_optimizer(case["rho"], case["sub_batches"], 0.0, base)}[case["method"]]  # noqa: B023
        init, update, _ = build()
        state, losses = init(params), []

        def step(state, x, targets, update=update, forward=forward):
            return update(jax.value_and_grad(forward), state, (x, targets))
        run = jax.vmap(step, axis_name=PMAP_BATCH)  # one device
        for x, y in zip(images, labels, strict=True):
            x, targets = jnp.asarray(x), jax.nn.one_hot(jnp.asarray(y), CLASSES, dtype=jnp.float64)
            if case["mixup"] is not None:
                x, targets = mixup(x, targets, case["mixup"])
            if case["label_smoothing"] is not None:
                share = case["label_smoothing"]
                targets = (1.0 - share) * targets + share * jnp.ones_like(targets) / CLASSES
            state, loss = run(jax.tree_util.tree_map(lambda value: value[None], state), x[None], targets[None])
            state = jax.tree_util.tree_map(lambda value: value[0], state)
            losses.append(float(loss[0]))
        entries.append({**case, **SETTINGS, "params": plain(params), "x": images.tolist(), "y": labels.tolist(),
                        "losses": losses, "final": plain(state.params)})
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "mixup.json"), "w", encoding="utf-8") as file:
        json.dump(entries, file)
        file.write("\n")


if __name__ == "__main__":
    main()
