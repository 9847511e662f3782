"""Reads an .onnx file without ONNX Runtime: the names of its weight files, and its operators of training.

The messages have only the fields of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto) needed here.
"""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_PACKAGE = "scorebeat.onnx"
_RANDOM = frozenset(
    {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
)
# name of a message -> name of a field -> (its number, its type, whether it is repeated)
_FIELDS: dict[str, dict[str, tuple[int, str, bool]]] = {
    "Entry": {"key": (1, "string", False), "value": (2, "string", False)},
    "Tensor": {
        "int32_data": (5, "int32", True),
        "name": (8, "string", False),
        "raw_data": (9, "bytes", False),
        "external_data": (13, "Entry", True),
    },
    "Sparse": {"values": (1, "Tensor", False), "indices": (2, "Tensor", False)},
    "Attribute": {
        "name": (1, "string", False),
        "i": (3, "int64", False),
        "t": (5, "Tensor", False),
        "g": (6, "Graph", False),
        "tensors": (10, "Tensor", True),
        "graphs": (11, "Graph", True),
        "sparse_tensor": (22, "Sparse", False),
        "sparse_tensors": (23, "Sparse", True),
    },
    "Node": {
        "input": (1, "string", True),
        "output": (2, "string", True),
        "name": (3, "string", False),
        "op_type": (4, "string", False),
        "attribute": (5, "Attribute", True),
        "domain": (7, "string", False),
    },
    "Graph": {
        "node": (1, "Node", True),
        "initializer": (5, "Tensor", True),
        "sparse_initializer": (15, "Sparse", True),
    },
    "Function": {"node": (7, "Node", True)},
    "Model": {"graph": (7, "Graph", False), "functions": (25, "Function", True)},
}


def data_files(path: Path) -> list[str]:
    """The locations of weight files, as the file names them; none if the file cannot be read."""
    entries = (entry for tensor in _tensors(path) for entry in tensor.external_data)
    return sorted({entry.value for entry in entries if entry.key == "location"})


def nodes_of_training(path: Path) -> list[str]:
    """Operators that drop values, or normalise over the rows of a batch, as in training."""
    graphs = [*_graphs(_model(path))]
    constants = {name: tensor for graph in graphs for name, tensor in _constants(graph)}
    nodes = [node for graph in graphs for node in graph.node if node.domain in ("", "ai.onnx")]
    return [_shown(node) for node in nodes if _is_of_training(node, constants)]


def random_nodes(path: Path) -> list[str]:
    """Operators that draw random numbers at each run."""
    return [_shown(node) for graph in _graphs(_model(path)) for node in graph.node if node.op_type in _RANDOM]


def _is_of_training(node: Any, constants: dict[str, Any]) -> bool:
    if node.op_type == "BatchNormalization":
        return any(attribute.name == "training_mode" and attribute.i for attribute in node.attribute)
    if node.op_type != "Dropout" or len(node.input) < 3:
        return False
    mode = constants.get(node.input[2])
    return mode is not None and (any(mode.raw_data) or any(mode.int32_data))


def _constants(graph: Any) -> Iterator[tuple[str, Any]]:
    yield from ((tensor.name, tensor) for tensor in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            yield from ((node.output[0], each.t) for each in node.attribute if each.name == "value")


def _tensors(path: Path) -> Iterator[Any]:
    for graph in _graphs(_model(path)):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from (sparse.values, sparse.indices)
        for attribute in (each for node in graph.node for each in node.attribute):
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)


def _graphs(model: Any) -> Iterator[Any]:
    """The graph, the graphs within its nodes, and the bodies of functions, which have nodes like a graph."""
    graph = _messages()["Graph"]
    waiting = [model.graph, *(graph(node=function.node) for function in model.functions)]
    while waiting:
        found = waiting.pop()
        yield found
        for attribute in (each for node in found.node for each in node.attribute):
            waiting += [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]


def _model(path: Path) -> Any:
    """The file's message; an empty one if it is no such file: ONNX Runtime then raises the error."""
    found = _messages()["Model"]()
    try:
        found.ParseFromString(path.read_bytes())
    except DecodeError:
        return _messages()["Model"]()
    return found


@cache
def _messages() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="scorebeat_onnx.proto", package=_PACKAGE, syntax="proto2")
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in _FIELDS:
                typed = {"type": kinds.TYPE_MESSAGE, "type_name": f".{_PACKAGE}.{kind}"}
            else:
                typed = {"type": kinds.Type.Value(f"TYPE_{kind.upper()}")}
            message.field.add(name=field, number=number, label=label, **typed)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _FIELDS}


def _shown(node: Any) -> str:
    return f"{node.op_type} {node.name}".strip()
