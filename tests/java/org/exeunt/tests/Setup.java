// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Optional;
import org.exeunt.Backend;

/** What this JVM was started to test: an instruction set, a backend, or the defaults. */
final class Setup {
  private Setup() {}

  static Path root() {
    return Path.of(System.getProperty("exeunt.test.root", "..")).toAbsolutePath().normalize();
  }

  /** Folder with the native libraries of this build. */
  static Path libraries() {
    return Path.of(System.getProperty("exeunt.test.libraries", root() + "/build/native/lib"));
  }

  /**
   * Removes a folder of files. Windows keeps one that is mapped, even where it is removed by name,
   * until the collector has found that nobody has the mapping any more.
   */
  static void remove(Path folder) throws InterruptedException {
    for (int turn = 0; turn < 100; turn++) {
      folder.toFile().listFiles(File::delete);
      if (folder.toFile().delete()) {
        return;
      }
      System.gc();
      Thread.sleep(20);
    }
  }

  static Path emulator() {
    return libraries().resolve("libexeunt_cuda_emu.so");
  }

  static boolean quick() {
    return Boolean.getBoolean("exeunt.quick");
  }

  /** One case in so many is run; the first of each op is among them. */
  static int every() {
    return Integer.getInteger("exeunt.test.every", quick() ? 3 : 1);
  }

  static boolean cuda() {
    return "cuda".equals(System.getProperty("exeunt.backend"));
  }

  /** CUDA kernels run by the SIMT emulator on the CPU. */
  static boolean emulated() {
    return cuda() && System.getProperty("exeunt.cuda.library", "").endsWith("_emu.so");
  }

  /** A file of the recorded vectors: below EXEUNT_GOLDEN, or where the build unpacks them. */
  static Path golden(String file) {
    String folder = System.getenv("EXEUNT_GOLDEN");
    Path path = (folder != null && !folder.isEmpty()
            ? Path.of(folder)
            : libraries().resolveSibling("golden"))
                    .resolve(file);
    if (!Files.exists(path)) {
      throw new AssertionError(path + " is missing (tests/golden/README.md)");
    }
    return path;
  }

  /** Why this JVM's forced path cannot run here, in one sentence; empty if it can. */
  static Optional<String> obstacle() {
    String isa = System.getProperty("exeunt.isa");
    if (isa != null && !machineRuns(isa)) {
      return Optional.of("this machine has no " + isa);
    }
    if (emulated() && !Files.exists(Path.of(System.getProperty("exeunt.cuda.library")))) {
      return Optional.of(
          System.getProperty("exeunt.cuda.library") + " was not built (no CUDA headers found)");
    }
    if (cuda() && !Backend.CUDA.available()) {
      return Optional.of(Backend.CUDA.reason());
    }
    return Optional.empty();
  }

  /**
   * Asked of the system, not of exeunt, which refuses to load with an impossible instruction set.
   */
  private static boolean machineRuns(String isa) {
    List<String> flags = switch (isa) {
      case "baseline" -> List.of();
      case "vnni" -> List.of("avx512_vbmi2", "avx512_vnni");
      case "avx512" -> List.of("avx512_vbmi2", "avx512_bf16");
      case "amx" -> List.of("amx_bf16");
      default -> List.of(isa);
    };
    try {
      String processor = Files.readString(Path.of("/proc/cpuinfo"));
      return flags.stream().allMatch(f -> processor.matches("(?s).*\\b" + f + "\\b.*"));
    } catch (IOException e) {
      return false;
    }
  }
}
