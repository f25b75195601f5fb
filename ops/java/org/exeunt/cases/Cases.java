// SPDX-License-Identifier: Apache-2.0
package org.exeunt.cases;

import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.stream.IntStream;
import org.exeunt.Backend;
import org.exeunt.Device;

/**
 * The folders of the ops ({@code ops}) as Java sees them: each op's cases, their inputs on
 * a device, the call through the C ABI, and the double-precision oracle that judges it.
 *
 * <p>Loads {@code exeunt_cases_jni}, which calls the {@code libexeunt.so} that this JVM runs
 * on; {@code exeunt.cases.library} names its folder.
 */
public final class Cases {
  static {
    Backend.CPU.available(); // loads the library that the cases call
    Path folder = Path.of(System.getProperty("exeunt.cases.library", "build/native/lib"));
    System.load(
        folder.resolve(System.mapLibraryName("exeunt_cases_jni")).toAbsolutePath().toString());
  }

  private Cases() {}

  /** A case that is only known by name. */
  public record
      Listed(String op, int index, String id, Set<String> tags, Map<String, String> fields) {
    /** A word of its line in the table. */
    public String text(String column) {
      String word = fields.get(column);
      if (word == null) {
        throw new IllegalArgumentException(op + " cases have no column " + column);
      }
      return word;
    }

    /** A number of its line in the table. */
    public int integer(String column) {
      return Integer.parseInt(text(column));
    }

    /** Such as {@code norm/model_576}. */
    public String name() {
      return op + "/" + id;
    }

    /** Its tensors on a device, its call and its judge. */
    public OpCase open(Device device) {
      return new OpCase(this, Cases.open(op, index, device.backend() == Backend.CPU ? 1 : 2));
    }

    @Override
    public String toString() {
      return id;
    }
  }

  /** The ops that have cases, in alphabetical order. */
  public static native String[] ops();

  /** The cases of an op in the order of its table. */
  public static List<Listed> of(String op) {
    String[] lines = list(op);
    return IntStream.range(0, lines.length).mapToObj(i -> listed(op, i, lines[i])).toList();
  }

  private static Listed listed(String op, int index, String line) {
    List<String> words = List.of(line.split(" "));
    Set<String> tags = new LinkedHashSet<>();
    Map<String, String> fields = new LinkedHashMap<>();
    for (String word : words.subList(1, words.size())) {
      int equals = word.indexOf('=');
      if (equals < 0) {
        tags.add(word);
      } else {
        fields.put(word.substring(0, equals), word.substring(equals + 1));
      }
    }
    return new Listed(op, index, words.get(0), tags, fields);
  }

  /**
   * Draws a sound call of an op, the same for the same seed, with its params and tensors in memory
   * of the caller's; the handle has to be released.
   */
  public static native long draw(String op, long seed, long memory, long bytes);

  /** Address of the params struct of a drawn call. */
  public static native long drawnParams(long handle);

  /**
   * The fields of a drawn call: {@code <name> tensor <address of the DLTensor>}, then which hold of
   * {@code written}, {@code optional} and {@code any_rank}; or {@code <name> int32} (or {@code
   * int64}, {@code float}, {@code double}) {@code <address>}.
   */
  public static native String[] drawnFields(long handle);

  public static native void release(long handle);

  private static native String[] list(String op);

  private static native long open(String op, int index, int deviceType);

  static native void close(long handle);

  static native long streamedBytes(long handle, boolean outputs);

  static native void moveTo(long handle, long address, boolean outputs);

  static native int calls(long handle);

  static native String op(long handle, int call);

  static native long params(long handle, int call);

  static native void prepare(long handle);

  static native void run(long handle, int call);

  static native void keepOutputs(long handle);

  static native String changedOutput(long handle);

  static native boolean intact(long handle);

  static native String judge(long handle, double factor, double more);

  static native boolean untouched(long handle);

  static native boolean refusedOnCpu(long handle);

  static native double bytes(long handle);

  static native String[] description(long handle);
}
