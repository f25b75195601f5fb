// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.evaluate;

import java.io.IOException;
import java.nio.file.Files;
import java.util.List;
import java.util.Locale;
import org.exeunt.examples.report.Report;
import org.exeunt.examples.report.Table;

/** What an evaluation found, as a Markdown page, as JSON, and as a page with plots. */
final class Results {
  private final String model;
  private final int prompts;
  private final List<Outcome> outcomes;

  /** @param model what to call it */
  Results(String model, int prompts, List<Outcome> outcomes) {
    this.model = model;
    this.prompts = prompts;
    this.outcomes = outcomes;
  }

  /** How a page explains its columns. */
  static final String NOTES = "Speed is that of the plain decoder in the same minutes, times so "
      + "much. Agreement: tokens that are the plain decoder's; of methods that change answers, "
      + "those they would have said had all before been the plain decoder's. Perplexity is that of "
      + "its answers. A pass goes through the layers once, for one token or for a draft. Right: "
      + "the share of drafted tokens that were accepted.";

  static final String[] COLUMNS = {
      "method", "tokens/s", "speed", "tokens/pass", "right", "MB/token", "agreement", "perplexity"};

  void writeTo(Report report) throws IOException {
    report.heading("Speed against quality: " + model);
    report.paragraph("%d prompts, answered greedily. %s", prompts, NOTES);
    for (String group : outcomes.stream().map(Outcome::group).distinct().toList()) {
      if (!group.isEmpty()) {
        report.paragraph("Prompts of the group \"%s\":", group);
      }
      Table table = new Table(COLUMNS);
      for (Outcome o : outcomes) {
        if (o.group().equals(group)) {
          table.row(cells(o));
        }
      }
      report.table(group.isEmpty() ? "methods" : "methods-" + file(group), table);
    }
    Files.writeString(report.file("report.json"), json());
    Files.writeString(report.file("report.html"), Page.of(model, prompts, outcomes));
  }

  /** What stands in a row of a table. */
  static String[] cells(Outcome o) {
    return new String[] {o.name(), figure("%.1f", o.perSecond()), figure("%.2f x", o.speed()),
        figure("%.2f", o.perPass()), figure("%.1f %%", 100 * o.acceptance()),
        figure("%.1f", o.bytes() / 1e6), figure("%.1f %%", 100 * o.agreement()),
        figure("%.2f", o.perplexity())};
  }

  private static String figure(String format, double value) {
    return Double.isFinite(value) ? format(format, value) : "";
  }

  /** A group's name as part of a file's. */
  private static String file(String group) {
    return group.toLowerCase(Locale.ROOT).replaceAll("[^a-z0-9]+", "-");
  }

  static String format(String format, Object... arguments) {
    return String.format(Locale.ROOT, format, arguments);
  }

  private String json() {
    StringBuilder text = new StringBuilder("{\n");
    text.append("  \"model\": ").append(quoted(model)).append(",\n");
    text.append("  \"prompts\": ").append(prompts).append(",\n  \"methods\": [");
    String separator = "\n";
    for (Outcome o : outcomes) {
      text.append(separator).append("    {\"method\": ").append(quoted(o.method()));
      text.append(", \"group\": ").append(quoted(o.group()));
      number(text, "tokens", o.tokens());
      number(text, "tokens_per_second", o.perSecond());
      number(text, "speed", o.speed());
      number(text, "tokens_per_pass", o.perPass());
      number(text, "acceptance", o.acceptance());
      number(text, "bytes_per_token", o.bytes());
      number(text, "agreement", o.agreement());
      number(text, "perplexity", o.perplexity());
      text.append('}');
      separator = ",\n";
    }
    return text.append("\n  ]\n}\n").toString();
  }

  private static void number(StringBuilder text, String name, double value) {
    text.append(", \"").append(name).append("\": ");
    text.append(Double.isFinite(value) ? format("%.6g", value) : "null");
  }

  private static String quoted(String text) {
    StringBuilder quoted = new StringBuilder("\"");
    for (char c : text.toCharArray()) {
      if (c == '"' || c == '\\') {
        quoted.append('\\').append(c);
      } else if (c < ' ') {
        quoted.append(format("\\u%04x", (int) c));
      } else {
        quoted.append(c);
      }
    }
    return quoted.append('"').toString();
  }
}
