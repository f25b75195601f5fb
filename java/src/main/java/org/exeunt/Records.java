// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import jdk.jfr.Category;
import jdk.jfr.DataAmount;
import jdk.jfr.Description;
import jdk.jfr.Enabled;
import jdk.jfr.Event;
import jdk.jfr.FlightRecorder;
import jdk.jfr.Label;
import jdk.jfr.Name;
import jdk.jfr.Period;
import jdk.jfr.StackTrace;
import org.exeunt.jni.global.exeunt;

/** The events of JDK Flight Recorder; to be used where {@link Jfr#records()} only. */
final class Records {
  private static final OpRun RUN = new OpRun();

  private Records() {}

  static void prepare() {
    FlightRecorder.addPeriodicEvent(HeldMemory.class, Records::memory);
    RUN.isEnabled();
  }

  private static void memory() {
    NativeMemory held = NativeMemory.held();
    HeldMemory event = new HeldMemory();
    event.tensors = held.tensors();
    event.workspaces = held.workspaces();
    event.arguments = held.arguments();
    event.scopes = held.scopes();
    event.commit();
  }

  /** An event that has begun, to be given to {@link #loaded}. */
  static Object loading() {
    LibraryLoad event = new LibraryLoad();
    event.begin();
    return event;
  }

  /** @param failure why the library was not loaded; null if it was */
  static void loaded(Object loading, Throwable failure) {
    LibraryLoad event = (LibraryLoad) loading;
    event.end();
    if (failure == null) {
      event.library = exeunt.exn_library_path();
      event.version = exeunt.exn_version();
      event.isa = exeunt.exn_cpu_isa();
      event.threads = exeunt.exn_cpu_threads();
    } else {
      event.failure = failure.getMessage();
    }
    event.commit();
  }

  static <O extends Op> O build(Op.Builder<O> builder, Place place) {
    OpBuild event = new OpBuild();
    event.begin();
    O op = builder.create(place);
    event.end();
    if (event.shouldCommit()) {
      event.op = op.getClass().getSimpleName();
      event.device = op.device().toString();
      event.tensors = op.tensorBytes();
      event.workspace = op.workspaceBytes();
      event.commit();
    }
    return op;
  }

  /** Whether runs are switched on. */
  static boolean runs() {
    return RUN.isEnabled();
  }

  static void run(Op op, long stream) {
    OpRun event = new OpRun();
    event.begin();
    op.call(stream);
    event.end();
    if (event.shouldCommit()) {
      event.op = op.getClass().getSimpleName();
      event.path = exeunt.exn_last_path();
      event.bytes = op.tensorBytes();
      event.commit();
    }
  }

  @Name("org.exeunt.LibraryLoad")
  @Label("Native Library Load")
  @Category("exeunt")
  @StackTrace(false)
  private static final class LibraryLoad extends Event {
    @Label("Library") @Description("File; empty if it was not loaded") String library = "";
    @Label("Version") String version = "";
    @Label("Instruction Set") String isa = "";
    @Label("Threads") int threads;
    @Label("Failure") @Description("Why it was not loaded") String failure = "";
  }

  @Name("org.exeunt.OpBuild")
  @Label("Op Build")
  @Category("exeunt")
  private static final class OpBuild extends Event {
    @Label("Op") String op;
    @Label("Device") String device;
    @Label("Tensors") @DataAmount long tensors;
    @Label("Workspace") @DataAmount long workspace;
  }

  @Name("org.exeunt.OpRun")
  @Label("Op Run")
  @Description("On CUDA the time is that of queueing")
  @Category("exeunt")
  @Enabled(false)
  @StackTrace(false)
  private static final class OpRun extends Event {
    @Label("Op") String op;
    @Label("Path") @Description("Backend, instruction set and kernel") String path;
    @Label("Bytes") @Description("Of the op's tensors") @DataAmount long bytes;
  }

  @Name("org.exeunt.NativeMemory")
  @Label("Native Memory")
  @Description("What is allocated and not yet freed")
  @Category("exeunt")
  @Period("10 s")
  @StackTrace(false)
  private static final class HeldMemory extends Event {
    @Label("Tensors") @DataAmount long tensors;
    @Label("Workspaces") @DataAmount long workspaces;
    @Label("Arguments") @DataAmount long arguments;
    @Label("Scopes") long scopes;
  }
}
