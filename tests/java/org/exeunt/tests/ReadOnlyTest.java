// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Tensors over read-only buffers: a write to a file mapped for reading would end the process. */
@ExtendWith(ForcedPath.class)
class ReadOnlyTest {
  @TempDir Path folder;

  @AfterEach
  void unmap() throws InterruptedException {
    Setup.remove(folder);
  }

  private MappedByteBuffer mapped() throws IOException {
    Path file = folder.resolve("weights");
    Files.write(file, new byte[64]);
    try (FileChannel channel = FileChannel.open(file)) {
      return channel.map(FileChannel.MapMode.READ_ONLY, 0, 64);
    }
  }

  @Test
  void viewsAndBuffersAreReadOnlyToo() throws IOException {
    Tensor t = Tensor.of(mapped(), DType.F32, 4, 4);
    assertTrue(t.isReadOnly());
    assertTrue(t.row(1).isReadOnly());
    assertTrue(t.reshape(16).isReadOnly());
    assertTrue(t.reinterpret(DType.U8, 4, 8).isReadOnly());
    assertTrue(t.strided(new long[] {2, 2}, new long[] {8, 2}).isReadOnly());
    assertTrue(t.floatBuffer().isReadOnly());
    assertEquals(ByteOrder.nativeOrder(), t.byteBuffer().order());
    ByteBuffer writable = ByteBuffer.allocateDirect(8);
    assertFalse(Tensor.of(writable, 8).isReadOnly());
    assertFalse(Tensor.of(writable, 8).byteBuffer().isReadOnly());
    assertTrue(Tensor.of(writable.asReadOnlyBuffer(), 8).isReadOnly());
  }

  @Test
  void copiesIntoThemAreRefused() throws IOException {
    Tensor t = Tensor.of(mapped(), DType.F32, 16);
    invalid(() -> t.copyFrom(new float[16]), "copyFrom", "F32[16]", "is read-only");
    invalid(() -> t.copyFrom(new double[16]), "is read-only");
    invalid(() -> t.copyFrom(new int[16]), "is read-only");
    invalid(() -> t.rows(2, 4).copyFrom(new float[2]), "F32[2]", "is read-only");
    try (Scope scope = Scope.open()) {
      Tensor other = scope.allocate(Device.CPU, DType.F32, 16);
      invalid(() -> t.copyFrom(other, Stream.DEFAULT), "is read-only");
      invalid(() -> other.copyTo(t, Stream.DEFAULT), "is read-only");
      invalid(() -> Backend.copyBandwidthProbe(other, t, false), "F32[16]", "is read-only");
      Backend.copyBandwidthProbe(t, other, false);
      other.copyFrom(t, Stream.DEFAULT);
      assertArrayEquals(new float[16], other.toFloatArray());
    }
  }
}
