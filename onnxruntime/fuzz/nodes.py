# SPDX-License-Identifier: Apache-2.0
"""The official node tests of the onnx package: as they are, with inputs turned into initialisers,
and cast to bf16."""
import copy
import importlib
import time
import warnings

import ml_dtypes
import numpy as np
from onnx import TensorProto as T
from onnx import helper, numpy_helper
from onnx.backend.test.case import node as tests_of

# What a share of them is about: near to what the provider takes.
NEAR = ("add", "argmax", "dequantizelinear", "erf", "gelu", "gemm", "if_", "layernormalization",
        "lstm", "matmul", "reducemax", "relu", "rmsnormalization", "softmax", "topk")
# Draws of a generator differ from run to run.
DRAWS = ("bernoulli", "random", "dropout", "multinomial")
KNOWN = {np.dtype(t): helper.np_dtype_to_tensor_dtype(np.dtype(t)) for t in (
    np.float32, np.float16, np.float64, np.int64, np.int32, np.bool_, np.uint8, np.int8)}
# Each may be rounded once on its way, and the result.
ROUNDED = 2.0**-6


def tests(share):
    """(name, model, feeds) of all, or of those that are near."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        if share:  # importing a module makes its tests
            for name in NEAR:
                importlib.import_module(f"{tests_of.__name__}.{name}")
            cases = tests_of._NodeTestCases
        else:
            cases = tests_of.collect_testcases()
    for case in cases:
        if case.model is None or not case.data_sets or any(d in case.name for d in DRAWS):
            continue
        names = [i.name for i in case.model.graph.input]
        feeds = {}
        for name, value in zip(names, case.data_sets[0][0]):
            array = value if isinstance(value, np.ndarray) else None
            type_ = KNOWN.get(array.dtype) if array is not None else None
            if array is not None and array.dtype == ml_dtypes.bfloat16:
                type_, value = T.BFLOAT16, array.view(np.uint16)
            feeds[name] = (type_, value)
        yield case.name, case.model, feeds


def fixed(model, feeds):
    """Inputs as initialisers, as far as they are tensors of known types."""
    model, left = copy.deepcopy(model), {}
    for name, (type_, array) in feeds.items():
        if type_ is None:
            left[name] = (type_, array)
            continue
        array = np.asarray(array)
        if type_ == T.BFLOAT16:
            array = array.view(ml_dtypes.bfloat16)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    inputs = [i for i in model.graph.input if i.name in left or i.name not in feeds]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    return model, left


def narrow(array):
    return np.asarray(array).astype(ml_dtypes.bfloat16)


def to_bf16(graph):
    """A graph's f32 become bf16, in place. Returns whether there were any."""
    found = False
    for info in list(graph.input) + list(graph.output) + list(graph.value_info):
        if info.type.tensor_type.elem_type == T.FLOAT:
            info.type.tensor_type.elem_type, found = T.BFLOAT16, True
    tensors = list(graph.initializer)
    for node in graph.node:
        for a in node.attribute:
            if a.HasField("t"):
                tensors.append(a.t)
            if a.HasField("g"):
                to_bf16(a.g)
            if a.name in ("to", "dtype", "output_dtype", "stash_type") and a.i == T.FLOAT:
                a.i = T.BFLOAT16 if a.name != "stash_type" else T.FLOAT
    for tensor in tensors:
        if tensor.data_type == T.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(narrow(numpy_helper.to_array(tensor)),
                                                    tensor.name))
    return found


def cast(model, feeds):
    """(model in bf16, its feeds, feeds in f32 of the same values), or None."""
    model = copy.deepcopy(model)
    if any(type_ is None for type_, _ in feeds.values()) or not to_bf16(model.graph):
        return None
    given, wide = {}, {}
    for name, (type_, array) in feeds.items():
        given[name] = wide[name] = (type_, array)
        if type_ == T.FLOAT:
            given[name] = (T.BFLOAT16, np.asarray(narrow(array)).view(np.uint16))
            wide[name] = (type_, np.asarray(narrow(array).astype(np.float32)))
    return model, given, wide


def run(judge, share, until):
    """All sets; of bf16 beside ONNX Runtime's f32 on the same, rounded, values."""
    for name, model, feeds in tests(share):
        if time.monotonic() > until:
            break
        judge.case(name, model, [feeds], reference=False, official="plain")
        judge.case(name + "-fixed", *(lambda m, f: (m, [f]))(*fixed(model, feeds)),
                   reference=False, official="initialisers")
        narrowed = cast(model, feeds)
        if narrowed is None:
            continue
        wide_model = copy.deepcopy(model)
        for tensor in wide_model.graph.initializer:
            if tensor.data_type == T.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(
                    narrow(numpy_helper.to_array(tensor)).astype(np.float32), tensor.name))
        beside = judge.worker.tell({"model": wide_model.SerializeToString(),
                                    "feeds": [narrowed[2]], "alone": True})[0]
        judge.case(name + "-bf16", narrowed[0], [narrowed[1]], reference=False, official="bf16",
                   instead=beside, tolerance={1: ROUNDED, 16: ROUNDED})
