# SPDX-License-Identifier: Apache-2.0
"""Random graphs by seed: what exporters write, in any mix and order, and what none would."""
import random

import ml_dtypes
import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from reference import NUMPY

FLOATS = (T.FLOAT, T.FLOAT16, T.BFLOAT16)
# ONNX Runtime optimises a graph before a provider sees it, and after.
LEVELS = ("disable", "basic", "extended", "all")


class Maker:
    """`small`: of few steps, more of which are what has much to be spoilt; `custom`: with an op of
    the domain org.exeunt."""

    def __init__(self, seed, small=False, custom=False):
        self.r = random.Random(seed)
        self.np = np.random.default_rng(seed)
        self.small, self.custom = small, custom
        r = self.r
        self.type = r.choices(FLOATS, (6, 2, 2))[0]
        self.opset = r.choice((13, 17, 18, 20, 21, 23) if self.type == T.BFLOAT16 else
                              (11, 13, 17, 18, 20, 21, 23))
        self.whole = r.random() < 0.25  # small integers, of which sums are exact
        self.rank = r.choices((1, 2, 3, 4), (1, 4, 6, 1))[0]
        self.shown = r.choice(("static", "named", "unnamed", "unknown"))
        self.scopes = [([], [])]  # nodes and initialisers, of the graph and of the body being made
        self.inputs, self.drawn, self.outputs, self.values = [], [], [], []
        self.weights, self.told, self.count = [], [], 0
        self.named = [r.choice((1, 1, 2, 3, 5)) for _ in range(self.rank - 1)]

    # ---- parts ----

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def node(self, op, inputs, outputs=1, domain="", **attributes):
        names = [self.name() for _ in range(outputs)]
        self.scopes[-1][0].append(helper.make_node(op, inputs, names, name=self.name(),
                                                   domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def ms(self, op, inputs, outputs=1, **attributes):
        return self.node(op, inputs, outputs, "com.microsoft", **attributes)

    def elements(self, shape, size=1.0):
        if self.whole:
            return self.np.integers(-2, 3, shape).astype(np.float64)
        return self.np.normal(0, size, shape)

    def tensor(self, array, type_=None, plain=False):
        """A constant: an initialiser, a node, with an input or an output of its name, or folded."""
        type_ = type_ or self.type
        array = np.asarray(array)
        if type_ in NUMPY:
            array = array.astype(NUMPY[type_])
        proto = numpy_helper.from_array(array, self.name())
        kind = self.r.random()
        if kind < 0.1:
            return self.node("Constant", [], value=proto)
        self.scopes[-1][1].append(proto)
        if plain or len(self.scopes) > 1:
            return proto.name
        if kind < 0.13:
            self.inputs.append(helper.make_tensor_value_info(proto.name, type_, array.shape))
        elif kind < 0.17:
            self.outputs.append(proto.name)
        elif kind < 0.2:
            return self.node("Identity", [proto.name])
        return proto.name

    def number(self, value):
        return self.tensor(np.array(value, np.float64), plain=True)

    def whole_numbers(self, values):
        return self.tensor(np.array(values, np.int64), T.INT64, plain=True)

    def input(self, width, rank=None, type_=None, lead=None, shown=None):
        """Another input, whose leading axes are those of all, or `lead` of them."""
        rank, type_ = rank or self.rank, type_ or self.type
        shown, name = shown or self.shown, self.name()
        lead = list(range(self.rank - 1)) if lead is None else lead
        dims = [f"d{k}" if k is not None and shown == "named" else
                None if k is not None and shown == "unnamed" else
                self.named[k] if k is not None else 1 for k in lead] + [width]
        shape = None if shown == "unknown" else dims
        self.inputs.append(helper.make_tensor_value_info(name, type_, shape))
        self.drawn.append((name, type_, lead, width))
        main = lead == list(range(self.rank - 1))
        return self.push(name, width, type_, "main" if main else "odd")

    def push(self, name, width, type_=None, lead="main"):
        self.values.append((name, width, type_ or self.type, lead))
        return self.values[-1]

    def pick(self, width=None, type_=None, lead="main", rank=None):
        """A value there is, or another input."""
        fit = [v for v in self.values if v[3] == lead and v[2] == (type_ or self.type) and
               (width is None or v[1] == width)]
        if fit and self.r.random() < 0.9:
            return self.r.choice(fit[-4:] if self.r.random() < 0.7 else fit)
        if len(self.scopes) > 1:
            return self.r.choice(fit) if fit else None
        return self.input(width or self.width(), type_=type_)

    def width(self):
        return self.r.choices((1, 2, 3, 7, 16, 31, 32, 64, 96, 128, 256),
                              (1, 1, 1, 1, 3, 1, 8, 6, 2, 2, 1))[0]

    # ---- a product and what follows it ----

    def weight(self, k, n, turned):
        shape = (n, k) if turned else (k, n)
        fit = [w for w in self.weights if w[1] == shape]
        if fit and self.r.random() < 0.4:
            return self.r.choice(fit)[0]
        values = self.elements(shape, k**-0.5)
        if self.r.random() < 0.15:  # bf16 in all but name
            values = values.astype(ml_dtypes.bfloat16)
        name = self.tensor(values)
        self.weights.append((name, shape))
        return name

    def dequantised(self, k, n, turned):
        """DequantizeLinear of bytes: a scale for all, for a column or row, or for a block."""
        r, shape = self.r, (n, k) if turned else (k, n)
        signed = r.random() < 0.5
        q = self.np.integers(-128, 128, shape).astype(np.int8) if signed else self.np.integers(
            0, 256, shape).astype(np.uint8)
        kinds = ["all"] + (["column", "row"] if self.opset >= 13 else [])
        kinds += ["block"] * 2 if self.opset >= 21 and k % 32 == 0 else []
        kind = r.choice(kinds)
        column, attributes = (0 if turned else 1), {}
        if kind == "block":
            size = r.choice([b for b in (32, 64) if k % b == 0])
            parts = list(shape)
            parts[1 - column] //= size
            attributes = {"axis": 1 - column, "block_size": size}
        else:
            parts = [] if kind == "all" and r.random() < 0.8 else [1] if kind == "all" else [
                shape[column if kind == "column" else 1 - column]]
            if kind != "all":
                attributes = {"axis": column if kind == "column" else 1 - column}
        type_ = self.type if self.opset >= 19 and self.type == T.FLOAT16 else T.FLOAT
        scale = self.np.uniform(0.2, 1, parts) / 64 / k**0.5
        if self.whole:
            scale = np.exp2(self.np.integers(-6, -3, parts))
        inputs = [self.tensor(q, T.INT8 if signed else T.UINT8, plain=True),
                  self.tensor(scale, type_, plain=True)]
        if r.random() < 0.6 or not signed:
            near = r.choice((0, 3, 100))
            zero = self.np.integers(-near, near + 1, parts) + (0 if signed else 128)
            zero = np.clip(zero, -128 if signed else 0, 127 if signed else 255)
            inputs.append(self.tensor(zero.astype(np.int8 if signed else np.uint8),
                                      T.INT8 if signed else T.UINT8, plain=True))
        out = self.node("DequantizeLinear", inputs, **attributes)
        return out if type_ == self.type else self.node("Cast", [out], to=self.type)

    def bits(self, x, k, n):
        r, bits = self.r, self.r.choice((4, 8))
        block = r.choice([b for b in (16, 32, 64, 128) if k % b == 0])
        blocks, packed = k // block, (k // block * bits + 7) // 8
        scale = self.np.uniform(0.2, 1, n * blocks) / k**0.5 / (8 if bits == 4 else 128)
        if self.whole:
            scale = np.exp2(self.np.integers(-3, 1, n * blocks))
        scale = scale.reshape((n, blocks) if r.random() < 0.5 else (-1,))
        w = self.np.integers(0, 256, (n, blocks, block * bits // 8)).astype(np.uint8)
        inputs = [x, self.tensor(w, T.UINT8, plain=True), self.tensor(scale, plain=True)]
        if r.random() < 0.5:
            z = self.np.integers(0, 256, n * packed).astype(np.uint8)
            inputs.append(self.tensor(z.reshape((n, packed) if scale.ndim == 2 else (-1,)),
                                      T.UINT8, plain=True))
        if r.random() < 0.2:
            inputs += [""] * (5 - len(inputs)) + [self.tensor(self.elements(n), plain=True)]
        level = {"accuracy_level": r.choice((0, 1, 4))} if r.random() < 0.3 else {}
        return self.ms("MatMulNBits", inputs, K=k, N=n, bits=bits, block_size=block, **level)

    def product(self, value, n):
        """x W, perhaps with its bias within it."""
        r, (x, k, _, _) = self.r, value
        kind = r.random()
        if k % 16 == 0 and kind < (0.3 if self.small else 0.15) and self.rank > 1 and self.type != T.BFLOAT16:
            return self.bits(x, k, n)
        gemm = self.rank == 2 and r.random() < 0.4
        turned = gemm and r.random() < 0.5
        w = self.dequantised(k, n, turned) if kind > 0.8 else self.weight(k, n, turned)
        if not gemm:
            return self.node("MatMul", [x, w])
        inputs = [x, w]
        if r.random() < 0.6:
            inputs.append(self.tensor(self.elements(r.choice(((n,), (1, n))))))
        attributes = {"transB": 1} if turned else {}
        if r.random() < 0.1:
            attributes["alpha"] = 0.5
        return self.node("Gemm", inputs, **attributes)

    def activation(self, x):
        r = self.r
        kinds = ["relu", "erf", "silu", "tanh", "sigmoid"]
        if self.type != T.BFLOAT16:
            kinds += ["fast", "ms"]
        kinds += ["gelu"] * 2 if self.opset >= 20 else []
        kind = r.choice(kinds)
        if kind == "relu":
            return self.node("Relu", [x])
        if kind == "silu":
            return self.both("Mul", x, self.node("Sigmoid", [x]))
        if kind in ("tanh", "sigmoid"):
            return self.node(kind.capitalize(), [x])
        if kind == "fast":
            return self.ms("FastGelu", [x])
        if kind == "ms":
            return self.ms("Gelu", [x])
        if kind == "gelu":
            return self.node("Gelu", [x], approximate=r.choice(("none", "tanh")))
        half = r.randrange(3)
        scaled = (self.node("Div", [x, self.number(2**0.5)]) if r.random() < 0.5 else
                  self.both("Mul", x, self.number(0.5**0.5)))
        factor = self.both("Add", self.node("Erf", [scaled]), self.number(1))
        if half == 0:
            return self.both("Mul", self.both("Mul", x, factor), self.number(0.5))
        if half == 1:
            return self.both("Mul", self.both("Mul", x, self.number(0.5)), factor)
        return self.both("Mul", x, self.both("Mul", factor, self.number(0.5)))

    def both(self, op, a, b):
        """Of an operation whose operands may change places."""
        return self.node(op, [a, b] if self.r.random() < 0.7 else [b, a])

    def axes_of(self, op, x, **attributes):
        old = {"ReduceMean": 18, "ReduceMax": 18}[op] > self.opset
        axis = self.r.choice((-1, self.rank - 1))
        if old:
            return self.node(op, [x], axes=[axis], **attributes)
        return self.node(op, [x, self.whole_numbers([axis])], **attributes)

    def norm(self, x, width):
        r = self.r
        kinds = ["layer out", "rms out"]
        kinds += ["layer"] * 3 if self.opset >= 17 else []
        kinds += ["simplified"] * 2 if self.type != T.BFLOAT16 else []
        kinds += ["rms"] if self.opset >= 23 else []
        kind, eps = r.choice(kinds), r.choice((1e-5, 1e-3, 1e-6))
        weight = lambda: self.tensor(self.elements(width) if r.random() < 0.8 else np.ones(width))
        axis = {"axis": r.choice((-1, self.rank - 1))} if r.random() < 0.7 else {}
        if kind == "layer":
            several = self.rank > 1 and self.shown == "static" and r.random() < 0.1
            shape = self.named[-1:] + [width] if several else [width]
            inputs = [self.tensor(self.elements(shape))]
            if r.random() < 0.7:
                inputs.append(self.tensor(self.elements(shape)))
            axis = {"axis": -2} if several else axis
            return self.node("LayerNormalization", [x] + inputs, epsilon=eps, **axis)
        if kind in ("simplified", "rms"):
            op = "SimplifiedLayerNormalization" if kind == "simplified" else "RMSNormalization"
            return self.node(op, [x, weight()], epsilon=eps, **axis)
        two = lambda v: self.node("Pow", [v, self.number(2)]) if r.random() < 0.7 and (
            self.type != T.BFLOAT16 or self.opset >= 15) else self.node(
            "Mul", [v, v])
        d = x
        if kind == "layer out":
            d = self.node("Sub", [x, self.axes_of("ReduceMean", x)])
        spread = self.node("Sqrt", [self.both("Add", self.axes_of("ReduceMean", two(d)),
                                              self.number(eps))])
        out = self.both("Mul", self.node("Div", [d, spread]), weight())
        return self.both("Add", out, weight()) if kind == "layer out" else out

    def linear(self):
        """A product; then bias, activation, residual, norm and cast in any order, or none."""
        r, x = self.r, self.pick()
        if x is None:
            return
        n = r.choice((1, 2, x[1])) if r.random() < 0.15 else r.choice((x[1], self.width()))
        y, type_ = self.product(x, n), self.type
        steps = r.sample("barnc", r.randint(0, 4))
        for step in steps if r.random() < 0.4 else sorted(steps, key="barnc".index):
            before = y
            if step == "b":
                y = self.both("Add", y, self.tensor(self.elements(
                    r.choice(((n,), (n,), (1, n), (1,), ())))))
            elif step == "a":
                y = self.activation(y)
            elif step == "r":
                other = x if x[1] == n and r.random() < 0.3 else self.residual(n)
                y = self.both("Add", y, other[0]) if other is not None else y
            elif step == "n":
                y = self.norm(y, n)
            elif step == "c" and type_ == self.type and self.type != T.FLOAT:
                y = self.node("Cast", [self.node("Cast", [y], to=T.FLOAT)], to=self.type)
            if r.random() < 0.12 and before != y:
                self.push(before, n)
        self.push(y, n)

    def residual(self, n):
        r = self.r
        if r.random() < 0.12 and len(self.scopes) == 1 and self.rank > 1:
            lead = list(range(self.rank - 1))
            lead[r.randrange(len(lead))] = None
            if r.random() < 0.2:
                lead = lead[1:]
            return self.input(n, len(lead) + 1, lead=lead, shown=self.shown if
                              self.shown == "static" else r.choice(("named", "unknown")))
        return self.pick(n)

    # ---- others ----

    def two_products(self):
        """x A + y B, as in LSTM cells and the embeddings of a time."""
        x, y, n = self.pick(), self.pick(), self.width()
        if x is None or y is None:
            return
        total = self.both("Add", self.product(x, n), self.product(y, n))
        if self.r.random() < 0.5:
            total = self.both("Add", total, self.tensor(self.elements(n)))
        self.push(self.activation(total) if self.r.random() < 0.5 else total, n)

    def fan(self):
        """Products that share their input, and a norm before it."""
        x = self.pick()
        if x is None:
            return
        if self.r.random() < 0.7:
            x = self.push(self.norm(x[0], x[1]), x[1])
        for _ in range(self.r.randint(2, 3)):
            n = self.r.choice((x[1], self.width()))
            y = self.product(x, n)
            if self.r.random() < 0.4:
                y = self.both("Add", y, self.tensor(self.elements(n)))
            if self.r.random() < 0.3:
                y = self.activation(y)
            if self.r.random() < 0.3 and n == x[1]:
                y = self.both("Add", y, x[0])
            self.push(y, n)

    def norm_alone(self):
        x = self.pick()
        if x is None:
            return
        r, width = self.r, x[1]
        if r.random() < 0.4 and self.rank == 3 and self.type != T.BFLOAT16:
            skip = self.pick(width)
            if skip is None:
                return
            weight = self.tensor(self.elements(width))
            extra = lambda: self.tensor(self.elements(width)) if r.random() < 0.5 else ""
            layer = r.random() < 0.5
            inputs = [x[0], skip[0], weight] + ([extra(), extra()] if layer else [extra()])
            while inputs[-1] == "":
                inputs.pop()
            op = "SkipLayerNormalization" if layer else "SkipSimplifiedLayerNormalization"
            out = self.ms(op, inputs, 4 if r.random() < 0.5 else 1, epsilon=1e-5)
            if isinstance(out, list):
                node = self.scopes[-1][0][-1]
                node.output[1], node.output[2] = "", ""
                self.push(out[3], width)
                out = out[0]
            self.push(out, width)
        else:
            self.push(self.norm(x[0], width), width)

    def softmax(self):
        x = self.pick()
        if x is None or (x[1] < 2 and self.rank == 1):
            return
        if self.r.random() < 0.3:
            n = 4096 + self.r.choice((0, 1, 64))
            x = self.product(x, n), n
        axis = {"axis": self.r.choice((-1, self.rank - 1))}
        if self.r.random() < 0.2 and (self.opset >= 13 or self.shown == "static"):
            axis = {}
        self.outputs.append(self.node("Softmax", [x[0]], **axis))

    def head(self):
        """Statistics of rows that a product makes, in any number."""
        r, x = self.r, self.pick()
        if x is None or self.rank == 1 and self.opset < 13:
            return
        n = r.choice((2, 5, 32, 100, 500))
        y = self.product(x, n)
        if r.random() < 0.3:
            y = self.both("Add", y, self.tensor(self.elements(n)))
        y32 = y
        if self.type != T.FLOAT and r.random() < 0.7:
            y = y32 = self.node("Cast", [y], to=T.FLOAT)
        elif self.type != T.FLOAT:
            y32 = None
        sources = [y]
        if r.random() < 0.5:
            sources.append(self.node("Softmax", [y], axis=r.choice((-1, self.rank - 1))))
        if r.random() < 0.1:
            self.outputs.append(y)
        for _ in range(r.randint(1, 3)):
            source, keep = r.choice(sources), r.randrange(2)
            kinds = ["ArgMax", "ReduceMax", "TopK"]
            if self.type == T.BFLOAT16 and sources[0] != y32:
                kinds.pop()
            kind = r.choice(kinds)
            if kind == "ArgMax":
                last = {"select_last_index": 1} if self.opset >= 12 and r.random() < 0.1 else {}
                out = self.node("ArgMax", [source], axis=r.choice((-1, self.rank - 1)),
                                keepdims=keep, **last)
            elif kind == "ReduceMax":
                out = self.axes_of("ReduceMax", source, keepdims=keep)
            else:
                out = self.node("TopK", [source, self.whole_numbers([1])], 2)
                out = r.choice((out[:1], out[1:], out))
            self.outputs += out if isinstance(out, list) else [out]

    def attention(self):
        """GroupQueryAttention; caches, lengths and tables are inputs of its own."""
        r = self.r
        if self.rank != 3 or len(self.scopes) > 1 or hasattr(self, "cache"):
            return
        if self.type == T.BFLOAT16 and r.random() < 0.5:
            return
        size, kv = r.choice((16, 32)), r.choice((1, 2))
        heads = kv * r.choice((1, 2, 3))
        packed = r.random() < 0.3
        widths = [(heads + 2 * kv) * size] if packed else [heads * size, kv * size, kv * size]
        x, qkv = self.pick(), []
        for width in widths:
            qkv.append(self.product(x, width))
        cache_type = self.type if r.random() < 0.9 else r.choice(FLOATS)
        first = r.random() < 0.5
        self.cache = {"kv": kv, "size": size, "first": first, "type": cache_type,
                      "right": first and r.random() < 0.4, "names": []}
        shape = None if self.shown == "unknown" else ["b", kv, "p", size]
        for _ in range(2):
            name = self.name()
            self.inputs.append(helper.make_tensor_value_info(name, cache_type, shape))
            self.cache["names"].append(name)
        for type_shape in (["b"], []):
            name = self.name()
            self.inputs.append(helper.make_tensor_value_info(name, T.INT32, type_shape))
            self.cache["names"].append(name)
        inputs = qkv + [""] * (3 - len(qkv)) + self.cache["names"]
        attributes = {"num_heads": heads, "kv_num_heads": kv}
        if r.random() < 0.5:
            angle = np.arange(64)[:, None] / 100 ** (np.arange(size // 2) * 2 / size)
            inputs += [self.tensor(table(angle), plain=True) for table in (np.cos, np.sin)]
            attributes |= {"do_rotary": 1, "rotary_interleaved": r.randrange(2)}
        if r.random() < 0.2:
            attributes["softcap"] = 5.0
        if r.random() < 0.2:
            attributes["scale"] = 0.3
        out = self.ms("GroupQueryAttention", inputs, 3, **attributes)
        self.outputs += out[1:]
        self.push(out[0], heads * size)

    def move(self):
        """To where a shape is not known any more, or elsewhere and back."""
        x = self.pick()
        if x is None:
            return
        kind = self.r.random()
        if kind < 0.5:
            self.push(self.node("Reshape", [x[0], self.node("Shape", [x[0]])]), x[1], x[2])
        elif kind < 0.6 and len(self.scopes) == 1 and self.opset >= 14:  # of more axes than the graph says
            shape = self.node("Concat", [self.whole_numbers([1]), self.node("Shape", [x[0]])],
                              axis=0)
            there = self.node("Reshape", [x[0], shape], allowzero=1)
            self.told.append(helper.make_tensor_value_info(there, x[2], ["?"] * self.rank))
            total = self.both("Add", self.product(x, x[1]), there)
            self.outputs.append(total)
        elif self.rank >= 3:
            order = [1, 0] + list(range(2, self.rank))
            there = self.node("Transpose", [x[0]], perm=order)
            if self.r.random() < 0.5 and x[1] % 32 == 0:
                there = self.product((there, x[1], x[2], x[3]), x[1])
            self.push(self.node("Transpose", [there], perm=order), x[1], x[2])

    def constants(self):
        """A norm, a softmax or a product of constants alone, which nobody may have folded."""
        r, width = self.r, self.r.choice((16, 32))
        if self.rank < 2 or r.random() < 0.4:
            return
        c = self.tensor(self.elements([2] * (self.rank - 1) + [width]), plain=True)
        kind = r.randrange(3)
        if kind == 0:
            self.outputs.append(self.norm(c, width))
        elif kind == 1:
            c = self.tensor(self.elements([1] * (self.rank - 1) + [4096]), plain=True)
            self.outputs.append(self.node("Softmax", [c], axis=self.rank - 1))
        else:
            self.outputs.append(self.product((c, width, self.type, "odd"), 32))

    def dead(self):
        """What nobody reads."""
        x = self.pick()
        if x is not None:
            y = self.product(x, 32)
            if self.r.random() < 0.5:
                self.norm(y, 32)

    def control(self):
        """If or Loop, whose bodies read values from outside."""
        if len(self.scopes) > 1 or self.rank == 1 or self.type == T.BFLOAT16 and self.opset < 16:
            return
        r, width = self.r, self.r.choice((16, 32, 64))
        carried = self.pick(width)
        kept, weights = list(self.values), list(self.weights)

        def body(inputs=()):
            self.scopes.append(([], []))
            self.values = list(kept)
            if inputs:
                self.push(inputs[2], width)
            for _ in range(r.randint(1, 2)):
                r.choice((self.linear, self.fan, self.norm_alone))()
            last = self.values[-1]
            out = (last[0] if last[1] == width and last[2] == self.type and last not in kept
                   else self.product(self.pick(), width))
            out = self.node("Identity", [out])
            nodes, initialisers = self.scopes.pop()
            self.values, self.weights = kept, list(weights)
            return nodes, initialisers, out

        info = lambda n, t=None: helper.make_tensor_value_info(n, t or self.type, None)
        if r.random() < 0.6:
            cond = self.name()
            self.inputs.append(helper.make_tensor_value_info(cond, T.BOOL, []))
            self.drawn.append((cond, T.BOOL, None, None))
            graphs = {}
            for branch in ("then_branch", "else_branch"):
                nodes, initialisers, out = body()
                graphs[branch] = helper.make_graph(nodes, branch, [], [info(out)], initialisers)
            self.push(self.node("If", [cond], **graphs), width)
        else:
            names = [self.name() for _ in range(3)]
            nodes, initialisers, out = body(names)
            nodes.append(helper.make_node("Identity", [names[1]], [names[1] + "_out"]))
            graph = helper.make_graph(
                nodes, "body",
                [helper.make_tensor_value_info(names[0], T.INT64, []),
                 helper.make_tensor_value_info(names[1], T.BOOL, []), info(names[2])],
                [helper.make_tensor_value_info(names[1] + "_out", T.BOOL, []), info(out)],
                initialisers)
            trips = self.tensor(np.array(r.choice((0, 1, 2)), np.int64), T.INT64, plain=True)
            self.push(self.node("Loop", [trips, "", carried[0]], body=graph), width)

    def own_op(self):
        """An op of the domain org.exeunt, which ONNX Runtime alone does not have."""
        r, x = self.r, self.pick()
        op = r.choice(("ExitHead", "RowStats", "StableMax", "Select"))
        inputs, attributes = [x[0]], {}
        if op == "ExitHead":
            inputs.append(self.tensor(self.elements((48, x[1])), plain=True))
            inputs += [self.tensor(self.elements(48), T.FLOAT, plain=True) if r.random() < 0.5
                       else ""]
            attributes = {"norm": r.choice(("none", "rms", "layer"))}
        if op == "Select":
            attributes = {"k": r.choice((0, 1, 2, 4))}
        out = self.node(op, inputs, 6 if op in ("ExitHead", "RowStats") else 1, "org.exeunt",
                        **attributes)
        self.outputs += out if isinstance(out, list) else [out]

    # ---- the whole ----

    def model(self):
        r = self.r
        self.input(r.choice((32, 64, 64, 96, self.width())))
        steps = [self.linear] * 8 + [self.two_products, self.fan, self.fan, self.norm_alone,
                 self.norm_alone, self.softmax, self.head, self.head, self.attention, self.move,
                 self.constants, self.dead, self.control]
        if self.small:
            steps = [self.linear] * 3 + [self.attention] * 4 + steps[8:]
        for _ in range(r.randint(1, 3 if self.small else 8)):
            r.choice(steps)()
        if self.custom:
            self.own_op()
        made = [v for v in self.values if v[0] not in {i.name for i in self.inputs}]
        self.outputs += [v[0] for v in made[-1:]]
        self.outputs += [v[0] for v in made[:-1] if r.random() < 0.1]
        if not self.outputs:
            self.linear()
            self.outputs.append(self.values[-1][0])
        nodes, initialisers = self.scopes[0]
        known = {v[0]: v[2] for v in self.values} | {i.name: i.data_type for i in initialisers}
        outputs = []
        for name in dict.fromkeys(self.outputs):
            info = helper.make_empty_tensor_value_info(name)
            if name in known:
                info.type.tensor_type.elem_type = known[name]
            outputs.append(info)
        graph = helper.make_graph(nodes, "fuzz", self.inputs, outputs, initialisers,
                                  value_info=self.told)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        opsets += [helper.make_opsetid("org.exeunt", 1)] if self.custom else []
        return helper.make_model(graph, opset_imports=opsets,
                                 ir_version=10 if self.opset >= 21 else 8)

    def feeds(self, k):
        """Inputs number k by name: (type, array, bf16 as uint16)."""
        r = self.r
        lead = list(self.named)
        if self.shown != "static" and k > 0:
            lead = [r.choice((1, 2, 4, 9)) for _ in lead]
            if k == 2 and lead and not hasattr(self, "cache"):
                lead[r.randrange(len(lead))] = r.choice((0, 0, 17))
        if hasattr(self, "cache") and not self.cache["first"] and lead[0] > 1 and lead[1] > 1:
            # ONNX Runtime takes several rows beside a past of one sequence only.
            if self.shown == "static":
                self.cache["first"] = True
            else:
                lead[r.randrange(2)] = 1
        feeds = {}
        for name, type_, axes, width in self.drawn:
            if type_ == T.BOOL:
                feeds[name] = (type_, np.array(r.random() < 0.5))
                continue
            shape = [1 if a is None else lead[a] for a in axes] + [width]
            feeds[name] = drawn(type_, self.elements(shape, r.choice((0.3, 1, 3))))
        if hasattr(self, "cache"):
            c, (batch, rows) = self.cache, lead
            past = 0 if c["first"] else r.choice((1, 3, 8))
            # One buffer for past and present has room left.
            room = past + (0 if r.random() < 0.6 else rows + 2)
            for name in c["names"][:2]:
                feeds[name] = drawn(c["type"], self.elements((batch, c["kv"], room, c["size"])))
            total = past + rows
            seen = [total - 1] * batch
            if c["right"] and rows > 1:
                seen = [r.randrange(total) for _ in seen]
                seen[0] = total - 1
            feeds[c["names"][2]] = (T.INT32, np.array(seen, np.int32))
            feeds[c["names"][3]] = (T.INT32, np.array(total, np.int32))
        return feeds


def drawn(type_, array):
    array = np.asarray(array).astype(NUMPY[type_])
    return type_, array.view(np.uint16) if type_ == T.BFLOAT16 else array


def wide(feed):
    """A feed or an output as doubles, if it is of floats."""
    type_, array = feed
    if type_ == T.BFLOAT16:
        array = array.view(ml_dtypes.bfloat16)
    return array.astype(np.float64) if type_ in NUMPY else array
