// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.math.BigDecimal;
import java.math.MathContext;
import java.nio.file.Files;
import java.util.Collection;
import java.util.Comparator;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Set;
import java.util.function.Function;
import java.util.function.Predicate;
import java.util.stream.Stream;
import org.exeunt.engine.report.Report;
import org.exeunt.engine.report.Table;

/** What an evaluation found, as a Markdown page, as CSV, as JSON, and as a page with plots. */
final class Results {
  private static final Gson GSON =
      new GsonBuilder().setPrettyPrinting().serializeNulls().disableHtmlEscaping().create();

  private final Findings findings;

  Results(Findings findings) {
    this.findings = findings;
  }

  /** A method that may change answers counts as near to the plain decoder from here on. */
  private static final double NEARLY_THE_SAME = 0.95;

  /** How a page explains its columns. */
  static final String NOTES = "Tokens/s: of all turns together; plain: of the plain decoder, whose "
      + "turns on the same prompts took turns with the method's. Speed is the quotient of the two, "
      + "and 95 % the interval in which it lies, by how far the turns differ (Student's t). "
      + "Agreement: tokens that are the plain decoder's, had all before them been the plain "
      + "decoder's. Perplexity is that of its answers. A pass goes through the layers once, for one "
      + "token or for a draft. Right: the share of drafted tokens that were accepted. Same answers: "
      + "prompts whose whole answer is the plain decoder's, in each turn. A dash: there was nothing "
      + "to divide by, or no second turn.";

  private static final Column METHOD = new Column("method", Outcome::name);
  private static final Column PER_SECOND =
      new Column("tokens/s", o -> Speed.text(o.speed().rate()));
  private static final Column BESIDE = new Column("plain", o -> Speed.text(o.speed().plain()));
  private static final Column SPEED = new Column("speed", o -> figure("%.2f x", o.speed().ratio()));
  private static final Column INTERVAL = new Column("95 %", Results::interval);
  private static final Column VERDICT = new Column("verdict", Outcome::verdict);
  private static final Column PER_PASS =
      new Column("tokens/pass", o -> figure("%.2f", o.perPass()));
  private static final Column RIGHT =
      new Column("right", o -> figure("%.1f %%", 100 * o.acceptance()));
  private static final Column BYTES = new Column("MB/token", o -> figure("%.1f", o.bytes() / 1e6));
  private static final Column AGREEMENT =
      new Column("agreement", o -> figure("%.1f %%", 100 * o.agreement()));
  private static final Column PERPLEXITY =
      new Column("perplexity", o -> figure("%.2f", o.perplexity()));
  private static final Column SAME = new Column("same answers", Results::same);

  private static final List<Column> ALL = List.of(METHOD, PER_SECOND, BESIDE, SPEED, INTERVAL,
      VERDICT, PER_PASS, RIGHT, BYTES, AGREEMENT, PERPLEXITY, SAME);

  /** A column of a table. */
  record Column(String title, Function<Outcome, String> cell) {}

  /** What may become of answers, and what is worth saying of methods that do so. */
  record Section(Outcome.Kind kind, String title, List<Column> columns) {
    /** Whether a method stands in it; the plain decoder does in each. */
    boolean has(Outcome outcome) {
      return outcome.kind() == Outcome.Kind.PLAIN || outcome.kind() == kind;
    }

    String[] titles() {
      return columns.stream().map(Column::title).toArray(String[] ::new);
    }

    String[] cells(Outcome outcome) {
      return columns.stream().map(column -> column.cell().apply(outcome)).toArray(String[] ::new);
    }
  }

  private static final List<Section> SECTIONS = List.of(
      new Section(Outcome.Kind.LOSSLESS, "Methods that must not change an answer",
          List.of(
              METHOD, PER_SECOND, BESIDE, SPEED, INTERVAL, VERDICT, PER_PASS, RIGHT, BYTES, SAME)),
      new Section(Outcome.Kind.CHANGE, "Methods that change answers: what they give and cost",
          List.of(METHOD, PER_SECOND, BESIDE, SPEED, INTERVAL, VERDICT, BYTES, AGREEMENT,
              PERPLEXITY, SAME)));

  /** The sections that have something of their own to say of outcomes. */
  static List<Section> sections(List<Outcome> outcomes) {
    List<Section> own =
        SECTIONS.stream()
            .filter(section -> outcomes.stream().anyMatch(o -> o.kind() == section.kind()))
            .toList();
    return own.isEmpty() && !outcomes.isEmpty() ? SECTIONS.subList(0, 1) : own;
  }

  static String title(String group) {
    return group.isEmpty() ? "All prompts" : "Prompts: " + group;
  }

  /** What a page says first. */
  String summary() {
    return findings.prompts() + (findings.prompts() == 1 ? " prompt" : " prompts")
        + ", answered greedily. " + NOTES + wander();
  }

  /** The plain decoder beside itself; null: it was not timed. */
  private Speed plain() {
    return findings.of("")
        .stream()
        .filter(o -> o.kind() == Outcome.Kind.PLAIN && o.hasPlace())
        .map(Outcome::speed)
        .findFirst()
        .orElse(null);
  }

  /** What all figures come to, in a sentence. */
  String verdict() {
    if (plain() == null) {
      return "Nothing was timed, so there is no verdict.";
    }
    if (!plain().isQuiet()) {
      return "No verdict: the plain decoder is not within 10 % of itself here, so no figure of speed "
          + "below is to be trusted.";
    }
    Outcome exact = fastest(o -> o.kind() == Outcome.Kind.LOSSLESS && !o.failed());
    Outcome near =
        fastest(o -> o.kind() == Outcome.Kind.CHANGE && o.agreement() >= NEARLY_THE_SAME);
    if (exact == null && near == null) {
      return "No method is faster than the plain decoder without changing more than every "
          + "twentieth token.";
    }
    String first = exact == null
        ? "No method is faster without changing an answer"
        : "Without changing an answer, " + told(exact);
    return first
        + (near == null ? ", and none that changes at most every twentieth token."
                        : format("; keeping %.1f %% of the tokens, ", 100 * near.agreement())
                    + told(near) + ".");
  }

  private Outcome fastest(Predicate<Outcome> which) {
    return findings.of("")
        .stream()
        .filter(o -> o.verdict().equals("faster") && which.test(o))
        .max(Comparator.comparingDouble(o -> o.speed().ratio()))
        .orElse(null);
  }

  private static String told(Outcome o) {
    return o.name()
        + format(" is %.2f times as fast as the plain decoder (%.2f to %.2f)", o.speed().ratio(),
            o.speed().low(), o.speed().high());
  }

  /** How far figures of speed are to be trusted. */
  private String wander() {
    Speed plain = plain();
    if (plain == null) {
      return "";
    }
    double slowest = plain.plain();
    double fastest = plain.plain();
    for (Outcome o : findings.of("")) {
      if (o.hasPlace()) {
        slowest = Math.min(slowest, o.speed().plain());
        fastest = Math.max(fastest, o.speed().plain());
      }
    }
    String beside =
        format(" Beside itself the plain decoder had %.2f times its speed", plain.ratio());
    String within = plain.hasInterval() ? format(" (%.2f to %.2f)", plain.low(), plain.high()) : "";
    String seen = " and beside the methods " + Speed.text(slowest) + " to " + Speed.text(fastest)
        + " tokens a second: so much did the machine wander. ";
    return beside + within + seen
        + (plain.isQuiet()
                ? "A method is called faster or slower where its interval lies beyond both 1 and the "
                    + "plain decoder's own."
                : "That is not known to be within 10 %, so that no method is called faster or "
                    + "slower.");
  }

  private static String interval(Outcome o) {
    return o.speed().hasInterval()
        ? format("%.2f to %.2f", o.speed().low(), o.speed().high())
        : "-";
  }

  void writeTo(Report report) throws IOException {
    report.heading("Speed against quality: " + plain(findings.model()));
    for (String problem : findings.problems()) {
      report.text("**" + plain(problem) + ".**\n\n");
    }
    report.text("**" + plain(verdict()) + "**\n\n" + summary() + "\n\n");
    Table conditions = new Table("run", "");
    findings.conditions().forEach((name, value) -> conditions.row(name, value));
    report.text(conditions.toMarkdown() + "\n");
    Set<String> files = new HashSet<>();
    for (String group : findings.groups()) {
      List<Outcome> outcomes = findings.of(group);
      report.text("### " + plain(title(group)) + "\n\n");
      for (Section section : sections(outcomes)) {
        Table table = new Table(section.titles());
        outcomes.stream().filter(section::has).forEach(o -> table.row(section.cells(o)));
        report.text(section.title() + ":\n\n" + table.toMarkdown() + "\n");
      }
      Section all = new Section(null, "", ALL);
      Table table = new Table(with(all.titles(), findings.conditions().keySet()));
      outcomes.forEach(o -> table.row(with(all.cells(o), findings.conditions().values())));
      String name = group.isEmpty() ? "methods" : "methods-" + file(group);
      String free = name;
      for (int i = 2; !files.add(free); i++) {
        free = name + "-" + i;
      }
      report.data(free, table);
    }
    for (Sample sample : findings.answered()) {
      report.text("### Answers to: " + plain(sample.title()) + "\n\n");
      for (Sample.Answer answer : sample.answers()) {
        report.text("- " + plain(answer.method()) + ": " + plain(answer.text()) + "\n");
      }
      report.text("\n");
    }
    Files.writeString(report.file("report.json"), json());
    Files.writeString(report.file("report.html"), new Page(findings).render(verdict(), summary()));
  }

  private static String[] with(String[] cells, Collection<String> more) {
    return Stream.concat(Stream.of(cells), more.stream()).toArray(String[] ::new);
  }

  private static String same(Outcome o) {
    return (o.failed() ? "FAILED: " : "") + (o.prompts() - o.differing()) + " of " + o.prompts();
  }

  private static String figure(String format, double value) {
    return Double.isFinite(value) ? format(format, value) : "-";
  }

  /** Text in a line of Markdown, which is no markup. */
  static String plain(String text) {
    return text.replaceAll("\\R", " ").replaceAll("[<*`\\[\\\\]", "\\\\$0");
  }

  /** A group's name as part of a file's. */
  private static String file(String group) {
    return group.toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9]+", "-");
  }

  static String format(String format, Object... arguments) {
    return String.format(Locale.ROOT, format, arguments);
  }

  private String json() {
    JsonObject report = new JsonObject();
    report.addProperty("model", findings.model());
    report.add("run", GSON.toJsonTree(findings.conditions()));
    report.addProperty("prompts", findings.prompts());
    report.add("problems", GSON.toJsonTree(findings.problems()));
    JsonArray methods = new JsonArray();
    for (Outcome o : findings.outcomes()) {
      JsonObject method = new JsonObject();
      method.addProperty("method", o.method());
      method.addProperty("kind", o.kind().name().toLowerCase(Locale.ROOT));
      method.addProperty("group", o.group());
      method.addProperty("prompts", o.prompts());
      method.addProperty("differing_answers", o.differing());
      method.addProperty("tokens", o.tokens());
      method.addProperty("tokens_per_second", number(o.speed().rate()));
      method.addProperty("plain_tokens_per_second", number(o.speed().plain()));
      method.addProperty("speed", number(o.speed().ratio()));
      method.addProperty("speed_low", number(o.speed().low()));
      method.addProperty("speed_high", number(o.speed().high()));
      method.addProperty("verdict", o.verdict());
      method.addProperty("tokens_per_pass", number(o.perPass()));
      method.addProperty("acceptance", number(o.acceptance()));
      method.addProperty("bytes_per_token", number(o.bytes()));
      method.addProperty("agreement", number(o.agreement()));
      method.addProperty("perplexity", number(o.perplexity()));
      methods.add(method);
    }
    report.add("methods", methods);
    return GSON.toJson(report) + "\n";
  }

  private static Number number(double value) {
    return Double.isFinite(value) ? new BigDecimal(value, new MathContext(6)) : null;
  }
}
