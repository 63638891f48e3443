"""The message class of tf.train.Example without TensorFlow.

`tensorflow.core.example.example_pb2` imports all of TensorFlow: seconds, and hundreds of megabytes, in a
process that only reads.
"""

from __future__ import annotations

import functools
from typing import Any

# message -> fields: name, number, type, repeated. tensorflow/core/example/{feature,example}.proto
_SCHEMA: dict[str, list[tuple[str, int, str, bool]]] = {
    "BytesList": [("value", 1, "bytes", True)],
    "FloatList": [("value", 1, "float", True)],
    "Int64List": [("value", 1, "int64", True)],
    "Feature": [
        ("bytes_list", 1, "BytesList", False),
        ("float_list", 2, "FloatList", False),
        ("int64_list", 3, "Int64List", False),
    ],
    "Features": [("feature", 1, "Features.FeatureEntry", True)],
    "Features.FeatureEntry": [("key", 1, "string", False), ("value", 2, "Feature", False)],
    "Example": [("features", 1, "Features", False)],
}


# On the wire packed floats are bytes: so they come without an object for each of them.
_PACKED: dict[str, list[tuple[str, int, str, bool]]] = {"FloatList": [("value", 1, "bytes", True)]}


@functools.cache
def example_class(*, packed: bool = False) -> Any:
    """Builds the class, in a pool of its own so that TensorFlow's can be loaded beside it.

    With `packed` the values of a FloatList are pieces of bytes, to be joined: little-endian float32. It is
    for files of writers that pack them, as this package's and TensorFlow's do.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory  # type: ignore[import-untyped]

    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")
    messages: dict[str, Any] = {}
    for path, fields in {**_SCHEMA, **(_PACKED if packed else {})}.items():
        parent, _, name = path.rpartition(".")
        message = messages[parent].nested_type.add(name=name) if parent else file.message_type.add(name=name)
        messages[path] = message
        for name, number, type, repeated in fields:
            field = message.field.add(name=name, number=number)
            field.label = kind.LABEL_REPEATED if repeated else kind.LABEL_OPTIONAL
            if type in _SCHEMA:
                field.type, field.type_name = kind.TYPE_MESSAGE, f".tensorflow.{type}"
            else:
                field.type = getattr(kind, f"TYPE_{type.upper()}")
    messages["Features.FeatureEntry"].options.map_entry = True
    messages["Feature"].oneof_decl.add(name="kind")
    for field in messages["Feature"].field:
        field.oneof_index = 0
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
