// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.cuda;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import org.exeunt.Backend;
import org.exeunt.Device;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.exeunt.ExeuntContenders;
import org.exeunt.cases.Cases;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/**
 * What is handed to cuDNN and cuBLAS, on the emulated device and on libraries that do what the
 * documentation of both says; and what is said where there is no GPU.
 */
class CudaContendersTest {
  private static final Path LIBRARIES =
      Path.of(System.getProperty("exeunt.cases.library", "build/native/lib")).toAbsolutePath();
  private static final Path DEVICE = LIBRARIES.resolve("libexeunt_cuda_emu.so");
  private static final Path MATH = LIBRARIES.resolve("libexeunt_cuda_math_emu.so");

  @TempDir Path folder;

  /** Small cases, each within the judge's bounds after two runs and not before the first. */
  static final class OnDevice {
    private static int passed;

    public static void main(String[] arguments) {
      assertEquals("", CudaContenders.reason());
      System.out.println("card: " + CudaContenders.card());
      for (String op : List.of("stablemax", "row_stats", "exit_head")) {
        int before = passed;
        for (Cases.Listed c : Cases.of(op)) {
          if (c.tags().contains("small") && sound(c) && new CudaContenders().offers(c)) {
            compare(c);
          }
        }
        System.out.println(op + ": " + (passed - before));
      }
      compare(Problem.find("exit_head", "bench_1x576x49152_bf16_bare"));
    }

    private static void compare(Cases.Listed c) {
      try (Problem problem = new Problem(c, Device.cuda(0))) {
        try (Contender theirs = new CudaContenders().on(problem, 1)) {
          boolean early = true;
          try {
            problem.check(theirs);
          } catch (IllegalStateException e) {
            early = false;
          }
          assertFalse(early, c.name() + " is right before a run");
          theirs.run();
          theirs.run();
          problem.check(theirs);
        }
        problem.opened().prepare();
        try (Contender ours = new ExeuntContenders().on(problem, 1)) {
          ours.run();
          problem.check(ours);
        }
        passed++;
      }
    }

    /** No NaN and infinities, of which the peers promise nothing, and rows that stay. */
    private static boolean sound(Cases.Listed c) {
      return c.text("special").equals("-") && c.fields().getOrDefault("in_place", "0").equals("0");
    }
  }

  @Test
  void passTheJudgeOnTheEmulatedDevice() throws IOException, InterruptedException {
    Assumptions.assumeTrue(Files.exists(DEVICE), DEVICE + " was not built");
    List<Path> links = new ArrayList<>();
    for (String name : List.of("libcublas.so.13", "libcublasLt.so.13", "libcudnn_graph.so.9",
             "libcudnn_ops.so.9", "libcudnn_cnn.so.9", "libcudnn_adv.so.9", "libcuda.so.1")) {
      links.add(Files.createSymbolicLink(folder.resolve(name), MATH));
    }
    links.add(Files.createSymbolicLink(folder.resolve("libcudart.so.13"), DEVICE));
    ProcessBuilder java =
        new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
            "--enable-native-access=ALL-UNNAMED", "--add-modules", "jdk.incubator.vector",
            "-Dexeunt.cuda.library=" + DEVICE, "-Dexeunt.cases.library=" + LIBRARIES, "-ea", "-cp",
            System.getProperty("java.class.path"), OnDevice.class.getName())
            .redirectErrorStream(true);
    java.environment().put("LD_LIBRARY_PATH", folder.toString());
    Process process = java.start();
    String output = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8);
    int status = process.waitFor();
    for (Path link : links) {
      Files.delete(link);
    }
    assertEquals(0, status, output);
    assertTrue(output.contains("card: SIMT emulator"), output);
    assertTrue(
        output.matches(
            "(?s).*stablemax: \\d\\d+\\n.*row_stats: [1-9]\\d*\\n.*exit_head: [1-9]\\d*\\n.*"),
        output);
  }

  /** This machine's own answer; where it is "", the benchmarks of a real GPU run. */
  @Test
  void saysWhyNot() {
    String reason = CudaContenders.reason();
    if (!Backend.CUDA.available()) {
      assertEquals(Backend.CUDA.reason(), reason);
      assertFalse(reason.isBlank());
    }
    System.out.println(reason.isEmpty()
            ? "card: " + CudaContenders.card()
            : "SKIPPED: cuDNN and cuBLAS: " + reason);
  }

  @Test
  void offersWhatBothCompute() {
    CudaContenders cuda = new CudaContenders();
    assertTrue(cuda.offers(Problem.find("stablemax", "bench_1x49152_softmax_bf16")));
    assertFalse(cuda.offers(Problem.find("stablemax", "bench_1x49152_stablemax")));
    assertTrue(cuda.offers(Problem.find("row_stats", "bench_1x49152_cheap")));
    assertTrue(cuda.offers(Problem.find("exit_head", "bench_8x576x49152_bf16_bare")));
    assertFalse(cuda.offers(Problem.find("exit_head", "bench_1x576x49152_bf16")), "a norm");
    assertFalse(cuda.offers(Problem.find("cosine", "bench_1x576_f32")));
  }
}
