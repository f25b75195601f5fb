# SPDX-License-Identifier: Apache-2.0
"""What a user does who wants it faster than the compositions are: torch.compile, keys and values of
all layers in one product, each back end of scaled_dot_product_attention by name."""
try:
    import torch
    import torch.nn.functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel
except ImportError:
    torch = None

from compositions import (attention, COMPOSITIONS, dtype_of, exit_head, ffn, norm, norm_of, randn,
                          rope, rotated, row_stats, SOFTMAX, stablemax)


def compiled(make):
    """The composition as torch.compile fuses it."""
    def made(shape):
        return torch.compile(make(shape), dynamic=False)
    return made


def fused_cross_entropy(shape):
    """Loss and gradient written out, for torch.compile: it does not follow autograd.grad."""
    if shape["normalizer"] != SOFTMAX:
        return None
    z = randn(shape["rows"], shape["cols"], dtype=dtype_of(shape))
    labels = torch.randint(shape["cols"], (shape["rows"],), device="cuda")
    columns = torch.arange(shape["cols"], device="cuda")

    def run():
        log_p = torch.log_softmax(z.float(), -1)
        loss = -log_p.gather(1, labels[:, None]).mean()
        if not shape["grad"]:
            return loss
        hit = (columns == labels[:, None]).float()
        return loss, ((log_p.exp() - hit) / shape["rows"]).to(z.dtype)

    return torch.compile(run, dynamic=False)


def merged_kv_propagate(shape):
    """One product for all layers: their norms' weights are multiplied into K and V, which a user
    does once, and all caches are one tensor."""
    if shape["mixed"]:
        return None
    rows, dim, heads, size = shape["rows"], shape["dim"], shape["heads"], shape["head_dim"]
    layers = shape["layers"]
    x = randn(rows, dim, dtype=dtype_of(shape))
    kind, cached = dtype_of(shape, "weight_dtype"), dtype_of(shape, "cache_dtype")
    ones = torch.ones(dim, device="cuda")
    weights = randn(layers * 2 * heads * size, dim, dtype=kind)
    cache = torch.zeros(layers, 2, heads, rows, size, device="cuda", dtype=cached)
    table = torch.rand(rows, max(shape["pairs"], 1), 2, device="cuda")
    positions = torch.arange(rows, device="cuda")

    def run():
        n = norm_of(x, ones, shape["norm"]).to(kind)
        kv = F.linear(n, weights).view(rows, layers, 2, heads, size)
        k, v = kv[:, :, 0], kv[:, :, 1]
        if shape["pairs"] > 0:
            k = rotated(k.reshape(rows, layers * heads, size), table, positions, shape["style"])
            k = k.view(rows, layers, heads, size)
        cache[:, 0, :, positions] = k.to(cached).permute(1, 2, 0, 3)
        cache[:, 1, :, positions] = v.to(cached).permute(1, 2, 0, 3)

    return run


def attention_by(backend, grouped=False):
    """One back end alone. `grouped`: query heads that share keys become rows of one head, which a
    decoding step can do, as all of its rows see the same."""
    def made(shape):
        window = shape["rows"] // shape["sequences"]
        if shape["scores"] or (grouped and window != 1):
            return None
        if not grouped:
            return under(backend, attention(shape))
        sequences, groups, slots = shape["sequences"], shape["kv_heads"], shape["slots"]
        if shape["layout"] != "head":
            return None
        kind = dtype_of(shape)
        q = randn(sequences, groups, shape["heads"] // groups, shape["head_dim"], dtype=kind)
        k, v = (randn(sequences, groups, slots, shape["head_dim"], dtype=kind) for _ in range(2))
        return under(backend, lambda: F.scaled_dot_product_attention(q, k, v))
    return made


def under(backend, run):
    def restricted():
        with sdpa_kernel(getattr(SDPBackend, backend)):
            return run()
    return restricted


def sorted_select(shape):
    """By torch.sort, CUB's radix sort, instead of torch.topk."""
    heads = max(shape["heads"], 1)
    scores = randn(shape["rows"], heads, shape["cols"], dtype=dtype_of(shape))

    def run():
        sums = scores.float().sum(1) if heads > 1 else scores[:, 0]
        best = sums.sort(-1, descending=True).indices[:, :shape["k"]]
        return best.sort(-1).values

    return run


# Beside an op's composition: the peer's name, and what makes it of a case (None: not of this one).
VARIANTS = {
    "row_stats": [("torch.compile", compiled(row_stats))],
    "exit_head": [("torch.compile", compiled(exit_head))],
    "stablemax": [("torch.compile", compiled(stablemax))],
    "cross_entropy": [("torch.compile", fused_cross_entropy)],
    "norm": [("torch.compile", compiled(norm))],
    "rope": [("torch.compile", compiled(rope))],
    "ffn": [("torch.compile", compiled(ffn))],
    "kv_propagate": [("one product", merged_kv_propagate),
                     ("one product, torch.compile", lambda shape: maybe_compiled(
                         merged_kv_propagate(shape)))],
    "attention": [("SDPA flash", attention_by("FLASH_ATTENTION")),
                  ("SDPA cuDNN", attention_by("CUDNN_ATTENTION")),
                  ("SDPA flash, grouped", attention_by("FLASH_ATTENTION", grouped=True)),
                  ("SDPA cuDNN, grouped", attention_by("CUDNN_ATTENTION", grouped=True))],
    "select": [("torch.sort", sorted_select)],
}


def maybe_compiled(run):
    return None if run is None else torch.compile(run, dynamic=False)


def peers_of(op):
    """Names and makers; the first is the plain composition."""
    plain = {"attention": "SDPA", "linear": "cuBLAS", "select": "torch.topk"}.get(op, "PyTorch")
    return [(plain, COMPOSITIONS[op])] + VARIANTS.get(op, [])
