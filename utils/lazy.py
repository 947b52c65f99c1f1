"""Functions that import their module when they are called, for tables that are read before MindSpore is needed."""
import importlib


def import_on_call(module, name):
    """Return a function that calls `name` of `module` with its own arguments, and imports the module only then."""
    def call(*args, **options):
        return getattr(importlib.import_module(module), name)(*args, **options)
    return call
