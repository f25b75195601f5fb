// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.OverlappingFileLockException;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/** What the library makes and reads as one run of bytes, in memory or a file, by calls of no op. */
final class Image {
  private static final String PART = ".part";
  private static final int ATTEMPTS = 3;

  private Image() {}

  /** A call with a params struct of its own. */
  interface Call {
    int run(long params);
  }

  static void call(Params params, Call call) {
    Lifetimes lifetimes = new Lifetimes(params.tensors());
    StackRoom.require();
    lifetimes.acquire();
    try {
      long block = Memory.allocate(Memory.Use.ARGUMENTS, Device.CPU, params.blockBytes());
      try {
        params.write(Memory.view(block, params.blockBytes()), block);
        Status.check(call.run(block));
      } finally {
        Memory.free(Memory.Use.ARGUMENTS, Device.CPU, block, params.blockBytes());
      }
    } finally {
      lifetimes.release();
    }
  }

  /** The pages of a file, as [bytes]. */
  static Tensor map(Path file) throws IOException {
    Native.require();
    try (FileChannel channel = open(file)) {
      long bytes = size(file, channel);
      return Tensor.of(channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes), bytes);
    }
  }

  /** A copy of a file, as [bytes]: what is checked of it stays true, whatever becomes of the file. */
  static Tensor read(Scope scope, Path file) throws IOException {
    try (FileChannel channel = open(file)) {
      Tensor image = scope.allocate(Device.CPU, DType.U8, size(file, channel));
      ByteBuffer bytes = image.byteBuffer();
      while (bytes.hasRemaining()) {
        if (channel.read(bytes) < 0) {
          throw new IOException(
              file + " was cut to " + bytes.position() + " bytes while it was read");
        }
      }
      return image;
    }
  }

  private static FileChannel open(Path file) throws IOException {
    requireRegular(file);
    return FileChannel.open(file, StandardOpenOption.READ);
  }

  private static long size(Path file, FileChannel channel) throws IOException {
    long bytes = channel.size();
    if (bytes > Integer.MAX_VALUE) {
      throw new IllegalArgumentException(
          file + " has " + bytes + " bytes, expected at most " + Integer.MAX_VALUE);
    }
    if (bytes == 0) {
      throw new IllegalArgumentException(file + " is empty");
    }
    return bytes;
  }

  /**
   * Writes to a file beside it first, which is renamed once it is on the disk, so that no one ever
   * sees half of it. While it is written it is locked, which tells it from what a process that was
   * killed has left: that is removed.
   */
  static void save(Tensor image, Path file) throws IOException {
    requireRegular(file);
    Path target = file.toAbsolutePath();
    image.acquire();
    try {
      removeLeftovers(target);
      for (int attempt = 0; !saved(image, target); attempt++) {
        if (attempt == ATTEMPTS) {
          throw new IOException(
              file + " cannot be written: what belongs there is removed each time");
        }
      }
      try (FileChannel folder = FileChannel.open(target.getParent(), StandardOpenOption.READ)) {
        folder.force(true); // the name, too
      } catch (IOException e) {
        // Some file systems have no such thing for folders; the file is there all the same.
      }
    } finally {
      image.release();
    }
  }

  /** False if somebody took the file for a leftover before it was locked. */
  private static boolean saved(Tensor image, Path target) throws IOException {
    Path part = Files.createTempFile(target.getParent(), target.getFileName() + ".", PART);
    try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
      lock(channel);
      if (!Files.exists(part)) {
        return false;
      }
      ByteBuffer bytes = image.byteBuffer();
      while (bytes.hasRemaining()) {
        channel.write(bytes);
      }
      channel.force(true);
      Files.move(part, target, StandardCopyOption.ATOMIC_MOVE);
      return true;
    } catch (NoSuchFileException e) {
      return false;
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Whether no other process holds it, as far as its file system tells. */
  private static boolean lock(FileChannel channel) {
    try {
      return channel.tryLock() != null;
    } catch (IOException | OverlappingFileLockException e) {
      return false; // no locks there; or another thread is at it
    }
  }

  private static void removeLeftovers(Path target) throws IOException {
    String begin = target.getFileName() + ".";
    try (DirectoryStream<Path> beside = Files.newDirectoryStream(target.getParent(),
             other
             -> other.getFileName().toString().startsWith(begin)
                 && other.getFileName().toString().endsWith(PART))) {
      for (Path part : beside) {
        try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
          if (lock(channel)) {
            Files.deleteIfExists(part);
          }
        } catch (IOException e) {
          // Somebody else's, or gone by now.
        }
      }
    } catch (DirectoryIteratorException e) {
      throw e.getCause();
    }
  }

  /** Folders and devices cannot be mapped, and must not be replaced. */
  private static void requireRegular(Path file) throws IOException {
    if (Files.exists(Named.present("file", file)) && !Files.isRegularFile(file)) {
      throw new IOException("file '" + file + "' is no regular file");
    }
  }
}
