// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.function.Supplier;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.bytedeco.javacpp.Loader;
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
import org.junit.jupiter.api.condition.DisabledOnOs;
import org.junit.jupiter.api.condition.OS;
import org.junit.jupiter.api.io.TempDir;

/**
 * Choosing backends, instruction sets and threads; each choice in a process of its own where it is
 * made once.
 */
class BackendTest {
  /** Prints what a process with these properties has to say. */
  static final class Report {
    public static void main(String[] args) {
      print("default", () -> Device.defaultDevice());
      print("isa", Backend::isa);
      print("threads", Backend::threads);
      print("cuda", Backend.CUDA::available);
      print("reason", Backend.CUDA::reason);
      print("allocate", Report::runOnce);
      print("allocate cuda", Report::allocateOnCuda);
    }

    private static Object runOnce() {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.copyOf(new float[] {1, 0}, 1, 2);
        Cosine.compute(a, a, scope.allocate(DType.F32, 1));
        Stream.DEFAULT.synchronize();
        return Backend.lastPath();
      }
    }

    private static Object allocateOnCuda() {
      try (Scope scope = Scope.open()) {
        return scope.allocate(Device.cuda(0), DType.F32, 1);
      }
    }

    private static void print(String what, Supplier<Object> value) {
      try {
        System.out.println(what + ": " + value.get());
      } catch (RuntimeException | LinkageError e) {
        System.out.println(what + ": " + e.getClass().getSimpleName() + ": " + e.getMessage());
      }
    }
  }

  private static Subprocess report() {
    return Subprocess.of(Report.class).soon();
  }

  private static void assertSays(String output, String line) {
    assertTrue(output.lines().anyMatch(l -> l.startsWith(line)),
        () -> "'" + line + "' is not in:\n" + output);
  }

  @Test
  void cpuIsAlwaysThere() {
    assertTrue(Backend.CPU.available());
    assertEquals("", Backend.CPU.reason());
    assertEquals(1, Backend.CPU.deviceCount());
    assertTrue(Backend.CPU.description().contains(Backend.isa()), Backend.CPU.description());
    assertTrue(Backend.isas().contains(Backend.isa()));
    assertTrue(Backend.version().matches("\\d+\\.\\d+\\.\\d+.*"), Backend.version());
  }

  @Test
  void instructionSetIsForcedAndImpossibleOnesAreRefused() {
    String best = Backend.isa();
    try (Scope scope = Scope.open()) {
      Tensor a = scope.allocate(Device.CPU, DType.F32, 1, 16);
      Tensor out = scope.allocate(Device.CPU, DType.F32, 1);
      for (String isa : Backend.isas()) {
        Backend.setIsa(isa);
        Cosine.compute(a, a, out);
        assertEquals("cpu/" + isa + "/cosine", Backend.lastPath());
      }
    } finally {
      Backend.setIsa(best);
    }
    invalid(() -> Backend.setIsa("sse9"), "sse9");
    assertEquals(best, Backend.isa());
  }

  @Test
  void threads() {
    int before = Backend.threads();
    Backend.setThreads(3);
    assertEquals(3, Backend.threads());
    invalid(() -> Backend.setThreads(-1), "-1", "256");
    invalid(() -> Backend.setThreads(257), "257", "256");
    Backend.setThreads(0);
    assertEquals(before, Backend.threads());
  }

  @Test
  void choicesAreMadeAndRefused() {
    String before = Backend.tuning();
    assertTrue(before.contains("\n# the defaults\n"), before);
    try {
      Backend.setTuning("far_mib 64 # of weights\n");
      assertTrue(Backend.tuning().contains("\nfar_mib 64\n"), Backend.tuning());
      invalid(() -> Backend.setTuning("blocks_stay 7"), "line 1", "blocks_stay", "7", "0, 1");
      assertTrue(Backend.tuning().contains("\nfar_mib 64\n"), Backend.tuning());
      Backend.tune(1, false);
      assertTrue(Backend.tuning().contains(" takes "), Backend.tuning());
    } finally {
      Backend.setTuning(null);
    }
    assertEquals(before, Backend.tuning());
    invalid(() -> Backend.tune(0, false), "milliseconds", "0", "60000");
  }

  @Test
  void readProbeDependsOnEveryByte() {
    try (Scope scope = Scope.open()) {
      Tensor data = scope.allocate(Device.CPU, DType.U8, 1001).copyFrom(new int[1001]);
      long zero = Backend.readBandwidthProbe(data);
      data.rows(1000, 1001).copyFrom(new int[] {1});
      assertTrue(zero != Backend.readBandwidthProbe(data));
    }
  }

  @Test
  void copyProbeCopies() {
    try (Scope scope = Scope.open()) {
      int[] values = IntStream.range(0, 1001).toArray();
      Tensor source = scope.copyOf(values, 1001);
      for (boolean pastCaches : new boolean[] {false, true}) {
        Tensor copy = scope.allocate(Device.CPU, DType.I32, 1001).copyFrom(new int[1001]);
        Backend.copyBandwidthProbe(source, copy, pastCaches);
        assertArrayEquals(values, copy.toIntArray());
      }
      Tensor shorter = scope.allocate(Device.CPU, DType.I32, 1000);
      assertThrows(
          IllegalArgumentException.class, () -> Backend.copyBandwidthProbe(source, shorter, false));
      assertThrows(IllegalArgumentException.class,
          () -> Backend.copyBandwidthProbe(source.rows(0, 9), source.rows(8, 17), false));
    }
  }

  @Test
  void fmaProbeCounts() {
    long wanted = 3_000_001;
    long done = Backend.fmaProbe(wanted);
    assertTrue(done >= wanted && done < wanted + 192, () -> "did " + done);
    assertEquals(0, Backend.fmaProbe(0));
    invalid(() -> Backend.fmaProbe(-1), "multiplyAdds", "-1");
  }

  @Test
  void properties() {
    String weakest = Backend.isas().get(Backend.isas().size() - 1);
    String output =
        report()
            .option("-Dexeunt.isa=" + weakest)
            .option("-Dexeunt.threads=5")
            .option("-Dexeunt.backend=cpu")
            .run();
    assertSays(output, "isa: " + weakest);
    assertSays(output, "threads: 5");
    assertSays(output, "cuda: false");
    assertSays(output, "reason: the CUDA backend is kept closed by -Dexeunt.backend=cpu");
    assertSays(output, "allocate: cpu/" + weakest + "/cosine");
    assertSays(output, "allocate cuda: ExeuntException: the CUDA backend is not available: ");
  }

  @Test
  void impossibleProperties() {
    String isa = report().option("-Dexeunt.isa=sse9").run();
    assertSays(isa, "allocate: IllegalArgumentException: -Dexeunt.isa=sse9: ");
    String threads = report().option("-Dexeunt.threads=many").run();
    assertSays(
        threads, "allocate: IllegalArgumentException: -Dexeunt.threads=many is not a number");
    threads = report().option("-Dexeunt.threads=257").run();
    assertSays(threads, "allocate: IllegalArgumentException: -Dexeunt.threads=257: ");
    String backend = report().option("-Dexeunt.backend=tpu").run();
    assertSays(backend,
        "allocate: IllegalArgumentException: -Dexeunt.backend=tpu is neither cpu nor cuda");
  }

  /** A sound call for which there is no kernel: what the variable asks for, unlike the property. */
  @Test
  void impossibleVariable() {
    String output = report().variable("EXEUNT_ISA", "sse9").run();
    assertTrue(output.lines().anyMatch(l
                   -> l.startsWith("allocate: UnsupportedOperationException: ")
                       && l.contains("EXEUNT_ISA") && l.contains("sse9")),
        output);
  }

  /** No call gets through: the backend that was meant is neither of the two. */
  @Test
  void variableOfNoBackend() {
    String output = report().variable("EXEUNT_BACKEND", "gpu").run();
    for (String use : new String[] {"isa", "threads", "cuda", "allocate"}) {
      assertSays(
          output, use + ": IllegalArgumentException: EXEUNT_BACKEND is gpu, neither cpu nor cuda");
    }
    assertSays(report().variable("EXEUNT_BACKEND", "").run(), "allocate: cpu/");
  }

  @Test
  void wrongLibraryIsTheReason() {
    String output =
        report()
            .option("-Dexeunt.backend=cuda")
            .option("-Dexeunt.cuda.library=/no/such/libexeunt_cuda.so")
            .run();
    assertSays(output, "default: cuda:0");
    assertSays(output, "cuda: false");
    assertSays(output, "allocate: ExeuntException: the CUDA backend is not available: ");
    assertTrue(
        output.lines().anyMatch(l -> l.startsWith("reason: ") && l.contains("/no/such/")), output);
  }

  @Test
  void libraryOfAnotherKindIsTheReason() {
    Path library = Setup.libraries().resolve(System.mapLibraryName("exeunt"));
    Assumptions.assumeTrue(Files.exists(library), library + " is not there");
    String output = report().option("-Dexeunt.cuda.library=" + library).run();
    assertSays(output, "cuda: false");
    assertTrue(output.lines().anyMatch(
                   l -> l.startsWith("reason: ") && l.contains("exn_cuda_backend_query")),
        output);
    assertSays(output, "allocate: cpu/");
  }

  /** The library of this build, without a device: the reason is CUDA's, and the CPU works. */
  @Test
  void noDeviceIsTheReason() {
    Path library = Setup.libraries().resolve("libexeunt_cuda.so");
    Assumptions.assumeTrue(Files.exists(library), library + " was not built");
    String output = report().option("-Dexeunt.cuda.library=" + library).run();
    Assumptions.assumeFalse(output.contains("cuda: true"), "there is a device");
    assertSays(output, "cuda: false");
    String sentence = "reason: .*(CUDA error \\d+ cudaError\\w+ \\(.+\\)|no device)";
    assertTrue(output.lines().anyMatch(l -> l.matches(sentence)), output);
    assertSays(output, "allocate: cpu/");
    assertSays(output, "allocate cuda: ExeuntException: the CUDA backend is not available: ");
  }

  @Test
  void emulatedBackendByProperty() {
    Assumptions.assumeTrue(Files.exists(Setup.emulator()), Setup.emulator() + " was not built");
    String output =
        report()
            .option("-Dexeunt.backend=cuda")
            .option("-Dexeunt.cuda.library=" + Setup.emulator())
            .run();
    assertSays(output, "default: cuda:0");
    assertSays(output, "cuda: true");
    assertTrue(output.lines().anyMatch(l -> l.matches("allocate: cuda/.*/cosine")), output);
  }

  /** Whether or not it can be loaded; here no jar has its library. */
  @Test
  void aPlatformThatNobodyTestedIsNamedOnce() {
    String output = report().option("-Dos.name=Mac OS X").run();
    String sentence = "WARNING: exeunt's libraries for macosx-";
    assertEquals(2, output.split(sentence, -1).length, output);
    assertTrue(output.contains("could not be loaded on macosx-"), output);
    assertTrue(!report().run().contains(sentence));
  }

  /** A library of another release that is found first; here one function of it is. */
  @Test
  @DisabledOnOs(value = OS.WINDOWS, disabledReason = "has no LD_PRELOAD")
  void libraryOfAnotherReleaseIsRefused(@TempDir Path folder) throws Exception {
    String version = "unsigned exn_abi_version(void) { return 4711; }";
    Path other = SharedLibrary.of(version, folder.resolve("libother.so"));
    String output = report().preloading(other).run();
    for (String use : new String[] {"isa", "allocate", "cuda"}) {
      assertSays(
          output, use + ": UnsatisfiedLinkError: libexeunt.so has ABI version 4711 (library ");
    }
    String expected = "this jar was generated for ABI version " + exeunt.EXN_ABI_VERSION;
    assertTrue(output.contains(expected), output);
  }

  /**
   * A native library that cannot be loaded: one sentence that says what was tried, at every use.
   */
  @Test
  void loadFailureSaysWhatWasTried() {
    String platform = Loader.Detector.getPlatform();
    String withoutNatives =
        Arrays.stream(System.getProperty("java.class.path").split(File.pathSeparator))
            .filter(entry
                -> !entry.matches(".*exeunt-jni.*" + platform + ".*|.*jni-gen/target/classes/?"))
            .collect(Collectors.joining(File.pathSeparator));
    Assumptions.assumeTrue(withoutNatives.contains("exeunt-jni"),
        "the binding and its natives share a folder in this run");
    String output = Subprocess.java("-cp", withoutNatives, Report.class.getName()).soon().run();
    for (String use : new String[] {"isa", "allocate", "cuda"}) {
      assertSays(output,
          use + ": UnsatisfiedLinkError: exeunt's native library could not be loaded on"
              + " " + platform + ". Tried: resource /org/exeunt/" + platform + "/"
              + System.mapLibraryName("jniexeunt") + " (in no jar: is exeunt-jni with classifier "
              + platform + " on the path?)");
    }
  }
}
