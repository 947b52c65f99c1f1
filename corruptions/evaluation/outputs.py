"""Outputs of classifiers of any library as NumPy arrays."""
import numpy as np

from corruptions.utils.errors import UserError


def to_numpy(outputs, what):
    """Return an array or a tensor of PyTorch, JAX or MindSpore, on any device, as an array; bfloat16 as float32.

    Raises:
        UserError: it is none of these; the error begins with `what`, such as 'predict gives'.
    """
    try:
        if hasattr(outputs, "detach"):  # PyTorch
            outputs = outputs.detach().cpu()
            if str(outputs.dtype) == "torch.bfloat16":  # which NumPy does not have
                outputs = outputs.float()
        outputs = outputs.asnumpy() if hasattr(outputs, "asnumpy") else np.asarray(outputs)  # MindSpore; JAX and others
        if outputs.dtype == object:
            raise ValueError("its items are not numbers")
    except (ValueError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{what} no array ({reason}); it must be one array of classes, logits or probabilities"
                        ) from error
    return outputs.astype(np.float32) if outputs.dtype.name == "bfloat16" else outputs
