// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.util.List;
import java.util.concurrent.Callable;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExeuntException;
import org.exeunt.Scope;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;

/** What is thrown where the machine, not an argument, is the reason. */
class FailureTest {
  private static final Device GPU = Device.cuda(0);

  /** A process in which one call fails and then the (emulated) device is lost. */
  static final class Failing {
    public static void main(String[] args) {
      Scope scope = Scope.open();
      Stream stream = Stream.create(GPU);
      Tensor memory = scope.allocate(GPU, DType.F32, 64).copyFrom(new float[64]); // 256 bytes
      Tensor a = memory.rows(0, 2).reshape(1, 2);
      a.copyFrom(new float[] {3, 4});
      say("memory", () -> scope.allocate(GPU, DType.U8, 1L << 40));
      Tensor longer = Tensor.ofAddress(memory.address(), DType.F32, GPU, 65);
      say("copy", () -> longer.copyFrom(new float[65]));
      Tensor result = scope.allocate(GPU, DType.F32, 1);
      Cosine.compute(a, a, result);
      say("works", () -> Backend.lastPath() + " " + result.toFloatArray()[0]);

      Tensor outside = Tensor.ofAddress(memory.address() + 256, DType.F32, GPU, 1);
      Cosine op = Cosine.builder().a(a).b(a).out(outside).build(scope);
      say("run", () -> run(op, stream));
      say("synchronize", () -> synchronize(stream));
      say("run again", () -> run(op, stream));
      say("allocate", () -> scope.allocate(GPU, DType.F32, 1));
      say("read", () -> result.toFloatArray()[0]);
      say("available", Backend.CUDA::available);
      say("cpu", Failing::runOnCpu);
      say("close stream", () -> close(stream));
      say("close scope", () -> close(scope));
      say("open", scope::isOpen);
      say("close scope again", () -> close(scope));
      say("cpu still", Failing::runOnCpu);
    }

    private static Object run(Cosine op, Stream stream) {
      op.run(stream);
      return "queued";
    }

    private static Object synchronize(Stream stream) {
      stream.synchronize();
      return "done";
    }

    private static Object close(AutoCloseable resource) throws Exception {
      resource.close();
      return "done";
    }

    private static Object runOnCpu() {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.allocate(Device.CPU, DType.F32, 1, 2).copyFrom(new float[] {3, 4});
        Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
        Cosine.compute(a, a, out);
        return Math.round(out.toFloatArray()[0]);
      }
    }

    private static void say(String what, Callable<Object> call) {
      try {
        System.out.println(what + ": " + call.call());
      } catch (ExeuntException e) {
        System.out.println(
            what + ": " + e.getClass().getSimpleName() + " " + e.status() + ": " + e.getMessage());
      } catch (Exception | OutOfMemoryError e) {
        System.out.println(what + ": " + e.getClass().getSimpleName() + ": " + e.getMessage());
      }
    }
  }

  @Test
  void aCallThatFailsAndADeviceThatIsLost() {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    String output =
        Subprocess.of(Failing.class).option("-Dexeunt.cuda.library=" + Setup.emulator()).run();
    String lost = "DeviceLostException DEVICE_LOST: .*CUDA error 719 cudaErrorLaunchFailure .*";
    List<String> expected = List.of(
        "memory: OutOfMemoryError: CUDA device 0 has not enough free memory for " + (1L << 40)
            + " bytes",
        "copy: ExeuntException RUNTIME_FAILURE: .*CUDA error 1 cudaErrorInvalidValue .*",
        "works: cuda/emulated/cosine 1\\.0", "run: queued", "synchronize: " + lost,
        "run again: " + lost, "allocate: " + lost, "read: " + lost, "available: true", "cpu: 1",
        "close stream: (done|" + lost + ")", "close scope: " + lost, "open: false",
        "close scope again: done", "cpu still: 1");
    // The emulator's own report of the kernel stands between them.
    List<String> lines = output.lines().filter(line -> !line.startsWith("simt: ")).toList();
    assertEquals(expected.size(), lines.size(), output);
    for (int i = 0; i < lines.size(); i++) {
      assertTrue(lines.get(i).matches(expected.get(i)), expected.get(i) + "\nin:\n" + output);
    }
  }

  @Test
  void moreMemoryThanThereCanBe() {
    try (Scope scope = Scope.open()) {
      OutOfMemoryError error = assertThrows(
          OutOfMemoryError.class, () -> scope.allocate(Device.CPU, DType.U8, 1L << 55));
      assertTrue(error.getMessage().contains(Long.toString(1L << 55)), error.getMessage());
      assertEquals(0, scope.allocatedBytes());
    }
  }
}
