// SPDX-License-Identifier: Apache-2.0
import static java.lang.foreign.ValueLayout.ADDRESS;
import static java.lang.foreign.ValueLayout.JAVA_BYTE;
import static java.lang.foreign.ValueLayout.JAVA_FLOAT;
import static java.lang.foreign.ValueLayout.JAVA_INT;
import static java.lang.foreign.ValueLayout.JAVA_LONG;
import static java.lang.foreign.ValueLayout.JAVA_SHORT;

import java.lang.foreign.AddressLayout;
import java.lang.foreign.Arena;
import java.lang.foreign.FunctionDescriptor;
import java.lang.foreign.Linker;
import java.lang.foreign.MemoryLayout;
import java.lang.foreign.MemoryLayout.PathElement;
import java.lang.foreign.MemorySegment;
import java.lang.foreign.StructLayout;
import java.lang.foreign.SymbolLookup;
import java.lang.invoke.MethodHandle;
import java.nio.file.Path;

/**
 * The exit head through the C ABI alone, with neither JavaCPP nor exeunt's jars: JDK 22 or newer.
 *
 * <pre>java --enable-native-access=ALL-UNNAMED ExitHead.java /path/to/libexeunt.so</pre>
 */
public final class ExitHead {
  private static final int ABI_VERSION = 1;
  private static final int CPU = 1; // kDLCPU
  private static final byte INT = 0; // kDLInt
  private static final byte FLOAT = 2; // kDLFloat
  private static final int RMS_NORM = 1; // EXN_NORM_RMS

  /** {@code DLTensor} of exeunt/dlpack_abi.h. */
  private static final StructLayout TENSOR = MemoryLayout.structLayout(ADDRESS.withName("data"),
      JAVA_INT.withName("device_type"), JAVA_INT.withName("device_id"), JAVA_INT.withName("ndim"),
      JAVA_BYTE.withName("code"), JAVA_BYTE.withName("bits"), JAVA_SHORT.withName("lanes"),
      ADDRESS.withName("shape"), ADDRESS.withName("strides"), JAVA_LONG.withName("byte_offset"));

  /** {@code exn_exit_head_params} of exeunt/exit_head.h; what is left 0 is not there. */
  private static final StructLayout PARAMS = MemoryLayout.structLayout(
      JAVA_LONG.withName("struct_size"), ADDRESS.withName("hidden"), ADDRESS.withName("weight"),
      ADDRESS.withName("bias"), ADDRESS.withName("norm_weight"), ADDRESS.withName("norm_bias"),
      ADDRESS.withName("translator_weight"), ADDRESS.withName("translator_bias"),
      ADDRESS.withName("shortlist"), ADDRESS.withName("screen"), ADDRESS.withName("argmax"),
      ADDRESS.withName("max_logit"), ADDRESS.withName("lse"), ADDRESS.withName("p1"),
      MemoryLayout.sequenceLayout(12, ADDRESS).withName("other_statistics"),
      MemoryLayout.sequenceLayout(4, ADDRESS).withName("of_the_screen"), JAVA_INT.withName("norm"),
      JAVA_FLOAT.withName("norm_eps"), JAVA_INT.withName("translate"),
      JAVA_INT.withName("normalizer"), JAVA_FLOAT.withName("temperature"),
      JAVA_FLOAT.withName("softcap"), JAVA_INT.withName("weight_blocks"),
      JAVA_INT.withName("translator_blocks"),
      MemoryLayout.sequenceLayout(4, JAVA_INT).withName("how_to_screen"));

  private static final AddressLayout TEXT =
      ADDRESS.withTargetLayout(MemoryLayout.sequenceLayout(Long.MAX_VALUE, JAVA_BYTE));

  private final Arena arena;
  private final SymbolLookup library;

  private ExitHead(Arena arena, Path path) {
    this.arena = arena;
    library = SymbolLookup.libraryLookup(path, arena);
  }

  private MethodHandle function(String name, FunctionDescriptor type) {
    return Linker.nativeLinker().downcallHandle(library.find(name).orElseThrow(), type);
  }

  /** Of memory that the arena owns; an address alone has no end that could be checked. */
  private MemorySegment tensor(MemorySegment data, byte code, long... shape) {
    MemorySegment tensor = arena.allocate(TENSOR); // zero: strides are those of a compact tensor
    set(tensor, TENSOR, "data", data);
    set(tensor, TENSOR, "device_type", CPU);
    set(tensor, TENSOR, "ndim", shape.length);
    set(tensor, TENSOR, "code", code);
    set(tensor, TENSOR, "bits", (byte) 32);
    set(tensor, TENSOR, "lanes", (short) 1);
    set(tensor, TENSOR, "shape", arena.allocateFrom(JAVA_LONG, shape));
    return tensor;
  }

  private static void set(MemorySegment struct, StructLayout layout, String field, Object value) {
    layout.varHandle(PathElement.groupElement(field)).set(struct, 0L, value);
  }

  private void check(int status) throws Throwable {
    if (status != 0) {
      MemorySegment sentence =
          (MemorySegment) function("exn_last_error", FunctionDescriptor.of(TEXT)).invokeExact();
      throw new IllegalArgumentException(sentence.getString(0));
    }
  }

  private void run() throws Throwable {
    int abi = (int) function("exn_abi_version", FunctionDescriptor.of(JAVA_INT)).invokeExact();
    if (abi != ABI_VERSION) {
      throw new IllegalStateException("the library has ABI " + abi + ", not " + ABI_VERSION);
    }
    MemorySegment hidden = arena.allocateFrom(JAVA_FLOAT, 5, 1, 0, 0, 0, 3, 1, 1);
    MemorySegment weight = arena.allocateFrom(JAVA_FLOAT, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1);
    MemorySegment norm = arena.allocateFrom(JAVA_FLOAT, 1, 1, 1, 1);
    MemorySegment token = arena.allocate(JAVA_INT, 2);
    MemorySegment p1 = arena.allocate(JAVA_FLOAT, 2);

    MemorySegment params = arena.allocate(PARAMS);
    set(params, PARAMS, "struct_size", PARAMS.byteSize());
    set(params, PARAMS, "hidden", tensor(hidden, FLOAT, 2, 4));
    set(params, PARAMS, "weight", tensor(weight, FLOAT, 3, 4));
    set(params, PARAMS, "norm", RMS_NORM);
    set(params, PARAMS, "norm_weight", tensor(norm, FLOAT, 4));
    set(params, PARAMS, "norm_eps", 1e-5f);
    set(params, PARAMS, "temperature", 1f);
    set(params, PARAMS, "argmax", tensor(token, INT, 2));
    set(params, PARAMS, "p1", tensor(p1, FLOAT, 2));

    MemorySegment bytes = arena.allocate(JAVA_LONG);
    check((int) function(
        "exn_exit_head_workspace_size", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS))
            .invokeExact(params, bytes));
    MemorySegment workspace = arena.allocate(Math.max(1, bytes.get(JAVA_LONG, 0)), 64);
    MethodHandle head = function(
        "exn_exit_head", FunctionDescriptor.of(JAVA_INT, ADDRESS, ADDRESS, JAVA_LONG, ADDRESS));
    check((int) head.invokeExact(
        params, workspace, bytes.get(JAVA_LONG, 0), MemorySegment.NULL)); // the CPU has no stream
    for (int row = 0; row < 2; row++) {
      System.out.printf(
          "token %d, p %.4f%n", token.getAtIndex(JAVA_INT, row), p1.getAtIndex(JAVA_FLOAT, row));
    }

    // What is wrong is said in a sentence, and nothing is written.
    set(params, PARAMS, "temperature", -1f);
    try {
      check((int) head.invokeExact(params, workspace, bytes.get(JAVA_LONG, 0), MemorySegment.NULL));
    } catch (IllegalArgumentException refused) {
      System.out.println("refused: " + refused.getMessage());
    }
  }

  public static void main(String[] arguments) throws Throwable {
    if (arguments.length != 1 || arguments[0].startsWith("-")) {
      System.err.println("usage: ExitHead.java /path/to/libexeunt.so");
      System.exit(2);
    }
    try (Arena arena = Arena.ofConfined()) {
      new ExitHead(arena, Path.of(arguments[0]).toAbsolutePath()).run();
    } catch (IllegalArgumentException e) { // no library of that name
      System.err.println(e.getMessage());
      System.exit(1);
    }
  }
}
