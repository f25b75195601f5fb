#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times single products, norms and short chains by ONNX Runtime alone and with the provider.

usage: lone_products.py LIBEXEUNT_ORT [--threads N] [--rows R,...] [--sizes KxN,...]
           [--storage NAME,...] [--rule] [--turns N] [--tsv FILE]

Each case is a graph, each graph two sessions of one process, which take turns. A small product
stands in its graph several times, with an input and weights of its own each, so that what a run
costs beside its nodes counts for little. With one thread the time is the calling thread's on the
processor, which other processes do not lengthen; with more it is the time on the clock, of which the
lower quartile of the turns counts, not the median.

A figure is the time alone divided by the time with the provider, above 1 where the provider is
faster; behind it stand the quartiles of the quotients of neighbouring turns. The provider takes all
that it can (option all) unless --rule asks for what it takes by itself.
Needs the packages onnx, numpy and onnxruntime.
"""
import argparse
import os
import statistics
import sys
import time

import numpy
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

NAME = "ExeuntExecutionProvider"
ROWS = (1, 8, 32, 128)
SIZES = ((16, 16), (32, 32), (64, 64), (96, 96), (128, 128), (192, 192), (256, 256), (384, 384),
         (384, 1536), (1536, 384), (768, 768), (768, 3072), (3072, 768), (1024, 1024),
         (2048, 2048), (4096, 4096))
# Multiply-adds of a row of a graph, about: how often a small product stands in it.
WORK = 1 << 17
TURN_S = 2e-3


class Builder:
    """A graph of `copies` times the same, each with an input and weights of its own."""

    def __init__(self, k, n, storage):
        self.k, self.n, self.storage = k, n, storage
        self.rng = numpy.random.default_rng(k * 8192 + n)
        self.nodes, self.constants, self.names = [], [], 0
        self.copies = max(1, min(16, WORK // (k * n)))
        self.type = TensorProto.FLOAT16 if storage.startswith("f16") else TensorProto.FLOAT
        self.dtype = numpy.float16 if storage.startswith("f16") else numpy.float32
        self.width = n if not storage.startswith("norm") else k
        self.outputs = []

    def constant(self, array, cast=None):
        self.names += 1
        name = f"c{self.names}"
        tensor = numpy_helper.from_array(numpy.ascontiguousarray(array), name)
        if cast is not None:
            tensor.data_type = cast
        self.constants.append(tensor)
        return name

    def node(self, op, inputs, output=None, domain="", **attributes):
        self.names += 1
        name = output or f"v{self.names}"
        self.nodes.append(helper.make_node(op, inputs, [name], f"n{self.names}", domain=domain,
                                           **attributes))
        return name

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(numpy.float32)

    def floats(self, *shape):
        return self.constant(self.normal(*shape).astype(self.dtype))

    def weights(self):
        values = self.normal(self.k, self.n) / numpy.float32(self.k) ** 0.5
        if "as-bf16" in self.storage:
            values = (values.view(numpy.uint32) & 0xffff0000).view(numpy.float32)
        return self.constant(values.astype(self.dtype))

    def dequantised(self):
        """KIND-SCALES[-zero]: i8 or u8, a scale for all, a column or each 32 rows of one."""
        kind, scales = self.storage.split("+")[0].split("-")[:2]
        dtype = numpy.int8 if kind == "i8" else numpy.uint8
        info = numpy.iinfo(dtype)
        quants = self.rng.integers(info.min, info.max + 1, (self.k, self.n), dtype=dtype)
        shape = {"tensor": (), "column": (self.n,), "block": (self.k // 32, self.n)}[scales]
        attributes = {"axis": 0, "block_size": 32} if scales == "block" else {"axis": 1}
        scale = (self.rng.random(shape) * 1e-3 + 1e-4).astype(numpy.float32)
        inputs = [self.constant(quants), self.constant(numpy.asarray(scale))]
        if kind == "u8":
            inputs.append(self.constant(numpy.full(shape, 128, dtype)))
        return self.node("DequantizeLinear", inputs, **attributes)

    def in_bits(self, x, output):
        """qBITS[-zeros]-aACCURACY-bBLOCK."""
        parts = self.storage.split("-")
        bits, block = int(parts[0][1:]), int(parts[-1][1:])
        blocks = self.k // block
        inputs = [x, self.constant(self.rng.integers(0, 256, (self.n, blocks, block * bits // 8),
                                                     dtype=numpy.uint8)),
                  self.constant((self.rng.random(self.n * blocks) * 1e-2 + 1e-3)
                                .astype(numpy.float32))]
        if "zeros" in parts:
            inputs.append(self.constant(self.rng.integers(
                0, 256, self.n * ((blocks * bits + 7) // 8), dtype=numpy.uint8)))
        return self.node("MatMulNBits", inputs, output, "com.microsoft", K=self.k, N=self.n,
                         bits=bits, block_size=block, accuracy_level=int(parts[-2][1:]))

    def out(self, name, width, type_=None):
        self.outputs.append(helper.make_tensor_value_info(name, type_ or self.type, ["m", width]))
        return name

    def copy(self, x, r, output):
        chain = self.storage.split("+")[1:]
        kind = self.storage.split("-")[0].split("+")[0]
        if self.storage.startswith("norm"):
            return self.norm(self.storage[5:], x, output)
        if kind[0] == "q":
            return self.in_bits(x, output)
        if "before" in chain:
            x = self.norm("layer", x, None, self.k)
            chain.remove("before")
        if "three" in chain:
            chain.remove("three")
            for more in "ab":
                self.node("MatMul", [x, self.weights()], self.out(output + more, self.n))
        w = self.dequantised() if kind in ("i8", "u8") else self.weights()
        y = self.node("MatMul", [x, w], output if not chain else None)
        for i, what in enumerate(chain):
            to = output if i == len(chain) - 1 else None
            if what == "bias":
                y = self.node("Add", [y, self.floats(self.n)], to)
            elif what == "gelu":
                erf = self.node("Erf", [self.node("Div", [y, self.scalar(2 ** 0.5)])])
                half = self.node("Mul", [y, self.node("Add", [erf, self.scalar(1)])])
                y = self.node("Mul", [half, self.scalar(0.5)], to)
            elif what == "relu":
                y = self.node("Relu", [y], to)
            elif what == "residual":
                y = self.node("Add", [r, y], to)
            elif what == "layer":
                y = self.norm("layer", y, to)
            elif what == "argmax":
                self.node("ArgMax", [y], self.out(output, 1, TensorProto.INT64), axis=-1)
            elif what == "p1":
                p = self.node("Softmax", [y], axis=-1)
                self.node("ReduceMax", [p, self.constant(numpy.array([-1]))],
                          self.out(output + "p", 1))
            else:
                sys.exit(f"lone_products.py: there is no step '{what}'")
        return y

    def scalar(self, value):
        return self.constant(numpy.asarray(value, self.dtype))

    def norm(self, kind, x, output, width=None):
        width = width or self.width
        if kind == "layer":
            return self.node("LayerNormalization", [x, self.floats(width), self.floats(width)],
                             output)
        return self.node("SimplifiedLayerNormalization", [x, self.floats(width)], output)

    def model(self):
        residual = "+residual" in self.storage
        inputs = []
        for i in range(self.copies):
            inputs.append(helper.make_tensor_value_info(f"x{i}", self.type, ["m", self.k]))
            if residual:
                inputs.append(helper.make_tensor_value_info(f"r{i}", self.type, ["m", self.n]))
            if "+argmax" not in self.storage:
                self.out(f"y{i}", self.width)
            self.copy(f"x{i}", f"r{i}", f"y{i}")
        graph = helper.make_graph(self.nodes, "lone", inputs, self.outputs, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()


STORAGES = ("f32", "f32-as-bf16", "f16", "i8-tensor", "i8-column", "i8-block", "u8-tensor",
            "u8-column", "q4-a0-b32", "q4-a4-b32", "q4-a4-b128", "q4-zeros-a0-b32",
            "q4-zeros-a4-b32", "q8-a0-b32", "q8-a4-b32", "q8-zeros-a0-b32", "q8-zeros-a4-b32",
            "f32+bias", "f32+bias+gelu", "f32+bias+residual+layer", "f32+before+bias",
            "f32-as-bf16+bias+gelu", "f32-as-bf16+bias+residual+layer", "i8-column+bias+gelu",
            "i8-column+bias+residual+layer", "f32+three", "f32+argmax", "f32+p1+argmax",
            "norm-layer", "norm-rms")


def session(model, threads, options):
    made = onnxruntime.SessionOptions()
    made.intra_op_num_threads = threads
    # Threads that spin after a run would take a core from the other session's.
    made.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if options is None:
        return onnxruntime.InferenceSession(model, made, providers=["CPUExecutionProvider"])
    devices = [d for d in onnxruntime.get_ep_devices() if d.ep_name == NAME]
    made.add_provider_for_devices(devices, options)
    return onnxruntime.InferenceSession(model, made)


def bound(run, rows, rng):
    """A call of no arguments that runs a session on arrays that stay where they are."""
    binding = run.io_binding()
    kept = []  # an OrtValue does not hold the array it was made of

    def bind(to, one, make):
        dtype = {"tensor(float)": numpy.float32, "tensor(float16)": numpy.float16,
                 "tensor(int64)": numpy.int64}[one.type]
        kept.append(make((rows, one.shape[1])).astype(dtype))
        kept.append(onnxruntime.OrtValue.ortvalue_from_numpy(kept[-1]))
        to(one.name, kept[-1])

    for one in run.get_inputs():
        bind(binding.bind_ortvalue_input, one, rng.standard_normal)
    for one in run.get_outputs():
        bind(binding.bind_ortvalue_output, one, numpy.zeros)
    return lambda: (run.run_with_iobinding(binding), kept)


def times(calls, clock, turns):
    """Seconds of a call: for each, a list of a figure a turn."""
    counts = []
    for call in calls:
        call()
        start = clock()
        call()
        counts.append(max(1, int(TURN_S / max(clock() - start, 1e-7))))
    out = [[] for _ in calls]
    for turn in range(turns):
        order = range(len(calls)) if turn % 2 == 0 else reversed(range(len(calls)))
        for i in order:
            calls[i]()
            start = clock()
            for _ in range(counts[i]):
                calls[i]()
            out[i].append((clock() - start) / counts[i])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("library")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rows", default=",".join(map(str, ROWS)))
    parser.add_argument("--sizes", default=",".join(f"{k}x{n}" for k, n in SIZES))
    parser.add_argument("--storage", default=",".join(STORAGES))
    parser.add_argument("--rule", action="store_true")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--tsv")
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    onnxruntime.register_execution_provider_library("exeunt", os.path.abspath(arguments.library))
    options = {"threads": str(arguments.threads)}
    if not arguments.rule:
        options["all"] = "1"
    clock = time.thread_time if arguments.threads == 1 else time.perf_counter
    rows = [int(r) for r in arguments.rows.split(",")]
    sizes = [tuple(map(int, s.split("x"))) for s in arguments.sizes.split(",")]
    out = open(arguments.tsv, "a", encoding="ascii") if arguments.tsv else None
    print(f"ONNX Runtime {onnxruntime.__version__}, {arguments.threads} thread(s), "
          f"{'the rule' if arguments.rule else 'everything taken'}")
    for storage in arguments.storage.split(","):
        print(f"\n{storage}\n{'K x N':>12}" + "".join(f"{r:>22}" for r in rows))
        for k, n in sizes:
            if "block" in storage and k % 32 or storage[0] == "q" and k % int(
                    storage.split("-b")[1]):
                continue
            builder = Builder(k, n, storage)
            model = builder.model()
            pair = [session(model, arguments.threads, own) for own in (None, options)]
            line = f"{k:>6} x {n:<4}"
            for r in rows:
                rng = numpy.random.default_rng(r)
                alone, exeunt = times([bound(one, r, rng) for one in pair], clock,
                                      arguments.turns)
                quotients = [a / b for a, b in zip(alone, exeunt)]
                low, _, high = statistics.quantiles(quotients, n=4)
                which = 1 if arguments.threads == 1 else 0  # of the quartiles
                a, b = (statistics.quantiles(x, n=4)[which] / builder.copies * 1e6
                        for x in (alone, exeunt))
                line += f"   {a:9.1f}us {a / b:5.2f}".rjust(22)
                if out:
                    print(onnxruntime.__version__, arguments.threads, storage, k, n, r,
                          f"{a:.3f}\t{b:.3f}\t{a / b:.3f}\t{low:.3f}\t{high:.3f}", sep="\t",
                          file=out, flush=True)
            print(line, flush=True)
            del pair
    if out:
        out.close()


if __name__ == "__main__":
    main()
