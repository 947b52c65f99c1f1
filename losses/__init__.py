"""Objectives, perturbations of the weights, and the step cells that join them (`methods.py` has the table).

    from losses import create_step
"""
from corruptions.utils import startup

if not startup.has_begun():  # the programs of this project import MindSpore later, because their help needs none
    import utils.runtime.device  # noqa: F401, it sets the environment that MindSpore reads, and graph mode

__all__ = ["create_step"]


def __getattr__(name):
    if name != "create_step":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from losses.create import create_step
    return create_step
