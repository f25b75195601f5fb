// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.ArrayList;
import java.util.List;
import java.util.Objects;
import java.util.concurrent.CopyOnWriteArrayList;
import org.exeunt.MappedFile;
import org.exeunt.Tensor;

/**
 * A regular file whose ranges can be read, as little-endian buffers, or mapped.
 *
 * <p>It should not change while it is in use, and {@link #requireUnchanged} tells if it has. What is
 * read is there, or the file was cut. A mapping has zeros where it was cut.
 *
 * <p>A file that another takes the place of, by renaming, or that is removed, has not changed: what
 * was opened is there until the last mapping of it goes.
 */
public final class ModelFile implements Closeable {
  /** Java's arrays and buffers end there. */
  public static final int MOST_AT_ONCE = Integer.MAX_VALUE - 8;

  // What a channel copies through a direct buffer at once, which it keeps for each thread.
  private static final int PIECE = 1 << 20;

  // How often checkUnchanged() looks at the file's date, which on some file systems asks another machine.
  private static final long SELDOM_NANOS = 50_000_000;

  private final Path path;
  private final FileChannel channel;
  private final BasicFileAttributes opened;
  private final List<MappedFile> mappings = new CopyOnWriteArrayList<>();
  private volatile long looked = System.nanoTime();

  private ModelFile(Path path, FileChannel channel, BasicFileAttributes opened) {
    this.path = path;
    this.channel = channel;
    this.opened = opened;
  }

  /** Opens {@code path} for reading. */
  public static ModelFile open(Path path) throws IOException {
    BasicFileAttributes before = attributes(path);
    // Others can be opened too, and would fail later and less clearly; a pipe waits for its writer.
    if (before.isDirectory()) {
      throw new ModelFormatException(path, "is a directory, not a file.");
    }
    if (!before.isRegularFile()) {
      throw new ModelFormatException(path, "is not a regular file.");
    }
    FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
    try {
      ModelFile file = new ModelFile(path, channel, before);
      file.requireUnchanged();
      if (channel.size() != file.size() || !isOf(before, attributes(path))) {
        throw new ModelChangedException(path, "was replaced");
      }
      return file;
    } catch (IOException | RuntimeException e) {
      channel.close();
      throw e;
    }
  }

  private static BasicFileAttributes attributes(Path path) throws IOException {
    return Files.readAttributes(path, BasicFileAttributes.class);
  }

  /** Whether both are of one file, whatever it holds. */
  private static boolean isOf(BasicFileAttributes one, BasicFileAttributes other) {
    return Objects.equals(one.fileKey(), other.fileKey());
  }

  public Path path() {
    return path;
  }

  /** Its bytes when it was opened. */
  public long size() {
    return opened.size();
  }

  /**
   * Looks whether the file has changed since it was opened: its size, its date, or that of a mapping
   * a part could not be read. A write that leaves both size and date is not noticed.
   *
   * @throws ModelChangedException if it has
   */
  public void requireUnchanged() {
    requireWhole();
    looked = System.nanoTime();
    BasicFileAttributes now;
    try {
      now = attributes(path);
    } catch (IOException e) {
      return; // it has lost its name
    }
    if (!isOf(opened, now)) {
      return;
    }
    if (now.size() != size()) {
      throw new ModelChangedException(
          path, "changed from " + size() + " to " + now.size() + " bytes");
    }
    if (!now.lastModifiedTime().equals(opened.lastModifiedTime())) {
      throw new ModelChangedException(path, "was written to");
    }
  }

  /** The same for each step of a program: it looks at the mappings, and seldom at the file. */
  public void checkUnchanged() {
    requireWhole();
    if (System.nanoTime() - looked > SELDOM_NANOS) {
      requireUnchanged();
    }
  }

  private void requireWhole() {
    for (MappedFile mapping : mappings) {
      if (!mapping.isWhole()) {
        throw new ModelChangedException(path, "was cut, or became unreadable,");
      }
    }
  }

  /** Reads {@code length} bytes from {@code offset}; the range must lie inside the file. */
  public ByteBuffer read(long offset, long length) throws IOException {
    requireInside(offset, length);
    ByteBuffer bytes = ByteBuffer.allocate((int) length).order(ByteOrder.LITTLE_ENDIAN);
    read(offset, bytes);
    return bytes.flip();
  }

  /** The same into what remains of {@code bytes}. */
  public void read(long offset, ByteBuffer bytes) throws IOException {
    requireInside(offset, bytes.remaining());
    int begin = bytes.position();
    int end = bytes.limit();
    while (bytes.position() < end) {
      bytes.limit(Math.min(end, bytes.position() + PIECE));
      if (channel.read(bytes, offset + bytes.position() - begin) < 0) {
        throw cut();
      }
      bytes.limit(end);
    }
  }

  /**
   * Maps {@code length} bytes from {@code offset}, for reading; the range must lie inside the file.
   * The mapping outlives this object, for as long as its tensor is reachable.
   */
  public MappedFile map(long offset, long length) throws IOException {
    requireInside(offset, length);
    MappedFile mapping;
    try {
      mapping = MappedFile.of(channel, offset, length);
    } catch (IllegalArgumentException e) {
      throw cut(); // the range was inside the file when it was opened
    } catch (IOException e) {
      requireUnchanged(); // it may have been cut after its size was looked at
      throw e;
    }
    mappings.add(mapping);
    return mapping;
  }

  /** Bytes of the file from {@code begin} to {@code end}, of which the last is no more among them. */
  public record Range(long begin, long end) {}

  /** Ranges that are mapped together. */
  public record Piece(Range range, Tensor bytes) {
    public boolean holds(Range other) {
      return other.begin >= range.begin && other.end <= range.end;
    }
  }

  /**
   * Maps ranges, which ascend, and as many of them together as can be. Those longer than {@link
   * #MOST_AT_ONCE} are left out.
   */
  public List<Piece> mapTogether(List<Range> ranges) throws IOException {
    List<Range> left = new ArrayList<>(ranges);
    left.removeIf(range -> range.end - range.begin > MOST_AT_ONCE);
    List<Piece> pieces = new ArrayList<>();
    for (int i = 0; i < left.size();) {
      long begin = left.get(i).begin;
      long end = begin;
      for (; i < left.size() && left.get(i).end - begin <= MOST_AT_ONCE; i++) {
        end = left.get(i).end;
      }
      pieces.add(new Piece(new Range(begin, end), map(begin, end - begin).tensor()));
    }
    return pieces;
  }

  private void requireInside(long offset, long length) throws ModelFormatException {
    if (offset < 0 || length < 0 || offset > size() - length) {
      throw new ModelFormatException(path,
          "bytes " + offset + " to " + offset + " + " + length + " lie outside the file of "
              + size() + " bytes.");
    }
    if (length > MOST_AT_ONCE) {
      throw new ModelFormatException(
          path, "a range of " + length + " bytes is longer than this reader takes at once.");
    }
  }

  private ModelChangedException cut() throws IOException {
    long now = channel.size();
    return new ModelChangedException(path,
        now < size() ? "was cut from " + size() + " to " + now + " bytes" : "was cut for a while");
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
