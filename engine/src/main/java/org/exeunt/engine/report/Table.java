// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.util.ArrayList;
import java.util.List;
import java.util.stream.Collectors;

/** A small table of text, for a console, a Markdown page or a spreadsheet. */
public final class Table {
  private final List<String> header;
  private final List<List<String>> rows = new ArrayList<>();

  /** An empty table with these columns. */
  public Table(String... header) {
    this.header = List.of(header);
  }

  /** Adds a row, one cell for each column. */
  public Table row(String... cells) {
    if (cells.length != header.size()) {
      throw new IllegalArgumentException(cells.length + " cells for " + header.size() + " columns");
    }
    rows.add(List.of(cells));
    return this;
  }

  /** The table in Markdown, its columns aligned: the first to the left, the others to the right. */
  public String toMarkdown() {
    List<Integer> widths = new ArrayList<>();
    for (int column = 0; column < header.size(); column++) {
      int width = cell(header.get(column)).length();
      for (List<String> row : rows) {
        width = Math.max(width, cell(row.get(column)).length());
      }
      widths.add(width);
    }
    StringBuilder text = new StringBuilder(line(header, widths));
    for (int column = 0; column < widths.size(); column++) {
      String dashes = "-".repeat(widths.get(column));
      text.append(column == 0 ? "| " + dashes + ' ' : "| " + dashes + ':');
    }
    text.append("|\n");
    rows.forEach(row -> text.append(line(row, widths)));
    return text.toString();
  }

  private static String line(List<String> cells, List<Integer> widths) {
    StringBuilder line = new StringBuilder();
    for (int column = 0; column < cells.size(); column++) {
      String cell = cell(cells.get(column));
      String padding = " ".repeat(widths.get(column) - cell.length());
      line.append("| ").append(column == 0 ? cell + padding : padding + cell).append(' ');
    }
    return line.append("|\n").toString();
  }

  /** Text that neither ends its cell nor opens an element of a page. */
  private static String cell(String text) {
    return text.replaceAll("\\R", " ").replaceAll("[|<]", "\\\\$0");
  }

  /** The table in a page, where it scrolls by itself if it is wide. */
  String toHtml() {
    return "<div class=\"scroll\"><table><thead>" + htmlLine(header, "th") + "</thead><tbody>\n"
        + rows.stream().map(row -> htmlLine(row, "td")).collect(Collectors.joining())
        + "</tbody></table></div>\n";
  }

  private static String htmlLine(List<String> cells, String element) {
    return cells.stream()
        .map(cell -> '<' + element + '>' + Html.escaped(cell) + "</" + element + '>')
        .collect(Collectors.joining("", "<tr>", "</tr>\n"));
  }

  /** The table with commas between cells; a cell that holds a comma or a quote is quoted. */
  public String toCsv() {
    return csvLine(header) + rows.stream().map(Table::csvLine).collect(Collectors.joining());
  }

  private static String csvLine(List<String> cells) {
    return cells.stream()
        .map(cell -> cell.matches("[^\",\n]*") ? cell : '"' + cell.replace("\"", "\"\"") + '"')
        .collect(Collectors.joining(",", "", "\n"));
  }
}
