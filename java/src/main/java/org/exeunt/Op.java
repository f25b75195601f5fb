// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.util.List;
import java.util.concurrent.atomic.AtomicInteger;
import org.exeunt.jni.global.exeunt;
import org.jspecify.annotations.Nullable;

/**
 * A kernel with its arguments: built once, where arguments are checked and the workspace is
 * allocated, and run many times. A run allocates nothing, synchronises nothing and adds less than
 * 100 ns to the native call, and on slow machines less than twice the smallest call.
 *
 * <p>On the CPU a run has finished when the call returns. On CUDA its work is queued on the stream
 * (it may be captured into a {@link Graph}); outputs may be read after {@link
 * Stream#synchronize()}.
 *
 * <p>Thread-safety: one op must not run twice at the same time, since its runs share a workspace,
 * nor two ops that were given the same {@link Workspace}; a second run is an {@link
 * IllegalStateException}. Different threads may run them one after another.
 * On CUDA keep one op for each stream, or order the streams: a run that is queued but not done
 * still uses the workspace.
 *
 * <p>Outputs may not overlap inputs or each other unless the op's documentation says so, nor be
 * {@link Tensor#isReadOnly read-only}. Tensors need the alignment of their element only, and must
 * all lie on one device.
 *
 * <p>Errors of building and running: {@link IllegalArgumentException} with the argument's name and
 * the values that disagree; {@link UnsupportedOperationException} where the backend has no kernel,
 * or none for so many rows (on CUDA at most 2^31 - 1 for some ops); {@link OutOfMemoryError};
 * {@link ExeuntException} where the backend is missing or failed; {@link DeviceLostException};
 * {@link IllegalStateException} after a scope or the op was closed.
 *
 * <p>An op holds native memory: close it, or build it into a {@link Scope} that does.
 */
public abstract sealed class Op
    implements AutoCloseable permits Attention, AttentionScores, ColumnNorms, Cosine, CrossEntropy,
               DraftLookup, DraftRule, Elr, Embedding, ExitHead, ExitRule, Ffn, FfnSkipRule, Gate,
               Gather, HiddenStack, HiredBudget, KvAppend, KvCompact, KvCopy, KvLength, KvPropagate,
               LayerSchedule, Linear, Norm, PerpGrad, PruneApply, PruneMask, Rope, RopeTable,
               RowCompaction, RowStats, Select, SsmStep, StableMax, StopRule, TokenBias, Verify {
  private static final int IDLE = 0;
  private static final int RUNNING = 1;
  private static final int CLOSED = 2;

  private final AtomicInteger state = new AtomicInteger();
  private final Device device;
  private final Scope owner; // null: the caller closes
  private final Lifetimes lifetimes;
  private final List<Tensor> tensors; // keeps what owns their memory reachable
  private final long params;
  private final int paramsBytes;
  private final ByteBuffer paramsBlock;
  private final Workspace shared; // null: `workspace` is this op's own
  private long workspace; // 0: none is needed; as `shared`, changed by who holds the op
  private volatile long workspaceBytes;
  private int graphs; // that hold this op; guarded by itself

  Op(Params arguments, Place place) {
    device = arguments.device();
    owner = place.owner();
    tensors = arguments.tensors();
    Workspace offered = place.workspace();
    if (offered != null && !offered.device().equals(device)) {
      throw new IllegalArgumentException(
          "workspace is on " + offered.device() + ", but the tensors are on " + device);
    }
    lifetimes = new Lifetimes(tensors, owner, offered == null ? null : offered.owner());
    StackRoom.require();
    lifetimes.acquire();
    try {
      device.backend().require();
      paramsBytes = arguments.blockBytes();
      params = Memory.allocate(Memory.Use.ARGUMENTS, Device.CPU, paramsBytes);
      boolean done = false;
      try {
        paramsBlock = Memory.view(params, paramsBytes);
        arguments.write(paramsBlock, params);
        Status.check(supported(params));
        long[] bytes = new long[1];
        Status.check(workspaceSize(params, bytes));
        shared = bytes[0] > 0 ? offered : null;
        if (shared != null) {
          shared.reserve(bytes[0]);
        } else if (bytes[0] > 0) {
          workspace = Memory.allocate(Memory.Use.WORKSPACE, device, bytes[0]);
        }
        workspaceBytes = bytes[0];
        if (owner != null) {
          owner.own(this);
        }
        done = true;
      } finally {
        if (!done) {
          free();
        }
      }
    } finally {
      lifetimes.release();
    }
  }

  abstract int supported(long params);

  abstract int workspaceSize(long params, long[] bytes);

  abstract int launch(long params, long workspace, long workspaceBytes, long stream);

  /**
   * The device this op runs on.
   *
   * @return the device of its tensors
   */
  public final Device device() {
    return device;
  }

  /**
   * Bytes of device memory this op needs as its workspace: its own, or of the one it shares. On the
   * CPU another instruction set may need more ({@link Backend#setIsa}): the op's next run then
   * makes the workspace larger.
   *
   * @return 0 if it needs none
   */
  public final long workspaceBytes() {
    return workspaceBytes;
  }

  /** Runs on {@link Stream#DEFAULT}; see {@link #run(Stream)}. */
  public final void run() {
    run(Stream.DEFAULT);
  }

  /**
   * Runs the kernel once; does not synchronise.
   *
   * @param stream where to queue the work; ignored on the CPU
   * @throws IllegalArgumentException if the stream belongs to another device, or an input's
   *     contents are refused (on the CPU: labels, shortlists, slots, page tables and other lists
   *     that name what is not there); nothing was written
   * @throws IllegalStateException if the op, or another with the same workspace, runs already, or
   *     if the op, the stream or a tensor's owner is closed
   * @throws ExeuntException if the backend failed
   */
  public final void run(Stream stream) {
    long handle = enter(stream);
    try {
      launch(handle);
    } finally {
      leave(stream);
    }
  }

  /** Takes the stream, the tensors' memory and the op, or throws; the stream's handle. */
  final long enter(Stream stream) {
    Named.present("stream", stream);
    StackRoom.require();
    long handle = stream.acquireFor(device);
    boolean done = false;
    try {
      enter();
      done = true;
    } finally {
      if (!done) {
        stream.release();
      }
    }
    return handle;
  }

  /**
   * In this order, and {@link #leave} in the other, so that a scope that is not held finds none of
   * its ops running.
   */
  private void enter() {
    lifetimes.acquire();
    boolean done = false;
    try {
      if (!state.compareAndSet(IDLE, RUNNING)) {
        throw taken();
      }
      if (shared != null) {
        takeShared();
      }
      done = true;
    } finally {
      if (!done) {
        lifetimes.release();
      }
    }
  }

  private void takeShared() {
    boolean done = false;
    try {
      shared.take(this);
      done = true;
    } finally {
      if (!done) {
        state.setRelease(IDLE);
      }
    }
  }

  private IllegalStateException taken() {
    return new IllegalStateException(getClass().getSimpleName()
        + (state.get() == CLOSED ? " is closed" : " is running in another thread"));
  }

  final void launch(long stream) {
    if (Jfr.records() && Records.runs()) {
      Records.run(this, stream);
    } else {
      call(stream);
    }
  }

  /** The run itself, which nobody records. */
  final void call(long stream) {
    int status = attempt(stream);
    if (status != exeunt.EXN_OK) {
      attemptAgain(status, stream);
    }
    if (Stream.captures != 0) {
      Capture.note(stream, this);
    }
  }

  /** Bytes of the elements of all tensors. */
  final long tensorBytes() {
    long bytes = 0;
    for (Tensor tensor : tensors) {
      bytes += tensor.byteSize();
    }
    return bytes;
  }

  /** Keeps the op and what it uses from being closed until {@link #letGo}. */
  final synchronized void holdForGraph() {
    lifetimes.acquire();
    graphs++;
  }

  final synchronized void letGo() {
    graphs--;
    lifetimes.release();
  }

  private synchronized boolean isInGraph() {
    return graphs > 0;
  }

  private int attempt(long stream) {
    return launch(params, shared == null ? workspace : shared.address(), workspaceBytes, stream);
  }

  /**
   * An instruction set that was chosen after the build may need a larger workspace; and once more,
   * in case that another thread chose it while this one asked.
   */
  private void attemptAgain(int first, long stream) {
    boolean again = true;
    for (int status = first; status != exeunt.EXN_OK; status = attempt(stream)) {
      String sentence = exeunt.exn_last_error();
      if (status != exeunt.EXN_INVALID_ARGUMENT || device.backend() != Backend.CPU) {
        Status.check(status, sentence);
      }
      if (!enlarge()) {
        if (!again) {
          Status.check(status, sentence);
        }
        again = false;
      }
    }
  }

  /** False if the workspace is as large as it needs to be. */
  private boolean enlarge() {
    long[] needed = new long[1];
    Status.check(workspaceSize(params, needed));
    if (needed[0] <= workspaceBytes) {
      return false;
    }
    long smaller = workspace;
    long smallerBytes = workspaceBytes;
    if (shared != null) {
      shared.grow(needed[0]);
    } else {
      workspace = Memory.allocate(Memory.Use.WORKSPACE, device, needed[0]);
    }
    workspaceBytes = needed[0];
    if (smaller != 0) {
      Memory.free(Memory.Use.WORKSPACE, device, smaller, smallerBytes);
    }
    return true;
  }

  final void leave(Stream stream) {
    try {
      if (shared != null) {
        shared.leave();
      }
      state.setRelease(IDLE);
    } finally {
      try {
        lifetimes.release();
      } finally {
        stream.release();
        Reference.reachabilityFence(this);
      }
    }
  }

  /** The params struct; to be written between {@link #enter} and {@link #leave} only. */
  final ByteBuffer paramsBlock() {
    return paramsBlock;
  }

  /**
   * Frees the workspace and the parameter block; on CUDA waits for the device if there is a
   * workspace. Closing twice is allowed.
   *
   * @throws IllegalStateException if the op is running, or part of a {@link Graph} that is open
   */
  @Override
  public final void close() {
    StackRoom.require();
    if (!state.compareAndSet(IDLE, CLOSED)) {
      if (state.get() == CLOSED) {
        return;
      }
      throw taken();
    }
    if (isInGraph()) {
      state.setRelease(IDLE);
      throw new IllegalStateException(
          getClass().getSimpleName() + " is part of a graph, which has to be closed first");
    }
    try {
      if (owner != null) {
        owner.disown(this);
      }
    } finally {
      free();
    }
  }

  /** For its scope, which is not held, so that nothing of it runs. */
  final void closeWithScope() {
    if (state.compareAndSet(IDLE, CLOSED)) {
      free();
    }
  }

  private void free() {
    try {
      Memory.free(Memory.Use.ARGUMENTS, Device.CPU, params, paramsBytes);
    } finally {
      if (workspace != 0) {
        Memory.free(Memory.Use.WORKSPACE, device, workspace, workspaceBytes);
      }
    }
  }

  /**
   * Collects an op's arguments. An argument that is not given is left out; the build says so if it
   * is needed. Not thread-safe; may be used again after a build.
   *
   * @param <O> the op
   */
  public abstract static class Builder<O extends Op> {
    Builder() {}

    abstract O create(Place place);

    /** An argument for which there is no good default. */
    static <T> T given(String name, T value) {
      if (value == null) {
        throw new IllegalArgumentException(name + " is missing, and there is no default");
      }
      return value;
    }

    /**
     * Checks the arguments and allocates the workspace.
     *
     * @return an op to close when done
     * @throws IllegalArgumentException if an argument is wrong, naming it and the values that
     *     disagree
     * @throws UnsupportedOperationException if the backend has no kernel for the arguments
     * @throws OutOfMemoryError if there is no memory for the workspace
     * @throws ExeuntException if the device's backend is not available, with the reason
     * @throws IllegalStateException if the scope of a tensor is closed
     */
    public final O build() {
      return build(null, null);
    }

    /**
     * Like {@link #build()}, but the scope closes the op.
     *
     * @param owner the scope
     * @return the op; it may also be closed earlier
     */
    public final O build(Scope owner) {
      return build(owner, null);
    }

    /**
     * Like {@link #build(Scope)}, but the op shares its workspace with others.
     *
     * @param owner the scope; null: the caller closes the op
     * @param shared grown here if need be; null: the op gets a workspace of its own
     * @return the op; it may also be closed earlier
     * @throws IllegalArgumentException also if the workspace is on another device than the tensors
     * @throws IllegalStateException also if an op that shares the workspace is running
     */
    public final O build(@Nullable Scope owner, @Nullable Workspace shared) {
      Native.require();
      Place place = new Place(owner, shared);
      return Jfr.records() ? Records.build(this, place) : create(place);
    }

    /** Builds, runs once on {@link Stream#DEFAULT} and closes; see {@link #runOnce(Stream)}. */
    public final void runOnce() {
      runOnce(Stream.DEFAULT);
    }

    /**
     * Builds, runs once and closes. Convenient, but pays the checks and the allocation each time,
     * and on CUDA waits for the device when a workspace was needed.
     *
     * @param stream where to queue the work
     */
    public final void runOnce(Stream stream) {
      try (O op = build()) {
        op.run(stream);
      }
    }
  }
}
