// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.zip.CRC32C;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Packed;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.GgufTensor;
import org.exeunt.engine.model.io.KeptFiles;
import org.exeunt.engine.model.io.ModelFile;
import org.exeunt.engine.model.io.ModelFile.Piece;
import org.exeunt.engine.model.io.ModelFile.Range;

/**
 * Matrices of a model as {@link Packed} arranges them, in a file that is made once and mapped.
 *
 * <p>It begins with a header: a magic number, how many matrices there are, its length, then two
 * checksums of each matrix: of its rows in the model's file, and of them as they are here. The rows
 * follow in the order of use. No page of the model's file is mapped for them.
 */
final class PackedRows {
  /** The formats whose packed rows are read faster from memory; docs/tuning.md has the figures. */
  private static final Set<BlockFormat> FASTER = EnumSet.of(BlockFormat.Q4_0, BlockFormat.Q4_1,
      BlockFormat.Q5_0, BlockFormat.Q5_1, BlockFormat.Q4_K, BlockFormat.Q5_K, BlockFormat.Q6_K);

  private static final long MAGIC = 0x31534b4341504e45L; // "ENPACKS1"
  private static final int ALIGNMENT = 64;

  private final List<Entry> entries;
  private final int headerBytes;
  private final long bytes; // of the file
  private final Map<String, Weight> weights = new HashMap<>();
  private ModelFile kept;

  /** A matrix and where its rows begin. */
  private record Entry(GgufTensor tensor, long offset) {
    Range range() {
      return new Range(offset, offset + tensor.bytes());
    }
  }

  private PackedRows(List<GgufTensor> tensors) {
    headerBytes = (3 + tensors.size()) * Long.BYTES;
    List<Entry> placed = new ArrayList<>();
    long at = headerBytes;
    for (GgufTensor tensor : tensors) {
      at = aligned(at);
      placed.add(new Entry(tensor, at));
      at += tensor.bytes();
    }
    entries = placed;
    bytes = at;
  }

  private static long aligned(long at) {
    return (at + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  }

  /**
   * Maps packed rows, which are made before where they are missing or not of these very matrices.
   *
   * @param names the matrices of {@code file}, in the order of use
   * @param place where the rows are kept
   * @param log where it is said what is made, and why none can be used; null: nowhere
   * @return null if none can be used: the rows are read in place then
   */
  static PackedRows of(GgufFile file, List<String> names, Path place, PrintStream log) {
    List<GgufTensor> tensors = new ArrayList<>();
    for (String name : names) {
      GgufTensor tensor = file.tensors().get(name);
      if (FASTER.contains(tensor.type().blocks()) && tensor.bytes() <= ModelFile.MOST_AT_ONCE) {
        tensors.add(tensor);
      }
    }
    if (tensors.isEmpty() || !isRearranged()) {
      say(log, "the weights are read in place: packed they would not be faster");
      return null;
    }
    PackedRows rows = new PackedRows(tensors);
    try {
      try {
        rows.open(file, place);
        return rows;
      } catch (NoSuchFileException e) {
        say(log, "packing the weights, once for this model");
      } catch (IOException e) {
        say(log, "packing the weights anew: " + KeptFiles.why(e));
      }
      rows.make(file, place);
      rows.open(file, place);
      return rows;
    } catch (IOException e) {
      file.requireUnchanged(); // of which it may not be, then
      say(log, "the weights are read in place, as packed ones cannot be kept: " + KeptFiles.why(e));
      return null;
    }
  }

  private static void say(PrintStream log, String what) {
    if (log != null) {
      log.println(what);
    }
  }

  /** Whether the instruction set in use wants another order at all. */
  private static boolean isRearranged() {
    try (Scope scope = Scope.open();
        Packed block = Packed.of(scope.allocate(Device.CPU, DType.U8, 1, 18), BlockFormat.Q4_0)) {
      return block.format() != BlockFormat.Q4_0;
    }
  }

  /** The packed rows of a matrix; null: it is read in place. */
  Weight of(GgufTensor tensor) {
    return weights.get(tensor.name());
  }

  /** Looks whether the file has changed. */
  void requireUnchanged() {
    kept.requireUnchanged();
  }

  /** The same for each step. */
  void checkUnchanged() {
    kept.checkUnchanged();
  }

  private void open(GgufFile file, Path place) throws IOException {
    try (ModelFile opened = ModelFile.open(place)) {
      if (opened.size() != bytes) {
        throw new IOException(place + " has " + opened.size() + " bytes, not the " + bytes
            + " of this model's packed weights");
      }
      ByteBuffer header = opened.read(0, headerBytes);
      if (header.getLong() != MAGIC || header.getLong() != entries.size()
          || header.getLong() != bytes) {
        throw new IOException(place + " does not begin as packed weights of this model");
      }
      weights.clear();
      map(opened);
      Set<BlockFormat> seen = EnumSet.noneOf(BlockFormat.class);
      ByteBuffer rows = ByteBuffer.allocateDirect((int) longest());
      for (Entry entry : entries) {
        GgufTensor tensor = entry.tensor;
        file.read(tensor, rows.clear().limit((int) tensor.bytes()));
        ByteBuffer packed = weights.get(tensor.name()).tensor().byteBuffer();
        if (sum(rows.flip()) != header.getInt()) {
          throw new IOException(place + " was made of another '" + tensor.name() + "'");
        }
        if (sum(packed) != header.getInt()) {
          throw new IOException(
              place + " is damaged: the checksum of '" + tensor.name() + "' differs");
        }
        if (seen.add(tensor.type().blocks())
            && !isArranged(rows.rewind(), tensor, packed.rewind())) {
          throw new IOException(place + " has another order of rows than this machine's");
        }
      }
      opened.requireUnchanged();
      kept = opened;
    }
  }

  private long longest() {
    return entries.stream().mapToLong(entry -> entry.tensor.bytes()).max().orElseThrow();
  }

  /** Whether rows are packed as this library does it for the instruction set in use. */
  private static boolean isArranged(ByteBuffer rows, GgufTensor tensor, ByteBuffer packed) {
    try (Packed made = packed(rows, tensor)) {
      return made.rows().byteBuffer().equals(packed);
    }
  }

  private static Packed packed(ByteBuffer rows, GgufTensor tensor) {
    return Packed.of(
        Tensor.of(rows, DType.U8, tensor.rows(), tensor.rowBytes()), tensor.type().blocks());
  }

  private static int sum(ByteBuffer bytes) {
    CRC32C sum = new CRC32C();
    sum.update(bytes);
    return (int) sum.getValue();
  }

  private void map(ModelFile from) throws IOException {
    List<Piece> pieces = from.mapTogether(entries.stream().map(Entry::range).toList());
    for (Entry entry : entries) {
      GgufTensor tensor = entry.tensor;
      Piece piece =
          pieces.stream().filter(one -> one.holds(entry.range())).findFirst().orElseThrow();
      Tensor rows = piece.bytes().reinterpret(
          DType.U8, entry.offset - piece.range().begin(), tensor.rows(), tensor.rowBytes());
      weights.put(tensor.name(),
          new Weight(
              rows, BlockFormat.valueOf("PACKED_" + tensor.type().blocks()), tensor.columns()));
    }
  }

  private void make(GgufFile file, Path place) throws IOException {
    ByteBuffer header = ByteBuffer.allocate(headerBytes).order(ByteOrder.LITTLE_ENDIAN);
    header.putLong(MAGIC).putLong(entries.size()).putLong(bytes);
    KeptFiles.replace(place, channel -> {
      ByteBuffer rows = ByteBuffer.allocateDirect((int) longest());
      for (Entry entry : entries) {
        GgufTensor tensor = entry.tensor;
        file.read(tensor, rows.clear().limit((int) tensor.bytes()));
        header.putInt(sum(rows.flip()));
        try (Packed packed = packed(rows.rewind(), tensor)) {
          ByteBuffer made = packed.rows().byteBuffer();
          header.putInt(sum(made));
          KeptFiles.write(channel, made.rewind(), entry.offset);
        }
      }
      KeptFiles.write(channel, header.flip(), 0);
    });
  }
}
