// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.contenders;

import java.util.List;
import java.util.function.Function;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Device;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.OpCase;
import org.exeunt.jni.DLTensor;

/** An open case of an op: tensors in memory, and a judge of what is left there. */
public final class Problem implements AutoCloseable {
  /** So many times the bounds of exeunt peers may be off, which add in one chain of f32. */
  public static final double PEERS = 4;

  private final OpCase opened;
  private final Device device;

  public Problem(Cases.Listed listed) {
    this(listed, Device.CPU);
  }

  /** The same with its tensors on a device. */
  public Problem(Cases.Listed listed, Device device) {
    opened = listed.open(device);
    this.device = device;
  }

  /** What benchmarks time of an op, in the order of its table. */
  public static List<Cases.Listed> listed(String op) {
    return Cases.of(op).stream().filter(c -> c.tags().contains("bench")).toList();
  }

  /** The case of an op with this id. */
  public static Cases.Listed find(String op, String id) {
    return Cases.of(op)
        .stream()
        .filter(c -> c.id().equals(id))
        .findFirst()
        .orElseThrow(() -> new IllegalArgumentException("no case of " + op + " is called " + id));
  }

  public Cases.Listed listed() {
    return opened.listed();
  }

  public OpCase opened() {
    return opened;
  }

  /** Where its tensors lie. */
  public Device device() {
    return device;
  }

  /** The params struct of the last call. */
  public <P> P params(Function<Pointer, P> binding) {
    return params(opened.calls() - 1, binding);
  }

  /** The params struct of a call. */
  public <P> P params(int call, Function<Pointer, P> binding) {
    return binding.apply(Facade.at(opened.params(call)));
  }

  /** Writes a result, rounded to how the output is stored. */
  public static void put(DLTensor output, float[] values) {
    Facade.tensor(output).copyFrom(values);
  }

  /** Writes a result. */
  public static void put(DLTensor output, int[] values) {
    Facade.tensor(output).copyFrom(values);
  }

  /** Throws unless the last run was right, so that no time is taken of anything else. */
  public void check(Contender contender) {
    if (contender instanceof Peer peer) {
      opened.run();
      peer.deliver();
      complain(opened.judge(PEERS, peer.more()));
    } else {
      check();
    }
  }

  /** Throws unless what lies in the outputs is right. */
  public void check() {
    complain(opened.judge());
  }

  private void complain(String complaint) {
    if (complaint != null) {
      throw new IllegalStateException(listed().name() + ": " + complaint);
    }
  }

  @Override
  public void close() {
    opened.close();
  }
}
