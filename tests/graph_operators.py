"""The operators of a compiled graph."""
import collections
import os

import mindspore as ms
from mindspore.train.mind_ir_pb2 import ModelProto, TensorProto

from losses.step.mixed_precision import SkipOnOverflow


def list_operators(cell, inputs, folder):
    """The operators of a compiled cell, to the types of all that they take and give."""
    path = os.path.join(folder, "graph.mindir")
    ms.export(cell, *inputs, file_name=path, file_format="MINDIR")
    model = ModelProto()
    with open(path, "rb") as file:
        model.ParseFromString(file.read())
    has_branch = getattr(getattr(cell, "update", None), "optimizer", None).__class__ is SkipOnOverflow
    assert bool(model.functions) == has_branch, "several graphs"
    graphs, types = (model.graph, *model.functions), {}  # the sides of a branch are functions
    nodes = [node for graph in graphs for node in graph.node]

    def note(name, tensors):
        types[name] = {TensorProto.DataType.Name(tensor.data_type) for tensor in tensors}
    for graph in graphs:
        for parameter in graph.parameter:
            note(parameter.name, [parameter])
        for entry in graph.input:
            note(entry.name, entry.tensor)
    for node in nodes:
        note(node.output[0], [tensor for attribute in node.attribute for tensor in attribute.tensors])
    operators = collections.defaultdict(set)
    for node in nodes:
        if node.op_type != "Constant" and "CNode_" not in node.op_type:  # the latter is a side of a branch
            name = node.op_type.removeprefix("REF::").rpartition(":")[0]
            operators[name].update(*(types.get(end, set()) for end in (*node.input, *node.output)))
    return operators
