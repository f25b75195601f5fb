// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.AccessDeniedException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/** Files that are made once and kept: packed weights, certified heads, what was trained. */
public final class KeptFiles {
  private KeptFiles() {}

  /** What fills a file. */
  public interface Content {
    void writeTo(FileChannel channel) throws IOException;
  }

  /**
   * Writes a file beside its place, which is renamed once it is on the disk, so that no one sees half
   * of it. Folders above it are made.
   */
  public static void replace(Path place, Content content) throws IOException {
    Path target = place.toAbsolutePath();
    Files.createDirectories(target.getParent());
    Path part = Files.createTempFile(target.getParent(), target.getFileName() + ".", ".part");
    try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
      content.writeTo(channel);
      channel.force(true);
      Files.move(part, target, StandardCopyOption.ATOMIC_MOVE);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Writes all that remains of {@code bytes}. */
  public static void write(FileChannel channel, ByteBuffer bytes, long offset) throws IOException {
    for (long at = offset; bytes.hasRemaining();) {
      at += channel.write(bytes, at);
    }
  }

  /** What an exception about a file has to say, which may be the file's name alone. */
  public static String why(Exception e) {
    if (e instanceof AccessDeniedException denied) {
      return denied.getFile() + " may not be read or written";
    }
    if (e instanceof FileSystemException failed && failed.getReason() == null) {
      return failed.getFile() + ": " + failed.getClass().getSimpleName();
    }
    return e.getMessage();
  }
}
