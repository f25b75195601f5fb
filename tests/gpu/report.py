#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the results of exeunt_gpu_check into a Markdown page.

usage: report.py RESULTS.json PAGE.md
"""
import json
import sys


def check_table(checks):
    lines = ["| op | cases | failures | same bits as the CPU |", "|---|---:|---:|---:|"]
    for c in checks:
        failures = len(c["failures"])
        lines.append(f'| {c["op"]} | {c["cases"]} | {failures} | {c["same_bits_as_cpu"]} |')
    for c in checks:
        lines += [f"* {failure}" for failure in c["failures"]]
    return lines


def timing_table(results):
    copy = results["copy_bytes_per_second"]
    peer = results.get("peer", "peer")
    lines = [f"| op | case | µs | GB/s | of copy | {peer} µs | times faster |",
             "|---|---|---:|---:|---:|---:|---:|"]
    for t in results["timings"]:
        rate = t["bytes"] / (t["median_us"] * 1e-6) if t["median_us"] > 0 else 0
        share = f"{100 * rate / copy:.0f} %" if t["exceeds_cache"] and copy > 0 else "in cache"
        peer_us = t.get("peer_us")
        faster = peer_us / t["median_us"] if peer_us and t["median_us"] > 0 else 0
        against = f"{peer_us:.2f} | {faster:.2f}" if faster else "— | —"
        lines.append(f'| {t["op"]} | {t["case"]} | {t["median_us"]:.2f} | {rate * 1e-9:.1f} '
                     f'| {share} | {against} |')
    return lines


def page(results):
    emulated = results["emulated"]
    lines = [f'# CUDA backend on {results.get("device", results["backend"])}', ""]
    lines += [f'exeunt {results["version"]}, {results["backend"]}, {results["date"]}, '
              f'commit {results["commit"]}.', ""]
    if emulated:
        lines += ["Run on the SIMT emulator: the checks count, the times do not.", ""]
    if results["checks"]:
        lines += ["## Checks", ""]
        lines += ["Each case runs at once, from a captured graph and on two streams, from poisoned",
                  "outputs, and is judged by the double-precision oracle, as is the CPU backend.",
                  ""]
        lines += check_table(results["checks"]) + [""]
    if results["timings"]:
        lines += ["## Times", ""]
        copy = results["copy_bytes_per_second"] * 1e-9
        lines += [f"Medians, CUDA graphs over rotating buffers. Copy: {copy:.1f} GB/s read and",
                  "written. GB/s counts the bytes an op must move.", ""]
        lines += timing_table(results) + [""]
    return "\n".join(lines)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    source, target = sys.argv[1:]
    with open(source) as file:
        results = json.load(file)
    with open(target, "w") as file:
        file.write(page(results))


if __name__ == "__main__":
    main()
