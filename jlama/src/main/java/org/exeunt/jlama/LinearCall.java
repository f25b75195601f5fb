// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.exeunt.jni.global.exeunt;
import org.exeunt.presets.Direct;

/**
 * The params struct of one {@code exn_linear} after another, of one thread. Jlama's activations
 * have other addresses at each call, for which an op of the facade would be built anew.
 */
final class LinearCall {
  private static final int STRUCT = sizeof("exn_linear_params");
  private static final int TENSOR = sizeof("DLTensor") + 4 * Long.BYTES; // and shape, strides
  private static final int SHAPE = sizeof("DLTensor");
  private static final int DATA = offset("DLTensor", "data");
  private static final int DTYPE = offset("DLTensor", "dtype");
  private static final int CODE = DTYPE + offset("DLDataType", "code");
  private static final int BITS = DTYPE + offset("DLDataType", "bits");
  private static final int LANES = DTYPE + offset("DLDataType", "lanes");
  private static final int BLOCKS = offset("exn_linear_params", "weight_blocks");
  private static final int INPUT = STRUCT;
  private static final int WEIGHT = INPUT + TENSOR;
  private static final int OUT = WEIGHT + TENSOR;

  private final ByteBuffer block =
      ByteBuffer.allocateDirect(OUT + TENSOR).order(ByteOrder.nativeOrder());
  private final long address = Direct.address(block);
  private ByteBuffer workspace = aligned(1 << 16);

  LinearCall() {
    block.putLong(offset("exn_linear_params", "struct_size"), STRUCT);
    tensor("input", INPUT);
    tensor("weight", WEIGHT);
    tensor("out", OUT);
  }

  private void tensor(String field, int at) {
    int device = at + offset("DLTensor", "device");
    block.putLong(offset("exn_linear_params", field), address + at);
    block.putInt(device + offset("DLDevice", "device_type"), exeunt.kDLCPU);
    block.putInt(at + offset("DLTensor", "ndim"), 2);
    block.putShort(at + LANES, (short) 1);
    block.putLong(at + offset("DLTensor", "shape"), address + at + SHAPE);
    block.putLong(at + offset("DLTensor", "strides"), address + at + SHAPE + 2 * Long.BYTES);
    block.putLong(at + SHAPE + 3 * Long.BYTES, 1);
  }

  /** A matrix; {@code stride} counts elements between rows. */
  record Matrix(long address, Element element, long rows, long columns, long stride) {}

  /** {@code out = input weight^T}; a status, for which {@link #why} has a sentence. */
  int run(Matrix input, Matrix weight, int blocks, Matrix out) {
    set(INPUT, input);
    set(WEIGHT, weight);
    set(OUT, out);
    block.putInt(BLOCKS, blocks);
    int status = attempt();
    if (status != exeunt.EXN_INVALID_ARGUMENT) {
      return status;
    }
    long[] needed = new long[1];
    status = exeunt.exn_linear_workspace_size(address, needed);
    if (status != exeunt.EXN_OK || needed[0] <= workspace.capacity()) {
      return status == exeunt.EXN_OK ? attempt() : status;
    }
    workspace = aligned(Math.toIntExact(needed[0]));
    return attempt();
  }

  private int attempt() {
    return exeunt.exn_linear(address, Direct.address(workspace), workspace.capacity(), 0);
  }

  static String why() {
    return exeunt.exn_last_error();
  }

  private void set(int at, Matrix matrix) {
    block.putLong(at + DATA, matrix.address());
    block.put(at + CODE, matrix.element().code);
    block.put(at + BITS, matrix.element().bits);
    block.putLong(at + SHAPE, matrix.rows());
    block.putLong(at + SHAPE + Long.BYTES, matrix.columns());
    block.putLong(at + SHAPE + 2 * Long.BYTES, matrix.stride());
  }

  private static ByteBuffer aligned(int bytes) {
    ByteBuffer whole = ByteBuffer.allocateDirect(bytes + 2 * exeunt.EXN_WORKSPACE_ALIGN);
    ByteBuffer aligned = whole.alignedSlice(exeunt.EXN_WORKSPACE_ALIGN);
    return aligned.limit(aligned.capacity());
  }

  private static int sizeof(String type) {
    return offset(type, "sizeof");
  }

  private static int offset(String type, String field) {
    int offset = Direct.offset("org/exeunt/jni/" + type, field);
    if (offset < 0) {
      throw new IllegalStateException(type + " has no field " + field);
    }
    return offset;
  }
}
