// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.measure;

import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.bench.contenders.Blocks;
import org.exeunt.cases.Cases;
import org.exeunt.cases.OpCase;

/**
 * What is read from memory where an op's operands are not in the cache: the large ones, weights and
 * KV caches foremost, and in how many copies they must exist for that.
 */
public final class Streamed {
  /** Less costs an op a few lines from memory, wherever it is. */
  private static final long LEAST = 64 << 10;
  /**
   * A round over copies exceeds the cache so many times, lest part of it stays: in a virtual
   * machine two threads may each sit on a cache of its own though the system knows of one.
   */
  private static final int TIMES_THE_CACHE = 3;

  private Streamed() {}

  /** Bytes that a call reads of such operands; 0 if it has none, or goes on from the last call. */
  public static long bytes(Cases.Listed c) {
    switch (c.op()) {
      case "linear":
        return matrix(c, c.integer("cols"), c.integer("dim"));
      case "ffn":
        return c.text("skip").equals("all")
            ? 0
            : matrix(c, c.integer("width") * (c.integer("gate") == 1 ? 3 : 2), c.integer("dim"));
      case "exit_head":
        return matrix(c, c.integer(c.text("shortlist").equals("-") ? "vocab" : "shortlist"),
            c.integer("dim"));
      case "kv_propagate":
        return matrix(c, c.integer("layers") * 2 * c.integer("heads") * c.integer("head_dim"),
            c.integer("dim"));
      case "attention":
        return 2 * cached(c, c.integer("slots"), "cache");
      case "attention_scores":
        return cached(c, c.integer("slots"), "cache");
      case "kv_compact":
        return 2 * cached(c, c.integer("kept"), "dtype");
      case "kv_copy":
        return 2 * cached(c, c.integer("count"), "dtype");
      case "gather":
        return listed(c);
      case "cosine":
        return 2 * logits(c);
      case "column_norms":
      case "stablemax":
      case "cross_entropy":
      case "row_stats":
      case "row_compaction":
        return logits(c);
      case "select":
        return c.integer("heads") * logits(c);
      case "perp_grad":
        return 2L * bytesOf(c.text("dtype"))
            * Stream.of(c.text("shape").split("x"))
                  .mapToLong(Long::parseLong)
                  .reduce(1, (a, b) -> a * b);
      case "prune_mask":
        return matrices(c, "tensors", 0);
      case "prune_apply":
        return matrices(c, "shapes", 1)
            + Stream.of(c.text("values").split(","))
                  .filter(type -> !type.equals("-"))
                  .mapToLong(type -> matrices(c, "shapes", bytesOf(type)))
                  .sum();
      case "gate":
        return c.text("kind").equals("residual")
            ? matrix(c, c.integer("dim"), c.integer("dim"))
            : 0;
      case "norm":
        return (long) c.integer("rows") * c.integer("dim") * bytesOf(c.text("input"));
      case "rope":
        return (long) c.integer("rows") * c.integer("heads") * c.integer("dim")
            * bytesOf(c.text("input"));
      case "kv_append":
        return 2L * c.integer("rows") * c.integer("heads") * c.integer("dim")
            * bytesOf(c.text("dtype"));
      case "draft_lookup":
      case "draft_rule":
      case "elr":
      case "embedding":
      case "exit_rule":
      case "ffn_skip_rule":
      case "hidden_stack":
      case "hired_budget":
      case "kv_length":
      case "layer_schedule":
      case "rope_table":
      case "ssm_step":
      case "stop_rule":
      case "token_bias":
      case "verify":
        return 0;
      default: // no formula: the inputs that are no dwarfs beside the largest, once they are made
        try (OpCase made = c.open(Device.CPU)) {
          return made.streamedBytes(false);
        }
    }
  }

  private static long logits(Cases.Listed c) {
    return (long) c.integer("rows") * c.integer("cols") * bytesOf(c.text("dtype"));
  }

  private static long matrix(Cases.Listed c, int rows, int cols) {
    return rows * Blocks.rowBytes(c.text("weight"), cols);
  }

  private static long cached(Cases.Listed c, int slots, String storage) {
    int sequences = c.text("sequences").equals("-") ? 1 : c.integer("sequences");
    return (long) sequences * slots * c.integer("heads") * c.integer("dim")
        * bytesOf(c.text(storage));
  }

  /** The listed entries of the tensors, such as f32:8xNx128. */
  private static long listed(Cases.Listed c) {
    long bytes = 0;
    for (String tensor : c.text("tensors").split(",")) {
      String[] parts = tensor.split("[:x]");
      long entries = bytesOf(parts[0]);
      for (int i = 1; i < parts.length; i++) {
        entries *= parts[i].equals("N") ? c.integer("listed") : Integer.parseInt(parts[i]);
      }
      bytes += entries;
    }
    return bytes;
  }

  /** Matrices such as f32:30x20 or 30x20; of so many bytes an element, if not of those it says. */
  private static long matrices(Cases.Listed c, String column, int element) {
    long bytes = 0;
    for (String matrix : c.text(column).split(",")) {
      String[] parts = matrix.split("[:x]");
      long elements =
          Long.parseLong(parts[parts.length - 2]) * Long.parseLong(parts[parts.length - 1]);
      bytes += elements * (element > 0 ? element : bytesOf(parts[0]));
    }
    return bytes;
  }

  private static int bytesOf(String dtype) {
    return DType.valueOf(dtype.toUpperCase(Locale.ROOT)).bytes();
  }

  /**
   * Whether what is written lies in as many places: each layer has a KV cache, and weights, of its
   * own.
   */
  public static boolean destinations(Cases.Listed c) {
    return c.op().equals("kv_compact") || c.op().equals("kv_copy") || c.op().equals("kv_append")
        || c.op().equals("prune_apply")
        || c.op().equals("gather") && !c.text("list").startsWith("selected");
  }

  /** Where the operands of a case are timed: wherever they can be, results beside them. */
  public static List<Operands> places(Cases.Listed c, long cache) {
    long bytes = bytes(c);
    return bytes < LEAST ? List.of(Operands.CACHE)
        : bytes > cache / 4 * 3
        ? List.of(Operands.MEMORY)
        : List.of(Operands.CACHE, Operands.MEMORY);
  }

  /** Copies of {@code bytes} bytes whose round exceeds the cache; 1 if a single one does. */
  public static int copies(long bytes, long cache) {
    long enough = TIMES_THE_CACHE * cache;
    return bytes >= enough ? 1 : Math.toIntExact(enough / bytes + 1);
  }
}
