# SPDX-License-Identifier: Apache-2.0
"""Of each op the shortest sequence of stock PyTorch calls that yields what the op yields: its
products are cuBLAS's, its selections torch.topk's."""
try:
    import torch
    import torch.nn.functional as F
except ImportError:
    torch = None

SOFTMAX = 0
GATE_LINEAR, GATE_TANH = 0, 2
NORM_RMS, NORM_LAYER = 1, 2
ROPE_INTERLEAVED = 0
ACT_SILU = 0

DTYPES = {"f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16",
          "i64": "int64", "i32": "int32", "u8": "uint8"}


class NoComposition(TypeError):
    pass


def dtype_of(shape, key="dtype"):
    """PyTorch has no blocks, which other libraries unpack on the host."""
    if shape[key] not in DTYPES:
        raise NoComposition("no PyTorch composition unpacks " + shape[key])
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
    z = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape)).requires_grad_(bool(shape["grad"]))
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


def norm_of(x, gain, kind, eps=1e-5):
    """RMSNorm or LayerNorm in f32, or nothing."""
    if kind == NORM_RMS:
        return x.float() * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + eps) * gain
    if kind == NORM_LAYER:
        return F.layer_norm(x.float(), (x.shape[-1],), gain)
    return x


def norm(shape):
    x = randn(shape["rows"], shape["dim"], dtype=dtype_of(shape))
    gain = torch.ones(shape["dim"], device="cuda")
    kind = dtype_of(shape, "out_dtype")
    return lambda: norm_of(x, gain, shape["norm"]).to(kind)


def column_norms(shape):
    x = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    return lambda: torch.linalg.vector_norm(x, dim=0, dtype=torch.float32)


def rope_table(shape):
    positions, pairs = shape["positions"], shape["pairs"]
    inverse = 10000 ** -(torch.arange(pairs, device="cuda", dtype=torch.float64) / pairs)
    at = torch.arange(positions, device="cuda", dtype=torch.float64)

    def run():
        angle = at[:, None] * inverse
        return torch.stack((angle.cos(), angle.sin()), -1).float()

    return run


def rotated(x, table, positions, style):
    """Heads [rows, heads, elements], of which the first 2 * pairs are turned."""
    pairs = table.shape[1]
    turns = table[positions].unsqueeze(1)
    cos, sin = turns[..., 0], turns[..., 1]
    turning, rest = x[..., :2 * pairs].float(), x[..., 2 * pairs:]
    if style == ROPE_INTERLEAVED:
        a, b = turning[..., 0::2], turning[..., 1::2]
        turned = torch.stack((a * cos - b * sin, b * cos + a * sin), -1).flatten(-2)
    else:
        a, b = turning[..., :pairs], turning[..., pairs:]
        turned = torch.cat((a * cos - b * sin, b * cos + a * sin), -1)
    return torch.cat((turned.to(x.dtype), rest), -1)


def rope(shape):
    rows, slots = shape["rows"], shape["positions"]
    x = randn(rows, shape["heads"], shape["head_dim"], dtype=dtype_of(shape))
    table = torch.rand(slots, shape["pairs"], 2, device="cuda")
    positions = torch.arange(rows, device="cuda") % slots
    return lambda: rotated(x, table, positions, shape["style"])


def linear(shape):
    x = randn(shape["rows"], shape["dim"], dtype=dtype_of(shape))
    w = randn(shape["cols"], shape["dim"], dtype=dtype_of(shape, "weight_dtype"))
    out = dtype_of(shape, "out_dtype")
    residual = randn(shape["rows"], shape["cols"], dtype=out) if shape["residual"] else None

    def run():
        y = F.linear(x.to(w.dtype), w).to(out)
        return y if residual is None else y + residual

    return run


def ffn(shape):
    """Which rows run is taken as known: a composition that asks would visit the host."""
    rows, dim, width = shape["rows"], shape["dim"], shape["width"]
    x = randn(rows, dim, dtype=dtype_of(shape))
    kind = dtype_of(shape, "weight_dtype")
    up, down = randn(width, dim, dtype=kind), randn(dim, width, dtype=kind)
    gate_weight = randn(width, dim, dtype=kind) if shape["gate"] else None
    gain = torch.ones(dim, device="cuda")
    running = torch.randperm(rows, device="cuda")[:shape["running"]].sort().values
    act = F.silu if shape["activation"] == ACT_SILU else F.gelu

    def run():
        if shape["running"] == 0:
            return x.clone()
        some = shape["running"] < rows
        h = x[running] if some else x
        n = norm_of(h, gain, shape["norm"]).to(kind)
        a = F.linear(n, up)
        a = act(a) if gate_weight is None else act(F.linear(n, gate_weight)) * a
        f = F.linear(a, down).to(h.dtype)
        y = h + f
        out = x.index_copy(0, running, y) if some else y
        cosines = F.cosine_similarity(h, y, dim=-1), F.cosine_similarity(h, f, dim=-1)
        return (out, *cosines[:shape["cosines"]])

    return run


def paged(sequences, slots, page):
    """Of slot [sequence, slot], its place among those of all pages."""
    blocks = torch.randperm(sequences * slots // page, device="cuda").view(sequences, -1)
    inside = torch.arange(page, device="cuda")
    return (blocks[..., None] * page + inside).view(sequences, slots)


def cache_of(shape, kind, layout, sequences, slots):
    """K or V as [sequence, head, slot, element] head by head, else [sequence, slot, head, element];
    pages are slots of one long sequence."""
    if layout == "paged":
        sequences, slots = 1, sequences * slots
    heads = shape.get("kv_heads", shape["heads"])
    size = (heads, slots) if layout == "head" else (slots, heads)
    return randn(sequences, *size, shape["head_dim"], dtype=kind)


def kv_append(shape):
    rows, sequences, layout = shape["rows"], shape["sequences"], shape["layout"]
    kind = dtype_of(shape, "cache_dtype")
    caches = [cache_of(shape, kind, layout, sequences, shape["slots"]) for _ in range(2)]
    new = [randn(rows, shape["heads"], shape["head_dim"], dtype=dtype_of(shape)) for _ in range(2)]
    row = torch.arange(rows, device="cuda")
    sequence, slot = row % sequences, row // sequences
    if layout == "paged":
        slot = paged(sequences, shape["slots"], shape["page"])[sequence, slot]
        sequence = sequence * 0

    def run():
        for cache, x in zip(caches, new):
            if layout == "head":
                cache[sequence, :, slot] = x.to(kind)
            else:
                cache[sequence, slot] = x.to(kind)

    return run


def kv_copy(shape):
    """One list of slots for all heads, of the first sequence to the first; those of pages are
    anywhere."""
    entries, kind = shape["entries"], dtype_of(shape)
    from_layout, to_layout = shape["layout"], shape["to_layout"]
    slots, to_slots = shape["slots"], shape["to_slots"]
    source = [cache_of(shape, kind, from_layout, shape["sequences"], slots) for _ in range(2)]
    target = source if shape["in_place"] else [
        cache_of(shape, kind, to_layout, shape["to_sequences"], to_slots) for _ in range(2)]
    axis, to_axis = (2 if layout == "head" else 1 for layout in (from_layout, to_layout))
    at = torch.arange(entries, device="cuda") % slots
    to = torch.arange(entries, device="cuda") % to_slots
    if shape["in_place"]:  # slots move down
        at = at * slots // entries
    if to_layout == "paged":
        to = torch.randperm(to_slots, device="cuda")[:entries]

    def run():
        for x, y in zip(source, target):
            moved = x[:1].index_select(axis, at)
            y[:1].index_copy_(to_axis, to, moved if axis == to_axis else moved.transpose(1, 2))

    return run


def attention(shape):
    """As many rows of each sequence, the last ones of it. Keys and values of pages are collected
    first."""
    rows, heads, groups = shape["rows"], shape["heads"], shape["kv_heads"]
    sequences, slots, layout = shape["sequences"], shape["slots"], shape["layout"]
    kind = dtype_of(shape)
    window = rows // sequences
    q = randn(sequences, heads, window, shape["head_dim"], dtype=kind)
    caches = [cache_of(shape, kind, layout, sequences, slots) for _ in range(2)]
    if layout == "paged":
        places = paged(sequences, slots, shape["page"]).flatten()
    causal = shape["visible"] == "causal" and window > 1
    mask = None
    if causal and window < slots:
        last = torch.arange(slots - window, slots, device="cuda")
        mask = torch.arange(slots, device="cuda") <= last[:, None]

    def run():
        k, v = caches
        if layout == "paged":
            k, v = (c[0, places].view(sequences, slots, groups, -1) for c in caches)
        if layout != "head":
            k, v = k.transpose(1, 2), v.transpose(1, 2)
        out = [F.scaled_dot_product_attention(q, k, v, attn_mask=mask,
                                              is_causal=causal and mask is None, enable_gqa=True)]
        if shape["scores"]:
            grouped = q.view(sequences, groups, heads // groups * window, -1)
            out.append((grouped @ k.transpose(-1, -2)).float() * shape["head_dim"] ** -0.5)
        return out

    return run


def kv_propagate(shape):
    """Layer by layer. Rows that owe a layer nothing write to a slot that is not read: which ones
    those are a composition would have to ask the device."""
    rows, dim, heads, size = shape["rows"], shape["dim"], shape["heads"], shape["head_dim"]
    x = randn(rows, dim, dtype=dtype_of(shape))
    kind, cached = dtype_of(shape, "weight_dtype"), dtype_of(shape, "cache_dtype")
    gain = torch.ones(dim, device="cuda")
    layers = [tuple(randn(heads * size, dim, dtype=kind) for _ in range(2))
              for _ in range(shape["layers"])]
    caches = [tuple(torch.zeros(heads, rows + 1, size, device="cuda", dtype=cached)
                    for _ in range(2)) for _ in layers]
    table = torch.rand(rows, max(shape["pairs"], 1), 2, device="cuda")
    positions = torch.arange(rows, device="cuda")
    first = torch.randint(len(layers), (rows,), device="cuda") if shape["mixed"] else positions * 0

    def run():
        for j, (weights, cache) in enumerate(zip(layers, caches)):
            n = norm_of(x, gain, shape["norm"]).to(kind)
            k, v = (F.linear(n, w).view(rows, heads, size) for w in weights)
            if shape["pairs"] > 0:
                k = rotated(k, table, positions, shape["style"])
            slot = torch.where(first <= j, positions, rows)
            for c, y in zip(cache, (k, v)):
                c[:, slot] = y.to(cached).transpose(0, 1)

    return run


def row_compaction(shape):
    """The list without its padding: a composition that looks for that would visit the host."""
    rows, moved, cols = shape["rows"], shape["moved"], shape["cols"]
    kept = torch.randperm(rows, device="cuda")[:moved].sort().values
    x = randn(moved if shape["scatter"] else rows, cols, dtype=dtype_of(shape))
    out = randn(rows, cols, dtype=dtype_of(shape))
    if shape["scatter"]:
        return lambda: out.index_copy_(0, kept, x)
    return lambda: x.index_select(0, kept)


def select(shape):
    heads = max(shape["heads"], 1)
    scores = randn(shape["rows"], heads, shape["cols"], dtype=dtype_of(shape))

    def run():
        sums = scores.float().sum(1) if heads > 1 else scores[:, 0]
        return sums.topk(shape["k"], -1).indices.sort(-1).values

    return run


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


def embedding(shape):
    out = dtype_of(shape, "out_dtype")
    table = randn(shape["vocab"], shape["cols"], dtype=dtype_of(shape, "table_dtype"))
    ids = torch.arange(shape["rows"], device="cuda")
    return lambda: F.embedding(ids, table).to(out)


# draft_lookup, draft_rule, exit_rule, stop_rule, ffn_skip_rule, hidden_stack, kv_length and verify
# have no composition that does not visit the host, which a graph cannot hold; decode_step has only
# those of its parts.
COMPOSITIONS = {f.__name__: f for f in (
    row_stats, exit_head, stablemax, cross_entropy, perp_grad, cosine, gate, norm, column_norms,
    rope_table, rope,
    linear, ffn, kv_propagate, kv_append, kv_copy, attention, row_compaction, select,
    attention_scores, hired_budget, gather, kv_compact, embedding)}
