// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model;

import java.io.IOException;
import java.io.PrintStream;
import java.io.UncheckedIOException;
import java.nio.FloatBuffer;
import java.nio.ShortBuffer;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import org.exeunt.DType;
import org.exeunt.Tensor;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.gguf.GgufTensor;

/**
 * Hands out a file's tensors: in place where they can stay what they are, else as pieces of an
 * arena that {@link #convert} fills.
 */
final class WeightReader {
  private static final int ELEMENTS_AT_ONCE = 1 << 20;
  private static final long QUIET_NANOS = 500_000_000;

  private final GgufFile file;
  private final DType type;
  private final PackedRows packed;
  private final WeightArena arena;
  private final List<Conversion> conversions = new ArrayList<>();

  /** Some rows of a tensor, and where they go; a null tensor has zeros. */
  private record Conversion(GgufTensor from, long begin, Tensor to) {
    void run(GgufFile file) throws IOException {
      if (from == null) {
        to.copyFrom(new float[(int) to.elements()]);
      } else if (to.dtype() == DType.F32) {
        FloatBuffer floats = to.floatBuffer();
        file.readRows(from, begin, begin + to.size(0), (i, row) -> floats.put(row));
      } else {
        ShortBuffer bits = to.shortBuffer();
        short[] rounded = new short[(int) to.size(1)];
        file.readRows(from, begin, begin + to.size(0), (i, row) -> {
          for (int j = 0; j < row.length; j++) {
            rounded[j] =
                to.dtype() == DType.BF16 ? DType.floatToBf16(row[j]) : DType.floatToF16(row[j]);
          }
          bits.put(rounded);
        });
      }
    }
  }

  /**
   * @param type what matrices become; null: what they are
   * @param packed what takes the place of some of these; null: nothing does
   */
  WeightReader(GgufFile file, DType type, PackedRows packed, WeightArena arena) {
    this.file = file;
    this.type = type;
    this.packed = packed;
    this.arena = arena;
  }

  boolean has(String name) {
    return file.tensors().containsKey(name);
  }

  /** F32, [{@code length}]. */
  Tensor vector(String name, int length) throws IOException {
    GgufTensor tensor = file.tensor(name, 1, length);
    Tensor inPlace = type == null && tensor.type().dtype() == DType.F32 ? file.map(tensor) : null;
    return inPlace != null ? inPlace.reshape(length) : converted(tensor, DType.F32).reshape(length);
  }

  Weight matrix(String name, int rows, int columns) throws IOException {
    GgufTensor tensor = file.tensor(name, rows, columns);
    if (type != null) {
      return Weight.of(converted(tensor, type));
    }
    Weight rearranged = packed == null ? null : packed.of(tensor);
    if (rearranged != null) {
      return rearranged;
    }
    Tensor inPlace = file.map(tensor);
    return inPlace != null
        ? new Weight(inPlace, tensor.type().blocks(), columns)
        : Weight.of(converted(tensor, tensor.type().dtype()));
  }

  /** Matrices that one op wants alike: where a file mixes blocks and elements, all become F32. */
  List<Weight> alike(List<String> names, int[] rows, int[] columns) throws IOException {
    List<Weight> matrices = new ArrayList<>();
    boolean mixed = false;
    for (int i = 0; i < rows.length; i++) {
      GgufTensor tensor = file.tensor(names.get(i), rows[i], columns[i]);
      mixed |=
          type == null && tensor.type().dtype() != file.tensors().get(names.get(0)).type().dtype();
    }
    for (int i = 0; i < rows.length; i++) {
      matrices.add(mixed ? Weight.of(converted(file.tensors().get(names.get(i)), DType.F32))
                         : matrix(names.get(i), rows[i], columns[i]));
    }
    return matrices;
  }

  /** Matrices of as many columns, one below the other wherever they are converted. */
  List<Weight> stacked(List<String> names, int columns, int... rows) throws IOException {
    List<Weight> parts = new ArrayList<>();
    if (type == null) {
      for (int i = 0; i < rows.length; i++) {
        parts.add(matrix(names.get(i), rows[i], columns));
      }
      return parts;
    }
    int all = 0;
    for (int count : rows) {
      all += count;
    }
    Tensor whole = arena.take(type, all, columns);
    int begin = 0;
    for (int i = 0; i < rows.length; i++) {
      Tensor part = whole.rows(begin, begin += rows[i]);
      convert(file.tensor(names.get(i), rows[i], columns), part);
      parts.add(Weight.of(part));
    }
    return parts;
  }

  /** Vectors one after the other; zeros for those that the file has not. */
  Tensor strung(List<String> names, int... lengths) throws IOException {
    int all = 0;
    for (int length : lengths) {
      all += length;
    }
    Tensor whole = arena.take(DType.F32, all);
    int begin = 0;
    for (int i = 0; i < lengths.length; i++) {
      Tensor part = whole.slice(0, begin, begin += lengths[i]);
      convert(has(names.get(i)) ? file.tensor(names.get(i), 1, lengths[i]) : null,
          part.reshape(1, lengths[i]));
    }
    return whole;
  }

  private Tensor converted(GgufTensor tensor, DType to) {
    Tensor piece = arena.take(to, tensor.rows(), tensor.columns());
    convert(tensor, piece);
    return piece;
  }

  private void convert(GgufTensor tensor, Tensor into) {
    long rows = into.size(0);
    long atOnce = Math.max(1, ELEMENTS_AT_ONCE / into.size(1));
    for (long begin = 0; begin < rows; begin += atOnce) {
      Tensor part = into.rows(begin, Math.min(rows, begin + atOnce));
      conversions.add(new Conversion(tensor, begin, part));
    }
  }

  /**
   * Fills what has to be converted, in parallel.
   *
   * @param log says how far it is where it takes long; null: says nothing
   */
  void convert(PrintStream log) throws IOException {
    if (conversions.isEmpty()) {
      return;
    }
    long all = conversions.stream().mapToLong(part -> part.to.elements()).sum();
    AtomicLong done = new AtomicLong();
    AtomicLong said = new AtomicLong(System.nanoTime());
    AtomicBoolean any = new AtomicBoolean();
    try {
      conversions.parallelStream().forEach(part -> {
        try {
          part.run(file);
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
        long percent = 100 * done.addAndGet(part.to.elements()) / all;
        long last = said.get();
        long now = System.nanoTime();
        if (log != null && now - last > QUIET_NANOS && said.compareAndSet(last, now)) {
          log.printf("\rconverting weights: %d %%", percent);
          log.flush();
          any.set(true);
        }
      });
    } catch (UncheckedIOException e) {
      throw e.getCause();
    }
    if (any.get()) {
      log.println("\rconverting weights: done");
    }
  }
}
