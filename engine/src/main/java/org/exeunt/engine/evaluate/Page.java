// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.evaluate;

import java.util.List;
import org.exeunt.engine.report.Html;

/** A page that needs nothing else: for each group of prompts speed against quality, and tables. */
final class Page {
  private static final String STYLE = """
      :root { color-scheme: light dark; --text: #1b1f24; --faint: #59636e; --line: #d0d7de;
        --page: #ffffff; --exact: #0a5d2c; --change: #8a3b00; --bad: #a40e26; }
      @media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --faint: #9aa5b1;
        --line: #3a434d; --page: #10151b; --exact: #6fdd8b; --change: #ffb27a; --bad: #ff8c95; } }
      body { font: 15px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
        max-width: 70rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
      .bad { color: var(--bad); font-weight: 600; }
      svg { display: block; width: 100%; max-width: 40rem; height: auto; }
      svg text { fill: var(--faint); font-size: 12px; }
      svg .name { fill: var(--text); font-size: 11.5px;
        paint-order: stroke; stroke: var(--page); stroke-width: 3px; }
      .verdict { font-size: 1.15rem; font-weight: 600; }
      .interval { stroke: var(--exact); stroke-width: 1.5px; }
      .interval.change { stroke: var(--change); } .interval.failed { stroke: var(--bad); }
      .answers { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr));
        gap: 1rem; }
      .answers div { border: 1px solid var(--line); padding: .5rem .75rem; }
      .answers p { white-space: pre-wrap; margin: 0; }
      mark { color: var(--change); background: none; text-decoration: underline; }
      .grid { stroke: var(--line); } .one { stroke: var(--faint); stroke-dasharray: 4 3; }
      .leader { stroke: var(--faint); stroke-width: .7px; }
      .dot { stroke: var(--page); stroke-width: 1px; }
      .plain, .lossless { fill: var(--exact); background: var(--exact); }
      .change { fill: var(--change); background: var(--change); }
      .failed { fill: var(--bad); background: var(--bad); }
      .plain { fill: var(--page); stroke: var(--exact); stroke-width: 2.5px; background: none;
        box-shadow: inset 0 0 0 2px var(--exact); }
      dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
      summary { cursor: pointer; } dt { color: var(--faint); } dd { margin: 0; }
      .scroll { overflow-x: auto; } table { border-collapse: collapse; }
      td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
        white-space: nowrap; }
      td:first-child { padding-right: 0; }
      td:nth-child(2), th:nth-child(2) { text-align: left; }
      td:nth-child(2) { white-space: normal; min-width: 9rem; }
      .keys { display: flex; flex-wrap: wrap; gap: 0 1.5rem; }
      .key { display: inline-block; width: .75em; height: .75em; border-radius: 50%; }
      .key.change { border-radius: 0; }
      @media (max-width: 30rem) { svg text { font-size: 17px; } svg .name { font-size: 16px; } }
      """;

  private final Findings findings;
  private final StringBuilder text = new StringBuilder();

  Page(Findings findings) {
    this.findings = findings;
  }

  /** The whole page, which is sound XML too. */
  String render(String verdict, String summary) {
    line("<!DOCTYPE html>");
    line("<!-- SPDX-License-Identifier: Apache-2.0 -->");
    line("<html lang=\"en\"><head><meta charset=\"utf-8\"/>");
    line("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>");
    line("<meta http-equiv=\"Content-Security-Policy\""
        + " content=\"default-src 'none'; style-src 'unsafe-inline'\"/>");
    line("<title>exeunt: speed against quality</title>");
    line("<style>\n" + STYLE + "</style></head><body>");
    line("<h1>Speed against quality: " + Html.escaped(findings.model()) + "</h1>");
    for (String problem : findings.problems()) {
      line("<p class=\"bad\" role=\"alert\">" + Html.escaped(problem) + ".</p>");
    }
    line("<p class=\"verdict\">" + Html.escaped(verdict) + "</p>");
    line("<details><summary>What the figures mean</summary><p>" + Html.escaped(summary)
        + "</p></details>");
    line("<dl>");
    findings.conditions().forEach(
        (name, value)
            -> line("<dt>" + Html.escaped(name) + "</dt><dd>" + Html.escaped(value) + "</dd>"));
    line("</dl>");
    line("<p class=\"keys\"><span><span class=\"key plain\"></span> the plain decoder</span>"
        + "<span><span class=\"key lossless\"></span> methods that must not change an answer</span>"
        + "<span><span class=\"key change\"></span> methods that change answers</span></p>");
    for (String group : findings.groups()) {
      List<Outcome> outcomes = findings.of(group);
      line("<section><h2>" + Html.escaped(Results.title(group)) + "</h2>");
      if (outcomes.stream().anyMatch(Outcome::hasPlace)) {
        Plot.append(outcomes, text);
      } else {
        line("<p>There is nothing to plot: no answer has a token after its first.</p>");
      }
      for (Results.Section section : Results.sections(outcomes)) {
        table(section, outcomes);
      }
      line("</section>");
    }
    findings.answered().forEach(this::answers);
    line("</body></html>");
    return text.toString();
  }

  /** The answers to a prompt side by side; what differs from the plain decoder's is marked. */
  private void answers(Sample sample) {
    line("<section><h2>Answers to: " + Html.escaped(sample.title()) + "</h2>");
    line("<div class=\"answers\">");
    String plain = sample.answers().get(0).text();
    for (Sample.Answer answer : sample.answers()) {
      int common = answer.commonWith(plain);
      String rest = answer.text().substring(common);
      line("<div><h3>" + Html.escaped(answer.method()) + "</h3><p>"
          + Html.escaped(answer.text().substring(0, common))
          + (rest.isEmpty() ? "" : "<mark>" + Html.escaped(rest) + "</mark>") + "</p></div>");
    }
    line("</div></section>");
  }

  /** Rows have the marks of the plot. */
  private void table(Results.Section section, List<Outcome> outcomes) {
    line("<h3>" + Html.escaped(section.title()) + "</h3>");
    line("<div class=\"scroll\"><table><thead><tr><th></th><th>"
        + String.join("</th><th>", section.titles()) + "</th></tr></thead><tbody>");
    for (Outcome o : outcomes) {
      if (section.has(o)) {
        text.append("<tr><td><span class=\"key ").append(styled(o));
        text.append("\"></span></td>");
        for (String cell : section.cells(o)) {
          text.append(cell.startsWith("FAILED") ? "<td class=\"bad\">" : "<td>");
          text.append(Html.escaped(cell)).append("</td>");
        }
        line("</tr>");
      }
    }
    line("</tbody></table></div>");
  }

  private void line(String whole) {
    text.append(whole).append('\n');
  }

  /** The class of what stands for an outcome. */
  static String styled(Outcome outcome) {
    return outcome.failed() ? "failed" : switch (outcome.kind()) {
      case PLAIN -> "plain";
      case LOSSLESS -> "lossless";
      case CHANGE -> "change";
    };
  }
}
