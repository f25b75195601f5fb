# SPDX-License-Identifier: Apache-2.0
"""What a graph computes, in double precision, and how far a sound implementation may be from it.

Each value comes with a bound of its own for each element: the rounding of every step in the type
that the graph says, in the worst case and any order of summation, and what the steps before it have
let through. Fewer roundings, as of steps that are fused, stay within. Values of small integers are
exact. Where a bound cannot be had (overflow, a norm of almost equal elements) it is infinite.
"""
import math

import ml_dtypes
import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

UNIT = {T.FLOAT: 2.0**-24, T.FLOAT16: 2.0**-11, T.BFLOAT16: 2.0**-8, T.DOUBLE: 2.0**-53}
LEAST = {T.FLOAT: 2.0**-126, T.FLOAT16: 2.0**-25, T.BFLOAT16: 2.0**-126, T.DOUBLE: 0}
MOST = {T.FLOAT: 3.4e38, T.FLOAT16: 65504.0, T.BFLOAT16: 3.38e38, T.DOUBLE: 1e308}
NUMPY = {T.FLOAT: np.float32, T.FLOAT16: np.float16, T.BFLOAT16: ml_dtypes.bfloat16,
         T.DOUBLE: np.float64}
EPS = UNIT[T.FLOAT]  # sums are f32
# Of erf, tanh, exp and the like, in units of f32's rounding: polynomials are not the last bit's.
FUNCTION = 24


class Unknown(Exception):
    """An op, or a use of one, that is not known here."""


class Value:
    """Elements, their bounds, and their type. `among`: for an index, which ones are right; `step`:
    for weights in blocks, how coarse the rows that they meet become."""

    def __init__(self, val, err, type_, among=None, step=None):
        self.val, self.type, self.among, self.step = val, type_, among, step
        self.err = np.zeros(np.shape(val)) if err is None else err


def array_of(tensor):
    """A TensorProto's elements, as doubles if they are floats."""
    array = numpy_helper.to_array(tensor)
    return array.astype(np.float64) if tensor.data_type in UNIT else array


def rounded(val, err, type_):
    """The bound after a result is rounded to a type."""
    if type_ not in UNIT:
        return Value(val, err, type_)
    with np.errstate(all="ignore"):
        held = (err == 0) & (val.astype(NUMPY[type_]).astype(np.float64) == val)
        err = np.where(held, 0, err + UNIT[type_] * (np.abs(val) + err) + LEAST[type_])
        err = np.where(np.abs(val) + err > MOST[type_], np.inf, err)
    return Value(val, np.where(np.isnan(err) | np.isnan(val), np.inf, err), type_)


def coarse(x, step):
    """Rows that are rounded, each group of elements to a part of its largest."""
    group, part = step[0] or x.val.shape[-1], step[1]
    whole = np.array_equal(x.val, np.rint(x.val)) and np.abs(x.val).max(initial=0) < 2**13
    if not x.val.size or (whole and part < 0.001):
        return x
    groups = np.pad(np.abs(x.val), [(0, 0)] * (x.val.ndim - 1) + [(0, -x.val.shape[-1] % group)])
    largest_of = groups.reshape(x.val.shape[:-1] + (-1, group)).max(-1)
    near = np.repeat(largest_of * part, group, -1)[..., :x.val.shape[-1]]
    return Value(x.val, x.err + near, x.type)


def product(a, b, type_):
    if b.step:
        a = coarse(a, b.step)
    with np.errstate(all="ignore"):
        val = np.matmul(a.val, b.val)
        size = np.matmul(np.abs(a.val), np.abs(b.val))
        err = np.matmul(a.err, np.abs(b.val) + b.err) + np.matmul(np.abs(a.val), b.err)
    whole = all(np.array_equal(x.val, np.rint(x.val)) and not x.err.any() for x in (a, b))
    if not (whole and (size.size == 0 or size.max() < 2**24)):
        err = err + (a.val.shape[-1] + 1) * EPS * size
    return rounded(val, err, type_)


def smooth(x, function, slope):
    """A function of each element, of which the steepest slope is known."""
    with np.errstate(all="ignore"):
        val = function(x.val)
    return rounded(val, slope * x.err + FUNCTION * EPS * (np.abs(val) + np.abs(x.val) * 0.1),
                   x.type)


erf = np.vectorize(math.erf, otypes=[np.float64])


def sigmoid(x):
    return 0.5 + 0.5 * np.tanh(x / 2)


def gelu(x):
    return x / 2 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def added(a, b, type_=None):
    with np.errstate(all="ignore"):
        return rounded(a.val + b.val, a.err + b.err, type_ or a.type)


def negated(a):
    return Value(-a.val, a.err, a.type)


def times(a, b):
    with np.errstate(all="ignore"):
        err = np.abs(a.val) * b.err + np.abs(b.val) * a.err + a.err * b.err
        return rounded(a.val * b.val, err, a.type)


def divided(a, b):
    with np.errstate(all="ignore"):
        val = a.val / b.val
        left = np.abs(b.val) - b.err
        err = np.where(left > 0, (a.err + np.abs(val) * b.err) / left, np.inf)
    return rounded(val, err, a.type)


def root(a):
    with np.errstate(all="ignore"):
        val = np.sqrt(a.val)
        err = np.where(a.err == 0, 0, np.minimum(np.sqrt(a.err), a.err / val))
    return rounded(val, err, a.type)


def norm(x, axes, weight, bias, eps, layer, type_):
    """(x - mean) / sqrt(var + eps) * weight + bias, the mean 0 if it is no LayerNorm."""
    if eps < 0:
        raise Unknown("epsilon below 0")
    n = np.prod([x.val.shape[a] for a in axes])
    mean_of = lambda a: a.mean(axis=axes, keepdims=True)
    with np.errstate(all="ignore"):
        mean = mean_of(x.val) if layer else 0.0
        centred = x.val - mean
        variance = mean_of(centred**2) + eps
        sigma = np.sqrt(variance)
        hat = centred / sigma
        # What is subtracted, and sums of squares that are subtracted, lose digits.
        step = (n + 8) * EPS
        own = x.err + EPS * np.abs(x.val) + (step * mean_of(np.abs(x.val)) if layer else 0)
        err = (own + (mean_of(x.err) if layer else 0) + np.abs(hat) * mean_of(np.abs(hat) * own)
               ) / sigma
        err = err + np.abs(hat) * step * (1 + mean_of(x.val**2) / variance)
        # The slope is of the point itself: close enough as long as the bound is small.
        err = np.where(own.max(axis=axes, keepdims=True) > 0.02 * sigma, np.inf, 1.05 * err)
    out = Value(hat, err, T.FLOAT)
    if weight is not None:
        out = times(out, weight)
    if bias is not None:
        out = added(out, bias)
    return rounded(out.val, out.err, type_)


def softmax(x, axis, type_):
    with np.errstate(all="ignore"):
        top = x.val.max(axis=axis, keepdims=True)
        p = np.exp(x.val - top)
        p = p / p.sum(axis=axis, keepdims=True)
        own = x.err + 2 * EPS * (np.abs(x.val) + np.abs(top)) + FUNCTION * EPS
        worst = np.expm1(own.max(axis=axis, keepdims=True)) + (x.val.shape[axis] + 2) * EPS
        err = np.where(worst < 0.5, p * ((1 + np.expm1(own)) / (1 - worst) - 1), 1.0)
        # Where an element may be infinite the row may be NaN.
        clear = np.isfinite(own).all(axis=axis, keepdims=True)
    return rounded(p, np.where(clear, np.minimum(err, 1.0), np.inf), type_)


def reduced(array, axis, keep):
    return array.max(axis=axis, keepdims=keep)


def largest(x, axis, keep, last=False):
    """Index of the largest, and which indices rounding leaves possible."""
    top = (x.val - x.err).max(axis=axis, keepdims=True)
    among = x.val + x.err >= top
    index = x.val.argmax(axis=axis)
    if last:
        index = x.val.shape[axis] - 1 - np.flip(x.val, axis).argmax(axis=axis)
    if not x.err.any():
        among = np.zeros_like(among)
        np.put_along_axis(among, np.expand_dims(index, axis), True, axis)
    if not np.isfinite(x.err).all():
        among = among | ~np.isfinite(x.err).all(axis=axis, keepdims=True)
    index = np.expand_dims(index, axis) if keep else index
    return Value(index.astype(np.int64), None, T.INT64, (np.moveaxis(among, axis, -1), axis, keep))


def half_scales(scale):
    """The part by which scales change that become f16."""
    with np.errstate(all="ignore"):
        return np.abs(scale.astype(np.float16).astype(np.float64) - scale)


class Graph:
    """Evaluates a model's graph. Of products with weights in blocks, `bytes_` allows what ONNX
    Runtime does, which rounds rows to bytes, and `steps` what exeunt does, which rounds scales to
    f16 and rows to 2^(e - 14), e the exponent of the largest of 32."""

    def __init__(self, model, bytes_=True, steps=True):
        self.model, self.bytes, self.steps = model, bytes_, steps
        self.opset = max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")] +
                         [1])

    def run(self, feeds):
        """Outputs by name, of inputs by name: (type, array as double or integer)."""
        values = {name: Value(array.astype(np.float64) if type_ in UNIT else array, None, type_)
                  for name, (type_, array) in feeds.items()}
        values[""] = None
        graph = self.model.graph
        return dict(zip([o.name for o in graph.output], self.body(graph, values)))

    def body(self, graph, values):
        values = dict(values)
        for tensor in graph.initializer:
            values.setdefault(tensor.name, Value(array_of(tensor), None, tensor.data_type))
        for node in graph.node:
            outputs = self.node(node, values)
            for name, value in zip(node.output, outputs):
                values[name] = value
        return [values[o.name] for o in graph.output]

    def node(self, node, values):
        if node.domain not in ("", "ai.onnx", "com.microsoft"):
            raise Unknown(node.domain)
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [values[name] for name in node.input]
        if node.op_type in ("If", "Loop"):
            return getattr(self, node.op_type)(attributes, inputs, values)
        method = getattr(self, node.op_type, None)
        if method is None or not node.op_type[0].isupper():
            raise Unknown(node.op_type)
        if len(inputs) < 6:
            inputs = inputs + [None] * (6 - len(inputs))
        out = method(attributes, inputs)
        return out if isinstance(out, list) else [out]

    # ---- control ----

    def If(self, a, inputs, values):
        return self.body(a["then_branch" if bool(inputs[0].val.reshape(())) else "else_branch"],
                         values)

    def Loop(self, a, inputs, values):
        body, carried, scans = a["body"], list(inputs[2:]), []
        trips = int(inputs[0].val.reshape(())) if inputs[0] is not None else None
        going = inputs[1] is None or bool(inputs[1].val.reshape(()))
        names, i = [v.name for v in body.input], 0
        while going and (trips is None or i < trips):
            if i > 100:
                raise Unknown("a long Loop")
            inner = dict(values)
            inner.update(zip(names, [Value(np.array(i), None, T.INT64),
                                     Value(np.array(True), None, T.BOOL)] + carried))
            out = self.body(body, inner)
            going = bool(out[0].val.reshape(()))
            carried, scans = out[1:1 + len(carried)], scans + [out[1 + len(carried):]]
            i += 1
        if scans and scans[0]:
            raise Unknown("scan outputs")
        return carried

    # ---- elements ----

    def Constant(self, a, i):
        if "value" not in a:
            raise Unknown("Constant")
        return Value(array_of(a["value"]), None, a["value"].data_type)

    def Identity(self, a, i):
        return i[0]

    def Cast(self, a, i):
        x, to = i[0], a["to"]
        if to in UNIT and x.type in UNIT:
            return rounded(x.val, x.err, to)
        if to in UNIT and x.among is None:
            return rounded(x.val.astype(np.float64), np.zeros(x.val.shape), to)
        raise Unknown("Cast")

    def Add(self, a, i):
        return added(i[0], i[1])

    def Sub(self, a, i):
        return added(i[0], negated(i[1]))

    def Mul(self, a, i):
        return times(i[0], i[1])

    def Div(self, a, i):
        return divided(i[0], i[1])

    def Pow(self, a, i):
        if i[1].val.size != 1 or i[1].val.reshape(()) != 2:
            raise Unknown("Pow")
        return times(i[0], i[0])

    def Sqrt(self, a, i):
        return root(i[0])

    def Relu(self, a, i):
        return rounded(np.maximum(i[0].val, 0), i[0].err, i[0].type)

    def Erf(self, a, i):
        out = smooth(i[0], erf, 1.13)  # a polynomial whose absolute error is bounded
        return Value(out.val, out.err + 4 * EPS, out.type)

    def Tanh(self, a, i):
        return smooth(i[0], np.tanh, 1)

    def Sigmoid(self, a, i):
        return smooth(i[0], sigmoid, 0.25)

    def Gelu(self, a, i):
        tanh = a.get("approximate", b"none") == b"tanh"
        return smooth(i[0], gelu_tanh if tanh else gelu, 1.13)

    def FastGelu(self, a, i):
        x = added(i[0], i[1]) if i[1] is not None else i[0]
        return smooth(x, gelu_tanh, 1.13)

    # ---- shapes ----

    def Reshape(self, a, i):
        shape = [i[0].val.shape[k] if n == 0 and not a.get("allowzero") else int(n)
                 for k, n in enumerate(i[1].val)]
        return Value(i[0].val.reshape(shape), i[0].err.reshape(shape), i[0].type)

    def Transpose(self, a, i):
        perm = a.get("perm")
        return Value(i[0].val.transpose(perm), i[0].err.transpose(perm), i[0].type)

    def Shape(self, a, i):
        if a:
            raise Unknown("Shape")
        return Value(np.array(i[0].val.shape, np.int64), None, T.INT64)

    def Concat(self, a, i):
        i = [x for x in i if x is not None]
        if any(x.among for x in i):
            raise Unknown("Concat")
        return Value(np.concatenate([x.val for x in i], a["axis"]),
                     np.concatenate([x.err for x in i], a["axis"]), i[0].type)

    def Unsqueeze(self, a, i):
        axes = tuple(a["axes"] if "axes" in a else i[1].val.tolist())
        return Value(np.expand_dims(i[0].val, axes), np.expand_dims(i[0].err, axes), i[0].type)

    # ---- products ----

    def MatMul(self, a, i):
        return product(i[0], i[1], i[0].type)

    def Gemm(self, a, i):
        x, w = i[0], i[1]
        turn = lambda v: Value(v.val.T, v.err.T, v.type, None, v.step)
        alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
        x, w = turn(x) if a.get("transA") else x, turn(w) if a.get("transB") else w
        if x.val.ndim == 1:  # a row is a matrix to ONNX Runtime
            x = Value(x.val[None], x.err[None], x.type)
        out = product(x, w, x.type)
        if alpha != 1:
            out = times(out, Value(np.array(float(alpha)), None, x.type))
        if i[2] is not None and beta != 1:
            return added(out, times(i[2], Value(np.array(float(beta)), None, x.type)))
        return added(out, i[2]) if i[2] is not None else out

    def MatMulNBits(self, a, i):
        k, n, bits, block = a["K"], a["N"], a.get("bits", 4), a["block_size"]
        if (len(i) > 4 and i[4] is not None) or bits not in (4, 8) or k % block:
            raise Unknown("MatMulNBits")
        if not 0 < n * k < 2**24:
            raise Unknown("MatMulNBits of that size")
        blocks = k // block
        q = i[1].val.reshape(n, blocks, -1).astype(np.uint8)
        unpack = lambda b: b if bits == 8 else np.stack([b & 15, b >> 4], -1).reshape(
            b.shape[:-1] + (-1,))
        q = unpack(q).astype(np.float64)
        zero = np.full((n, blocks), 2.0**(bits - 1))
        if i[3] is not None:
            zero = i[3].val.reshape(n, -1)
            if i[3].type == T.UINT8:
                zero = unpack(zero.astype(np.uint8))[:, :blocks]
            zero = zero.astype(np.float64)
        scale = i[2].val.reshape(n, blocks, 1)
        w = ((q - zero[..., None]) * scale).reshape(n, k).T
        # With zero points the blocks keep a step and a least value, both in f16.
        given = i[3] is not None
        lost = (q + zero[..., None]) if given else np.abs(q - zero[..., None])
        lost = (lost * half_scales(scale)).reshape(n, k).T
        if given:
            least = zero * scale[..., 0]
            lost = lost + np.repeat(half_scales(least), block, 1).T
        step = (32, 2.0**-14) if self.steps else None
        if self.bytes and a.get("accuracy_level", 0) == 4:
            step = block, 1 / 127
        lost = lost if self.steps else np.zeros_like(w)
        out = product(i[0], Value(w, lost, T.FLOAT, None, step), i[0].type)
        return added(out, i[5]) if len(i) > 5 and i[5] is not None else out

    def DequantizeLinear(self, a, i):
        q, scale, zero = i[0].val.astype(np.float64), i[1].val, i[2]
        zero = zero.val.astype(np.float64) if zero is not None else np.zeros_like(scale)
        axis, block = a.get("axis", 1), a.get("block_size", 0)
        if scale.size == 1 and not block:
            scale, zero = scale.reshape(()), zero.reshape(())
        elif block:
            scale, zero = np.repeat(scale, block, axis), np.repeat(zero, block, axis)
        else:
            shape = [1] * q.ndim
            shape[axis] = -1
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        out = rounded((q - zero) * scale, np.zeros(q.shape), i[1].type)
        # ONNX Runtime may take it for a MatMulNBits, and then rounds rows to bytes.
        step = (None, 1 / 127) if self.bytes else (32, 2.0**-14)
        if not self.steps:
            return Value(out.val, out.err, out.type, None, step)
        lost = np.abs(q - zero) * half_scales(scale)
        return Value(out.val, out.err + lost, out.type, None, step)

    # ---- norms, softmax, heads ----

    def LayerNormalization(self, a, i):
        first = a.get("axis", -1) % i[0].val.ndim
        return norm(i[0], tuple(range(first, i[0].val.ndim)), i[1], i[2], a.get("epsilon", 1e-5),
                    True, i[0].type)

    def SimplifiedLayerNormalization(self, a, i):
        first = a.get("axis", -1) % i[0].val.ndim
        return norm(i[0], tuple(range(first, i[0].val.ndim)), i[1], None, a.get("epsilon", 1e-5),
                    False, i[0].type)

    RMSNormalization = SimplifiedLayerNormalization

    def skipped(self, i, add, weight, bias, eps, layer):
        total = added(i[0], i[1])
        total = added(total, add) if add is not None else total
        return [norm(total, (total.val.ndim - 1,), weight, bias, eps, layer, i[0].type), None, None,
                total]

    def SkipLayerNormalization(self, a, i):
        return self.skipped(i, i[4], i[2], i[3], a.get("epsilon", 1e-12), True)

    def SkipSimplifiedLayerNormalization(self, a, i):
        return self.skipped(i, i[3], i[2], None, a.get("epsilon", 1e-12), False)

    def Softmax(self, a, i):
        x = i[0]
        axis = a.get("axis", -1 if self.opset >= 13 else 1) % x.val.ndim
        if self.opset >= 13:
            return softmax(x, axis, x.type)
        shape = (int(np.prod(x.val.shape[:axis])), int(np.prod(x.val.shape[axis:])))
        flat = softmax(Value(x.val.reshape(shape), x.err.reshape(shape), x.type), 1, x.type)
        return Value(flat.val.reshape(x.val.shape), flat.err.reshape(x.val.shape), x.type)

    def axes(self, a, i, rank):
        axes = a.get("axes") if i[1] is None else i[1].val.tolist()
        return tuple(x % rank for x in axes) if axes else tuple(range(rank))

    def ReduceMean(self, a, i):
        x, axes, keep = i[0], self.axes(a, i, i[0].val.ndim), a.get("keepdims", 1) == 1
        n = np.prod([x.val.shape[k] for k in axes])
        mean = lambda v: v.mean(axis=axes, keepdims=keep)
        return rounded(mean(x.val), mean(x.err) + (n + 1) * EPS * mean(np.abs(x.val)), x.type)

    def ReduceMax(self, a, i):
        axes, keep = self.axes(a, i, i[0].val.ndim), a.get("keepdims", 1) == 1
        return Value(reduced(i[0].val, axes, keep), reduced(i[0].err, axes, keep), i[0].type)

    def ArgMax(self, a, i):
        return largest(i[0], a.get("axis", 0) % i[0].val.ndim, a.get("keepdims", 1) == 1,
                       bool(a.get("select_last_index", 0)))

    def TopK(self, a, i):
        axis = a.get("axis", -1) % i[0].val.ndim
        if i[1].val.tolist() != [1] or a.get("largest", 1) != 1:
            raise Unknown("TopK")
        return [Value(reduced(i[0].val, axis, True), reduced(i[0].err, axis, True), i[0].type),
                largest(i[0], axis, True)]

    # ---- attention ----

    def GroupQueryAttention(self, a, i):
        if a.get("local_window_size", -1) != -1 or a.get("smooth_softmax", 0) > 0:
            raise Unknown("a window or a sink")
        i = i + [None] * (9 - len(i))
        heads, kv_heads, x = a["num_heads"], a["kv_num_heads"], i[0]
        batch, rows = x.val.shape[:2]
        split = lambda v, n: Value(*[e.reshape(batch, rows, n, -1).transpose(0, 2, 1, 3)
                                     for e in (v.val, v.err)], v.type)
        if i[1] is None:
            all_ = split(x, heads + 2 * kv_heads)
            q, k, v = [Value(all_.val[:, s], all_.err[:, s], x.type) for s in (
                slice(0, heads), slice(heads, heads + kv_heads), slice(heads + kv_heads, None))]
        else:
            q, k, v = split(x, heads), split(i[1], kv_heads), split(i[2], kv_heads)
        size = q.val.shape[-1]
        past = i[3].val.shape[2] if i[3] is not None else 0
        total = max(past, int(i[6].val.reshape(())))
        scale = a.get("scale", 0.0) or 1 / math.sqrt(size)
        out = np.zeros((batch, rows, heads, size)), np.full((batch, rows, heads, size), np.inf)
        present = [(np.zeros((batch, kv_heads, total, size)),
                    np.full((batch, kv_heads, total, size), np.inf)) for _ in range(2)]
        for b in range(batch):
            seen = int(i[5].val.reshape(-1)[b]) + 1
            first = rows == int(i[6].val.reshape(()))
            before = 0 if first else seen - rows
            valid = seen if first else rows
            at = np.arange(before, before + valid)
            turned = []
            for one in (q, k):
                part = Value(one.val[b, :, :valid], one.err[b, :, :valid], one.type)
                if a.get("do_rotary", 0):
                    part = self.rotated(part, i[7], i[8], at, a.get("rotary_interleaved", 0))
                turned.append(part)
            new = (turned[1], Value(v.val[b, :, :valid], v.err[b, :, :valid], v.type))
            for side in range(2):
                if before:
                    present[side][0][b, :, :before] = i[3 + side].val[b, :, :before]
                    present[side][1][b, :, :before] = 0
                present[side][0][b, :, before:seen] = new[side].val
                present[side][1][b, :, before:seen] = new[side].err
            for h in range(heads):
                of = h // (heads // kv_heads)
                kk, vv = [Value(p[0][b, of, :seen], p[1][b, of, :seen], x.type) for p in present]
                qq = Value(turned[0].val[h], turned[0].err[h], x.type)
                score = product(qq, Value(kk.val.T, kk.err.T, x.type), x.type)
                score = times(score, Value(np.array(float(scale)), None, x.type))
                if a.get("softcap", 0):
                    cap = Value(np.array(float(a["softcap"])), None, x.type)
                    score = times(smooth(divided(score, cap), np.tanh, 1), cap)
                mask = np.arange(seen)[None, :] > at[:, None]
                score = Value(np.where(mask, -1e30, score.val), np.where(mask, 0, score.err),
                              score.type)
                row = product(softmax(score, 1, x.type), vv, x.type)
                out[0][b, :valid, h], out[1][b, :valid, h] = row.val, row.err
        flat = [o.reshape(batch, rows, -1) for o in out]
        cache = i[3].type if i[3] is not None else x.type
        return [Value(*flat, x.type)] + [
            rounded(*p, cache) if cache != x.type else Value(*p, cache) for p in present]

    @staticmethod
    def rotated(x, cos, sin, at, interleaved):
        half = cos.val.shape[1]
        c, s = [Value(t.val[at], t.err[at], x.type) for t in (cos, sin)]
        first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (
            slice(0, half), slice(half, 2 * half))
        one, two = [Value(x.val[..., p], x.err[..., p], x.type) for p in (first, second)]
        val, err = x.val.copy(), x.err.copy()
        for place, new in ((first, added(times(one, c), negated(times(two, s)))),
                           (second, added(times(two, c), times(one, s)))):
            val[..., place], err[..., place] = new.val, new.err
        return Value(val, err, x.type)


def outside(value, array):
    """How many elements of an output are not within their bounds, and the first of them."""
    if list(value.val.shape) != list(array.shape):
        return value.val.size or 1, f"shape {list(array.shape)}, expected {list(value.val.shape)}"
    if value.among is not None:
        among, axis, keep = value.among
        index = np.moveaxis(array, axis, -1)[..., 0] if keep else array
        if index.size and (index.min() < 0 or index.max() >= among.shape[-1]):
            return 1, f"an index {index.min()} or {index.max()} of {among.shape[-1]}"
        wrong = ~np.take_along_axis(among, index[..., None], -1)[..., 0]
        where = np.argwhere(wrong)
        return len(where), f"index {index[tuple(where[0])]}" if len(where) else ""
    with np.errstate(all="ignore"):
        apart = np.abs(array.astype(np.float64) - value.val)
        wrong = ~(apart <= value.err) & np.isfinite(value.err) & np.isfinite(value.val)
    where = np.argwhere(wrong)
    if not len(where):
        return 0, ""
    at = tuple(where[0])
    return len(where), (f"{len(where)} of {wrong.size} elements, at {list(map(int, at))} "
                        f"{float(array[at])!r}, expected {value.val[at]!r} +- {value.err[at]:.2g}")
