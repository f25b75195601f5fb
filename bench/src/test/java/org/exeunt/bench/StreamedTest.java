// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.LastLevelCache;
import org.exeunt.bench.measure.Operands;
import org.exeunt.bench.measure.Streamed;
import org.exeunt.cases.Cases;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Which operands come from memory, and how many copies of them that takes. */
class StreamedTest {
  private static final long MEBIBYTE = 1 << 20;

  @TempDir Path folder;

  private static Cases.Listed find(String op, String id) {
    return Problem.find(op, id);
  }

  @Test
  void everyRoundExceedsTwiceTheCache() {
    for (String op : Plan.ops().toList()) {
      for (Cases.Listed c : Problem.listed(op)) {
        for (long cache : new long[] {8 * MEBIBYTE, 32 * MEBIBYTE, 512 * MEBIBYTE}) {
          List<Operands> places = Streamed.places(c, cache);
          long bytes = Streamed.bytes(c);
          assertEquals(bytes <= cache / 4 * 3, places.contains(Operands.CACHE), c.toString());
          assertEquals(bytes >= 64 << 10, places.contains(Operands.MEMORY), c.toString());
          if (places.contains(Operands.MEMORY)) {
            int copies = Streamed.copies(bytes, cache);
            assertTrue(copies * bytes >= 3 * cache, c.toString());
            assertTrue(copies == 1 || copies * bytes > 3 * cache, c.toString());
          }
        }
      }
    }
  }

  @Test
  void bytesAreThoseOfTheOperands() {
    assertBytes(2L * 576 * 1536, "linear", "model_576x1536_r1");
    assertBytes(576L / 32 * 20 * 1536, "linear", "q4_1_576x1536_r1");
    assertBytes(3L * 2 * 576 * 1536, "ffn", "model_576x1536_r1");
    assertBytes(2L * 4 * 768 * 3072, "ffn", "model_768x3072_r1_gelu");
    assertBytes(3L * 576 / 32 * 20 * 1536, "ffn", "model_576x1536_r1_q4_1");
    assertBytes(24L * 2 * 2 * 192 * 576, "kv_propagate", "model_576_r1");
    assertBytes(24L * 2 * 192 * 576 / 32 * 20, "kv_propagate", "model_576_r1_q4_1");
    assertBytes(576L * 576 / 32 * 20, "gate", "bench_1x576_residual_3_q4_1");
    assertBytes(2L * 8192 * 8 * 128, "attention_scores", "bench_score_32");
    assertBytes(2L * 576 * 4096, "gather", "drop_from_bf16");
    assertBytes(2L * 4 * 1024 * 8 * 128, "gather", "kv_f32");
    assertBytes(2L * 576 * 49152, "exit_head", "bench_1x576x49152_bf16_bare");
    assertBytes(2L * 576 * 4096, "exit_head", "bench_1x576x49152_bf16_shortlist");
    assertBytes(0, "kv_length", "bench_decode");
  }

  /** They are those that the case moves to other memory, but for what lies around them. */
  @Test
  void bytesAreThoseOfWhatIsMoved() {
    for (String name : List.of("linear/model_576x1536_r1", "stablemax/bench_1x49152_softmax",
             "select/bench_heads_576_bf16", "cosine/bench_128x576_f32",
             "gate/bench_1x576_residual_3", "norm/model_512x576", "perp_grad/bench_576x1536_f32",
             "row_stats/bench_1x49152_bf16", "cross_entropy/bench_8x49152_bf16",
             "kv_append/bench_prefill", "ffn/model_576x1536_r1", "kv_propagate/model_576_r1")) {
      String[] words = name.split("/");
      try (Problem problem = new Problem(find(words[0], words[1]))) {
        double moved = problem.opened().streamedBytes(false);
        assertEquals(1, Streamed.bytes(problem.listed()) / moved, 0.02, name);
      }
    }
  }

  private static void assertBytes(long expected, String op, String id) {
    assertEquals(expected, Streamed.bytes(find(op, id)), op + "/" + id);
  }

  @Test
  void placesAreThoseWhereTheOperandsCanBe() {
    assertPlaces("stablemax", "bench_1x49152_softmax", Operands.CACHE, Operands.MEMORY);
    assertPlaces("linear", "model_576x1536_r512", Operands.CACHE, Operands.MEMORY);
    assertPlaces("select", "bench_576_of_2880", Operands.CACHE);
    assertPlaces("ffn", "model_576x1536_r8_all", Operands.CACHE);
    assertPlaces("exit_head", "bench_1x576x49152_bf16_bare", Operands.MEMORY);
  }

  private static void assertPlaces(String op, String id, Operands... expected) {
    assertEquals(List.of(expected), Streamed.places(find(op, id), 32 * MEBIBYTE), op + "/" + id);
  }

  private void cache(int cpu, int index, int level, String type, String size, String shared)
      throws IOException {
    Path cache = folder.resolve("cpu" + cpu).resolve("cache").resolve("index" + index);
    Files.createDirectories(cache);
    Files.writeString(cache.resolve("level"), level + "\n");
    Files.writeString(cache.resolve("type"), type + "\n");
    Files.writeString(cache.resolve("size"), size + "\n");
    Files.writeString(cache.resolve("shared_cpu_list"), shared + "\n");
  }

  @Test
  void lastLevelIsTheHighest() throws IOException {
    for (int cpu = 0; cpu < 2; cpu++) {
      cache(cpu, 0, 1, "Data", "32K", "" + cpu);
      cache(cpu, 1, 1, "Instruction", "64K", "" + cpu);
      cache(cpu, 2, 2, "Unified", "1024K", "" + cpu);
      cache(cpu, 3, 3, "Unified", "32768K", "0-1");
    }
    Files.createDirectories(folder.resolve("cpufreq"));
    assertEquals(32 * MEBIBYTE, LastLevelCache.read(folder));
  }

  @Test
  void eachThreadMayHaveALastLevelOfItsOwn() throws IOException {
    for (int cpu = 0; cpu < 4; cpu++) {
      cache(cpu, 2, 2, "Unified", "2M", "" + cpu);
    }
    assertEquals(4 * MEBIBYTE, LastLevelCache.read(folder));
  }

  @Test
  void unknownCachesAreTakenToBeLarge() throws IOException {
    assertEquals(LastLevelCache.FALLBACK, LastLevelCache.read(folder));
    Files.createDirectories(folder.resolve("cpu0"));
    assertEquals(LastLevelCache.FALLBACK, LastLevelCache.read(folder));
    assertEquals(LastLevelCache.FALLBACK, LastLevelCache.read(folder.resolve("nowhere")));
  }

  @Test
  void forksUseWhatTheRunFound() {
    String name = Host.PROPERTY + Host.CACHE;
    System.setProperty(name, "12345");
    try {
      assertEquals(12345, LastLevelCache.bytes());
      assertEquals(12345, Host.current("quick", "").cache());
    } finally {
      System.clearProperty(name);
    }
  }
}
