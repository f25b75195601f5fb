# SPDX-License-Identifier: Apache-2.0
"""Spoils valid models in one or a few ways, as a hostile or a careless hand would."""
import copy
import random

import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

HUGE = (-1, 0, 1, 2, 3, 7, 16, 31, 33, 64, 2**31 - 1, 2**31, 2**63 - 1, -2**63, -2, -32)
TYPES = (T.FLOAT, T.FLOAT16, T.BFLOAT16, T.INT8, T.UINT8, T.INT32, T.INT64, T.DOUBLE, T.BOOL,
         T.STRING, T.INT4, T.UINT4, 0, 99)


def graphs_of(graph):
    """The graph and those within it."""
    found = [graph]
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("g"):
                found += graphs_of(a.g)
    return found


class Mutator:
    def __init__(self, seed):
        self.r = random.Random(seed)

    def spoilt(self, model):
        """A model as bytes, and what was done."""
        r, model, done = self.r, copy.deepcopy(model), []
        kinds = [self.attribute] * 4 + [self.tensor] * 5 + [self.inputs] * 3 + [
            self.rewired, self.duplicated, self.declared, self.declared, self.opset, self.outputs]
        for _ in range(r.choices((1, 2, 3, 5), (6, 3, 1, 1))[0]):
            try:
                done.append(r.choice(kinds)(model, r.choice(graphs_of(model.graph))))
            except (IndexError, KeyError, OverflowError, TypeError, ValueError):
                pass
        # ONNX Runtime dies of a trip count without an element, also where it lacks the types.
        for graph in graphs_of(model.graph):
            counts = {n.input[0] for n in graph.node if n.op_type == "Loop" and n.input}
            for tensor in graph.initializer:
                if tensor.name in counts and 0 in tensor.dims:
                    tensor.CopyFrom(numpy_helper.from_array(np.array(1, np.int64), tensor.name))
        data = model.SerializeToString()
        if r.random() < 0.03:
            data, done = self.raw(data), done + ["bytes"]
        return data, ", ".join(d for d in done if d)

    def raw(self, data):
        r, data = self.r, bytearray(data)
        if r.random() < 0.4:
            return bytes(data[:r.randrange(len(data))])
        for _ in range(r.randint(1, 4)):
            data[r.randrange(len(data))] = r.randrange(256)
        return bytes(data)

    def attribute(self, model, graph):
        r = self.r
        node = r.choice([n for n in graph.node if n.attribute or r.random() < 0.2])
        if not node.attribute or r.random() < 0.1:
            name = r.choice(("axis", "epsilon", "transA", "transB", "alpha", "beta", "block_size",
                             "keepdims", "approximate", "softcap", "local_window_size",
                             "stash_type", "saturate", "output_dtype"))
            value = "tanh" if name == "approximate" else r.choice((-1, 0, 1, 2, 1.5, -0.5))
            node.attribute.append(helper.make_attribute(name, value))
            return f"{node.op_type} gets {name}"
        at = r.randrange(len(node.attribute))
        a = node.attribute[at]
        if r.random() < 0.2:
            del node.attribute[at]
            return f"{node.op_type} loses an attribute"
        if a.HasField("i"):
            near = max(-2**62, min(2**62, a.i)) * 2 + r.choice((-1, 0))
            a.i = r.choice(HUGE) if r.random() < 0.7 else near
        elif a.HasField("f"):
            a.f = r.choice((-1.0, 0.0, 1e-30, 1e30, float("nan"), float("inf"), -a.f, 0.5))
        elif a.HasField("s"):
            a.s = r.choice((b"", b"tanh", b"none", b"x" * 40, b"tanh" + b"x" * 40, b"\xff\x00"))
        elif a.ints:
            values = list(a.ints)
            values[r.randrange(len(values))] = r.choice(HUGE)
            del a.ints[:]
            a.ints.extend(values if r.random() < 0.7 else values[:-1] if r.random() < 0.5
                          else values * 2)
        elif a.HasField("t"):
            return self.spoil_tensor(a.t)
        if r.random() < 0.05:
            a.type = r.randrange(12)
        return f"{node.op_type}.{a.name}"

    def tensor(self, model, graph):
        return self.spoil_tensor(self.r.choice(graph.initializer))

    def spoil_tensor(self, t):
        """Another type, fewer, no or more elements, another shape, or extreme values."""
        r, array = self.r, numpy_helper.to_array(t)
        kind = r.choice(("type", "short", "empty", "longer", "rank", "turned", "extreme", "scaled",
                         "one", "claims"))
        if kind == "type":
            t.data_type = r.choice(TYPES)
            if r.random() < 0.7 and t.data_type in (1, 10, 11, 16, 2, 3, 6, 7, 9):
                with np.errstate(all="ignore"):
                    dtype = helper.tensor_dtype_to_np_dtype(t.data_type)
                    t.CopyFrom(numpy_helper.from_array(array.astype(dtype), t.name))
            return f"{t.name} is of type {t.data_type}"
        if kind == "claims":
            dims = list(t.dims) or [1]
            dims[r.randrange(len(dims))] = r.choice(HUGE)
            del t.dims[:]
            t.dims.extend(dims)
            return f"{t.name} claims {dims}"
        axis = r.randrange(array.ndim) if array.ndim else 0
        if kind == "short" and array.ndim:
            array = array.take(range(max(0, array.shape[axis] - r.choice((1, 1, 16, 32)))), axis)
        elif kind == "empty":
            array = array.take(range(0), axis) if array.ndim else array.reshape(1)[:0]
        elif kind == "longer":
            array = np.concatenate([array, array], axis) if array.ndim else np.stack([array, array])
        elif kind == "rank":
            array = r.choice((array.reshape(-1), array[None], array[..., None]))
        elif kind == "turned":
            array = array.T
        elif kind == "one":
            array = array.reshape(-1)[:1].reshape(r.choice(((), (1,), (1, 1))))
        elif array.dtype.kind in "fV":
            array = array.copy()
            factor = r.choice((0, -1, 1e-8, 1e-5, 1e5, 1e9, np.nan, np.inf))
            with np.errstate(all="ignore"):
                if kind == "extreme" and array.size:
                    array.reshape(-1)[r.randrange(array.size)] = factor
                else:
                    array = array * array.dtype.type(factor)
        t.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), t.name))
        return f"{t.name} {kind}"

    def inputs(self, model, graph):
        """An input less, twice, in another place, left out, or another value in its place."""
        r, node = self.r, self.r.choice([n for n in graph.node if n.input])
        values, at = list(node.input), self.r.randrange(len(node.input))
        kind = r.choice(("less", "twice", "swapped", "empty", "other"))
        if kind == "less":
            del values[at]
        elif kind == "twice":
            values.append(values[at])
        elif kind == "swapped":
            r.shuffle(values)
        elif kind == "empty":
            values[at] = ""
        else:
            values[at] = r.choice(self.names(graph))
        del node.input[:]
        node.input.extend(values)
        return f"{node.op_type} input {at} {kind}"

    @staticmethod
    def names(graph):
        return ([v.name for v in graph.input] + [t.name for t in graph.initializer] +
                [o for n in graph.node for o in n.output if o])

    def rewired(self, model, graph):
        """All who read one value read another."""
        one, other = self.r.choice(self.names(graph)), self.r.choice(self.names(graph))
        for node in graph.node:
            for k, name in enumerate(node.input):
                if name == one:
                    node.input[k] = other
        return "rewired"

    def duplicated(self, model, graph):
        r, at = self.r, self.r.randrange(len(graph.node))
        twin = copy.deepcopy(graph.node[at])
        if r.random() < 0.8:
            for k, name in enumerate(twin.output):
                twin.output[k] = name + "_" if name else ""
        nodes = list(graph.node)
        nodes.insert(at + 1, twin)
        if r.random() < 0.5:  # whose reader takes the other
            for node in nodes[at + 2:]:
                for k, name in enumerate(node.input):
                    if name + "_" in twin.output and r.random() < 0.5:
                        node.input[k] = name + "_"
        del graph.node[:]
        graph.node.extend(nodes)
        return f"{twin.op_type} twice"

    def declared(self, model, graph):
        """Another type or shape of what the graph declares."""
        r = self.r
        info = r.choice(list(graph.input) + list(graph.output) + list(graph.value_info))
        kind, tensor = r.random(), info.type.tensor_type
        if kind < 0.2:
            tensor.elem_type = r.choice(TYPES)
        elif kind < 0.4:
            tensor.ClearField("shape")
        elif kind < 0.6:
            tensor.shape.dim.add().dim_value = r.choice((1, 2, 32))
        elif len(tensor.shape.dim) and kind < 0.8:
            del tensor.shape.dim[0]
        elif len(tensor.shape.dim):
            dim = r.choice(tensor.shape.dim)
            if r.random() < 0.5:
                dim.dim_value = r.choice(HUGE)
            else:
                dim.dim_param = "?"
        return f"{info.name} declared"

    def opset(self, model, graph):
        opset = self.r.choice(model.opset_import)
        opset.version = self.r.choice((1, 6, 7, 11, 12, 13, 17, 18, 20, 22, 24, 0, -1))
        return f"opset {opset.version}"

    def outputs(self, model, graph):
        """An output less or more, or a node's output without a name."""
        r, kind = self.r, self.r.random()
        if kind < 0.3 and len(graph.output) > 1:
            del graph.output[r.randrange(len(graph.output))]
        elif kind < 0.6:
            graph.output.append(helper.make_empty_tensor_value_info(r.choice(self.names(graph))))
        else:
            node = r.choice(graph.node)
            node.output[r.randrange(len(node.output))] = ""
        return "outputs"


def respelt(model, feeds, r):
    """Inputs as a model declares them, at times of another shape or type."""
    if r.random() < 0.8 or not feeds:
        return feeds
    out, name = dict(feeds), r.choice(sorted(feeds))
    type_, array = out[name]
    kind = r.randrange(4)
    if kind == 0:
        array = array[None]
    elif kind == 1 and array.ndim:
        array = array[..., :-1] if array.shape[-1] > 1 else array
    elif kind == 2 and array.ndim > 1:
        array = array[:0]
    elif kind == 3 and array.ndim > 1:
        array = array[0]
    out[name] = type_, np.ascontiguousarray(array)
    return out
