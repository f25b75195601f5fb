// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.Interval;

/**
 * The report as a page that needs nothing else: an overview, a roofline, bars for each case that has
 * a peer, and a table of those that have none.
 */
final class Page {
  /** Bars end here; what is beyond the limit by more is told in figures. */
  private static final double LONGEST_BAR = 1.25;
  private static final String NOTES = "<p>Figures are medians. The limit is the time of one linear"
      + " pass over the bytes that the op must move, from the same place, or of its multiply-adds"
      + " in registers where that takes longer, both measured beside exeunt in the same seconds."
      + " Bars end at 125 % of it: bf16 products can do two multiply-adds in one instruction, and"
      + " what finds its data nearer than the pass does exceeds it, too. The Markdown report"
      + " beside this page says more.</p>";
  private static final Map<String, String> NAMES = Map.of("onnxruntime", "ONNX Runtime", "vector",
      "Vector API", "cuda", "cuDNN, cuBLAS", "empty", "empty call", "binding", "raw binding");

  private final Host host;
  private final List<Figure> figures;
  private final List<Verdict> verdicts;
  private final List<String> contenders;
  private final StringBuilder text = new StringBuilder();

  private Page(Host host, List<Figure> figures, List<Verdict> verdicts) {
    this.host = host;
    this.figures = figures;
    this.verdicts = verdicts;
    contenders =
        figures.stream()
            .map(f -> f.contender)
            .distinct()
            .sorted(Comparator.comparing(c -> !c.equals(Plan.OURS)))
            .toList();
  }

  static String render(Host host, List<Figure> figures, List<Verdict> verdicts) {
    return new Page(host, figures, verdicts).render();
  }

  /** The contenders of a case, and what its bars are shares of. */
  private record Group(List<Figure> figures, double full, boolean limited) {
    double share(Figure figure) {
      return full / figure.p50;
    }

    Optional<Figure> ours() {
      return figures.stream().filter(f -> f.contender.equals(Plan.OURS)).findFirst();
    }

    /** Whether exeunt and a peer ran. */
    boolean raced() {
      return limited && ours().isPresent() && figures.size() > 1;
    }

    /** The time of the fastest peer over exeunt's. */
    double lead() {
      return peer().p50 / ours().get().p50;
    }

    private Figure peer() {
      return figures.stream()
          .filter(f -> !f.ours())
          .min(Comparator.comparingDouble(f -> f.p50))
          .orElseThrow();
    }

    Overview.Case told() {
      Figure ours = ours().orElseThrow();
      Interval full = ours.arithmeticP50 > ours.limitP50 ? ours.arithmeticTime : ours.limitTime;
      return new Overview.Case(ours.id + ", " + ours.circumstances(), full.over(ours.time),
          raced() ? peer().time.over(ours.time) : null);
    }
  }

  private String render() {
    line("<!DOCTYPE html>");
    line("<!-- SPDX-License-Identifier: Apache-2.0 -->");
    line("<html lang=\"en\"><head><meta charset=\"utf-8\">");
    line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
    line("<meta http-equiv=\"Content-Security-Policy\""
        + " content=\"default-src 'none'; style-src 'unsafe-inline'\">");
    line("<title>exeunt benchmarks: %s</title>", escaped(host.get("cpu")));
    line("<style>%s</style></head><body>", style());
    Map<String, List<Group>> ops = groups();
    header(ops);
    Overview.render(text, overview(ops));
    new Roofline(figures, this::colour, Page::name).render(text);
    ops.forEach(this::op);
    line("<footer>%s</footer></body></html>", NOTES);
    return text.toString();
  }

  private static String style() {
    try (InputStream file = Page.class.getResourceAsStream("/page.css")) {
      return new String(file.readAllBytes(), StandardCharsets.UTF_8);
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
  }

  /** Cases by op, in the order of the run. */
  private Map<String, List<Group>> groups() {
    Map<String, List<Group>> ops = new LinkedHashMap<>();
    List<Figure> done = new ArrayList<>();
    for (Figure figure : figures) {
      if (done.stream().anyMatch(figure::sameCase)) {
        continue;
      }
      done.add(figure);
      List<Figure> own =
          figures.stream()
              .filter(figure::sameCase)
              .sorted(Comparator.comparingInt(f -> contenders.indexOf(f.contender)))
              .toList();
      Optional<Figure> limited = own.stream().filter(Figure::hasLimit).findFirst();
      double full = limited.map(f -> Math.max(f.limitP50, f.arithmeticP50))
                        .orElse(own.stream().mapToDouble(f -> f.p50).min().getAsDouble());
      ops.computeIfAbsent(figure.op, op -> new ArrayList<>())
          .add(new Group(own, full, limited.isPresent()));
    }
    return ops;
  }

  private static Map<String, List<Overview.Case>> overview(Map<String, List<Group>> ops) {
    Map<String, List<Overview.Case>> cases = new LinkedHashMap<>();
    ops.forEach((op, groups) -> {
      List<Overview.Case> own =
          groups.stream()
              .filter(g -> g.ours().filter(f -> f.hasLimit() && f.loops()).isPresent())
              .map(Group::told)
              .toList();
      if (!own.isEmpty()) {
        cases.put(op, own);
      }
    });
    return cases;
  }

  private void header(Map<String, List<Group>> ops) {
    line("<header><h1>exeunt on %s</h1>", escaped(host.get("cpu")));
    List<Group> cases = ops.values().stream().flatMap(List::stream).toList();
    List<Group> raced = cases.stream().filter(Group::raced).toList();
    List<Group> limited = cases.stream().filter(g -> g.limited && g.ours().isPresent()).toList();
    line("<ul class=\"tiles\">");
    tile(raced.stream().filter(g -> g.lead() >= 1).count(), raced.size(),
        "cases ahead of every peer");
    tile(limited.stream().filter(g -> g.share(g.ours().get()) >= 0.9).count(), limited.size(),
        "cases within 10&nbsp;% of the limit");
    tile(verdicts.stream().filter(Verdict::met).count(), verdicts.size(), "targets met");
    line("</ul><dl>");
    fact("CPU", host.get("cpu") + ", " + host.get("cores") + " cores");
    if (host.facts().containsKey("gpu")) {
      fact("GPU", host.get("gpu"));
    }
    fact("exeunt", host.get("exeunt") + ", " + host.get("backend"));
    fact("commit", host.get("commit"));
    fact("JDK", host.get("jdk"));
    fact("run", host.get("mode") + ", " + host.get("date"));
    fact("load before", host.get("load"));
    fact("JVM flags", host.get("arguments"));
    fact("environment", host.get("environment"));
    line("</dl><nav>");
    ops.keySet().forEach(op -> line("<a href=\"#%s\">%s</a>", escaped(op), escaped(op)));
    line("</nav><p class=\"legend\">");
    contenders.forEach(
        c -> line("<span><i style=\"background:%s\"></i>%s</span>", colour(c), name(c)));
    line("<span><i class=\"mark\"></i>the limit</span></p></header>");
  }

  private void tile(long count, long all, String what) {
    if (all > 0) {
      line("<li><b>%d</b> of %d<br>%s</li>", count, all, what);
    }
  }

  private void fact(String name, String value) {
    line("<div><dt>%s</dt><dd>%s</dd></div>", name, escaped(value));
  }

  private void op(String op, List<Group> cases) {
    line("<section id=\"%s\"><h2>%s</h2>", escaped(op), escaped(op));
    for (Group group : cases.stream().filter(g -> g.figures.size() > 1).toList()) {
      Figure any = group.figures.get(0);
      line("<article><h3>%s <small>%s%s</small>%s</h3><div class=\"bars\">", escaped(any.id),
          escaped(any.circumstances()),
          group.limited ? "" : "; no limit: 100&nbsp;% is the fastest",
          group.raced() ? lead(group.lead()) : "");
      group.figures.forEach(figure -> bar(group, figure));
      line("</div></article>");
    }
    List<Group> alone = cases.stream().filter(g -> g.figures.size() == 1).toList();
    if (!alone.isEmpty()) {
      line("<details open><summary>without a peer</summary><table class=\"alone\"><tr><th>case</th>"
          + "<th>operands, threads</th><th>median</th><th>of the limit</th></tr>");
      for (Group group : alone) {
        Figure only = group.figures.get(0);
        line("<tr><td>%s</td><td>%s</td><td>%s</td><td>%s</td></tr>", escaped(only.id),
            escaped(only.circumstances()), time(only.p50),
            group.limited ? String.format(Locale.ROOT, "%.0f %%", 100 * group.share(only)) : "-");
      }
      line("</table></details>");
    }
    line("</section>");
  }

  private static String lead(double lead) {
    return String.format(Locale.ROOT, " <em%s>%.2f x the best peer's speed</em>",
        lead < 1 ? " class=\"slower\"" : "", lead);
  }

  private void bar(Group group, Figure figure) {
    double share = group.share(figure);
    String told = String.format(Locale.ROOT, "%s %s: %.0f %% of the %s, %s", name(figure.contender),
        escaped(figure.id), 100 * share, group.limited ? "limit" : "fastest", time(figure.p50));
    line("<span class=\"name\">%s</span><div class=\"track\" title=\"%s\">"
            + "<div class=\"bar%s\" style=\"width:%.2f%%;background:%s\"></div></div>"
            + "<span class=\"value\">%.0f&nbsp;%%</span><span class=\"time\">%s</span>",
        name(figure.contender), told, share > LONGEST_BAR ? " over" : "",
        100 * Math.min(share, LONGEST_BAR) / LONGEST_BAR, colour(figure.contender), 100 * share,
        time(figure.p50));
  }

  private String colour(String contender) {
    return "var(--c" + Math.min(contenders.indexOf(contender), 4) + ")";
  }

  static String name(String contender) {
    return NAMES.getOrDefault(contender, escaped(contender));
  }

  private static String time(double microseconds) {
    return microseconds < 1 ? String.format(Locale.ROOT, "%.0f ns", microseconds * 1e3)
        : microseconds < 1000
        ? String.format(Locale.ROOT, "%.1f us", microseconds)
        : String.format(Locale.ROOT, "%.2f ms", microseconds / 1e3);
  }

  static String escaped(String text) {
    return text.replace("&", "&amp;")
        .replace("<", "&lt;")
        .replace(">", "&gt;")
        .replace("\"", "&quot;");
  }

  private void line(String format, Object... arguments) {
    text.append(String.format(Locale.ROOT, format, arguments)).append('\n');
  }
}
