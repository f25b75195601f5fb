#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs a real decoder in double precision and records what it does; README.md has the files.

    model.py --make FOLDER     records anew, from text.txt and the lists in this file
    model.py --check FOLDER    computes what the recordings in FOLDER hold and compares

Needs numpy and, for --make, tokenizers. The model is the demo's (launcher/model.sh prints its
path); a run takes some minutes and 2 GB. Nothing here is exeunt's: weights are dequantised as the
GGUF format says and every sum is NumPy's, in f64.
"""
import argparse
import json
import pathlib
import random
import struct
import subprocess
import sys

import numpy as np

HERE = pathlib.Path(__file__).resolve().parent
FILTERS, SIZES, POOL = (5, 10, 15), (51, 128, 256), 5
FFN_RULES = ("cs5_ce25_tau0.97_budget99", "cs5_ce25_tau2_budget99", "cs5_ce27_tau0.95_budget8")
CACHED = (9, 17, 29)  # layers of which the caches are recorded
LAST = {"hidden": 32, "states": 200}  # tokens of which the states are recorded
STATISTICS = ("argmax", "second", "max_logit", "lse", "p1", "p2", "entropy", "pow2_entropy",
              "mean_logp")
CHATS = (
    [("user", "What is the capital of France?")],
    [("user", "Write a short poem about the sea.")],
    [("user", "Explain what a hash table is in two sentences.")],
    [("user", "List three prime numbers larger than 50."), ("assistant", "53, 59, 61"),
     ("user", "Add two more.")],
)
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
TEXTS = (
    "", " ", "  ", "\n", "\n\n  x", "Hello", "Hello world", " Hello  world ", "1234567890",
    "3.14159 and 2,718", "x=1;y=22;z=333", "don't we've I'll they're he'd",
    "na\u00efve caf\u00e9 \u2014 \u201cquotes\u201d \u2026 \u2018single\u2019",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! 12",
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
    "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4",
    "\u0627\u0644\u0639\u0631\u0628\u064a\u0629 \u0661\u0662\u0663",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 \U0001f389\U0001f389 ok",
    "a\u0301 e\u0301 (combining)", "\u00a0nbsp\u2003em", "tabs\tand\ttabs\t\t", "CRLF\r\nline",
    "def f(x):\n    return x**2  # comment\n", "<|im_start|>user\nhi<|im_end|>\n",
    "<|endoftext|>", "< |im_start|>", "http://example.org/a?b=c&d=%20",
    "ALLCAPS camelCase snake_case", "\u00bd \u00b2 \u00b3 \u2081 \u2163 \u4e94",
    "\ud7ff\ue000", "A" * 200, "ab " * 100, "0" * 40, "\x00\x01\x7f", "zero\u200bwidth",
    "\ufb01 ligature", "\U0001d518\U0001d52b\U0001d526\U0001d520\U0001d52c\U0001d521\U0001d522",
    "end with space ",
)


# ---- files --------------------------------------------------------------------------------------


class Gguf:
    """The tensors of a GGUF file as f64, and its vocabulary."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self._bytes = file.read()
        self._at = 0
        magic, _, tensors, keys = self._take("<IIQQ")
        if magic != 0x46554747:
            sys.exit(f"{path} is not a GGUF file")
        self.keys = {}
        for _ in range(keys):
            name = self._text()
            self.keys[name] = self._value(self._take("<I")[0])
        self._entries = {}
        for _ in range(tensors):
            name = self._text()
            shape = self._take("<" + "Q" * self._take("<I")[0])
            self._entries[name] = (shape[::-1], *self._take("<IQ"))
        self._data = (self._at + 31) // 32 * 32

    def _take(self, form):
        values = struct.unpack_from(form, self._bytes, self._at)
        self._at += struct.calcsize(form)
        return values

    def _text(self):
        length = self._take("<Q")[0]
        self._at += length
        return self._bytes[self._at - length:self._at].decode("utf-8", "replace")

    def _value(self, kind):
        if kind == 8:
            return self._text()
        if kind == 9:
            of, count = self._take("<IQ")
            return [self._value(of) for _ in range(count)]
        return self._take("<" + "BbHhIif?__QqdQqd"[kind if kind < 8 else kind])[0]

    def tensor(self, name):
        shape, kind, offset = self._entries[name]
        count, begin = int(np.prod(shape)), self._data + offset
        if kind == 0:
            return np.frombuffer(self._bytes, "<f4", count, begin).astype(np.float64).reshape(shape)
        if kind == 3:  # Q4_1: scale, minimum, 32 values of four bits, low halves first
            block = np.dtype([("d", "<f2"), ("m", "<f2"), ("q", "u1", 16)])
        elif kind == 8:  # Q8_0
            block = np.dtype([("d", "<f2"), ("q", "i1", 32)])
        else:
            sys.exit(f"{name} is of type {kind}, which this script does not read")
        rows = np.frombuffer(self._bytes, block, count // 32, begin)
        scale = rows["d"].astype(np.float64)[:, None]
        if kind == 8:
            return (scale * rows["q"]).reshape(shape)
        codes = np.concatenate([rows["q"] & 15, rows["q"] >> 4], axis=1)
        return (scale * codes + rows["m"].astype(np.float64)[:, None]).reshape(shape)


TYPES = {"F64": "<f8", "F32": "<f4", "I32": "<i4", "BF16": "<u2"}


def read(path):
    data = path.read_bytes()
    size = struct.unpack_from("<Q", data)[0]
    header = json.loads(data[8:8 + size])
    header.pop("__metadata__", None)
    return {name: np.frombuffer(data, TYPES[t["dtype"]], int(np.prod(t["shape"])),
                                8 + size + t["data_offsets"][0]).reshape(t["shape"])
            for name, t in header.items()}


def rounded(values):
    """f64 with 32 significant bits, of which the empty ones take no space in an archive."""
    bits = np.ascontiguousarray(values, "<f8").view("<u8")
    return ((bits + (1 << 20)) & ~np.uint64((1 << 21) - 1)).view("<f8").reshape(values.shape)


def narrow(values):
    """f32 as the bits of bf16."""
    return ((values.view("<u4") + 0x8000) >> 16).astype(np.uint16)


def write(path, tensors):
    header, parts, at = {}, [], 0
    order = {"<f8": 0, "<f4": 1, "<i4": 2, "<u2": 3}
    kinds = {name: {"float64": "<f8", "float32": "<f4", "uint16": "<u2"}.get(
        values.dtype.name, "<i4") for name, values in tensors.items()}
    for name in sorted(tensors, key=lambda name: (order[kinds[name]], name)):
        kind = kinds[name]
        values = rounded(tensors[name]) if kind == "<f8" else tensors[name].astype(kind)
        part = np.ascontiguousarray(values).tobytes()
        dtype = next(key for key, value in TYPES.items() if value == kind)
        header[name] = {"dtype": dtype, "shape": list(values.shape),
                        "data_offsets": [at, at + len(part)]}
        parts.append(part)
        at += len(part)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(parts))


# ---- the decoder --------------------------------------------------------------------------------


def cosine(a, b):
    return (a * b).sum(-1) / np.sqrt((a * a).sum(-1) * (b * b).sum(-1))


class Model:
    def __init__(self, path):
        file = Gguf(path)
        self.file = file
        self.layers = file.keys["llama.block_count"]
        self.heads = file.keys["llama.attention.head_count"]
        self.kv_heads = file.keys["llama.attention.head_count_kv"]
        self.eps = file.keys["llama.attention.layer_norm_rms_epsilon"]
        self.base = file.keys["llama.rope.freq_base"]
        self.embedding = file.tensor("token_embd.weight")
        self.norm = file.tensor("output_norm.weight")
        self.dim = self.embedding.shape[1] // self.heads
        names = ("attn_norm", "attn_q", "attn_k", "attn_v", "attn_output", "ffn_norm", "ffn_gate",
                 "ffn_up", "ffn_down")
        self.blocks = [{name: file.tensor(f"blk.{layer}.{name}.weight") for name in names}
                       for layer in range(self.layers)]

    def normal(self, x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + self.eps) * weight

    def rotated(self, x, positions):
        """Neighbouring elements are a pair."""
        angle = np.outer(positions, self.base ** (-np.arange(0, self.dim, 2) / self.dim))
        turn = np.exp(1j * angle)[:, None, :]
        pairs = np.ascontiguousarray(x).view(np.complex128) * turn
        return pairs.view(np.float64)

    def keys_values(self, layer, x, positions):
        block = self.blocks[layer]
        h = self.normal(x, block["attn_norm"])
        shape = (len(x), self.kv_heads, self.dim)
        k = self.rotated((h @ block["attn_k"].T).reshape(shape), positions)
        return h, k, (h @ block["attn_v"].T).reshape(shape)

    def logits(self, x):
        return self.normal(x, self.norm) @ self.embedding.T


class Run:
    """One sequence: caches, and the layers of it."""

    def __init__(self, model):
        self.model = model
        shape = (0, model.kv_heads, model.dim)
        self.k = [np.zeros(shape) for _ in range(model.layers)]
        self.v = [np.zeros(shape) for _ in range(model.layers)]
        self.at = [np.zeros(0, int) for _ in range(model.layers)]

    def append(self, layer, k, v, positions):
        self.k[layer] = np.concatenate([self.k[layer], k])
        self.v[layer] = np.concatenate([self.v[layer], v])
        self.at[layer] = np.concatenate([self.at[layer], positions])

    def propagate(self, layer, x, positions):
        _, k, v = self.model.keys_values(layer, x, positions)
        self.append(layer, k, v, positions)

    def attend(self, layer, x, positions):
        """x after the attention block, and the scaled scores of the last query."""
        m, block = self.model, self.model.blocks[layer]
        h, k, v = m.keys_values(layer, x, positions)
        self.append(layer, k, v, positions)
        q = m.rotated((h @ block["attn_q"].T).reshape(len(x), m.heads, m.dim), positions)
        group = m.heads // m.kv_heads
        out = np.empty_like(q)
        last = []
        hidden = self.at[layer][None, :] > positions[:, None]
        for head in range(m.heads):
            scores = q[:, head] @ self.k[layer][:, head // group].T / np.sqrt(m.dim)
            last.append(scores[-1])
            scores = np.where(hidden, -np.inf, scores)
            weights = np.exp(scores - scores.max(-1, keepdims=True))
            weights /= weights.sum(-1, keepdims=True)
            out[:, head] = weights @ self.v[layer][:, head // group]
        return x + out.reshape(len(x), -1) @ block["attn_output"].T, np.array(last)

    def branch(self, layer, x):
        block = self.model.blocks[layer]
        h = self.model.normal(x, block["ffn_norm"])
        gate = h @ block["ffn_gate"].T
        return (gate / (1 + np.exp(-gate)) * (h @ block["ffn_up"].T)) @ block["ffn_down"].T

    def layer(self, layer, x, positions):
        x, _ = self.attend(layer, x, positions)
        return x + self.branch(layer, x)

    def full(self, ids, first=0):
        """The states after the last layer of tokens from position `first` on."""
        positions = np.arange(first, first + len(ids))
        x = self.model.embedding[ids]
        for layer in range(self.model.layers):
            x = self.layer(layer, x, positions)
        return x


def statistics(z):
    """Of rows of logits."""
    rows = np.arange(len(z))
    first = z.argmax(-1)
    largest = z[rows, first]
    rest = z.copy()
    rest[rows, first] = -np.inf
    second = rest.argmax(-1)
    shifted = z - largest[:, None]

    def entropy(s):
        e = np.exp(s)
        total = e.sum(-1)
        return np.log(total) - (e * s).sum(-1) / total

    lse = largest + np.log(np.exp(shifted).sum(-1))
    return {"argmax": first, "second": second, "max_logit": largest, "lse": lse,
            "p1": np.exp(largest - lse), "p2": np.exp(z[rows, second] - lse),
            "entropy": entropy(shifted), "pow2_entropy": entropy(2 * shifted),
            "mean_logp": z.mean(-1) - lse}


def losses(z, following):
    """-ln p of the token that follows each row."""
    return statistics(z[:len(following)])["lse"] - z[np.arange(len(following)), following]


# ---- what is recorded ---------------------------------------------------------------------------


def layers(model, ids):
    run, positions = Run(model), np.arange(len(ids))
    x = model.embedding[ids]
    hidden, scores, ffn, branch = [x], [], [], []
    for layer in range(model.layers):
        x, last = run.attend(layer, x, positions)
        scores.append(last)
        out = run.branch(layer, x)
        branch.append(cosine(x, out))
        ffn.append(cosine(x, x + out))
        x = x + out
        hidden.append(x)
    return {"ids": ids, "hidden": np.float32(hidden), "k": np.float32(run.k),
            "v": np.float32(run.v), "ffn_cos": np.float32(ffn), "branch_cos": np.float32(branch),
            "scores_last": np.float32(scores), "logits_last4": np.float32(model.logits(x[-4:])),
            "logits_last2": np.float32(model.logits(x[-2:]))}


def exit_stats(model, ids, depths=(10, 20, 26, 30)):
    run, positions = Run(model), np.arange(len(ids))
    x = model.embedding[ids]
    states, ffn, state = [x], [], []
    for layer in range(model.layers):
        before = x
        x, _ = run.attend(layer, x, positions)
        after = x + run.branch(layer, x)
        ffn.append(cosine(x, after))
        state.append(cosine(before, after))
        x = after
        states.append(x)
    found = {name: [] for name in STATISTICS}
    for depth in states:
        z = model.logits(depth)
        for name, values in statistics(z).items():
            found[name].append(values)
    result = {name: np.array(values) for name, values in found.items()}
    result.update(ids=ids, ffn_cos=np.array(ffn), state_cosine=np.array(state),
                  nll=losses(z, ids[1:]), hidden_layers=np.array(depths),
                  hidden=np.float32([states[depth] for depth in depths]))
    result["states"] = narrow(result["hidden"])
    return result


def early_exit(model, ids, exits):
    result = {"ids": ids, "exit_layer": exits}
    prompt = len(ids) - len(exits)
    for policy in "propagate", "none":
        run, rows = Run(model), []
        run.full(ids[:prompt])
        for step, depth in enumerate(exits):
            positions = np.array([prompt + step])
            x = model.embedding[ids[positions]]
            for layer in range(depth):
                x = run.layer(layer, x, positions)
            for layer in range(depth, model.layers if policy == "propagate" else 0):
                run.propagate(layer, x, positions)
            rows.append(model.logits(x)[0])
        put(result, policy + "/", np.array(rows), ids[prompt + 1:])
        result[policy + "/cache_length"] = np.array([len(k) for k in run.k])
        for layer in CACHED:
            result[f"{policy}/k{layer}"] = np.float32(run.k[layer])
            result[f"{policy}/v{layer}"] = np.float32(run.v[layer])
    return result


def put(result, prefix, z, following):
    for name, values in statistics(z).items():
        result[prefix + name] = values
    result[prefix + "nll"] = losses(z, following)
    result[prefix + "logits_last2"] = np.float32(z[-2:])


def pooled(scores):
    return np.convolve(scores, np.ones(POOL), "same") / POOL


def best(scores, k):
    """Ascending; of equal scores the first."""
    return np.sort(np.lexsort((np.arange(len(scores)), -scores))[:k])


def token_drop(model, ids, steps):
    prompt = len(ids) - steps
    result = {"ids": ids}

    def follow(run, x, prefix):
        rows = [model.logits(x[-1:])[0]]
        for step in range(steps - 1):
            x = run.full(ids[prompt + step:prompt + step + 1], prompt + step)
            rows.append(model.logits(x)[0])
        put(result, prefix, np.array(rows), ids[prompt:])
        result[prefix + "cache_length"] = np.array([len(k) for k in run.k])

    positions = np.arange(prompt)
    states, run = [model.embedding[ids[:prompt]]], Run(model)
    for layer in range(model.layers):
        x, scores = run.attend(layer, states[-1], positions)
        states.append(x + run.branch(layer, x))
        if layer in FILTERS:
            result[f"scores/r{layer}"] = scores
    kept = [(list(run.k), list(run.v), list(run.at))]
    follow(run, states[-1], "full/")
    for layer in FILTERS:
        scores = result[f"scores/r{layer}"]
        for k in SIZES:
            result[f"gemfilter/r{layer}_k{k}/indices"] = best(pooled(scores.sum(0)), k)
            for pool in 0, 1:
                mean = scores[:, :-1].mean(0)
                indices = np.append(best(pooled(mean) if pool else mean, k), prompt - 1)
                run = Run(model)
                for l in range(layer + 1):
                    run.k[l], run.v[l], run.at[l] = (part[l] for part in kept[0])
                x = states[layer + 1][indices]
                for l in range(layer + 1, model.layers):
                    x = run.layer(l, x, indices)
                prefix = f"promptdistill/r{layer}_k{k}_pool{pool}/"
                result[prefix + "indices"] = indices
                follow(run, x, prefix)
    return result


def ffn_skip(model, ids, warm_up):
    result = {"ids": ids}
    for rule in FFN_RULES:
        start, end, threshold, budget = (
            float(part.lstrip("abcdefghijklmnopqrstuvwxyz")) for part in rule.split("_"))
        run, rows, skipped, cosines = Run(model), [], [], []
        run.full(ids[:warm_up])
        for at in range(warm_up, len(ids)):
            positions = np.array([at])
            x = model.embedding[ids[positions]]
            skips, passed, mask, row = False, 0, [], []
            for layer in range(model.layers):
                x, _ = run.attend(layer, x, positions)
                inside = start <= layer < end
                passes = inside and skips and passed < budget
                mask.append(passes)
                if passes:
                    passed += 1
                    row.append(np.nan)
                    continue
                after = x + run.branch(layer, x)
                row.append(cosine(x, after)[0])
                skips = skips or inside and row[-1] >= threshold
                x = after
            rows.append(model.logits(x)[0])
            skipped.append(mask)
            cosines.append(row)
        put(result, rule + "/", np.array(rows), ids[warm_up + 1:])
        result[rule + "/skipped"] = np.array(skipped, int)
        result[rule + "/cosine"] = np.array(cosines)
    return result


def greedy(model, prompt, most=96, end=2):
    run, ids, margins = Run(model), [], []
    x = run.full(np.array(prompt))
    while len(ids) < most and (not ids or ids[-1] != end):
        z = np.sort(model.logits(x[-1:])[0])
        ids.append(int(model.logits(x[-1:])[0].argmax()))
        margins.append(round(float(z[-1] - z[-2]), 6))
        x = run.full(np.array(ids[-1:]), len(prompt) + len(ids) - 1)
    return ids, margins


# ---- records ------------------------------------------------------------------------------------


def tokenizer(file):
    """The library of that name, told what the model's file says."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    tokens = file.keys["tokenizer.ggml.tokens"]
    merges = [tuple(pair.split(" ")) for pair in file.keys["tokenizer.ggml.merges"]]
    made = Tokenizer(models.BPE(dict((token, i) for i, token in enumerate(tokens)), merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False)])
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([AddedToken(token, special=True, normalized=False) for token, kind in
                             zip(tokens, file.keys["tokenizer.ggml.token_type"]) if kind == 3])
    return made


def rendered(chat):
    turns = [("system", SYSTEM), *chat]
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + (
        "<|im_start|>assistant\n")


def texts_to_encode(essay):
    yield from TEXTS
    draw = random.Random(1)
    for _ in range(60):
        begin = draw.randrange(len(essay) - 200)
        piece = essay[begin:begin + draw.randrange(5, 200)]
        yield piece.replace(" ", draw.choice((" ", "  ", "\n")))
    letters = "".join(chr(c) for first, last in (
        (33, 126), (161, 591), (0x400, 0x45f), (0x4e00, 0x4e3f), (0x1f600, 0x1f64f))
        for c in range(first, last + 1))
    for _ in range(60):
        yield "".join(draw.choice(letters) for _ in range(draw.randrange(1, 40)))


def make(model, folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    text = (HERE / "text.txt").read_text()
    (folder / "text.txt").write_text(text)
    essay = " ".join(text.split())
    words = tokenizer(model.file)
    ids = np.array(words.encode(essay).ids)
    print(len(ids), "tokens")

    if not names:
        make_texts(model, folder, words, essay)
    exits = np.array([random.Random(2 + i).randrange(3, 31) for i in range(64)])
    for name, record in (
            ("layers", lambda: layers(model, ids[:48])),
            ("exit_stats", lambda: exit_stats(model, ids[:256])),
            ("early_exit", lambda: early_exit(model, ids[:128], exits)),
            ("ffn_skip", lambda: ffn_skip(model, ids[:128], 64)),
            ("token_drop", lambda: token_drop(model, ids[:512 + 16], 16))):
        if name in names or not names:
            write(folder / f"{name}.safetensors", sampled(name, record()))
            print(name, flush=True)


def make_texts(model, folder, words, essay):
    chats = [{"messages": [{"role": role, "content": said} for role, said in chat],
              "prompt": rendered(chat), "ids": words.encode(rendered(chat)).ids} for chat in CHATS]
    encoded = [{"text": t, "ids": words.encode(t).ids} for t in texts_to_encode(essay)]
    (folder / "tokenizer.json").write_text(
        json.dumps({"encode": encoded, "chat": chats}, ensure_ascii=True, indent=0))
    answers = []
    for chat in chats:
        found, margins = greedy(model, chat["ids"])
        answers.append({"prompt_ids": chat["ids"], "ids": found, "logit_margin": margins,
                        "text": words.decode(found, skip_special_tokens=False)})
    (folder / "greedy.json").write_text(json.dumps(answers, indent=0))


def sampled(name, found):
    """A part of what was found, where all would be large; X_rows names the rows that X has."""
    result = {}
    for key, values in found.items():
        rows = None
        if name == "layers" and key in ("hidden", "k", "v"):
            rows = np.array([0, 1, 2, 7, 15, 23, 31, 39, 46, 47])
            values = values[:, rows]
        elif name == "exit_stats" and key in LAST:
            values = values[:, -LAST[key]:]
        elif name == "early_exit" and key.split("/")[-1][:1] in "kv":
            rows = np.arange(0, len(values), 8)
            values = values[rows]
        elif key.endswith("logits_last2") and name != "layers":
            if name != "token_drop":
                columns = np.arange(0, values.shape[1], 16)
                result.setdefault("logits_columns", columns)
                result[key] = values[:, columns]
            continue
        elif key.endswith("logits_last4"):
            continue
        result[key] = values
        if rows is not None:
            result[key + "_rows"] = rows
    return result


# ---- comparing ----------------------------------------------------------------------------------


def compare(name, recorded, found):
    problems, worst = [], 0.0
    columns = recorded.get("logits_columns")
    for key, values in recorded.items():
        if key.endswith("_rows") or key == "logits_columns":
            continue
        mine = found[key]
        rows = recorded.get(key + "_rows")
        if rows is not None:
            mine = mine[:, rows] if name == "layers" else mine[rows]
        if columns is not None and key.endswith("logits_last2"):
            mine = mine[:, columns]
        if name == "exit_stats" and key in LAST:
            mine = mine[:, -values.shape[1]:]
        if mine.shape != values.shape:
            problems.append(f"{key}: shape {list(values.shape)}, computed {list(mine.shape)}")
        elif values.dtype.kind in "iu":
            differ = int((mine != values).sum())
            if differ:
                problems.append(f"{key}: {differ} of {values.size} numbers differ")
        else:
            largest = max(1e-2, float(np.nanmax(np.abs(values))))
            error = float(np.nanmax(np.abs(mine - values))) / largest
            if (np.isnan(mine) != np.isnan(values)).any():
                problems.append(f"{key}: NaN elsewhere")
            worst = max(worst, error)
            if error > (5e-7 if values.dtype == np.float32 else 1e-8):
                problems.append(f"{key}: off by {error:.1e} of the largest value")
    print(f"{name}: {len(recorded)} tensors, largest error {worst:.1e} of the largest value")
    return problems


def check(model, folder, names):
    problems = []
    for name in names or ("layers", "exit_stats", "early_exit", "token_drop", "ffn_skip"):
        path = folder / f"{name}.safetensors"
        recorded = read(path)
        ids = recorded["ids"]
        if name == "early_exit":
            found = early_exit(model, ids, recorded["exit_layer"])
        elif name == "ffn_skip":
            steps = len(recorded[FFN_RULES[0] + "/argmax"])
            found = ffn_skip(model, ids, len(ids) - steps)
        elif name == "exit_stats":
            found = exit_stats(model, ids, tuple(recorded["hidden_layers"]))
        elif name == "token_drop":
            found = token_drop(model, ids, len(recorded["full/nll"]))
        else:
            found = layers(model, ids)
        problems += [f"{path}: {problem}" for problem in compare(name, recorded, found)]
        sys.stdout.flush()
    if not names:
        for i, answer in enumerate(json.loads((folder / "greedy.json").read_text())):
            ids, margins = greedy(model, answer["prompt_ids"])
            off = max(abs(a - b) for a, b in zip(margins, answer["logit_margin"]))
            if ids != answer["ids"] or off > 1e-5:
                problems.append(f"{folder}/greedy.json: answer {i} differs")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--make", type=pathlib.Path, metavar="FOLDER")
    what.add_argument("--check", type=pathlib.Path, metavar="FOLDER")
    parser.add_argument("--model", type=pathlib.Path, help="a GGUF file; default: the demo's")
    parser.add_argument("files", nargs="*", help="only these, e.g. layers")
    options = parser.parse_args()
    path = options.model or subprocess.run(
        [HERE / "../../launcher/model.sh"], check=True, text=True, stdout=subprocess.PIPE
    ).stdout.strip()
    model = Model(path)
    if options.make:
        make(model, options.make, options.files)
        return 0
    problems = check(model, options.check, options.files)
    print("\n".join(problems) or "as recorded")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
