// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.io.Closeable;
import java.io.IOException;
import java.io.Writer;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;

/**
 * What the demo finds: shown as it goes, kept as a Markdown page and if wanted as one for a browser,
 * and each table as a CSV file.
 */
public final class Report implements Closeable {
  private static final int WIDTH = 76; // of a line that is written over
  private static final String CLEAR = "\033[K";

  private final Path folder;
  private final Writer page;
  private final List<Path> files = new ArrayList<>();
  private final String title; // of the page for a browser; null: there is none
  private final StringBuilder body = new StringBuilder();
  private final boolean terminal;
  private boolean inProgress;

  /** Starts a report in {@code folder}, which is made if need be. */
  public Report(Path folder) throws IOException {
    this(folder, null, false);
  }

  /**
   * Starts a report that is kept as a page for a browser too.
   *
   * @param folder where it goes; made if need be
   * @param title of that page, report.html; null: there is none
   * @param terminal whether what is printed goes to one, on which a line can be written over
   */
  public Report(Path folder, String title, boolean terminal) throws IOException {
    this.title = title;
    this.terminal = terminal;
    this.folder = folder.toAbsolutePath();
    Path path = this.folder.resolve("report.md");
    try {
      Files.createDirectories(this.folder);
      page = Files.newBufferedWriter(path);
    } catch (IOException e) {
      throw unwritable(e);
    }
    files.add(path);
    if (title != null) {
      files.add(htmlPath());
    }
  }

  private Path htmlPath() {
    return folder.resolve("report.html");
  }

  /** Of the system's own sentences some name the file and no reason, others the reason alone. */
  private IOException unwritable(IOException e) {
    String reason = e.getMessage();
    if (e instanceof AccessDeniedException denied) {
      reason = denied.getFile() + " may not be written";
    } else if (e instanceof FileAlreadyExistsException existing) {
      reason = existing.getFile() + " is no folder";
    } else if (e instanceof NoSuchFileException absent) {
      reason = absent.getFile() + " cannot be made";
    }
    return new IOException("the report cannot be written to " + folder + ": " + reason, e);
  }

  /**
   * A line that is worth seeing while waiting, and not worth keeping: on a terminal the next one is
   * written over it, and elsewhere there is none.
   */
  public synchronized void progress(String format, Object... arguments) {
    if (terminal) {
      String line = String.format(format, arguments);
      System.out.print("\r  " + line.substring(0, Math.min(line.length(), WIDTH)) + CLEAR);
      System.out.flush();
      inProgress = true;
    }
  }

  public synchronized void heading(String text) throws IOException {
    write("\n## " + text + "\n\n");
    body.append("<h2>").append(Html.escaped(text)).append("</h2>\n");
  }

  public synchronized void paragraph(String format, Object... arguments) throws IOException {
    String text = String.format(format, arguments);
    write(text + "\n\n");
    body.append(Html.paragraph(text));
  }

  /** Text as it is, whatever it contains. */
  public synchronized void text(String text) throws IOException {
    write(text);
    body.append(Html.paragraph(text));
  }

  /** Each in a line of its own. */
  public synchronized void list(List<String> items) throws IOException {
    body.append("<ul>\n");
    for (String item : items) {
      write("* " + item + "\n");
      body.append("<li>").append(Html.escaped(item)).append("</li>\n");
    }
    write("\n");
    body.append("</ul>\n");
  }

  /** Shows {@code table} and keeps it as {@code name}.csv too. */
  public synchronized void table(String name, Table table) throws IOException {
    write(table.toMarkdown() + "\n");
    body.append(table.toHtml());
    data(name, table);
  }

  /** Shows a chart in the page for a browser. */
  public synchronized void chart(Chart chart) {
    body.append(chart.toHtml());
  }

  /** Shows something in the page for a browser: markup that is sound by itself. */
  public synchronized void figure(String html) {
    body.append(html);
  }

  /** Keeps {@code table} as {@code name}.csv without showing it. */
  public synchronized void data(String name, Table table) throws IOException {
    Path path = folder.resolve(name + ".csv");
    try {
      Files.writeString(path, table.toCsv());
    } catch (IOException e) {
      throw unwritable(e);
    }
    files.add(path);
  }

  /** Where to put a file of another kind, which is kept too. */
  public synchronized Path file(String name) {
    Path path = folder.resolve(name);
    files.add(path);
    return path;
  }

  private void write(String text) throws IOException {
    System.out.print(inProgress ? '\r' + CLEAR + text : text);
    inProgress = false;
    try {
      page.write(text);
      page.flush();
    } catch (IOException e) {
      throw unwritable(e);
    }
  }

  /** All files written so far. */
  public synchronized List<Path> files() {
    return List.copyOf(files);
  }

  @Override
  public void close() throws IOException {
    try (page) {
      if (title != null) {
        Files.writeString(htmlPath(), Html.page(title, body));
      }
    } catch (IOException e) {
      throw unwritable(e); // what could not be written is tried again
    }
  }
}
