// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Tensor;

/** The structs of the C ABI as their headers declare them, and what stands in one. */
final class Structs {
  /** A field: a number, a tensor, a struct inside, or structs in a row. */
  record Field(String type, String name, String comment) {
    boolean tensor() {
      return type.equals("const DLTensor*");
    }

    /** A number that stands for a word, or for yes and no. */
    boolean code() {
      return CODE.matcher(comment).lookingAt();
    }

    /** Of a number. */
    int bytes() {
      return switch (type) {
        case "int16_t" -> 2;
        case "int32_t", "float" -> 4;
        default -> 8;
      };
    }

    /** Structs in a row, as many as {@link #count} says. */
    boolean array() {
      return type.startsWith("const exn_");
    }

    String count() {
      return name.replaceFirst("s$", "") + "_count";
    }

    /** What the comment begins with, or says of one of the op's directions: in, out or in-out. */
    Set<String> roles() {
      Matcher role = ROLE.matcher(comment);
      Set<String> roles = new TreeSet<>();
      while (role.find()) {
        roles.add(role.group(1));
      }
      return roles;
    }

    String struct() {
      return type.replaceFirst("^const ", "").replaceFirst("\\*$", "");
    }
  }

  private static final Pattern STRUCT =
      Pattern.compile("typedef struct (exn_\\w+) \\{(.*?)\\n\\} \\1;", Pattern.DOTALL);
  private static final Pattern FIELD = Pattern.compile(
      "(?:^|\\n)\\s*((?:const )?\\w+\\*?)\\s+(\\w+);(?:\\s*(/\\*\\*<.*?\\*/))?", Pattern.DOTALL);

  private static final Pattern CODE = Pattern.compile("/\\*\\*< ((\\w+: )?EXN_|[01]: |0 or 1)");
  private static final Pattern ROLE = Pattern.compile("(?:\\*<|[A-Z]+:) (in-out|in|out)\\b");

  private static final Map<String, List<Field>> ALL = read();

  private Structs() {}

  /** The fields of {@code exn_<op>_params}, of {@code exn_kv_cache} and so on. */
  static List<Field> fields(String struct) {
    return ALL.get(struct);
  }

  /**
   * Every number and tensor of a struct and of the structs inside, by its path. Where its own
   * comment names no role, it has that of the field which holds it.
   */
  static Map<String, Field> leaves(String struct) {
    Map<String, Field> leaves = new TreeMap<>();
    addLeaves(leaves, "", "", struct);
    return leaves;
  }

  private static void addLeaves(Map<String, Field> to, String path, String outer, String struct) {
    for (Field field : fields(struct)) {
      String comment = field.roles().isEmpty() ? outer : field.comment;
      String name = path + field.name;
      if (field.array()) {
        addLeaves(to, name + "[].", comment, field.struct());
      } else if (field.type.startsWith("exn_")) {
        addLeaves(to, name + ".", comment, field.struct());
      } else if (!field.name.matches("struct_size|reserved")) {
        to.put(name, new Field(field.type, field.name, comment));
      }
    }
  }

  private static Map<String, List<Field>> read() {
    Map<String, List<Field>> all = new LinkedHashMap<>();
    try (
        Stream<Path> headers = Files.list(Setup.root().resolve("native/include/exeunt")).sorted()) {
      for (Path header : (Iterable<Path>) headers::iterator) {
        Matcher struct = STRUCT.matcher(Files.readString(header));
        while (struct.find()) {
          List<Field> fields = new ArrayList<>();
          Matcher field = FIELD.matcher(struct.group(2));
          while (field.find()) {
            String comment = field.group(3) == null ? "" : field.group(3);
            fields.add(new Field(field.group(1), field.group(2), comment.replaceAll("\\s+", " ")));
          }
          all.put(struct.group(1), fields);
        }
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    }
    return all;
  }

  /** A number or a tensor of a struct in memory. */
  record Place(Field field, long address) {
    /** Null if it is a tensor that is not there. */
    Object value() {
      if (!field.tensor()) {
        return number(field.type, address);
      }
      return dl() == 0 ? null : described(Tensor.ofDlpack(dl()));
    }

    /** The address of the DLTensor; 0 if there is none. */
    long dl() {
      return memory(address, 8).getLong();
    }
  }

  /** What a struct says, field by field; tensors that are not there are left out. */
  static Map<String, Object> contents(String struct, long address) {
    Map<String, Object> contents = new LinkedHashMap<>();
    places(struct, address).forEach((name, place) -> {
      Object value = place.value();
      if (value != null) {
        contents.put(name, value);
      }
    });
    return contents;
  }

  /** Each number and tensor of a struct, but sizes and reserved words. */
  static Map<String, Place> places(String struct, long address) {
    Map<String, Place> places = new LinkedHashMap<>();
    addPlaces(places, "", struct, address);
    return places;
  }

  private static void addPlaces(Map<String, Place> to, String path, String struct, long address) {
    Class<? extends Pointer> type = type(struct);
    for (Field field : fields(struct)) {
      String name = path + field.name;
      long at = address + Loader.offsetof(type, field.name);
      if (field.array()) {
        int count = memory(address + Loader.offsetof(type, field.count()), 4).getInt();
        long first = memory(at, 8).getLong();
        for (int i = 0; i < count; i++) {
          long element = first + (long) i * Loader.sizeof(type(field.struct()));
          addPlaces(to, name + "[" + i + "].", field.struct(), element);
        }
      } else if (field.type.startsWith("exn_")) {
        addPlaces(to, name + ".", field.struct(), at);
      } else if (!field.name.equals("struct_size") && !field.name.equals("reserved")) {
        to.put(name, new Place(field, at));
      }
    }
  }

  private static Number number(String type, long at) {
    BytePointer memory = memory(at, 8);
    return switch (type) {
      case "int16_t" -> memory.getShort();
      case "int32_t" -> memory.getInt();
      case "int64_t" -> memory.getLong();
      case "float" -> memory.getFloat();
      case "double" -> memory.getDouble();
      default -> throw new IllegalStateException("a field of type " + type);
    };
  }

  /** Strides that no element needs are left out. */
  private static String described(Tensor tensor) {
    long[] shape = tensor.shape();
    long[] strides = tensor.strides();
    boolean empty = Arrays.stream(shape).anyMatch(extent -> extent == 0);
    for (int i = 0; i < shape.length; i++) {
      strides[i] = empty || shape[i] == 1 ? 0 : strides[i];
    }
    return tensor.dtype() + Arrays.toString(shape) + " strides " + Arrays.toString(strides)
        + " at 0x" + Long.toHexString(tensor.address());
  }

  @SuppressWarnings("unchecked")
  private static Class<? extends Pointer> type(String struct) {
    try {
      return (Class<? extends Pointer>) Class.forName("org.exeunt.jni." + struct);
    } catch (ClassNotFoundException e) {
      throw new IllegalStateException(e);
    }
  }

  private static final class Memory extends BytePointer {
    Memory(long address, long bytes) {
      super((Pointer) null);
      this.address = address;
      limit = bytes;
      capacity = bytes;
    }
  }

  static BytePointer memory(long address, long bytes) {
    return new Memory(address, bytes);
  }
}
