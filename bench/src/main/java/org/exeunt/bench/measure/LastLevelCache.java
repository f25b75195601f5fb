// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.io.IOException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashSet;
import java.util.Set;

/** The cache in front of memory, and how much of it the benchmarks' threads can fill. */
public final class LastLevelCache {
  /** Where the system does not say. */
  public static final long FALLBACK = 64L << 20;

  private static final Path CPUS = Path.of("/sys/devices/system/cpu");
  /** The benchmarks' threads; each may sit on a cache of its own. */
  private static final int THREADS = 2;

  private LastLevelCache() {}

  /** Bytes; in a fork what the run's main process found, so that plan and forks agree. */
  public static long bytes() {
    Long given = Long.getLong(Host.PROPERTY + Host.CACHE);
    return given != null ? given : read(CPUS);
  }

  /**
   * Bytes of the largest level's caches, of as many as there are threads.
   *
   * @param cpus a folder like /sys/devices/system/cpu
   */
  public static long read(Path cpus) {
    int highest = 0;
    long bytes = 0;
    Set<String> instances = new HashSet<>();
    try (DirectoryStream<Path> folders = Files.newDirectoryStream(cpus, "cpu[0-9]*")) {
      for (Path cpu : folders) {
        try (DirectoryStream<Path> caches =
                 Files.newDirectoryStream(cpu.resolve("cache"), "index[0-9]*")) {
          for (Path cache : caches) {
            int level = Integer.parseInt(line(cache.resolve("level")));
            if (line(cache.resolve("type")).equals("Instruction") || level < highest) {
              continue;
            }
            if (level > highest) {
              highest = level;
              instances.clear();
              bytes = 0;
            }
            instances.add(line(cache.resolve("shared_cpu_list")));
            bytes = Math.max(bytes, size(line(cache.resolve("size"))));
          }
        }
      }
    } catch (IOException | RuntimeException e) {
      return FALLBACK; // virtual machines and other systems may have only part of these files
    }
    return bytes == 0 ? FALLBACK : bytes * Math.min(THREADS, instances.size());
  }

  /** "32768K" or "32M". */
  private static long size(String text) {
    long number = Long.parseLong(text.replaceAll("\\D", ""));
    return text.endsWith("M") ? number << 20 : text.endsWith("K") ? number << 10 : number;
  }

  private static String line(Path file) throws IOException {
    return Files.readString(file).trim();
  }
}
