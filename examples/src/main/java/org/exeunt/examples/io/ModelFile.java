// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.io;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;

/**
 * A regular file whose ranges can be read, or mapped; every buffer is little-endian.
 *
 * <p>What is read is there, or the file ends. A mapping is as long as the file was: where another
 * process cuts it meanwhile, a later access ends this process. So what is looked at is read, and
 * mapped are only weights.
 */
public final class ModelFile implements Closeable {
  /** Java's arrays and buffers end there. */
  public static final int MOST_AT_ONCE = Integer.MAX_VALUE - 8;

  // What a channel copies through a direct buffer at once, which it keeps for each thread.
  private static final int PIECE = 1 << 20;

  private final Path path;
  private final FileChannel channel;
  private final long size;

  private ModelFile(Path path, FileChannel channel, long size) {
    this.path = path;
    this.channel = channel;
    this.size = size;
  }

  /** Opens {@code path} for reading. */
  public static ModelFile open(Path path) throws IOException {
    // Others can be opened too, and would fail later and less clearly; a pipe waits for its writer.
    if (Files.isDirectory(path)) {
      throw new ModelFormatException(path, "is a directory, not a file.");
    }
    if (Files.exists(path) && !Files.isRegularFile(path)) {
      throw new ModelFormatException(path, "is not a regular file.");
    }
    FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
    try {
      return new ModelFile(path, channel, channel.size());
    } catch (IOException e) {
      channel.close();
      throw e;
    }
  }

  public Path path() {
    return path;
  }

  public long size() {
    return size;
  }

  /** Reads {@code length} bytes from {@code offset}; the range must lie inside the file. */
  public ByteBuffer read(long offset, long length) throws IOException {
    requireInside(offset, length);
    ByteBuffer bytes = ByteBuffer.allocate((int) length).order(ByteOrder.LITTLE_ENDIAN);
    while (bytes.hasRemaining()) {
      int begin = bytes.position();
      bytes.limit(Math.min((int) length, begin + PIECE));
      if (channel.read(bytes, offset + begin) < 0) {
        throw shrunk();
      }
      bytes.limit((int) length);
    }
    return bytes.flip();
  }

  /**
   * Maps {@code length} bytes from {@code offset}, for reading; the range must lie inside the file.
   * The mapping outlives this object, for as long as the buffer is reachable.
   */
  public ByteBuffer map(long offset, long length) throws IOException {
    requireInside(offset, length);
    if (offset > channel.size() - length) {
      throw shrunk();
    }
    return channel.map(FileChannel.MapMode.READ_ONLY, offset, length)
        .order(ByteOrder.LITTLE_ENDIAN);
  }

  private void requireInside(long offset, long length) throws ModelFormatException {
    if (offset < 0 || length < 0 || offset > size - length) {
      throw new ModelFormatException(path,
          "bytes " + offset + " to " + offset + " + " + length + " lie outside the file of " + size
              + " bytes.");
    }
    if (length > MOST_AT_ONCE) {
      throw new ModelFormatException(
          path, "a range of " + length + " bytes is longer than this reader takes at once.");
    }
  }

  private ModelFormatException shrunk() throws IOException {
    return new ModelFormatException(
        path, "has shrunk from " + size + " to " + channel.size() + " bytes since it was opened.");
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
