// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.exeunt.tests.Refusals.refused;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.lang.management.ManagementFactory;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.extension.ExtendWith;

@ExtendWith(ForcedPath.class)
class TensorTest {
  private static FloatBuffer direct(float... values) {
    FloatBuffer buffer =
        ByteBuffer.allocateDirect(4 * values.length).order(ByteOrder.nativeOrder()).asFloatBuffer();
    return buffer.put(0, values);
  }

  @Test
  void pinnedMemoryForTheCpuIsOrdinary() {
    long held = Backend.heldBytes();
    try (Scope own = Scope.open()) {
      Tensor pinned = own.allocatePinned(Device.CPU, DType.I32, 3);
      assertEquals(12, Backend.heldBytes() - held);
      pinned.intBuffer().put(0, 7);
      assertEquals(7, pinned.toIntArray()[0]);
    }
    assertEquals(held, Backend.heldBytes());
  }

  @Test
  void directBufferFromItsPosition() {
    Tensor t = Tensor.of(direct(9, 9, 1, 2, 3, 4).position(2), 2, 2);
    assertArrayEquals(new float[] {1, 2, 3, 4}, t.toFloatArray());
    t.copyFrom(new float[] {5, 6, 7, 8});
    assertArrayEquals(new float[] {5, 6, 7, 8}, t.toFloatArray());
    assertEquals(6, t.floatBuffer().get(1));
  }

  @Test
  void buffersEndWhereTheTensorEnds() {
    try (Scope scope = Scope.open()) {
      assertEquals(100, scope.allocate(DType.F32, 10, 10).floatBuffer().capacity());
      assertEquals(7, scope.allocate(DType.U8, 7).byteBuffer().capacity());
      assertEquals(5, scope.allocate(DType.I32, 5).intBuffer().capacity());
    }
  }

  @Test
  void refusedBuffers() {
    invalid(() -> Tensor.of(FloatBuffer.allocate(4), 4), "buffer", "heap", "direct");
    invalid(() -> Tensor.of(direct(1, 2), 3), "buffer", "8 bytes", "12");
    invalid(() -> Tensor.of(ByteBuffer.allocateDirect(7), DType.F32, 2), "7 bytes", "8");
    invalid(() -> Tensor.of(direct(1, 2), DType.F64, 1), "4 bytes", "F64");
    FloatBuffer swapped =
        ByteBuffer.allocateDirect(8)
            .order(ByteOrder.nativeOrder() == ByteOrder.BIG_ENDIAN
                    ? ByteOrder.LITTLE_ENDIAN
                    : ByteOrder.BIG_ENDIAN)
            .asFloatBuffer();
    invalid(() -> Tensor.of(swapped, 2), "byte order", "LITTLE_ENDIAN", "BIG_ENDIAN");
    ByteBuffer shorts = ByteBuffer.allocateDirect(8).order(ByteOrder.nativeOrder());
    invalid(() -> Tensor.of(shorts.asShortBuffer(), 4), "F16 or BF16");
    assertEquals(DType.BF16, Tensor.of(shorts.asShortBuffer(), DType.BF16, 4).dtype());
  }

  @Test
  void pointerFromItsPosition() {
    try (FloatPointer pointer = new FloatPointer(1f, 2f, 3f, 4f)) {
      Tensor t = Tensor.of(pointer.position(1), DType.F32, Device.CPU, 3);
      assertArrayEquals(new float[] {2, 3, 4}, t.toFloatArray());
      invalid(() -> Tensor.of(pointer, DType.F32, Device.CPU, 4), "12 bytes", "16");
      invalid(() -> Tensor.of((Pointer) null, DType.F32, Device.CPU, 4), "null");
    }
  }

  @Test
  void dlpack() {
    try (FloatPointer data = new FloatPointer(0f, 1f, 2f, 3f, 4f, 5f, 6f, 7f);
        LongPointer shape = new LongPointer(2, 2); LongPointer strides = new LongPointer(4, 1);
        DLTensor dl = new DLTensor()) {
      dl.data(data).ndim(2).shape(shape).strides(strides).byte_offset(4);
      dl.device().device_type(1).device_id(0);
      dl.dtype().code((byte) 2).bits((byte) 32).lanes((short) 1);
      Tensor t = Tensor.ofDlpack(dl);
      assertArrayEquals(new float[] {1, 2, 5, 6}, t.toFloatArray());
      assertArrayEquals(new long[] {4, 1}, t.strides());
      assertFalse(t.isCompact());
      assertArrayEquals(new float[] {1, 2, 5, 6}, Tensor.ofDlpack(dl.address()).toFloatArray());
      dl.strides(null);
      assertArrayEquals(new float[] {1, 2, 3, 4}, Tensor.ofDlpack(dl).toFloatArray());
      dl.dtype().lanes((short) 4);
      invalid(() -> Tensor.ofDlpack(dl), "lanes 4");
      dl.dtype().lanes((short) 1);
      dl.device().device_type(7);
      invalid(() -> Tensor.ofDlpack(dl), "device type 7");
      dl.device().device_type(1);
      for (int rank : new int[] {-1, 65, Integer.MAX_VALUE}) {
        dl.ndim(rank);
        invalid(() -> Tensor.ofDlpack(dl), "rank " + rank, "0 to 64");
      }
      dl.ndim(2).strides(strides);
      shape.put(0, -2);
      invalid(() -> Tensor.ofDlpack(dl), "[-2, 2]", "negative");
      dl.shape(null);
      invalid(() -> Tensor.ofDlpack(dl), "shape is null", "rank is 2");
    }
  }

  @Test
  void views() {
    Tensor t = Tensor.of(direct(0, 1, 2, 3, 4, 5), 3, 2);
    assertArrayEquals(new float[] {2, 3, 4, 5}, t.rows(1, 3).toFloatArray());
    assertArrayEquals(new float[] {4, 5}, t.row(2).toFloatArray());
    assertArrayEquals(new long[] {2}, t.row(2).shape());
    Tensor column = t.slice(1, 1, 2);
    assertArrayEquals(new float[] {1, 3, 5}, column.toFloatArray());
    assertFalse(column.isCompact());
    assertTrue(t.rows(1, 1).elements() == 0);
    column.copyFrom(new float[] {7, 8, 9});
    assertArrayEquals(new float[] {0, 7, 2, 8, 4, 9}, t.reshape(6).toFloatArray());
    refused(IndexOutOfBoundsException.class, () -> t.rows(2, 4), "2..4", "3");
    refused(IndexOutOfBoundsException.class, () -> t.row(3), "3");
    refused(UnsupportedOperationException.class, column::floatBuffer, "not compact");
    invalid(() -> t.reshape(4), "4", "6");
    invalid(() -> t.copyFrom(new float[5]), "5", "6");
    refused(IndexOutOfBoundsException.class,
        () -> t.reinterpret(DType.F64, 8, 3), "24 bytes at 8", "24");
    invalid(() -> Tensor.ofAddress(0, DType.F32, Device.CPU, -1), "negative");
    invalid(() -> Tensor.ofAddress(0, DType.F32, Device.CPU, 1L << 62, 4), "more elements");
  }

  @Test
  void sizesThatNoLongHolds() {
    try (Scope scope = Scope.open()) {
      invalid(() -> scope.allocate(DType.F32, 1L << 61), "[2305843009213693952] of F32", "bytes");
      invalid(() -> Tensor.of(direct(1, 2), 1L << 62), "more bytes");
      try (FloatPointer pointer = new FloatPointer(1f)) {
        invalid(() -> Tensor.of(pointer, DType.F32, Device.CPU, 1L << 62), "more bytes");
      }
      Tensor t = scope.allocate(DType.U8, 4);
      invalid(() -> t.reinterpret(DType.F64, 0, 1L << 61), "more bytes");
    }
  }

  @Test
  void dimensionsAndRowsThatAreNone() {
    Tensor t = Tensor.of(direct(0, 1, 2, 3, 4, 5), 2, 3);
    Class<IndexOutOfBoundsException> outside = IndexOutOfBoundsException.class;
    refused(outside, () -> t.size(2), "dimension 2", "rank 2");
    refused(outside, () -> t.slice(-1, 0, 0), "dimension -1", "rank 2");
    refused(outside, () -> t.slice(5, 2, 1), "dimension 5", "rank 2");
    refused(outside, () -> t.rows(1, 3), "1..3", "extent 2");
    refused(outside, () -> t.row(Long.MAX_VALUE), "row 9223372036854775807", "2 rows");
    refused(outside, () -> t.row(-1), "row -1", "2 rows");
    refused(outside, () -> t.row(0).row(0).row(0), "dimension 0", "rank 0");
  }

  @Test
  void valuesThatAnIntegerTypeCannotHold() {
    try (Scope scope = Scope.open()) {
      Tensor ints = scope.allocate(DType.I32, 2).copyFrom(new int[] {7, 8});
      invalid(() -> ints.copyFrom(new float[] {1, 1e38f}), "values: element 1", "I32");
      invalid(() -> ints.copyFrom(new double[] {0x1p31, 1}), "element 0 is 2147483648", "I32");
      invalid(() -> ints.copyFrom(new float[] {Float.NaN, 1}), "element 0 is NaN", "I32");
      assertArrayEquals(new int[] {7, 8}, ints.toIntArray(), "a refused copy wrote");
      Tensor longs = scope.allocate(DType.I64, 1);
      invalid(() -> longs.copyFrom(new double[] {0x1p63}), "I64");
      Tensor bytes = scope.allocate(DType.U8, 1);
      invalid(() -> bytes.copyFrom(new int[] {256}), "element 0 is 256", "U8");
      invalid(() -> bytes.copyFrom(new int[] {-1}), "element 0 is -1", "U8");
      ints.copyFrom(new float[] {-2.9f, 2.9f});
      assertArrayEquals(new int[] {-2, 2}, ints.toIntArray());
    }
  }

  @Test
  void conversions() {
    try (Scope scope = Scope.open()) {
      for (DType dtype : new DType[] {DType.F16, DType.BF16, DType.F32, DType.F64}) {
        Tensor t = scope.copyOf(dtype, new float[] {1, -2.5f, 0}, 3);
        assertArrayEquals(new float[] {1, -2.5f, 0}, t.toFloatArray());
        assertArrayEquals(new double[] {1, -2.5, 0}, t.toDoubleArray());
      }
      // Just above the middle of 1 and the next F16: two roundings would go down.
      Tensor half = scope.allocate(DType.F16, 1).copyFrom(new double[] {1 + 0x1p-11 + 0x1p-40});
      assertEquals(1 + 0x1p-10f, half.toFloatArray()[0]);
      Tensor longs = scope.allocate(DType.I64, 2).copyFrom(new int[] {-1, 7});
      assertArrayEquals(new int[] {-1, 7}, longs.toIntArray());
      assertArrayEquals(new int[] {255, 0},
          scope.allocate(DType.U8, 2).copyFrom(new int[] {255, 0}).toIntArray());
      refused(UnsupportedOperationException.class, half::toIntArray, "F16");
      refused(UnsupportedOperationException.class, half::floatBuffer, "F16", "F32");
    }
  }

  @Test
  void copiesBetweenTensors() {
    try (Scope scope = Scope.open()) {
      Tensor a = scope.copyOf(new float[] {1, 2, 3, 4}, 2, 2);
      Tensor b = scope.allocate(DType.F32, 2, 2);
      a.copyTo(b, Stream.DEFAULT);
      Stream.DEFAULT.synchronize();
      assertArrayEquals(a.toFloatArray(), b.toFloatArray());
      invalid(() -> a.copyTo(scope.allocate(DType.F32, 4), Stream.DEFAULT), "[2, 2]", "[4]");
      invalid(() -> a.copyTo(scope.allocate(DType.I32, 2, 2), Stream.DEFAULT), "F32", "I32");
    }
  }

  /** Reading and writing results makes nothing but the array: 24 bytes for one element. */
  @Test
  void readingMakesNoBuffers() {
    var thread = (com.sun.management.ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (Scope scope = Scope.open()) {
      Tensor token = scope.copyOf(new int[] {7}, 1);
      Tensor p = scope.copyOf(new float[] {0.5f}, 1);
      float[] next = {0.25f};
      int calls = 1000;
      long allocated = 0;
      for (int round = 0; round < 2; round++) {
        long before = thread.getCurrentThreadAllocatedBytes();
        for (int i = 0; i < calls; i++) {
          assertEquals(7, token.toIntArray()[0]);
          p.copyFrom(next);
          assertEquals(0.25f, p.toFloatArray()[0]);
        }
        allocated = thread.getCurrentThreadAllocatedBytes() - before;
      }
      assertTrue(allocated <= 2 * 24 * calls + 8000, "allocated " + allocated);
    }
  }

  /** A tensor that was read before sees what is written since, by whatever way. */
  @Test
  void readingAgainSeesWhatWasWritten() {
    try (Scope scope = Scope.open()) {
      for (DType type : DType.values()) {
        Tensor all = scope.allocate(type, 5).copyFrom(new int[] {1, 2, 3, 4, 5});
        Tensor part = all.slice(0, 1, 3);
        assertArrayEquals(new float[] {2, 3}, part.toFloatArray());
        all.copyFrom(new float[] {6, 7, 8, 9, 10});
        assertArrayEquals(new float[] {7, 8}, part.toFloatArray());
        all.copyFrom(new double[] {11, 12, 13, 14, 15});
        assertArrayEquals(new double[] {12, 13}, part.toDoubleArray());
        part.byteBuffer().put(
            0, scope.copyOf(type, new float[] {77}, 1).byteBuffer(), 0, type.bytes());
        assertArrayEquals(new float[] {11, 77, 13, 14, 15}, all.toFloatArray());
      }
    }
  }

  @Test
  void whatWasReadIsRefusedAfterTheClose() {
    Scope scope = Scope.open();
    Tensor token = scope.copyOf(new int[] {7}, 1);
    Tensor p = scope.copyOf(new float[] {0.5f}, 1);
    token.toIntArray();
    p.toFloatArray();
    scope.close();
    assertThrows(IllegalStateException.class, token::toIntArray);
    assertThrows(IllegalStateException.class, p::toFloatArray);
    assertThrows(IllegalStateException.class, () -> token.copyFrom(new int[1]));
    assertThrows(IllegalStateException.class, () -> p.copyFrom(new float[1]));
  }

  @Test
  void allocationsAreAligned() {
    try (Scope scope = Scope.open()) {
      assertEquals(0, scope.allocate(Device.CPU, DType.U8, 1).address() % 64);
      assertEquals(0, scope.allocate(Device.CPU, DType.U8, 4 << 20).address() % (2 << 20));
      assertTrue(scope.allocate(Device.CPU, DType.F32, 0).address() != 0);
    }
  }

  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "gives them only to who has a privilege")
  void largeAllocationsAskForHugePages() throws IOException {
    Assumptions.assumeTrue(Files.exists(Path.of("/sys/kernel/mm/transparent_hugepage/enabled")),
        "this kernel has no transparent huge pages");
    try (Scope scope = Scope.open()) {
      String flags = mappingFlags(scope.allocate(Device.CPU, DType.U8, 4 << 20).address());
      assertTrue(List.of(flags.split(" +")).contains("hg"), flags);
    }
  }

  /** What the kernel was told about the mapping that holds an address. */
  private static String mappingFlags(long address) throws IOException {
    boolean inside = false;
    for (String line : Files.readAllLines(Path.of("/proc/self/smaps"))) {
      if (line.matches("[0-9a-f]+-[0-9a-f]+ .*")) {
        String[] bounds = line.substring(0, line.indexOf(' ')).split("-");
        inside = Long.compareUnsigned(Long.parseUnsignedLong(bounds[0], 16), address) <= 0
            && Long.compareUnsigned(address, Long.parseUnsignedLong(bounds[1], 16)) < 0;
      } else if (inside && line.startsWith("VmFlags:")) {
        return line.substring("VmFlags:".length());
      }
    }
    return "";
  }

  /** TornadoVM's arrays begin 24 bytes into their segment. */
  @Test
  void elementAlignmentIsEnough() {
    try (Scope scope = Scope.open()) {
      Tensor segment = scope.allocate(Device.CPU, DType.U8, 24 + 4 * 20);
      Tensor a = segment.reinterpret(DType.F32, 24, 1, 20);
      float[] ones = new float[20];
      Arrays.fill(ones, 1);
      a.copyFrom(ones);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      Cosine.compute(a, a, out);
      assertEquals(1, out.toFloatArray()[0], 1e-6);
    }
  }
}
