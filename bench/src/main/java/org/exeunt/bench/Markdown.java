// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.Optional;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.Operands;

/** The report as people read it. */
final class Markdown {
  private static final String NOTES = String.join("\n", "## How to read this", "",
      "* Each cell is the median in microseconds, in brackets the fastest call and the 90th",
      "  percentile. JMH sample time, one fork for each cell; every result was checked against",
      "  a double-precision reference before it was timed.",
      "* *operands* says where a call finds the large ones that it reads. *from memory*: each",
      "  call is given the next of so many copies that a round over them takes more than twice",
      "  the last-level cache, or the operands are that large themselves. So a decoder finds",
      "  weights and KV caches, since those of its other layers pass through the cache between",
      "  two uses. *in cache*: each call is given the same operands, which stay in the cache",
      "  (*partly*: with results they are larger than it, but not twice). So a decoder finds what",
      "  it has just made. Small operands, and results that the next op reads, are the same ones",
      "  in both. Peers are given copies of their own. *elsewhere* is what a target would be",
      "  judged by in the other place.",
      "* *limit* is the median time of one linear pass with the same threads over huge pages, in",
      "  the same places, in the fastest of several ways, with and without prefetching. exeunt's",
      "  benchmark and the limit take turns of about a millisecond. *read*: `exn_read_probe`",
      "  reads as many bytes as the op reads and writes, from memory those that the op reads",
      "  there. *copy*: `exn_copy_probe` copies those that the op moves; *read + copy* also reads",
      "  the lists and scores that say which. In the cache op and limit go some times without a",
      "  timer when their turn begins, so that each finds there what it has left there itself. A",
      "  pass computes nothing, so ops that take exponentials, or write what they computed,",
      "  cannot reach it.",
      "* *x limit* is exeunt's median over that limit. *bytes* counts what is moved twice, as read",
      "  and as written; GB/s is bytes over exeunt's median.",
      "* *FMA peak*, of ops that do many multiply-adds for each byte: how long as many take in",
      "  registers (`exn_fma_probe`, f32, the same threads, in turns with it), over exeunt's",
      "  median. Products of two bf16 numbers can exceed it, as one instruction does two of them.",
      "* *best peer* is the fastest peer's median over exeunt's: above 1, exeunt is faster.",
      "* ONNX Runtime runs each op as a composition of its operators, with resident inputs and",
      "  outputs; where it has one for the whole (RMSNormalization, Attention), the composition is",
      "  faster on the CPU. It has no products in bf16 there: bf16 tensors are cast, bf16 weights",
      "  become f32 when its session is built.",
      "* Vector API is hand-written `jdk.incubator.vector` code on heap arrays in huge pages; for",
      "  selections, rules and single logits plain loops, which the JVM inlines: they make no call",
      "  and check no argument. Peers are left out where a case has no counterpart in them, and",
      "  where no peer writes the op by other means.",
      "* *on the GPU*: all tensors lie there, and each call waits until it is done, exeunt's as",
      "  the peer's, so that small ones are mostly the cost of a launch. cuDNN and cuBLAS are",
      "  called through org.bytedeco:cuda; beside softmax they give the most probable column and",
      "  its probability, where exeunt also computes margin and entropy. No limit is measured.",
      "* exit_rule times one token, with a call for each exit point; stop_rule 16 steps, a call each;",
      "  draft_rule a draft of 8 tokens, with DEL its update as well.", "");

  private final Host host;
  private final List<Figure> figures;
  private final List<Verdict> verdicts;
  private final StringBuilder text = new StringBuilder();

  private Markdown(Host host, List<Figure> figures, List<Verdict> verdicts) {
    this.host = host;
    this.figures = figures;
    this.verdicts = verdicts;
  }

  static String render(Host host, List<Figure> figures, List<Verdict> verdicts) {
    Markdown loop = new Markdown(host, Figure.ofLoop(figures), verdicts);
    return loop.render(Scenes.render(figures));
  }

  private String render(String scenes) {
    header();
    targets();
    Plan.ops().forEach(this::op);
    calls();
    text.append(scenes);
    text.append(NOTES);
    return text.toString();
  }

  private void header() {
    line("# exeunt benchmarks: %s", host.get("cpu"));
    line("");
    line("| | |");
    line("|---|---|");
    line("| CPU | %s, %s cores |", host.get("cpu"), host.get("cores"));
    line("| last-level cache | %s |", bytes(host.cache()));
    if (host.facts().containsKey("gpu")) {
      line("| GPU | %s |", host.get("gpu"));
    }
    line("| exeunt | %s, %s |", host.get("exeunt"), host.get("backend"));
    line("| commit | %s |", host.get("commit"));
    line("| JDK | %s |", host.get("jdk"));
    line("| JVM arguments | %s |", host.get("arguments"));
    line("| environment | %s |", host.get("environment"));
    line("| date | %s |", host.get("date"));
    line("| load average | %s before the run, %.2f at most during it |", host.get("load"),
        figures.stream().mapToDouble(f -> f.load).max().orElse(0));
    line("| run | %s |", host.get("mode"));
    line("");
  }

  private void targets() {
    if (verdicts.isEmpty()) {
      return;
    }
    line("## Targets: %d of %d met", verdicts.stream().filter(Verdict::met).count(),
        verdicts.size());
    line("");
    line("| case | operands | threads | target | measured | limit us | | elsewhere |");
    line("|---|---|---|---|---|---|---|---|");
    for (Verdict verdict : verdicts) {
      Target target = verdict.target;
      Figure figure = verdict.figure;
      line("| %s/%s | %s | %d | %s | %s | %s | %s | %s |", target.op, target.id,
          figure == null ? "-" : operands(figure), verdict.threads, bound(target),
          measured(verdict), figure == null ? "-" : limit(figure),
          verdict.met() ? "met" : "**missed**",
          Verdict.elsewhere(target, figure, figures).map(this::elsewhere).orElse("-"));
    }
    line("");
  }

  private String elsewhere(Verdict other) {
    return measured(other) + " " + operands(other.figure);
  }

  /** Where the operands were; the same ones may be too large for the cache. */
  private String operands(Figure figure) {
    double cache = host.cache();
    return figure.operands != Operands.CACHE || figure.bytes <= cache ? figure.operands.words()
        : figure.bytes < 2 * cache
        ? "partly in cache"
        : Operands.MEMORY.words();
  }

  private static String limit(Figure figure) {
    return figure.hasLimit() ? number(figure.limitP50) + " " + figure.limit : "-";
  }

  private static String bound(Target target) {
    switch (target.measure) {
      case US:
        return "<= " + number(target.bound) + " us";
      case LIMIT:
        return "<= " + target.bound + " x limit";
      case OF:
        return "<= " + target.bound + " x " + target.base;
      case PEAK:
        return ">= " + share(target.bound) + " of the FMA peak";
      default:
        return "< " + number(target.bound) + " ns over the kernel";
    }
  }

  private static String measured(Verdict verdict) {
    switch (verdict.target.measure) {
      case US:
        return number(verdict.measured) + " us";
      case LIMIT:
        return String.format(Locale.ROOT, "%.2f x limit", verdict.measured);
      case OF:
        return String.format(Locale.ROOT, "%.3f x", verdict.measured);
      case PEAK:
        return share(verdict.measured) + " of the FMA peak";
      default:
        return number(verdict.measured) + " ns";
    }
  }

  private void op(String op) {
    List<Figure> own = figures.stream().filter(f -> f.op.equals(op)).toList();
    if (own.isEmpty()) {
      return;
    }
    line("## %s", op);
    line("");
    line("| case | operands | threads | bytes | limit us | exeunt us | GB/s | x limit "
        + "| FMA peak | ONNX Runtime us | Vector API us | cuDNN, cuBLAS us | best peer |");
    line("|---|---|---|---|---|---|---|---|---|---|---|---|---|");
    List<Figure> done = new ArrayList<>();
    for (Figure figure : own) {
      if (done.stream().noneMatch(figure::sameCase)) {
        done.add(figure);
        row(own.stream().filter(figure::sameCase).toList());
      }
    }
    line("");
  }

  private void row(List<Figure> contenders) {
    Figure any = contenders.get(0);
    Optional<Figure> exeunt = find(contenders, "exeunt");
    Optional<Figure> fastest =
        contenders.stream()
            .filter(f -> !f.contender.equals("exeunt"))
            .min((a, b) -> Double.compare(a.p50, b.p50));
    Figure limited = exeunt.orElse(any);
    line("| %s | %s | %d | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |", any.id,
        operands(any), any.threads, bytes(any.bytes), limit(limited), cell(exeunt),
        exeunt.filter(Figure::hasLimit).map(f -> number(f.gigabytesPerSecond())).orElse("-"),
        exeunt.filter(Figure::hasLimit)
            .map(f -> String.format(Locale.ROOT, "%.2f", f.overLimit()))
            .orElse("-"),
        exeunt.filter(f -> f.multiplyAdds > 0).map(f -> share(f.ofPeak())).orElse("-"),
        cell(find(contenders, "onnxruntime")), cell(find(contenders, Plan.JAVA)),
        cell(find(contenders, Plan.CUDA)),
        exeunt.isPresent() && fastest.isPresent()
            ? String.format(Locale.ROOT, "%.2f", fastest.get().p50 / exeunt.get().p50)
            : "-");
  }

  private static Optional<Figure> find(List<Figure> figures, String contender) {
    return figures.stream().filter(f -> f.contender.equals(contender)).findFirst();
  }

  private static String cell(Optional<Figure> figure) {
    return figure.map(f -> number(f.p50) + " (" + number(f.min) + " - " + number(f.p90) + ")")
        .orElse("-");
  }

  private void calls() {
    if (Verdict.call(figures, "exeunt").isEmpty()) {
      return;
    }
    line("## Cost of a call");
    line("");
    line("| call | fastest iteration, ns | median, ns |");
    line("|---|---|---|");
    call("empty", "smallest native call, raw binding");
    call("binding", "cosine of 16 elements, raw binding");
    call("exeunt", "cosine of 16 elements, Java API");
    Verdict.callCost(figures).ifPresent(
        cost -> line("| what the Java API adds to the kernel | %s | |", number(cost)));
    call("onnxruntime", "cosine of 16 elements, ONNX Runtime");
    line("");
  }

  private void call(String contender, String description) {
    Verdict.call(figures, contender)
        .ifPresent(
            f -> line("| %s | %s | %s |", description, number(f.min * 1e3), number(f.p50 * 1e3)));
  }

  private static String bytes(double bytes) {
    if (bytes >= 1e6) {
      return number(bytes / 1e6) + " MB";
    }
    return bytes >= 1e3 ? number(bytes / 1e3) + " kB" : number(bytes) + " B";
  }

  private static String share(double value) {
    return String.format(Locale.ROOT, "%.0f %%", 100 * value);
  }

  /** Three digits, more only before the point. */
  static String number(double value) {
    String format = value >= 99.95 ? "%.0f" : value >= 9.995 ? "%.1f" : "%.2f";
    return String.format(Locale.ROOT, format, value);
  }

  private void line(String format, Object... arguments) {
    text.append(String.format(Locale.ROOT, format, arguments)).append('\n');
  }
}
