# SPDX-License-Identifier: Apache-2.0
"""The report of `./exeunt bench --decode`."""

import statistics

CLOSE = 96.0  # percent of argmaxes that a conversion must share with double precision to be a rival
# Key, row, digits, whether more is better.
SPEEDS = [
    ("short", "decode after {short} tokens, tokens/s", 1, True),
    ("long", "decode after {prompt} tokens, tokens/s", 1, True),
    ("prompt", "prompt of {prompt} tokens, tokens/s", 0, True),
    ("first_byte", "fresh process to its first byte, ms", 0, False),
    ("memory", "peak memory of that process, MB", 0, False),
]
SHARES = [("steps", "token by token"), ("prompt", "as one prompt")]
NOTHING = "-"


def markdown(header, rows):
    """A table whose first column goes to the left, the others to the right."""
    lines = [header] + rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]

    def line(cells):
        cells = [cell.ljust(width) if i == 0 else cell.rjust(width)
                 for i, (cell, width) in enumerate(zip(cells, widths))]
        return "| " + " | ".join(cells) + " |"

    rule = "|" + "|".join("-" * (width + 1) + ("-" if i == 0 else ":")
                          for i, width in enumerate(widths)) + "|"
    return "\n".join([line(header), rule] + [line(row) for row in rows])


def cell(samples, digits):
    """The median, and between which figures it lies."""
    if not samples:
        return NOTHING
    text = f"{statistics.median(samples):.{digits}f}"
    if len(samples) > 1:
        text += f" ({min(samples):.{digits}f} to {max(samples):.{digits}f})"
    return text


def percent(mine, judge):
    return 100.0 * sum(a == b for a, b in zip(mine, judge, strict=True)) / len(judge)


def share(found, key, judge):
    return f"{percent(found[key], judge):.2f} %" if found else NOTHING


def against(run, threads, key, more):
    """Exeunt's first column over the best rival's. The file as it is, first of the peers, always is
    one."""
    ours = run["samples"].get((run["contenders"][0], threads), {}).get(key)
    rivals = [run["samples"][name, threads][key] for i, name in enumerate(run["peers"])
              if run["agreement"].get(name) and key in run["samples"].get((name, threads), {})
              and (i == 0 or percent(run["agreement"][name]["steps"], run["judge"]) >= CLOSE)]
    if not ours or not rivals:
        return NOTHING
    medians = [statistics.median(samples) for samples in rivals]
    ours = statistics.median(ours)
    return f"{ours / max(medians):.2f}x" if more else f"{ours / min(medians):.2f}x"


def report(run):
    """Markdown. `run` has contenders, peers (those of them that are llama.cpp), threads, samples by
    (contender, threads) and key, agreement by contender, judge, lengths, facts and notes."""
    names = run["contenders"]
    parts = ["# exeunt, decoding: " + run["facts"]["CPU"],
             "| | |\n|---|---|\n" + "\n".join(f"| {k} | {v} |" for k, v in run["facts"].items())]
    for threads in run["threads"]:
        parts.append("## " + ("One thread" if threads == 1 else f"{threads} threads"))
        rows = [[row.format(**run["lengths"])]
                + [cell(run["samples"].get((name, threads), {}).get(key), digits)
                   for name in names]
                + [against(run, threads, key, more)]
                for key, row, digits, more in SPEEDS]
        parts.append(markdown(["", *names, "exeunt / best"], rows))
    parts.append("## What is read, and how well")
    most = run["threads"][-1]
    rows = [["weights per token, MB"]
            + [cell([b / 1e6 for b in run["samples"].get((name, most), {}).get("bytes", [])[:1]], 0)
               for name in names]]
    rows += [[f"argmax as in double precision, {how}"]
             + [share(run["agreement"].get(name), key, run["judge"]) for name in names]
             for key, how in SHARES]
    parts.append(markdown(["", *names], rows))
    parts += run["notes"]
    return "\n\n".join(parts) + "\n"
