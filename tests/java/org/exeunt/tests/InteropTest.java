// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import org.bytedeco.cuda.cudart.CUstream_st;
import org.bytedeco.cuda.cudart.cudaDeviceProp;
import org.bytedeco.cuda.cudnn.cudnnContext;
import org.bytedeco.cuda.cudnn.cudnnTensorStruct;
import org.bytedeco.cuda.global.cudart;
import org.bytedeco.cuda.global.cudnn;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.StableMax;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * org.bytedeco:cuda beside exeunt: its streams and device pointers pass through. Its native library
 * wants libcuda.so.1, which only a driver brings; an empty library of that name is enough to load
 * it on a machine without one. The emulated backend brings the calls of a CUDA runtime, and under
 * the name of one it serves both bindings.
 */
class InteropTest {
  /** What the bindings of cuBLAS and cuDNN are linked with. */
  private static final String[] MATH_LIBRARIES = {"libcublas.so.13", "libcublasLt.so.13",
      "libcudnn_graph.so.9", "libcudnn_ops.so.9", "libcudnn_cnn.so.9", "libcudnn_adv.so.9"};

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
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has no CUDA backend")
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

  /**
   * A softmax of cuDNN's in memory of its binding, and ops on its result, without waiting between
   * them.
   */
  static final class OnCudnnResult {
    private static final int ROWS = 2;
    private static final int COLUMNS = 5;
    private static final int ELEMENTS = ROWS * COLUMNS;

    public static void main(String[] args) {
      CUstream_st stream = new CUstream_st();
      succeed(cudart.cudaStreamCreateWithFlags(stream, cudart.cudaStreamNonBlocking));
      cudnnContext handle = new cudnnContext();
      succeed(cudnn.cudnnCreate(handle));
      succeed(cudnn.cudnnSetStream(handle, stream));
      cudnnTensorStruct shape = new cudnnTensorStruct();
      succeed(cudnn.cudnnCreateTensorDescriptor(shape));
      succeed(cudnn.cudnnSetTensor4dDescriptor(
          shape, cudnn.CUDNN_TENSOR_NCHW, cudnn.CUDNN_DATA_FLOAT, ROWS, COLUMNS, 1, 1));
      FloatPointer logits = allocate(ELEMENTS);
      FloatPointer theirs = allocate(ELEMENTS);
      FloatPointer ours = allocate(ELEMENTS);
      FloatPointer similar = allocate(ROWS);
      IntPointer best = new IntPointer(allocate(ROWS));
      FloatPointer host = new FloatPointer(1, 2, 3, 4, 0, -1, 0, 5, 1, 2);
      succeed(cudart.cudaMemcpyAsync(
          logits, host, ELEMENTS * Float.BYTES, cudart.cudaMemcpyHostToDevice, stream));
      Tensor probabilities = Tensor.of(theirs, DType.F32, Device.cuda(0), ROWS, COLUMNS);
      Tensor softmax = Tensor.of(ours, DType.F32, Device.cuda(0), ROWS, COLUMNS);
      try (Scope scope = Scope.open()) {
        StableMax same =
            StableMax.forward()
                .logits(Tensor.of(logits, DType.F32, Device.cuda(0), ROWS, COLUMNS))
                .normalizer(Normalizer.SOFTMAX)
                .out(softmax)
                .build(scope);
        Cosine compare =
            Cosine.builder()
                .a(probabilities)
                .b(softmax)
                .out(Tensor.of(similar, DType.F32, Device.cuda(0), ROWS))
                .build(scope);
        Select select =
            Select.builder()
                .scores(probabilities)
                .select(Selection.top(1, Tensor.of(best, DType.I32, Device.cuda(0), ROWS, 1)))
                .build(scope);
        Stream queue = Stream.wrap(stream);
        same.run(queue);
        succeed(cudnn.cudnnSoftmaxForward(handle, cudnn.CUDNN_SOFTMAX_ACCURATE,
            cudnn.CUDNN_SOFTMAX_MODE_INSTANCE, new FloatPointer(1f), shape, logits,
            new FloatPointer(0f), shape, theirs));
        compare.run(queue);
        select.run(queue);
        queue.synchronize();
      }
      float[] cosines = new float[ROWS];
      int[] chosen = new int[ROWS];
      FloatPointer first = new FloatPointer(ROWS);
      IntPointer second = new IntPointer(ROWS);
      int bytes = ROWS * Float.BYTES;
      succeed(cudart.cudaMemcpy(first, similar, bytes, cudart.cudaMemcpyDeviceToHost));
      succeed(cudart.cudaMemcpy(second, best, bytes, cudart.cudaMemcpyDeviceToHost));
      first.get(cosines);
      second.get(chosen);
      System.out.printf(Locale.ROOT, "cosines: %.6f %.6f%nchosen: %d %d%n", cosines[0], cosines[1],
          chosen[0], chosen[1]);
      cudnn.cudnnDestroyTensorDescriptor(shape);
      cudnn.cudnnDestroy(handle);
      for (Pointer memory : new Pointer[] {logits, theirs, ours, similar, best}) {
        succeed(cudart.cudaFree(memory));
      }
      succeed(cudart.cudaStreamDestroy(stream));
    }

    private static FloatPointer allocate(int elements) {
      Pointer memory = new Pointer();
      succeed(cudart.cudaMalloc(memory, elements * Float.BYTES));
      return new FloatPointer(memory).capacity(elements);
    }

    private static void succeed(int status) {
      if (status != 0) {
        throw new IllegalStateException("cuDNN or CUDA says " + status);
      }
    }
  }

  /** cuDNN's part is played by a library that does what its documentation says. */
  @Test
  void resultOfCudnnOnTheEmulatedDevice() throws IOException, InterruptedException {
    Path standIn = Setup.libraries().resolve("libexeunt_cuda_math_emu.so");
    Assumptions.assumeTrue(Files.exists(standIn), standIn + " was not built");
    buildStandIn();
    List<Path> links = new ArrayList<>();
    links.add(Files.createSymbolicLink(folder.resolve("libcudart.so.13"), Setup.emulator()));
    for (String name : MATH_LIBRARIES) {
      links.add(Files.createSymbolicLink(folder.resolve(name), standIn));
    }
    String output =
        Subprocess.of(OnCudnnResult.class)
            .option("-Dexeunt.cuda.library=" + Setup.emulator())
            .variable("LD_LIBRARY_PATH", folder.toString())
            .run();
    for (Path link : links) {
      Files.delete(link);
    }
    assertTrue(output.contains("cosines: 1.000000 1.000000\nchosen: 3 2\n"), output);
  }

  /** The same on a GPU, with the libraries that are installed. */
  @Test
  void resultOfCudnn() {
    String obstacle = Subprocess.of(CudnnObstacle.class).run();
    if (!obstacle.isBlank()) {
      System.out.println("SKIPPED: cuDNN before an op: " + obstacle.strip());
    }
    Assumptions.assumeTrue(obstacle.isBlank(), obstacle);
    String output = Subprocess.of(OnCudnnResult.class).run();
    assertTrue(output.contains("cosines: 1.000000 1.000000\nchosen: 3 2\n"), output);
  }

  /** Prints why cuDNN cannot run here. */
  static final class CudnnObstacle {
    public static void main(String[] args) {
      if (!Backend.CUDA.available()) {
        System.out.println(Backend.CUDA.reason());
        return;
      }
      try {
        Loader.load(cudnn.class);
      } catch (LinkageError e) {
        Throwable cause = e;
        while (cause.getCause() != null) {
          cause = cause.getCause();
        }
        System.out.println(cause.getMessage());
      }
    }
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
