// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;

/** What the library makes and reads as one run of bytes, in memory or a file, by calls of no op. */
final class Image {
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
      long block = Memory.allocate(Device.CPU, params.blockBytes());
      try {
        params.write(Memory.view(block, params.blockBytes()), block);
        Status.check(call.run(block));
      } finally {
        Memory.free(Device.CPU, block, params.blockBytes());
      }
    } finally {
      lifetimes.release();
    }
  }

  /** The pages of a file, as [bytes]. */
  static Tensor map(Path file) throws IOException {
    Native.require();
    requireRegular(file);
    try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
      long bytes = channel.size();
      if (bytes > Integer.MAX_VALUE) {
        throw new IllegalArgumentException(
            file + " has " + bytes + " bytes, expected at most " + Integer.MAX_VALUE);
      }
      if (bytes == 0) {
        throw new IllegalArgumentException(file + " is empty");
      }
      return Tensor.of(channel.map(FileChannel.MapMode.READ_ONLY, 0, bytes), bytes);
    }
  }

  /** Writes to a file beside it first, which is then renamed, so that nobody sees half of it. */
  static void save(Tensor image, Path file) throws IOException {
    requireRegular(file);
    Path target = file.toAbsolutePath();
    Path part = Files.createTempFile(target.getParent(), target.getFileName() + ".", ".part");
    try {
      try (FileChannel channel = FileChannel.open(part, StandardOpenOption.WRITE)) {
        ByteBuffer bytes = image.byteBuffer();
        while (bytes.hasRemaining()) {
          channel.write(bytes);
        }
      }
      Files.move(part, target, StandardCopyOption.REPLACE_EXISTING);
    } finally {
      Files.deleteIfExists(part);
    }
  }

  /** Folders and devices cannot be mapped, and must not be replaced. */
  private static void requireRegular(Path file) throws IOException {
    if (Files.exists(Named.present("file", file)) && !Files.isRegularFile(file)) {
      throw new IOException("file '" + file + "' is no regular file");
    }
  }
}
