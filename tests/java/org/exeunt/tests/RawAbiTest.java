// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Arrays;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.bytedeco.javacpp.PointerScope;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_exit_head_params;
import org.exeunt.jni.exn_row_stats_params;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;

/**
 * What the facade cannot do wrong: a params struct of another size, a workspace that is too small
 * or misplaced.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class RawAbiTest {
  private static final int CANARY = 0x5A;

  /** A DLTensor in the current PointerScope. */
  private static DLTensor dl(Tensor t) {
    DLTensor dl = new DLTensor();
    dl.data(new Pointer(t.address() == 0 ? null : new AddressOf(t.address())));
    dl.device().device_type(t.device().equals(Device.CPU) ? exeunt.kDLCPU : exeunt.kDLCUDA);
    dl.device().device_id(0);
    dl.ndim(t.rank());
    boolean integer = t.dtype() == DType.I32;
    dl.dtype().code((byte) (integer ? exeunt.kDLInt : exeunt.kDLFloat));
    dl.dtype().bits((byte) (8 * t.dtype().bytes()));
    dl.dtype().lanes((short) 1);
    dl.shape(new LongPointer(t.shape()));
    dl.strides(new LongPointer((Pointer) null));
    dl.byte_offset(0);
    return dl;
  }

  private static final class AddressOf extends Pointer {
    AddressOf(long address) {
      this.address = address;
    }
  }

  private static exn_row_stats_params rowStats(Scope scope) {
    exn_row_stats_params p = new exn_row_stats_params();
    Pointer.memset(p, 0, p.sizeof());
    p.struct_size(p.sizeof());
    p.logits(dl(scope.allocate(DType.F32, 2, 100)));
    p.temperature(1);
    p.out().argmax(dl(scope.allocate(DType.I32, 2)));
    return p;
  }

  @Test
  void structSize() {
    try (Scope scope = Scope.open(); PointerScope pointers = new PointerScope()) {
      exn_row_stats_params p = rowStats(scope);
      assertEquals(exeunt.EXN_OK, exeunt.exn_row_stats_supported(p), exeunt.exn_last_error());
      p.struct_size(3);
      assertEquals(exeunt.EXN_INVALID_ARGUMENT, exeunt.exn_row_stats_supported(p));
      String why = exeunt.exn_last_error();
      assertTrue(why.contains("struct_size") && why.contains("3"), why);
      assertEquals(exeunt.EXN_INVALID_ARGUMENT, exeunt.exn_row_stats_supported((Pointer) null));
    }
  }

  @Test
  void workspaceOneByteShort() {
    try (Scope scope = Scope.open(); PointerScope pointers = new PointerScope()) {
      exn_exit_head_params p = new exn_exit_head_params();
      Pointer.memset(p, 0, p.sizeof());
      p.struct_size(p.sizeof());
      p.hidden(dl(scope.allocate(DType.F32, 3, 64).copyFrom(new float[3 * 64])));
      p.weight(dl(scope.allocate(DType.F32, 500, 64).copyFrom(new float[500 * 64])));
      p.norm_weight(dl(scope.allocate(DType.F32, 64).copyFrom(new float[64])));
      p.norm(exeunt.EXN_NORM_RMS);
      p.norm_eps(1e-5f);
      p.temperature(1);
      Tensor argmax = scope.copyOf(new int[] {77, 77, 77}, 3);
      p.out().argmax(dl(argmax));
      long[] bytes = new long[1];
      assertEquals(
          exeunt.EXN_OK, exeunt.exn_exit_head_workspace_size(p, bytes), exeunt.exn_last_error());
      assertTrue(bytes[0] > 0, "this shape was chosen because it needs a workspace");

      Tensor workspace = scope.allocate(DType.U8, bytes[0] + 64);
      int[] canary = new int[(int) bytes[0] + 64];
      Arrays.fill(canary, CANARY);
      workspace.copyFrom(canary);
      expectRefused(p, workspace.address(), bytes[0] - 1, "" + (bytes[0] - 1), "" + bytes[0]);
      expectRefused(p, workspace.address() + 1, bytes[0], "workspace", "64");
      expectRefused(p, 0, bytes[0], "workspace");
      assertEquals(77, argmax.toIntArray()[0], "a refused run wrote an output");
      for (int b : workspace.toIntArray()) {
        assertEquals(CANARY, b, "a refused run wrote its workspace");
      }
      int status = exeunt.exn_exit_head(p.address(), workspace.address(), bytes[0], 0);
      assertEquals(exeunt.EXN_OK, status, exeunt.exn_last_error());
      Stream.DEFAULT.synchronize();
      assertEquals(0, argmax.toIntArray()[0]);
      int[] after = workspace.toIntArray();
      for (int i = (int) bytes[0]; i < after.length; i++) {
        assertEquals(CANARY, after[i], "the run wrote past its workspace");
      }
    }
  }

  private static void expectRefused(
      exn_exit_head_params p, long workspace, long bytes, String... words) {
    int status = exeunt.exn_exit_head(p.address(), workspace, bytes, 0);
    String why = exeunt.exn_last_error();
    assertEquals(exeunt.EXN_INVALID_ARGUMENT, status, why);
    for (String word : words) {
      assertTrue(why.contains(word), "'" + word + "' is not in: " + why);
    }
  }

  @Test
  void textsAndNames() {
    assertEquals("EXN_DEVICE_LOST", exeunt.exn_status_name(exeunt.EXN_DEVICE_LOST));
    assertEquals(exeunt.EXN_ABI_VERSION, exeunt.exn_abi_version());
    try (BytePointer name = new BytePointer("no-such-isa")) {
      assertEquals(exeunt.EXN_INVALID_ARGUMENT, exeunt.exn_cpu_set_isa(name));
      assertTrue(exeunt.exn_last_error().contains("no-such-isa"), exeunt.exn_last_error());
    }
  }
}
