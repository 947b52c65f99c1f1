"""Record steps of the DAMP authors' code with BatchNorm over all sub-batches:
PYTHON_WITH_JAX tests/golden/record_sync_bn.py --damp CLONE tests/golden/sync_bn.json

CLONE is one of trungtrinh44/DAMP; the Python needs jax, flax and optax. Its SAM, ASAM and DAMP steps train a small
network, once with BatchNorm's statistics over all sub-batches and once with those of each, in float64. Weights, images
and the noise are drawn by the formulas in `tests/formula.py`, the noise of copy m at step k as that of
`noise.K.M.NAME`. The file holds what each case ends with: losses of the steps, weights in PyTorch's layout, and running
statistics, of which the variances are of N H W values over N H W.
"""
import argparse
import json
import os
import sys
from functools import partial

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

from record_networks import FlaxWeights, import_models, rounded  # noqa: E402

from tests.formula import formula_batch, formula_weight  # noqa: E402

SHAPES = {"conv1.weight": (4, 3, 3, 3), "bn1.weight": (4,), "bn1.bias": (4,), "conv2.weight": (6, 4, 3, 3),
          "bn2.weight": (6,), "bn2.bias": (6,), "fc.weight": (5, 6), "fc.bias": (5,)}
STATISTICS = {f"bn{k}.running_{what}": (channels,) for k, channels in ((1, 4), (2, 6)) for what in ("mean", "var")}
COMMON = {"batch": 16, "sub_batches": 4, "height": 6, "width": 8, "classes": 5, "lr": 0.1, "momentum": 0.9,
          "weight_decay": 5e-4, "steps": 2}
CASES = [{**COMMON, "method": method, "sync_bn": sync_bn, **options}
         for method, options in (("sam", {"rho": 0.2}), ("asam", {"rho": 0.5}), ("damp", {"sigma": 0.2}))
         for sync_bn in (True, False)]
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def name_of(path):
    """PyTorch's name of a flax path, and None, as `FlaxWeights` wants it."""
    return f"{path[-2]}.{LEAVES[path[-1]]}", None


def network(axes):
    """The small network, with BatchNorm over these axes."""
    import flax.linen as nn
    import jax.numpy as jnp

    class Network(nn.Module):
        @nn.compact
        def __call__(self, x, train):
            for k, (channels, stride) in enumerate(((4, 1), (6, 2)), 1):
                x = nn.Conv(channels, (3, 3), (stride, stride), padding="SAME", use_bias=False, name=f"conv{k}")(x)
                x = jnp.tanh(nn.BatchNorm(not train, momentum=0.9, epsilon=1e-5, axis_name=axes, name=f"bn{k}")(x))
            return nn.Dense(5, name="fc")(x.mean((1, 2)))
    return Network()


def noise_by_formula(optimizers, step, sub_batches):
    """A substitute for the authors' draw of noise, for one step."""
    import jax
    import jax.numpy as jnp

    def sample(tree, key):
        def one(path, leaf):
            name, _ = name_of([key.key for key in path])
            drawn = [formula_weight(f"noise.{step}.{m}.{name}", SHAPES[name]) for m in range(sub_batches)]
            table = jnp.asarray(np.stack([FlaxWeights.from_torch(value, leaf.shape) for value in drawn]), jnp.float64)
            return table[jax.lax.axis_index(optimizers.VMAP_BATCH)]
        return jax.tree_util.tree_map_with_path(one, tree), key
    return sample


def build(optimizers, case, chain):
    """The authors' step of a case."""
    if case["method"] == "damp":
        return optimizers.build_DAMP_optimizer(case["sigma"], case["sub_batches"], chain)
    if case["method"] == "sam":
        return optimizers.build_SAM_optimizer(case["rho"], case["sub_batches"], chain)
    return optimizers.build_ASAM_optimizer(case["rho"], case["sub_batches"], 0.0, chain)


def record(case, optimizers):
    """The final values of a case, as a dict."""
    import jax
    import jax.numpy as jnp
    import optax
    model = network((optimizers.PMAP_BATCH, optimizers.VMAP_BATCH) if case["sync_bn"] else None)
    images = jnp.zeros((1, case["height"], case["width"], 3), jnp.float64)
    variables = FlaxWeights(name_of, None).fill(network(None).init(jax.random.PRNGKey(0), images, False), False)
    params, statistics = variables["params"], {"batch_stats": variables["batch_stats"]}

    def loss(params, statistics, batch, is_training):
        images, labels = batch
        logits, moved = model.apply({"params": params, **statistics}, images, is_training, mutable=["batch_stats"])
        return -(jax.nn.log_softmax(logits) * jax.nn.one_hot(labels, case["classes"])).sum(1).mean(), moved
    chain = optax.chain(optax.add_decayed_weights(case["weight_decay"]),
                        optax.sgd(case["lr"], case["momentum"], nesterov=True))
    init = build(optimizers, case, chain)[0]
    key = {"rngkey": jax.random.PRNGKey(0)}
    state = jax.tree_util.tree_map(lambda leaf: leaf[None], init(params, netstate=statistics, **key))
    losses = []
    for step in range(case["steps"]):
        optimizers.optims.sample_like_tree = noise_by_formula(optimizers, step, case["sub_batches"])
        images, labels = formula_batch({**case, "seed": step})
        batch = jnp.asarray(images.transpose(0, 2, 3, 1), jnp.float64)[None], jnp.asarray(labels)[None]
        update = partial(build(optimizers, case, chain)[1], jax.value_and_grad(loss, has_aux=True))
        state, value = jax.pmap(update, axis_name=optimizers.PMAP_BATCH)(state, batch)
        losses.append(float(np.mean(value)))
    result = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path((state.params, state.netstate)):
        name, _ = name_of([key.key for key in path[1:]])
        value = np.asarray(leaf)[0]
        value = value[0] if name in STATISTICS else value  # the first copy's, which the authors keep
        result[name] = rounded(FlaxWeights.to_torch(value))
    return {"case": case, "losses": losses, "final": result}


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[2],
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damp", required=True, metavar="CLONE", help="clone of trungtrinh44/DAMP")
    parser.add_argument("file", metavar="OUT.json")
    args = parser.parse_args()
    import jax
    jax.config.update("jax_enable_x64", True)
    optimizers = import_models(args.damp, "optimizers")
    with open(args.file, "w", encoding="utf-8") as file:
        json.dump([record(case, optimizers) for case in CASES], file)
        file.write("\n")


if __name__ == "__main__":
    main()
