// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.Objects;
import java.util.concurrent.atomic.AtomicBoolean;

/**
 * Scratch memory that ops share: as large as the largest of them needs, where each of them alone
 * would keep what it needs for itself. The ops of a decoder run one after another, and the layers
 * of a prompt of 512 tokens (SmolLM2-135M) then hold 4.5 MB instead of 314, which stay in cache:
 *
 * <pre>{@code
 * Workspace shared = Workspace.in(scope, Device.CPU);
 * Linear project = Linear.builder().input(x).weight(w).out(y).build(scope, shared);
 * Ffn block = Ffn.builder(). ... .build(scope, shared);
 * }</pre>
 *
 * <p>It grows when an op is built that needs more. Ops hand nothing to each other through it: they
 * compute the same with a workspace of their own.
 *
 * <p>Thread-safety: ops that share a workspace must not run at the same time; the second
 * gets an {@link IllegalStateException}, and so does building an op meanwhile. Different threads
 * may run them one after another. On CUDA keep one workspace for each stream, or order the streams:
 * a run that is queued but not done still uses it. Graphs that were captured before it grew stay
 * valid: on CUDA what it grew out of is freed with the scope.
 */
public final class Workspace {
  private final Scope owner;
  private final Device device;
  private final AtomicBoolean busy = new AtomicBoolean();
  private long address; // as the size, changed and read by who holds `busy`
  private long bytes;

  private Workspace(Scope owner, Device device) {
    this.owner = owner;
    this.device = device;
  }

  /**
   * An empty workspace that takes its memory from a scope.
   *
   * @param owner frees it
   * @param device where the ops run
   * @return a workspace to build ops with, until the scope closes
   */
  public static Workspace in(Scope owner, Device device) {
    return new Workspace(
        Objects.requireNonNull(owner, "owner"), Objects.requireNonNull(device, "device"));
  }

  /**
   * The same on {@link Device#defaultDevice()}.
   *
   * @param owner frees it
   * @return a workspace to build ops with, until the scope closes
   */
  public static Workspace in(Scope owner) {
    return in(owner, Device.defaultDevice());
  }

  /**
   * Where it lies.
   *
   * @return the device of the ops that share it
   */
  public Device device() {
    return device;
  }

  /**
   * Bytes of device memory it holds now.
   *
   * @return as much as the largest of the ops built with it needs
   * @throws IllegalStateException if an op that shares it is running
   */
  public long bytes() {
    StackRoom.require();
    take(null);
    long held = bytes;
    leave();
    return held;
  }

  Scope owner() {
    return owner;
  }

  /** Grows to at least {@code needed} bytes. */
  void reserve(long needed) {
    take(null);
    try {
      grow(needed);
    } finally {
      leave();
    }
  }

  /** The same, between {@link #take} and {@link #leave}. */
  void grow(long needed) {
    if (needed <= bytes) {
      return;
    }
    long larger = owner.allocateBytes(Memory.Use.WORKSPACE, device, needed);
    long smaller = address;
    address = larger;
    bytes = needed;
    if (smaller != 0 && device.backend() == Backend.CPU) {
      owner.free(smaller);
    }
  }

  /**
   * Keeps other ops out until {@link #leave}, or throws. The caller has asked for {@link
   * StackRoom}.
   *
   * @param who the op; null: the workspace itself
   */
  void take(Op who) {
    if (!busy.compareAndSet(false, true)) {
      throw new IllegalStateException((who == null ? "workspace" : who.getClass().getSimpleName())
          + ": another op that shares the workspace is running");
    }
  }

  void leave() {
    busy.setRelease(false);
  }

  /** To be asked between {@link #take} and {@link #leave}; 0 if none was needed. */
  long address() {
    return address;
  }

  /** As {@link #bytes}, between {@link #take} and {@link #leave}. */
  long held() {
    return bytes;
  }
}
