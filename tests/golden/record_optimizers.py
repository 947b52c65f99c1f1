"""Record what PyTorch's optimisers, and the optimisers and learning rates of the DAMP authors' code, compute.

PYTHON tests/golden/record_optimizers.py --damp CLONE tests/golden/optimizers.json

PYTHON has torch, jax and optax (2.15, 0.10.2 and 0.2.8 were used), CLONE is a clone of trungtrinh44/DAMP. Everything is
float64. The authors' functions are taken from their files and run; nothing of them is stored but the numbers.
"""
import argparse
import ast
import importlib.util
import json
import os

import numpy as np

STEPS = 10
SHAPES = {"dense.weight": (4, 3), "dense.bias": (4,), "norm.gamma": (4,), "norm.beta": (4,)}
KERNELS = ("dense.weight",)

# Weight decays are large and --lr is not small, so that in ten steps every term counts; a gradient's norm is between 1
# and 18, so that a clip_norm of 3 leaves some as they are.
SGD = {"optimizer": "sgd", "lr": 0.05, "momentum": 0.9, "nesterov": False, "weight_decay": 0.1, "decay": "all",
       "clip_norm": 0.0}
ADAMW = {"optimizer": "adamw", "lr": 0.02, "weight_decay": 0.5, "decay": "kernels", "clip_norm": 0.0}
CASES = [SGD, {**SGD, "momentum": 0.0, "clip_norm": 3.0}, {**SGD, "nesterov": True},
         {**SGD, "nesterov": True, "decay": "kernels"}, {**SGD, "nesterov": True, "decay": "kernels", "clip_norm": 3.0},
         ADAMW, {**ADAMW, "decay": "all"}, {**ADAMW, "clip_norm": 3.0}]


def start():
    """Weights before the first step, name to float64 array."""
    return {name: np.random.RandomState(k).standard_normal(shape) for k, (name, shape) in enumerate(SHAPES.items())}


def gradients(weights, step):
    """Gradients that depend on the weights (dict, as in `start`) and on the number of the step, as a dict."""
    rng = np.random.RandomState(100 + step)
    size = 0.3 + (step % 4)
    return {name: size * (rng.standard_normal(value.shape) + value * rng.random_sample(value.shape))
            for name, value in weights.items()}


def rate(lr, step):
    """The learning rate of a step, which differs from the last one's."""
    return lr / (1 + step % 3)


def follow(update):
    """Ten steps of `update` (weights, gradients, number of the step) to weights; those after the first and the last."""
    weights, after = start(), []
    for step in range(STEPS):
        weights = update(weights, gradients(weights, step), step)
        after.append({name: value.tolist() for name, value in weights.items()})
    return {"first": after[0], "last": after[-1]}


def with_torch(case):
    """A case by `torch.optim` and `torch.nn.utils.clip_grad_norm_`."""
    import torch
    parameters = {name: torch.nn.Parameter(torch.tensor(value)) for name, value in start().items()}
    groups = [{"params": [parameter],
               "weight_decay": case["weight_decay"] if case["decay"] == "all" or name in KERNELS else 0.0}
              for name, parameter in parameters.items()]
    if case["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(groups, case["lr"], case["momentum"], nesterov=case["nesterov"])
    else:
        optimizer = torch.optim.AdamW(groups, case["lr"])

    def update(_, values, step):
        for name, parameter in parameters.items():
            parameter.grad = torch.tensor(values[name])
        for group in optimizer.param_groups:
            group["lr"] = rate(case["lr"], step)
        if case["clip_norm"]:
            torch.nn.utils.clip_grad_norm_(parameters.values(), case["clip_norm"])
        optimizer.step()
        return {name: parameter.detach().numpy().copy() for name, parameter in parameters.items()}
    return follow(update)


def with_damp(case, optimizers):
    """A case by the DAMP authors' `nesterov` or `adamw`, of their module `optimizers`; None where they have no such."""
    import jax.numpy as jnp
    mask = {name: case["decay"] == "all" or name in KERNELS for name in SHAPES}
    schedule = jnp.array([rate(case["lr"], step) for step in range(STEPS)]).__getitem__
    if case["optimizer"] == "adamw":
        chain = optimizers.adamw(schedule, weight_decay=case["weight_decay"], max_norm=case["clip_norm"] or 1e9,
                                 mask=mask)
    elif case["nesterov"] and not case["clip_norm"]:
        chain = optimizers.nesterov(schedule, case["momentum"], case["weight_decay"], mask)
    else:
        return None
    state = chain.init({name: jnp.array(value) for name, value in start().items()})

    def update(weights, values, _):
        nonlocal state
        updates, state = chain.update({name: jnp.array(value) for name, value in values.items()}, state,
                                      {name: jnp.array(value) for name, value in weights.items()})
        return {name: weights[name] + np.asarray(updates[name]) for name in weights}
    return follow(update)


def function_of(path, name, known):
    """A function of a file whose imports are not needed, with the names in `known` (dict) in their place."""
    with open(path, encoding="utf-8") as file:
        tree = ast.parse(file.read())
    tree.body = [node for node in tree.body if getattr(node, "name", None) == name]
    exec(compile(tree, path, "exec"), known)
    return known[name]


def module_of(path):
    spec = importlib.util.spec_from_file_location(os.path.basename(path)[:-3], path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def schedules(clone):
    """Learning rates of the DAMP authors' experiments at some steps, and what those are called here."""
    import jax.numpy as jnp
    import optax
    linear = module_of(os.path.join(clone, "utils.py")).LrScheduler(0.1, 300, (0.5, 0.9), 0.01, 0, 390)
    resnet = function_of(os.path.join(clone, "train_imagenet_resnet.py"), "get_learning_rate_scheduler",
                         {"jnp": jnp})(90, 5, 625, 0.1, 0.001, 2048)
    vit = function_of(os.path.join(clone, "train_imagenet_vit.py"), "get_learning_rate_scheduler",
                      {"warmup_cosine_decay_schedule": optax.warmup_cosine_decay_schedule})(
                          1e-6, 1e-3, 10_000, 200 * 1251, 0.0, 1)
    return [
        record(linear, {"name": "linear", "base": 0.1, "total_epochs": 300, "batches": 390},
               [0, 390, 58_499, 58_500, 58_889, 58_890, 60_000, 93_599, 93_600, 104_909, 104_910, 105_300, 116_999]),
        record(resnet, {"name": "cosine", "base": 0.8, "total_epochs": 90, "batches": 625, "warmup": "5epochs",
                        "final_lr": 8e-4}, [0, 1, 1000, 3124, 3125, 3126, 20_000, 29_687, 56_248, 56_249]),
        record(vit, {"name": "cosine", "base": 1e-3, "total_epochs": 200, "batches": 1251, "warmup": "10000steps",
                     "final_lr": 0.0}, [0, 1, 5000, 9999, 10_000, 10_001, 130_000, 200_000, 250_198, 250_199])]


def record(schedule, options, steps):
    return {"options": options, "rates": [[step, float(schedule(step))] for step in steps]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damp", metavar="CLONE", required=True)
    parser.add_argument("out")
    args = parser.parse_args()
    import jax
    jax.config.update("jax_enable_x64", True)
    optimizers = module_of(os.path.join(args.damp, "optimizers", "utils.py"))
    entries = [{"options": case, "source": source, **after} for case in CASES
               for source, after in (("torch.optim", with_torch(case)), ("DAMP", with_damp(case, optimizers)))
               if after is not None]
    with open(args.out, "w", encoding="utf-8") as file:
        for name, rows in (("optimizers", entries), ("schedules", schedules(args.damp))):
            file.write("{" if name == "optimizers" else ",\n")
            file.write(f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "]")
        file.write("}\n")


if __name__ == "__main__":
    main()
