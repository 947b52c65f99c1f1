"""Differences between training steps and the authors' steps, and their limits. Needs numpy alone."""
import math

import numpy as np

# Float32 against the files' float64 drifts with every step, and the more the larger rho is; so does the authors' own.
STEP_TOLERANCES = {
    "groups": 0, "first losses": 3e-3, "gradient norm": 3e-3, "second losses": 3e-3, "sharpness": 1e-3, "q": 3e-3,
    "evaluation logits": 1e-2, "parameter sums": 1e-2, "parameter norms": 3e-3, "running statistics": 1e-3,
}
# A gradient jumps where a value that goes into a LeakyReLU is so close to 0 that float32 takes the other side.
FIRST_STEP_TOLERANCES = {"groups": 0, "first losses": 1e-5, "gradient norm": 1e-4, "second losses": 1e-4,
                         "sharpness": 3e-5, "q": 1e-5}
ROUNDING, MOST = 5, 0.1
PROJECTIONS = 4  # numbers that stand for the update of a parameter, besides its norm
NEGLIGIBLE = 1e-3  # an update of this share of the largest one is compared as if it had this norm
MEASURES = {"first losses": "first_loss", "gradient norm": "grad_norm", "second losses": "second_loss",
            "q": "adv_probs"}


def finite_or_inf(error):
    """Return an error as a float, infinite if it is not a number, so that no comparison with a limit lets it pass."""
    return float(error) if np.isfinite(error) else math.inf


def relative_error(ours, theirs):
    """Largest difference over the largest value of the reference."""
    theirs = np.asarray(theirs, np.float64)
    return finite_or_inf(np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max())


def summarise_updates(updates):
    """Summarise the updates of the parameters.

    Args:
        updates (list of numpy.ndarray): float64, the update of each parameter.

    Returns:
        numpy.ndarray: float64 (parameters, 1 + PROJECTIONS). A row has the norm of an update, and its products with
        random vectors, whose elements are standard normal.
    """
    rows = []
    for update in updates:
        rng = np.random.default_rng(len(rows))
        rows.append([np.linalg.norm(update), *(update.ravel() @ rng.standard_normal(update.size, np.float32)
                                               for _ in range(PROJECTIONS))])
    return np.array(rows)


def update_error(ours, theirs):
    """Return the largest error of an update over its norm; both arguments are as returned by `summarise_updates`."""
    norms = np.maximum(theirs[:, 0], NEGLIGIBLE * theirs[:, 0].max())
    return finite_or_inf((np.abs(ours - theirs).max(1) / norms).max())


def largest_errors(measured, reference):
    """Largest error of a sum and of an l2 norm, over the l2 norm; both map names to [sum, l2 norm]."""
    errors = [np.abs(np.subtract(measured[name], values)) / values[1] for name, values in reference.items()]
    return np.max(errors, 0)


def step_errors(measured, reference):
    """The differences between steps and the authors' steps, both as in `release_step.json`.

    Args:
        measured (dict): steps, eval_logits, param_sums, running.
        reference (dict): the same.

    Returns:
        tuple: two dictionaries of largest relative errors, of the first step and of everything after it.
    """
    first, later = {}, {}
    for k, (ours, theirs) in enumerate(zip(measured["steps"], reference["steps"], strict=True)):
        errors = {title: relative_error(ours[key], theirs[key]) for title, key in MEASURES.items() if key in ours}
        errors["groups"] = np.count_nonzero(np.subtract(ours["groups"], theirs["groups"]))
        # A difference of losses, and no closer than they are.
        errors["sharpness"] = abs(ours["sharp_loss"] - theirs["sharp_loss"]) / max(theirs["second_loss"])
        into = later if k else first
        into.update({title: np.maximum(into.get(title, 0), error) for title, error in errors.items()})
    later["evaluation logits"] = relative_error(measured["eval_logits"], reference["eval_logits"])
    later["parameter sums"], later["parameter norms"] = largest_errors(measured["param_sums"], reference["param_sums"])
    later["running statistics"] = np.max(largest_errors(measured["running"], reference["running"]))
    return tuple({title: finite_or_inf(error) for title, error in errors.items()} for errors in (first, later))


def step_limits(entry):
    """The limits of `step_errors`.

    Args:
        entry (dict): of such a file; `rounding`, if it is there, is how far float32 has led the authors' code itself.

    Returns:
        tuple: two dictionaries, of the tolerances, or where that is more, of `ROUNDING` times the rounding, but no more
        than `MOST`.
    """
    return tuple({title: max(limit, min(MOST, ROUNDING * rounding.get(title, 0))) for title, limit in table.items()}
                 for table, rounding in zip((FIRST_STEP_TOLERANCES, STEP_TOLERANCES), entry.get("rounding", ({}, {})),
                                            strict=True))
