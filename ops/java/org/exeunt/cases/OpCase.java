// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.util.LinkedHashMap;
import java.util.Map;

/** An open case: tensors on a device, one call or several in a row, and their judge. */
public final class OpCase implements AutoCloseable {
  private final Cases.Listed listed;
  private final long handle;

  OpCase(Cases.Listed listed, long handle) {
    this.listed = listed;
    this.handle = handle;
  }

  public Cases.Listed listed() {
    return listed;
  }

  /** Bytes of the large inputs, and of outputs where asked: what {@link #moveTo} needs. */
  public long streamedBytes(boolean outputs) {
    return Cases.streamedBytes(handle, outputs);
  }

  /**
   * Goes on with these tensors, as they were in the beginning, in memory of the caller's at a
   * 64-byte boundary. What was built before keeps the memory that it was built on.
   */
  public void moveTo(long address, boolean outputs) {
    Cases.moveTo(handle, address, outputs);
  }

  /** How many calls it takes, one after the other. */
  public int calls() {
    return Cases.calls(handle);
  }

  /** The op of a call, such as {@code kv_append}. */
  public String op(int call) {
    return Cases.op(handle, call);
  }

  /** Address of the params struct of a call; its tensors live as long as this case is open. */
  public long params(int call) {
    return Cases.params(handle, call);
  }

  /** Outputs as before any run; must come before each. */
  public void prepare() {
    Cases.prepare(handle);
  }

  /** One call through the C ABI, on the default stream. */
  public void run(int call) {
    Cases.run(handle, call);
  }

  /** All calls. */
  public void run() {
    for (int call = 0; call < calls(); call++) {
      run(call);
    }
  }

  /** Remembers what the outputs are now. */
  public void keepOutputs() {
    Cases.keepOutputs(handle);
  }

  /** The name of an output that has other bits than those remembered; null if none has. */
  public String changedOutput() {
    return Cases.changedOutput(handle);
  }

  /** Whether inputs, and what surrounds the outputs, are untouched. */
  public boolean intact() {
    return Cases.intact(handle);
  }

  /** Whether the outputs are what they were before any run. */
  public boolean untouched() {
    return Cases.untouched(handle);
  }

  /** Whether the CPU must refuse the last call, and write nothing. */
  public boolean refusedOnCpu() {
    return Cases.refusedOnCpu(handle);
  }

  /** What is wrong with the outputs of all calls; null if nothing is. */
  public String judge() {
    return judge(1, 0);
  }

  /** The same of a peer of exeunt: off by so many times the bounds of exeunt, and so much more. */
  public String judge(double factor, double more) {
    return Cases.judge(handle, factor, more);
  }

  /** Bytes that any implementation must move. */
  public double bytes() {
    return Cases.bytes(handle);
  }

  /** Extents, types and options by name; strings are quoted. */
  public Map<String, String> description() {
    Map<String, String> map = new LinkedHashMap<>();
    String[] pairs = Cases.description(handle);
    for (int i = 0; i < pairs.length; i += 2) {
      map.put(pairs[i], pairs[i + 1]);
    }
    return map;
  }

  @Override
  public void close() {
    Cases.close(handle);
  }
}
