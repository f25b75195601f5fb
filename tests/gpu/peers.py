#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times the PyTorch composition of every case that exeunt_gpu_check timed, on the same GPU.

usage: peers.py RESULTS.json             (adds "peer_us" and "peer" to each timing, in place)
       peers.py --rehearse RESULTS.json  (needs neither PyTorch nor a GPU, times nothing: runs the
                                          compositions of all cases on stand-ins for tensors)

Each composition is the shortest sequence of stock PyTorch calls that yields what the op yields. It
is captured in a CUDA graph over rotating buffers, as the op is, so that launch overhead counts for
neither.
"""
import json
import sys

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

WARM_UPS = 3
SAMPLES = 25
MOST_SETS = 64
SOFTMAX = 0
GATE_LINEAR, GATE_TANH = 0, 2

DTYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def dtype_of(shape, key="dtype"):
    return getattr(torch, DTYPES[shape[key]])


def randn(*size, dtype):
    return torch.randn(*size, device="cuda", dtype=torch.float32).to(dtype)


def stablemax_parts(z):
    """s(z) and its logarithm."""
    s = torch.where(z >= 0, z + 1, 1 / (1 - z))
    return s, torch.sign(z) * torch.log1p(z.abs())


def log_probabilities(z, normalizer):
    if normalizer == SOFTMAX:
        return torch.log_softmax(z, -1)
    s, g = stablemax_parts(z)
    return g - s.sum(-1, keepdim=True).log()


def statistics(z, shape, columns):
    """What row_stats yields from logits, in f32, and nothing that was not asked for."""
    wanted = set(shape["outputs"].split())
    z = z.float()
    out = []
    top = z.topk(min(2, columns), -1)
    out += [top.indices[:, 0], top.values[:, 0]]
    if wanted & {"lse", "p1", "p2", "margin", "entropy", "pow2_entropy", "mean_log_p"}:
        log_p = log_probabilities(z, shape["normalizer"])
        p = log_p.exp()
        out += [p.gather(1, top.indices)]
        if "entropy" in wanted:
            out.append(-(p * log_p).sum(-1))
        if "pow2_entropy" in wanted:
            q = torch.softmax(2 * log_p, -1)
            out.append(-(q * q.log()).sum(-1))
        if "mean_log_p" in wanted:
            out.append(log_p.mean(-1))
    if "valid" in wanted:
        out.append(torch.isfinite(z).any(-1) & ~torch.isnan(z).any(-1))
    return out


def row_stats(shape):
    z = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    return lambda: statistics(z, shape, shape["cols"])


def exit_head(shape):
    x = randn(shape["rows"], shape["dim"], dtype=dtype_of(shape))
    w = randn(shape["vocab"], shape["dim"], dtype=dtype_of(shape, "weight_dtype"))
    gain = torch.ones(shape["dim"], device="cuda")
    rows = None
    if shape["shortlist"] > 0:
        step = shape["vocab"] // shape["shortlist"]
        rows = torch.arange(shape["shortlist"], device="cuda") * step

    def run():
        h = x
        if shape["norm"] == 1:
            scale = torch.rsqrt(h.float().square().mean(-1, keepdim=True) + 1e-6)
            h = (h.float() * scale * gain).to(w.dtype)
        elif shape["norm"] == 2:
            h = F.layer_norm(h.float(), (shape["dim"],), gain).to(w.dtype)
        else:
            h = h.to(w.dtype)
        head = w if rows is None else w[rows]
        return statistics(h @ head.T, shape, shape["shortlist"] or shape["vocab"])

    return run


def stablemax(shape):
    z = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))

    def run():
        if shape["log"]:
            return log_probabilities(z, shape["normalizer"])
        if shape["normalizer"] == SOFTMAX:
            return torch.softmax(z, -1)
        s, _ = stablemax_parts(z)
        return s / s.sum(-1, keepdim=True)

    return run


def cross_entropy(shape):
    z = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape)).requires_grad_(shape["grad"])
    labels = torch.randint(shape["cols"], (shape["rows"],), device="cuda")

    def run():
        if shape["normalizer"] == SOFTMAX:
            loss = F.cross_entropy(z, labels)
        else:
            loss = F.nll_loss(log_probabilities(z, shape["normalizer"]), labels)
        return torch.autograd.grad(loss, z) if shape["grad"] else loss

    return run


def perp_grad(shape):
    w = randn(shape["elements"], dtype=dtype_of(shape))
    g = randn(shape["elements"], dtype=dtype_of(shape))

    def run():
        out = g - (w @ g) / (w @ w + 1e-30) * w
        return out if shape["form"] == 1 else out * (g.norm() / (out.norm() + 1e-30))

    return run


def cosine(shape):
    a = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    b = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    return lambda: F.cosine_similarity(a, b, dim=-1)


def gate(shape):
    dim = shape["dim"]
    x = randn(shape["rows"], dim, dtype=dtype_of(shape))
    kind = dtype_of(shape, "weight_dtype")
    layers = max(shape["repeats"], 1) if shape["kind"] == GATE_TANH else 1
    hidden = [randn(dim, dim, dtype=kind) for _ in range(layers)]
    out = randn(shape["classes"], dim, dtype=kind)

    def run():
        y = x.to(kind)
        for i in range(0 if shape["kind"] == GATE_LINEAR else shape["repeats"]):
            if shape["kind"] == GATE_TANH:
                y = torch.tanh(y @ hidden[i].T)
            else:
                y = y + F.silu(y @ hidden[0].T)
        logits = (y @ out.T).float()
        return torch.sigmoid(logits) if shape["classes"] == 1 else torch.softmax(logits, -1)[:, 1]

    return run


def select(shape):
    scores = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    return lambda: scores.topk(shape["k"], -1).indices.sort(-1).values


def attention_scores(shape):
    """The keys as a composition would want them: head by head, one sequence per prompt."""
    prompts, window, heads = shape["prompts"], shape["window"], shape["heads"]
    groups, first, columns = shape["kv_heads"], shape["first"], shape["columns"]
    kind = dtype_of(shape)
    q = randn(prompts, groups, heads // groups * window, shape["head_dim"], dtype=kind)
    k = randn(prompts, groups, shape["slots"], shape["head_dim"], dtype=kind)

    def run():
        z = (q @ k.transpose(-1, -2)).float() * shape["head_dim"] ** -0.5
        if shape["softmax"]:
            z = torch.softmax(z, -1)
        z = z.view(prompts, heads, window, -1).sum(2)[:, :, first:first + columns]
        if shape["reduction"] == "group":
            z = z.view(prompts, groups, heads // groups, columns).sum(2)
        elif shape["reduction"] != "each":
            z = z.sum(1, keepdim=True) if shape["reduction"] == "sum" else z.mean(1, keepdim=True)
        width = shape["pool_width"]
        if shape["pool"] == "avg":
            z = F.avg_pool1d(z, width, 1, width // 2)
        elif shape["pool"] == "max":
            z = F.max_pool1d(z, width, 1, width // 2)
        return z.topk(shape["k"], -1).indices.sort(-1).values if shape["k"] > 0 else z

    return run


def hired_budget(shape):
    images, patches = shape["images"], shape["cols"]
    parts = shape["grid_rows"] * shape["grid_cols"]
    attention = torch.rand(images, patches, device="cuda")
    total = int((1 + parts) * patches * shape["rate"])
    full = min(int(total * shape["alpha"]), patches)
    rest = min(total - full, parts * patches)
    marked = int(patches * (1 - shape["alpha"]))

    def run():
        a = attention
        if parts == 0:
            return torch.full((images, 1), full, device="cuda")
        if shape["counts"]:
            a = torch.zeros_like(a).scatter_(1, a.topk(marked, -1).indices, 1)
        if shape["grid"]:
            rows, columns = shape["grid_rows"], shape["grid_cols"]
            a = a.view(images, rows, shape["patch_rows"] // rows, columns,
                       shape["patch_cols"] // columns).sum((2, 4)).view(images, parts)
        else:
            a = a.view(images, parts, -1).sum(-1)
        return (a / a.sum(-1, keepdim=True) * rest).int().clamp(max=patches)

    return run


def gather(shape):
    """Each tensor is described as dtype:axis,size,size,..."""
    rows, listed = shape["rows"], shape["listed"]
    kept = torch.randperm(rows, device="cuda")[:listed].sort().values
    tensors = []
    for text in shape["tensors"].split():
        kind, sizes = text.split(":")
        axis, *sizes = map(int, sizes.split(","))
        tensors.append((randn(*sizes, dtype=getattr(torch, DTYPES[kind])), axis))

    def run():
        out = [x.index_select(axis, kept) for x, axis in tensors]
        if shape["in_place"]:
            for (x, axis), y in zip(tensors, out):
                x.narrow(axis, 0, listed).copy_(y)
        return out

    return run


def kv_compact(shape):
    """K and V as [sequence, slot, head, element], or [sequence, head, slot, element] head by head;
    of pages the slots are looked up one by one."""
    sequences, slots = shape["sequences"], shape["slots"]
    heads, to_heads = shape["heads"], shape["to_heads"]
    kept, dim, kind = shape["kept"], shape["head_dim"], dtype_of(shape)
    by_head = shape["layout"] == "head"
    paged = shape["layout"] == "paged"
    axis = 2 if by_head else 1
    size = (heads, slots) if by_head else (slots, heads)
    caches = [randn(sequences, *size, dim, dtype=kind) for _ in range(2)]
    order = torch.rand(sequences, to_heads if shape["per_head"] else 1, slots, device="cuda")
    index = order.argsort(-1)[:, :, :kept].sort(-1).values
    if paged:
        page = shape["page"]
        table = torch.randperm(sequences * slots // page, device="cuda").view(sequences, -1)
    index = index if by_head else index.transpose(1, 2)

    def run():
        at = index
        if paged:
            flat = [c.view(1, sequences * slots, heads, dim) for c in caches]
            at = table.gather(1, (index // page).flatten(1)).view(index.shape) * page + index % page
            at = at.flatten(0, 1)[None]
        else:
            flat = caches
        if to_heads > heads:
            flat = [c.repeat_interleave(to_heads // heads, 3 - axis) for c in flat]
        wide = (to_heads, at.shape[2]) if by_head else (at.shape[1], to_heads)
        out = [c.gather(axis, at[..., None].expand(flat[0].shape[0], *wide, dim)) for c in flat]
        if shape["in_place"]:
            for c, y in zip(flat, out):
                c.narrow(axis, 0, y.shape[axis]).copy_(y)
        return out

    return run


# exit_rule has no composition that does not visit the host, which a graph cannot hold.
COMPOSITIONS = {f.__name__: f for f in (
    row_stats, exit_head, stablemax, cross_entropy, perp_grad, cosine, gate, select,
    attention_scores, hired_budget, gather, kv_compact)}


def time_composition(make, shape, sets):
    runs = [make(shape) for _ in range(sets)]
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            runs[0]()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = [run() for run in runs]
    start, stop = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    samples = []
    for i in range(WARM_UPS + SAMPLES):
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        if i >= WARM_UPS:
            samples.append(start.elapsed_time(stop) * 1e3 / sets)
    del kept
    samples.sort()
    return samples[len(samples) // 2]


class StandIn:
    """For PyTorch and for tensors: whatever is asked of it, the answer is one of its kind."""

    def answer(self, *_, **__):
        return self

    __getattr__ = __call__ = __getitem__ = __neg__ = answer
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = answer
    __truediv__ = __rtruediv__ = __floordiv__ = __mod__ = __matmul__ = answer
    __ge__ = __and__ = __invert__ = answer


def rehearse(results):
    """Every line of the compositions that the cases reach, every key that they ask a case for."""
    global torch, F
    torch, F = StandIn(), StandIn()
    for timing in results["timings"]:
        make = COMPOSITIONS.get(timing["op"])
        if make is None:
            print(f'{timing["op"]:14} has no PyTorch composition')
        else:
            make(timing["shape"])()
            print(f'{timing["op"]:14} {timing["case"]:34} rehearsed')


def main():
    arguments = [a for a in sys.argv[1:] if a != "--rehearse"]
    if len(arguments) != 1:
        sys.exit(__doc__)
    path = arguments[0]
    if "--rehearse" in sys.argv[1:]:
        with open(path) as file:
            rehearse(json.load(file))
        return
    if torch is None:
        print("PyTorch comparison left out: this python3 has no torch")
        return
    if not torch.cuda.is_available():
        print("PyTorch comparison left out: torch sees no CUDA device")
        return
    with open(path) as file:
        results = json.load(file)
    results["peer"] = "PyTorch " + torch.__version__
    torch.backends.cuda.matmul.allow_tf32 = False
    for timing in results["timings"]:
        make = COMPOSITIONS.get(timing["op"])
        if make is None:
            continue
        try:
            sets = min(timing["rotation"], MOST_SETS)
            timing["peer_us"] = time_composition(make, timing["shape"], sets)
        except (RuntimeError, torch.cuda.OutOfMemoryError) as error:
            timing["peer_error"] = str(error).splitlines()[0]
        torch.cuda.empty_cache()
        outcome = timing.get("peer_us", timing.get("peer_error"))
        print(f'{timing["op"]:14} {timing["case"]:34} {outcome}')
    with open(path, "w") as file:
        json.dump(results, file, indent=2)
        file.write("\n")


if __name__ == "__main__":
    main()
