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

/** A regular file whose ranges can be mapped read-only; every view is little-endian. */
public final class MappedFile implements Closeable {
  private final Path path;
  private final FileChannel channel;
  private final long size;

  private MappedFile(Path path, FileChannel channel, long size) {
    this.path = path;
    this.channel = channel;
    this.size = size;
  }

  /** Opens {@code path} for mapping. */
  public static MappedFile open(Path path) throws IOException {
    // Others can be opened too, and would fail later and less clearly; a pipe waits for its writer.
    if (Files.isDirectory(path)) {
      throw new ModelFormatException(path, "is a directory, not a file.");
    }
    if (Files.exists(path) && !Files.isRegularFile(path)) {
      throw new ModelFormatException(path, "is not a regular file, which could be mapped.");
    }
    FileChannel channel = FileChannel.open(path, StandardOpenOption.READ);
    try {
      return new MappedFile(path, channel, channel.size());
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

  /** Maps {@code length} bytes from {@code offset}; the range must lie inside the file. */
  public ByteBuffer map(long offset, long length) throws IOException {
    if (offset < 0 || length < 0 || offset > size - length) {
      throw new ModelFormatException(path, "bytes " + offset + " to " + offset + " + " + length
          + " lie outside the file of " + size + " bytes.");
    }
    if (length > Integer.MAX_VALUE) {
      throw new ModelFormatException(path, "a range of " + length
          + " bytes is longer than the " + Integer.MAX_VALUE + " this reader maps at once.");
    }
    // Mapping past the end would extend the file's view and fault on access, should it have shrunk.
    if (offset + length > channel.size()) {
      throw new ModelFormatException(path, "has shrunk from " + size + " to " + channel.size()
          + " bytes since it was opened.");
    }
    return channel.map(FileChannel.MapMode.READ_ONLY, offset, length)
        .order(ByteOrder.LITTLE_ENDIAN);
  }

  @Override
  public void close() throws IOException {
    channel.close();
  }
}
