// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.report;

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

/** What the demo finds: shown as it goes, kept as a Markdown page, and each table as a CSV file. */
public final class Report implements Closeable {
  private final Path folder;
  private final Writer page;
  private final List<Path> files = new ArrayList<>();

  /** Starts a report in {@code folder}, which is made if need be. */
  public Report(Path folder) throws IOException {
    this.folder = folder.toAbsolutePath();
    Path path = this.folder.resolve("report.md");
    try {
      Files.createDirectories(this.folder);
      page = Files.newBufferedWriter(path);
    } catch (IOException e) {
      throw unwritable(e);
    }
    files.add(path);
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

  /** A line that is worth seeing while waiting, and not worth keeping. */
  public synchronized void progress(String format, Object... arguments) {
    System.out.println("  " + String.format(format, arguments));
  }

  public synchronized void heading(String text) throws IOException {
    write("\n## " + text + "\n\n");
  }

  public synchronized void paragraph(String format, Object... arguments) throws IOException {
    write(String.format(format, arguments) + "\n\n");
  }

  /** Text as it is, whatever it contains. */
  public synchronized void text(String text) throws IOException {
    write(text);
  }

  /** Shows {@code table} and keeps it as {@code name}.csv too. */
  public synchronized void table(String name, Table table) throws IOException {
    write(table.toMarkdown() + "\n");
    data(name, table);
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
    System.out.print(text);
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
    try {
      page.close();
    } catch (IOException e) {
      throw unwritable(e); // what could not be written is tried again
    }
  }
}
