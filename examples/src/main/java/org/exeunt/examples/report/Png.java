// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.report;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32;
import java.util.zip.DeflaterOutputStream;

/** A picture of 24-bit colours, written as a PNG file; a runtime without java.desktop can do it. */
public final class Png {
  private static final byte[] SIGNATURE = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  private static final int TRUE_COLOUR = 2;

  private final int width;
  private final int height;
  private final int[] pixels;

  /** A black picture. */
  public Png(int width, int height) {
    this.width = width;
    this.height = height;
    pixels = new int[width * height];
  }

  /** Colours a pixel with 0xRRGGBB. */
  public void set(int x, int y, int rgb) {
    pixels[y * width + x] = rgb;
  }

  /** Writes the file. */
  public void write(Path path) throws IOException {
    ByteArrayOutputStream header = new ByteArrayOutputStream();
    DataOutputStream fields = new DataOutputStream(header);
    fields.writeInt(width);
    fields.writeInt(height);
    fields.write(new byte[] {8, TRUE_COLOUR, 0, 0, 0});
    ByteArrayOutputStream data = new ByteArrayOutputStream();
    try (DeflaterOutputStream packed = new DeflaterOutputStream(data)) {
      byte[] line = new byte[1 + 3 * width]; // its first byte: unfiltered
      for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
          int rgb = pixels[y * width + x];
          line[1 + 3 * x] = (byte) (rgb >> 16);
          line[2 + 3 * x] = (byte) (rgb >> 8);
          line[3 + 3 * x] = (byte) rgb;
        }
        packed.write(line);
      }
    }
    try (DataOutputStream file = new DataOutputStream(Files.newOutputStream(path))) {
      file.write(SIGNATURE);
      chunk(file, "IHDR", header.toByteArray());
      chunk(file, "IDAT", data.toByteArray());
      chunk(file, "IEND", new byte[0]);
    }
  }

  private static void chunk(DataOutputStream file, String type, byte[] content) throws IOException {
    byte[] name = type.getBytes(StandardCharsets.US_ASCII);
    CRC32 checksum = new CRC32();
    checksum.update(name);
    checksum.update(content);
    file.writeInt(content.length);
    file.write(name);
    file.write(content);
    file.writeInt((int) checksum.getValue());
  }
}
