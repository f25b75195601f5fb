// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudart.cudaDeviceProp;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * org.bytedeco:cuda beside exeunt: its streams and device pointers pass through. Its native library
 * wants libcuda.so.1, which only a driver brings; an empty library of that name is enough to load
 * it on a machine without one. The emulated backend brings the calls of a CUDA runtime, and under
 * the name of one it serves both bindings.
 */
class InteropTest {
  @TempDir Path folder;

  private static final class Handle extends Pointer {
    Handle(long address) {
      this.address = address;
    }
  }

  /** The opaque handle classes need no native library. */
  @Test
  void streamsAreRead() {
    CUstream_st handle = new CUstream_st(new Handle(0x1234));
    assertEquals(0x1234, Stream.wrap(handle).handle());
    assertEquals(0, Stream.wrap((Pointer) null).handle());
  }

  /** Runs in a process whose libcuda.so.1 is empty. */
  static final class WithStandIn {
    public static void main(String[] args) {
      int[] runtime = new int[1];
      System.out.println("runtime: " + cudart.cudaRuntimeGetVersion(runtime) + " " + runtime[0]);
      System.out.println("device struct: " + new cudaDeviceProp().sizeof());
      int[] count = new int[1];
      System.out.println("devices: " + cudart.cudaGetDeviceCount(count));
      System.out.println("reason: " + Backend.CUDA.reason());
    }
  }

  @Test
  void bothBindingsInOneProcess() throws IOException, InterruptedException {
    Path standIn = buildStandIn();
    Path runtime = Setup.root().resolve("build/cuda/toolkit/lib");
    String libraries = standIn.getParent() + ":" + runtime;
    boolean present = Files.exists(runtime.resolve("libcudart.so.13")) || runtimeInstalled();
    if (!present) {
      System.out.println("SKIPPED: libcudart.so.13 is neither installed nor in " + runtime);
    }
    Assumptions.assumeTrue(present, "libcudart.so.13 was not found");
    String output = Subprocess.of(WithStandIn.class).variable("LD_LIBRARY_PATH", libraries).run();
    assertTrue(output.contains("runtime: 0 13"), output);
    assertTrue(output.matches("(?s).*device struct: [1-9]\\d+\n.*"), output);
    boolean built =
        exeunt.class.getResource("/org/exeunt/linux-x86_64-cuda/libexeunt_cuda.so") != null;
    String why = built ? "CUDA error \\d+ cudaError" : "libexeunt_cuda\\.so";
    assertTrue(output.matches("(?s).*reason: [^\n]*" + why + ".*"), output);
  }

  private static boolean runtimeInstalled() throws IOException {
    Process ldconfig = new ProcessBuilder("sh", "-c", "PATH=$PATH:/sbin ldconfig -p").start();
    return new String(ldconfig.getInputStream().readAllBytes()).contains("libcudart.so.13");
  }

  private Path buildStandIn() throws IOException, InterruptedException {
    return SharedLibrary.of("", folder.resolve("libcuda.so.1"));
  }

  /** A stream and device memory that the other binding made, on the emulated device. */
  static final class ThroughTheirRuntime {
    public static void main(String[] args) {
      CUstream_st stream = new CUstream_st();
      succeed(cudart.cudaStreamCreate(stream));
      Pointer memory = new Pointer();
      succeed(cudart.cudaMalloc(memory, 5 * Float.BYTES));
      FloatPointer floats = new FloatPointer(memory);
      FloatPointer values = new FloatPointer(3, 4, 4, 3);
      succeed(cudart.cudaMemcpy(floats, values, 4 * Float.BYTES, cudart.cudaMemcpyHostToDevice));
      Tensor a = Tensor.of(memory, DType.F32, Device.cuda(0), 1, 2);
      Tensor b = Tensor.of(floats.getPointer(2), DType.F32, Device.cuda(0), 1, 2);
      Tensor out = Tensor.of(floats.getPointer(4), DType.F32, Device.cuda(0), 1);
      try (Cosine op = Cosine.builder().a(a).b(b).out(out).build()) {
        op.run(Stream.wrap(stream));
        succeed(cudart.cudaStreamSynchronize(stream));
      }
      FloatPointer result = new FloatPointer(1);
      succeed(cudart.cudaMemcpy(
          result, floats.getPointer(4), Float.BYTES, cudart.cudaMemcpyDeviceToHost));
      System.out.println("result: " + Backend.lastPath() + " " + result.get());
      succeed(cudart.cudaFree(memory));
      succeed(cudart.cudaStreamDestroy(stream));
      System.out.println("ended: " + cudart.cudaGetLastError());
    }

    private static void succeed(int error) {
      if (error != cudart.cudaSuccess) {
        throw new IllegalStateException("CUDA error " + error);
      }
    }
  }

  @Test
  void streamAndMemoryOfTheirRuntime() throws IOException, InterruptedException {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    Path standIn = buildStandIn();
    Path runtime = Files.createSymbolicLink(folder.resolve("libcudart.so.13"), Setup.emulator());
    String output =
        Subprocess.of(ThroughTheirRuntime.class)
            .option("-Dexeunt.cuda.library=" + Setup.emulator())
            .variable("LD_LIBRARY_PATH", standIn.getParent().toString())
            .run();
    Files.delete(runtime);
    assertTrue(output.matches("(?s).*result: cuda/emulated/cosine 0\\.9[56]\\d*\n.*"), output);
    assertTrue(output.contains("ended: 0"), output);
  }

  /** A stream and device memory as another binding would hand them over, on the emulated device. */
  static final class OnDevice {
    public static void main(String[] args) {
      try (Scope scope = Scope.open(); Stream made = Stream.create(Device.cuda(0))) {
        Tensor memory = scope.copyOf(new float[] {3, 4, 4, 3}, 2, 2);
        FloatPointer pointer = new FloatPointer(new Handle(memory.address()));
        Tensor a = Tensor.of(pointer, DType.F32, Device.cuda(0), 1, 2);
        Tensor b = Tensor.of(pointer.position(2), DType.F32, Device.cuda(0), 1, 2);
        Tensor out = scope.allocate(DType.F32, 1);
        try (Cosine op = Cosine.builder().a(a).b(b).out(out).build()) {
          Stream wrapped = Stream.wrap(new CUstream_st(new Handle(made.handle())));
          op.run(wrapped);
          wrapped.synchronize();
          System.out.println(Backend.lastPath() + " " + out.toFloatArray()[0]);
          wrapped.close();
          op.run(made);
          made.synchronize();
          try {
            op.run(Stream.wrap(0, Device.cuda(1)));
          } catch (IllegalArgumentException e) {
            System.out.println(e.getMessage());
          }
        }
      }
    }
  }

  @Test
  void foreignStreamAndDevicePointer() {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    String[] lines =
        Subprocess.of(OnDevice.class)
            .option("-Dexeunt.backend=cuda")
            .option("-Dexeunt.cuda.library=" + Setup.emulator())
            .run()
            .split("\n");
    assertTrue(lines[0].matches("cuda/.*/cosine .*"), lines[0]);
    assertEquals(.96f, Float.parseFloat(lines[0].split(" ")[1]), 1e-6f);
    assertEquals("stream: on cuda:1, but the tensors are on cuda:0", lines[1]);
  }

  /** Host pointers of JavaCPP need no copy. */
  @Test
  void hostPointer() {
    try (FloatPointer a = new FloatPointer(1f, 0f, 1f, 1f);
        FloatPointer out = new FloatPointer(2)) {
      Tensor rows = Tensor.of(a, DType.F32, Device.CPU, 2, 2);
      Cosine.compute(rows, rows, Tensor.of(out, DType.F32, Device.CPU, 2));
      float[] got = new float[2];
      out.get(got);
      assertArrayEquals(new float[] {1, 1}, got, 1e-6f);
    }
  }
}
