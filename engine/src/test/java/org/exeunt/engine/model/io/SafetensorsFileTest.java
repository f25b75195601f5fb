// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;
import org.junit.jupiter.params.provider.ValueSource;

class SafetensorsFileTest {
  @TempDir Path folder;

  private static byte[] bytes(String header, int... values) {
    byte[] text = header.getBytes(StandardCharsets.UTF_8);
    ByteBuffer file =
        ByteBuffer.allocate(8 + text.length + 4 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    file.putLong(text.length).put(text);
    for (int value : values) {
      file.putInt(value);
    }
    return file.array();
  }

  private Path write(byte[] bytes) throws IOException {
    return Files.write(folder.resolve("test.safetensors"), bytes);
  }

  private static final String TWO_TENSORS = "{\"__metadata__\":{\"by\":\"test\"},"
      + "\"ids\":{\"dtype\":\"I32\",\"shape\":[2],\"data_offsets\":[0,8]},"
      + "\"h\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[8,12]}}  ";

  @Test
  void readsTensors() throws IOException {
    int one = Float.floatToIntBits(1);
    try (SafetensorsFile file = SafetensorsFile.open(write(bytes(TWO_TENSORS, 3, -4, one)))) {
      assertArrayEquals(new int[] {3, -4}, file.ints("ids"));
      assertArrayEquals(new float[] {1}, file.floats("h"));
      assertEquals(List.of(1L, 1L), file.tensor("h").shape());
      assertEquals(2, file.tensors().size());
      assertThrows(ModelFormatException.class, () -> file.doubles("h"));
      assertThrows(ModelFormatException.class, () -> file.floats("ids"));
      assertThrows(ModelFormatException.class, () -> file.ints("absent"));
    }
  }

  @Test
  void everyTruncationIsReported() throws IOException {
    byte[] whole = bytes(TWO_TENSORS, 3, -4, 0);
    for (int length = 0; length < whole.length; length++) {
      Path path = write(Arrays.copyOf(whole, length));
      assertThrows(ModelFormatException.class, () -> SafetensorsFile.open(path).close());
    }
  }

  @ParameterizedTest
  @ValueSource(longs = {-1, Long.MIN_VALUE, Long.MAX_VALUE, 1 << 24, 9})
  void aLyingHeaderLengthIsReported(long length) throws IOException {
    ByteBuffer file = ByteBuffer.allocate(16).order(ByteOrder.LITTLE_ENDIAN).putLong(length);
    Path path = write(file.array());
    String message =
        assertThrows(ModelFormatException.class, () -> SafetensorsFile.open(path).close())
            .getMessage();
    assertTrue(message.contains(Long.toUnsignedString(length)), message);
  }

  @ParameterizedTest
  @CsvSource(delimiter = '|',
      value = {"the header is not a JSON object|[]", "the header is not JSON|{\"a\":}",
          "the header is not JSON|{\"a\":1}{",
          "Malformed Unicode escape|{\"\\u\u0661\u0661\u0661\u0661\":1}",
          "of the file, inside tensor 'a', which ends at|"
              + "{\"a\":{\"dtype\":\"I32\",\"shape\":[1],\"data_offsets\":[0,4]},"
              + "\"b\":{\"dtype\":\"I8\",\"shape\":[1],\"data_offsets\":[2,3]}}",
          "Nesting limit 64 reached|{\"a\":"
              + "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["
              + "[[[[",
          "member \"a\" twice|{\"a\":{\"dtype\":\"I32\",\"shape\":[0],"
              + "\"data_offsets\":[0,0]},\"a\":1}",
          "tensor 'a' is not a JSON object|{\"a\":3}",
          "has dtype F8|{\"a\":{\"dtype\":\"F8\",\"shape\":[1],\"data_offsets\":[0,1]}}",
          "has dtype null|{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}",
          "shape is [-1]|{\"a\":{\"dtype\":\"I32\",\"shape\":[-1],\"data_offsets\":[0,4]}}",
          "shape is [1.5]|{\"a\":{\"dtype\":\"I32\",\"shape\":[1.5],\"data_offsets\":[0,4]}}",
          "shape is null|{\"a\":{\"dtype\":\"I32\",\"data_offsets\":[0,4]}}",
          "overflows|{\"a\":{\"dtype\":\"I32\",\"shape\":[4294967296,4294967296],"
              + "\"data_offsets\":[0,4]}}",
          "overflows|{\"a\":{\"dtype\":\"I64\",\"shape\":[4294967296,536870912],"
              + "\"data_offsets\":[0,4]}}",
          "I32 of shape [2] is not 4 bytes|{\"a\":{\"dtype\":\"I32\",\"shape\":[2],"
              + "\"data_offsets\":[0,4]}}",
          "data section holds 4 bytes|{\"a\":{\"dtype\":\"I32\",\"shape\":[2],"
              + "\"data_offsets\":[0,8]}}",
          "data section holds 4 bytes|{\"a\":{\"dtype\":\"I32\",\"shape\":[0],"
              + "\"data_offsets\":[4,0]}}",
          "not a first and a last byte|{\"a\":{\"dtype\":\"I32\",\"shape\":[1],"
              + "\"data_offsets\":[0]}}",
          "data_offsets is [0, 9.223372036854776E18]|{\"a\":{\"dtype\":\"I32\",\"shape\":[1],"
              + "\"data_offsets\":[0,9223372036854775807]}}"})
  void hostileHeadersAreReported(String expected, String header) throws IOException {
    Path path = write(bytes(header, 0));
    String message =
        assertThrows(ModelFormatException.class, () -> SafetensorsFile.open(path).close())
            .getMessage();
    assertTrue(message.contains(expected), message);
    assertTrue(message.contains("test.safetensors: "), message);
  }

  @Test
  void aHeaderThatIsNotUtf8IsReported() throws IOException {
    byte[] file = bytes("{\"a\":1}");
    file[10] = (byte) 0xff;
    Path path = write(file);
    String message =
        assertThrows(ModelFormatException.class, () -> SafetensorsFile.open(path).close())
            .getMessage();
    assertTrue(message.contains("not UTF-8"), message);
  }
}
