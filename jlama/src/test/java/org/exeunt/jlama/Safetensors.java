// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Writes a file of weights: a header of JSON, then one tensor after the other. */
final class Safetensors {
  private static final int LINE = 64;

  /** What a tensor consists of, asked for when it is written. */
  interface Content {
    ByteBuffer read() throws IOException;
  }

  private final Map<String, Object> header = new LinkedHashMap<>();
  private final List<Content> contents = new ArrayList<>();
  private long end;

  void add(String name, String type, List<Long> shape, long bytes, Content content) {
    header.put(
        name, Map.of("dtype", type, "shape", shape, "data_offsets", List.of(end, end + bytes)));
    contents.add(content);
    end += bytes;
  }

  /** Writes the file, whose tensors begin {@code odd} bytes after a multiple of 64. */
  void write(Path path, int odd) throws IOException {
    byte[] text = new ObjectMapper().writeValueAsBytes(header);
    int length = (text.length + Long.BYTES + LINE) / LINE * LINE + odd - Long.BYTES;
    ByteBuffer begin = ByteBuffer.allocate(Long.BYTES + length).order(ByteOrder.LITTLE_ENDIAN);
    begin.putLong(length).put(text).put(" ".repeat(length - text.length).getBytes());
    Path draft = path.resolveSibling(path.getFileName() + ".draft");
    try (FileChannel out = FileChannel.open(draft, StandardOpenOption.CREATE,
             StandardOpenOption.TRUNCATE_EXISTING, StandardOpenOption.WRITE)) {
      write(out, begin.flip());
      for (Content content : contents) {
        write(out, content.read());
      }
      if (out.position() != Long.BYTES + length + end) {
        throw new IllegalStateException(
            path + " has " + out.position() + " bytes, expected " + (Long.BYTES + length + end));
      }
    }
    Files.move(draft, path, StandardCopyOption.ATOMIC_MOVE);
  }

  private static void write(FileChannel out, ByteBuffer bytes) throws IOException {
    while (bytes.hasRemaining()) {
      out.write(bytes);
    }
  }
}
