"""Objectives, perturbations of the weights, and the step cells that join them (`methods.py` has the table).

    from losses import create_step

MindSpore is imported with `create_step`, not with the package: the command line needs the tables alone.
"""
__all__ = ["create_step"]


def __getattr__(name):
    if name != "create_step":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from losses.create import create_step
    return create_step
