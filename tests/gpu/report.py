#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes a Markdown page, with a roofline as a picture beside it, of the results of a run.

usage: report.py RESULTS.jsonl PAGE.md

The results are read as far as they go: a run may have been killed in the middle of a line.
"""
import json
import math
import os
import sys


def read(path):
    """Records by kind, in their order."""
    records = {}
    with open(path) as file:
        for line in file:
            try:
                record = json.loads(line)
            except ValueError:
                continue  # what a killed run was writing
            records.setdefault(record["kind"], []).append(record)
    return records


def last(records, kind):
    return records.get(kind, [{}])[-1]


# ---- roofs --------------------------------------------------------------------------------------


class Roofs:
    """What the device does at best: measured by the run itself, arithmetic also by its peers."""

    def __init__(self, records):
        ceilings = last(records, "ceilings")
        self.read = ceilings.get("read") or ceilings.get("copy") or 0
        self.copy = ceilings.get("copy") or 0
        self.fma = ceilings.get("fma") or 0
        self.mma_sync = ceilings.get("mma") or 0
        self.cublas = max((r["per_second"] for r in records.get("peer_ceiling", [])), default=0)
        self.mma = max(self.mma_sync, self.cublas)

    def limit(self, timing):
        """The roof's name and the seconds that it allows at best; None if nothing is known."""
        known = []
        if self.read and timing["bytes"]:
            known.append((timing["bytes"] / self.read, "bytes"))
        unit, per_second = "fma", self.fma
        if timing["unit"] == "mma" and self.mma:
            unit, per_second = "mma", self.mma
        if per_second and timing["operations"]:
            known.append((timing["operations"] / per_second, unit))
        return max(known, default=None)


# ---- tables -------------------------------------------------------------------------------------


def escaped(text):
    return str(text).replace("|", "\\|")


def check_table(checks):
    by_op = {}
    for check in checks:
        by_op.setdefault(check["op"], []).append(check)
    lines = ["| op | cases | of these model shapes | failures | same bits as the CPU "
             "| worst error of a model shape, of what is allowed |",
             "|---|---:|---:|---:|---:|---:|"]
    for op, some in sorted(by_op.items()):
        failed = sum(bool(c["failures"]) for c in some)
        same = sum(c["same_bits_as_cpu"] for c in some)
        model = [c for c in some if c["model"]]
        worst = f'{max(c.get("worst_error", 0) for c in model):.2f}' if model else "—"
        lines.append(f"| {op} | {len(some)} | {len(model)} | {failed} | {same} | {worst} |")
    failures = [failure for check in checks for failure in check["failures"]]
    return lines + ([""] if failures else []) + [f"* {escaped(f)}" for f in failures]


def peers_of(records):
    peers = {}
    for peer in records.get("peer", []):
        peers.setdefault((peer["op"], peer["case"]), []).append(peer)
    return peers


def against(timing, peers):
    """The fastest peer, its time and how many times faster we are."""
    timed = [p for p in peers.get((timing["op"], timing["case"]), []) if p.get("us")]
    if not timed or not timing["median_us"]:
        return "— | — | —"
    best = min(timed, key=lambda p: p["us"])
    return f'{best["peer"]} | {best["us"]:.2f} | {best["us"] / timing["median_us"]:.2f}'


def timing_table(timings, roofs, peers):
    lines = ["| op | case | µs | GB/s | roof | share of it | fastest peer | its µs | times faster |",
             "|---|---|---:|---:|---|---:|---|---:|---:|"]
    for t in timings:
        if "error" in t:
            lines.append(f'| {t["op"]} | {t["case"]} | failed: {escaped(t["error"])} '
                         "| | | | | | |")
            continue
        seconds = t["median_us"] * 1e-6
        rate = f'{t["bytes"] / seconds * 1e-9:.1f}' if seconds > 0 else "—"
        limit = roofs.limit(t)
        roof, share = "—", "—"
        if limit and seconds > 0:
            in_cache = limit[1] == "bytes" and not t["exceeds_cache"]
            roof = "bytes, in cache" if in_cache else limit[1]
            share = f"{100 * limit[0] / seconds:.0f} %"
        lines.append(f'| {t["op"]} | {t["case"]} | {t["median_us"]:.2f} | {rate} | {roof} '
                     f"| {share} | {against(t, peers)} |")
    return lines


def peer_table(peers):
    lines = ["| op | case | peer | µs |", "|---|---|---|---:|"]
    for (op, case), some in peers.items():
        for p in some:
            outcome = f'{p["us"]:.2f}' if p.get("us") else escaped(p.get("error", "—"))
            lines.append(f'| {op} | {case} | {p["peer"]} | {outcome} |')
    return lines


def kernel_table(kernels):
    def shown(kernel, name, form):
        value = kernel.get(name)
        return "—" if value is None else format(value, form)

    lines = ["| op | case | kernel | grid | µs | memory | issue slots | occupancy "
             "| sectors a store | registers | waves |",
             "|---|---|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for k in kernels:
        lines.append(f'| {k["op"]} | {k["case"]} | {k["kernel"]} | {k["grid"]} '
                     f'| {shown(k, "us", ".1f")} | {shown(k, "memory_share", ".0f")} % '
                     f'| {shown(k, "issue_share", ".0f")} % | {shown(k, "occupancy", ".0f")} % '
                     f'| {shown(k, "store_sectors", ".1f")} | {shown(k, "registers", ".0f")} '
                     f'| {shown(k, "waves", ".2f")} |')
    return lines


def clocks(timings):
    """Clocks, power and temperature over all timings, before and after."""
    lines = []
    names = {"sm_mhz": "SM clock, MHz", "memory_mhz": "memory clock, MHz", "watts": "power, W",
             "celsius": "temperature, °C"}
    for name, title in names.items():
        cells = []
        for when in ("before", "after"):
            seen = [t[when][name] for t in timings if name in t.get(when, {})]
            cells.append(f"{min(seen):.0f} to {max(seen):.0f}" if seen else "—")
        lines.append(f"| {title} | {cells[0]} | {cells[1]} |")
    if all("—" in line for line in lines):
        return []
    throttled = sum(int(t.get("after", {}).get("throttle", 0)) & ~1 != 0 for t in timings)
    return (["| | before | after |", "|---|---:|---:|"] + lines +
            ["", f"The clocks were held back (other than by idling) in {throttled} of "
             f"{len(timings)} rows."])


# ---- the picture --------------------------------------------------------------------------------

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 960, 560, 80, 200, 40, 60
COLOURS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5",
           "#9c6b4e", "#9498a0")


def roofline(timings, roofs):
    """An SVG, log by log: operations a byte to the right, operations a second upwards."""
    points = [t for t in timings if t.get("operations") and t.get("bytes") and t.get("median_us")]
    ceilings = [(name, value) for name, value in
                (("f32 fma", roofs.fma), ("bf16 mma.sync", roofs.mma_sync),
                 ("bf16 cuBLAS", roofs.cublas)) if value]
    if not points or not ceilings or not roofs.read:
        return None
    intensities = [t["operations"] / t["bytes"] for t in points]
    rates = [t["operations"] / (t["median_us"] * 1e-6) for t in points]
    top = max(value for _, value in ceilings)
    x0 = math.floor(math.log10(min(intensities)))
    x1 = math.ceil(math.log10(max(max(intensities), top / roofs.read))) + 0.2
    y0 = math.floor(math.log10(min(min(rates), roofs.read * 10 ** x0)))
    y1 = math.ceil(math.log10(top)) + 0.2

    def at_x(value):
        return LEFT + (math.log10(value) - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def at_y(value):
        return HEIGHT - BOTTOM - (math.log10(value) - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    def label(x, y, text, anchor="start", colour="#333"):
        return (f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">'
                f"{text}</text>")

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
           'font-family="sans-serif" font-size="12">',
           "<title>Operations a second over operations a byte</title>",
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for power in range(math.ceil(x0), math.floor(x1) + 1):
        x = at_x(10 ** power)
        out += [f'<path d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#ddd"/>',
                label(x, HEIGHT - BOTTOM + 18, f"{10 ** power:g}", "middle")]
    for power in range(math.ceil(y0), math.floor(y1) + 1):
        y = at_y(10 ** power)
        out += [f'<path d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}" stroke="#ddd"/>',
                label(LEFT - 8, y + 4, f"1e{power}", "end")]
    out += [label((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 16, "operations a compulsory byte", "middle"),
            label(LEFT, TOP - 16, "operations a second")]
    ridge = top / roofs.read
    out.append(f'<path d="M{at_x(10 ** x0):.1f} {at_y(roofs.read * 10 ** x0):.1f}'
               f'L{at_x(ridge):.1f} {at_y(top):.1f}" stroke="#000" fill="none" stroke-width="2"/>')
    out.append(label(at_x(10 ** x0) + 6, at_y(roofs.read * 10 ** x0) - 8,
                     f"read: {roofs.read * 1e-9:.0f} GB/s"))
    for name, value in ceilings:
        y, x = at_y(value), at_x(value / roofs.read)
        out += [f'<path d="M{x:.1f} {y:.1f}H{WIDTH - RIGHT}" stroke="#000" stroke-width="2"/>',
                label(WIDTH - RIGHT - 4, y - 5, f"{name}: {value * 1e-12:.3g} Tflop/s", "end")]
    ops = sorted({t["op"] for t in points})
    colours = {op: COLOURS[i % len(COLOURS)] for i, op in enumerate(ops)}
    for t, x, y in zip(points, intensities, rates):
        out.append(f'<circle cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="4" '
                   f'fill="{colours[t["op"]]}" fill-opacity="0.75"><title>{t["op"]} {t["case"]}: '
                   f'{t["median_us"]:.2f} µs</title></circle>')
    for i, op in enumerate(ops):
        y = TOP + 20 * i
        out += [f'<circle cx="{WIDTH - RIGHT + 24}" cy="{y}" r="5" fill="{colours[op]}"/>',
                label(WIDTH - RIGHT + 36, y + 4, op)]
    return "\n".join(out + ["</svg>"]) + "\n"


# ---- the page -----------------------------------------------------------------------------------


def heading(records):
    host, run = last(records, "host"), last(records, "run")
    lines = [f'# CUDA backend on {host.get("device", run.get("backend", "?"))}', ""]
    lines += [f'exeunt {run.get("version", "?")}, {run.get("backend", "?")}, '
              f'{host.get("date", "?")}, commit {host.get("commit", "?")}; '
              f'{run.get("multiprocessors", "?")} multiprocessors, '
              f'{run.get("l2_bytes", 0) / 2 ** 20:.0f} MiB of L2 cache.', ""]
    if host.get("emulated") == "true":
        lines += ["Run on the SIMT emulator: the checks count, the times do not.", ""]
    missing = []
    for stage in records.get("stage", []):
        if stage["done"] < stage["of"]:
            missing.append(f'{stage["stage"]}: out of time after {stage["done"]} of {stage["of"]} '
                           "cases, the first ones of each op")
    missing += [f'{r["stage"]}: {r["why"]}' for r in records.get("left_out", [])]
    missing += [r["why"] for r in records.get("lost", [])]
    if not records.get("finished"):
        missing.insert(0, "the run was ended before its checks and times were complete")
    elif not records.get("ended"):
        missing.append("the run was ended before its last stage")
    if run.get("monitor"):
        missing.append(f'clocks and power: {run["monitor"]}')
    if missing:
        lines += ["Left out:", ""] + [f"* {escaped(m)}" for m in missing] + [""]
    return lines


def spent(records):
    lines = ["| stage | cases | s |", "|---|---:|---:|"]
    if "built" in last(records, "host"):
        lines.append(f'| build | | {last(records, "host")["built"]} |')
    for stage in records.get("stage", []):
        lines.append(f'| {stage["stage"]} | {stage["done"]} | {stage["seconds"]:.1f} |')
    if records.get("ended"):
        lines.append(f'| all | | {last(records, "ended")["seconds"]} |')
    return lines


def page(records, picture):
    roofs, peers = Roofs(records), peers_of(records)
    lines = heading(records)
    if records.get("check"):
        lines += ["## Checks", "",
                  "Each case of the tables runs at once, from a captured graph and on two streams,",
                  "from poisoned outputs, and is judged by the double-precision oracle, as is the",
                  "CPU backend. Of the model shapes, whose inputs are made on the device, sampled",
                  "rows are compared with double precision on the host.", ""]
        lines += check_table(records["check"]) + [""]
    timings = records.get("timing", [])
    if timings:
        lines += ["## Times", "",
                  "Medians of CUDA graphs over rotating buffers, after a warm-up. GB/s counts the",
                  "bytes that an op must move. Its roof is what takes longer at best: those bytes at",
                  f"the rate of a read ({roofs.read * 1e-9:.0f} GB/s; a copy reads and writes "
                  f"{roofs.copy * 1e-9:.0f}), or its",
                  f"arithmetic: f32 {roofs.fma * 1e-12:.3g} Tflop/s (`fma`); where all factors are 16 "
                  "bits wide",
                  f"bf16 {roofs.mma * 1e-12:.3g} (`mma`; by mma.sync {roofs.mma_sync * 1e-12:.3g}, "
                  f"by cuBLAS {roofs.cublas * 1e-12:.3g}).", ""]
        if picture:
            lines += [f"![Roofline]({picture})", ""]
        for title, is_model in (("Shapes of an 8-billion-parameter model", True),
                                ("Shapes of the tables", False)):
            some = [t for t in timings if t["model"] == is_model]
            if some:
                lines += [f"### {title}", ""] + timing_table(some, roofs, peers) + [""]
        measured = clocks([t for t in timings if "error" not in t])
        if measured:
            lines += ["### Clocks and power", ""] + measured + [""]
    if peers:
        versions = [p["name"] for p in records.get("peer_version", [])]
        lines += ["## Peers", ""]
        if versions:
            lines += [", ".join(versions) + ".", ""]
        lines += peer_table(peers) + [""]
    if records.get("sanitizer"):
        lines += ["## compute-sanitizer", "", "| tool | outcome |", "|---|---|"]
        lines += [f'| {r["tool"]} | {escaped(r["outcome"])} |' for r in records["sanitizer"]] + [""]
    if records.get("kernel"):
        lines += ["## Nsight Compute", "",
                  "Memory as a share of the device's peak, issue slots of the cycles in which an SM is",
                  "active, sectors of 32 bytes for each request to store: 16 where each thread of a",
                  "warp stores 16 bytes, and they lie in a row.", ""]
        lines += kernel_table(records["kernel"]) + [""]
    lines += ["## Where the time went", ""] + spent(records) + [""]
    return "\n".join(lines)


def main():
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    source, target = sys.argv[1:]
    records = read(source)
    picture = roofline(records.get("timing", []), Roofs(records))
    name = None
    if picture:
        name = os.path.splitext(os.path.basename(target))[0] + ".svg"
        with open(os.path.join(os.path.dirname(target) or ".", name), "w") as file:
            file.write(picture)
    with open(target, "w") as file:
        file.write(page(records, name))


if __name__ == "__main__":
    main()
