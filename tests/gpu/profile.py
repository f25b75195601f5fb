#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Takes what Nsight Compute counted, kernel by kernel, into the results of a run.

usage: profile.py --metrics                (prints the metrics to ask ncu for)
       profile.py COUNTED.csv RESULTS.jsonl

COUNTED.csv is what `ncu --csv --page raw` printed about `exeunt_gpu_check --profile`. A kernel
belongs to the case whose number is the grid of the marker before it.
"""
import csv
import json
import re
import sys

MARKER = "exeunt_probe_marker"
METRICS = {
    "us": "gpu__time_duration.sum",
    "memory_share": "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "issue_share": "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "occupancy": "sm__warps_active.avg.pct_of_peak_sustained_active",
    "store_sectors": "l1tex__average_t_sectors_per_request_pipe_lsu_mem_global_op_st.ratio",
    "registers": "launch__registers_per_thread",
    "waves": "launch__waves_per_multiprocessor",
}
MICROSECONDS = {"nsecond": 1e-3, "ns": 1e-3, "usecond": 1, "us": 1, "msecond": 1e3, "ms": 1e3,
                "second": 1e6, "s": 1e6}


def number(text):
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def rows_of(path):
    """The table without what ncu and the program say around it: names, units, kernels."""
    with open(path, newline="") as file:
        lines = [row for row in csv.reader(line for line in file if not line.startswith("=="))]
    start = next((i for i, row in enumerate(lines) if "Kernel Name" in row), None)
    if start is None:
        sys.exit(f"{path}: no table of ncu's")
    names, units = lines[start], lines[start + 1]
    for row in lines[start + 2:]:
        if len(row) == len(names):
            yield dict(zip(names, row)), dict(zip(names, units))


def main():
    if sys.argv[1:] == ["--metrics"]:
        print(",".join(METRICS.values()))
        return
    if len(sys.argv) != 3:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    counted, results = sys.argv[1:]
    cases = {}
    with open(results) as file:
        for line in file:
            record = json.loads(line) if line.endswith("\n") else {}
            if record.get("kind") == "profiled":
                cases[record["number"]] = record
    current, kernels = None, 0
    with open(results, "a") as file:
        for row, units in rows_of(counted):
            if MARKER in row["Kernel Name"]:
                current = cases.get(int(re.search(r"\d+", row["Grid Size"]).group()))
                continue
            if current is None:
                continue
            record = {"kind": "kernel", "op": current["op"], "case": current["case"],
                      "kernel": row["Kernel Name"].split("(")[0].split("<")[0].split("::")[-1],
                      "grid": row["Grid Size"], "block": row["Block Size"]}
            for name, metric in METRICS.items():
                value = number(row.get(metric, ""))
                if value is not None and name == "us":
                    value *= MICROSECONDS.get(units[metric], 1)
                record[name] = value
            file.write(json.dumps(record) + "\n")
            kernels += 1
    print(f"{kernels} kernels of {len(cases)} cases")


if __name__ == "__main__":
    main()
