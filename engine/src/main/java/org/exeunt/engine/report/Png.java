// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.report;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.zip.CRC32;
import java.util.zip.DeflaterOutputStream;

/** A picture, written as a PNG file; a runtime without java.desktop can do it. */
public final class Png {
  private static final byte[] SIGNATURE = {(byte) 0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
  private static final int TRUE_COLOUR_WITH_ALPHA = 6;

  private final int width;
  private final int height;
  private final int[] pixels;

  /** A picture that one looks through. */
  public Png(int width, int height) {
    this.width = width;
    this.height = height;
    pixels = new int[width * height];
  }

  /** Colours a pixel with 0xAARRGGBB, of which AA is FF where nothing shines through. */
  public void set(int x, int y, int argb) {
    pixels[y * width + x] = argb;
  }

  /** Writes the file. */
  public void write(Path path) throws IOException {
    Files.write(path, bytes());
  }

  /** What the file holds. */
  byte[] bytes() {
    try {
      return encoded();
    } catch (IOException e) {
      throw new UncheckedIOException(e); // memory fails otherwise
    }
  }

  private byte[] encoded() throws IOException {
    ByteArrayOutputStream header = new ByteArrayOutputStream();
    DataOutputStream fields = new DataOutputStream(header);
    fields.writeInt(width);
    fields.writeInt(height);
    fields.write(new byte[] {8, TRUE_COLOUR_WITH_ALPHA, 0, 0, 0});
    ByteArrayOutputStream data = new ByteArrayOutputStream();
    try (DeflaterOutputStream packed = new DeflaterOutputStream(data)) {
      byte[] line = new byte[1 + 4 * width]; // its first byte: unfiltered
      for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
          int argb = pixels[y * width + x];
          line[1 + 4 * x] = (byte) (argb >> 16);
          line[2 + 4 * x] = (byte) (argb >> 8);
          line[3 + 4 * x] = (byte) argb;
          line[4 + 4 * x] = (byte) (argb >> 24);
        }
        packed.write(line);
      }
    }
    ByteArrayOutputStream whole = new ByteArrayOutputStream();
    DataOutputStream file = new DataOutputStream(whole);
    file.write(SIGNATURE);
    chunk(file, "IHDR", header.toByteArray());
    chunk(file, "IDAT", data.toByteArray());
    chunk(file, "IEND", new byte[0]);
    return whole.toByteArray();
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
