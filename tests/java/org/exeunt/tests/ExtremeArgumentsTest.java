// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertTrue;

import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.URI;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Comparator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.stream.Stream;
import org.bytedeco.javacpp.FloatPointer;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.KvCache;
import org.exeunt.Op;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.Workspace;
import org.junit.jupiter.api.Test;

/**
 * Calls every public method with the extremes of each argument, one and two at a time. What is
 * refused is refused in words that the facade wrote, never in those of the Java library's innards.
 */
class ExtremeArgumentsTest {
  @Test
  void refusalsAreInWordsOfTheFacade() {
    String output = Subprocess.of(Driver.class).option("-Xmx300m").run();
    System.out.println(output.lines().reduce((a, b) -> b).orElse("nothing was printed"));
    assertTrue(output.matches("(?s).*\\d{4,} calls of \\d{3,} methods, 0 complaints\\R"), output);
  }

  /** Finds receivers by calling what makes them. */
  static final class Driver {
    private static final int POOL = 3;
    private static final int ROUNDS = 4;

    /** These take an address or a layout at their caller's word, or end what the others need. */
    private static final Set<String> LEFT_OUT = Set.of("Tensor.ofAddress", "Tensor.ofDlpack",
        "Tensor.strided", "Stream.wrap", "Scope.close", "Backend.openCuda", "Backend.setThreads",
        "Backend.setIsa", "Backend.fmaProbe", "Rope.table");

    private final Map<Class<?>, List<Object>> pool = new HashMap<>();
    private final Set<String> complaints = new TreeSet<>();
    private final Set<String> called = new TreeSet<>();
    private long calls;

    public static void main(String[] args) throws Exception {
      new Driver().drive();
    }

    private void drive() throws Exception {
      try (Scope scope = Scope.open(); FloatPointer pointer = new FloatPointer(64)) {
        add(scope);
        add(Workspace.in(scope, Device.CPU));
        add(scope.allocate(DType.F32, 4, 6).copyFrom(new float[24]));
        add(scope.allocate(DType.I32, 4).copyFrom(new int[4]));
        Tensor keys = scope.allocate(DType.F32, 2, 8, 4).copyFrom(new float[64]);
        add(keys);
        add(KvCache.ofHeadMajor(keys, keys));
        add(pointer);
        add(ByteBuffer.allocateDirect(64).order(ByteOrder.nativeOrder()).asFloatBuffer());
        List<Class<?>> types = types();
        for (int round = 0; round < ROUNDS; round++) {
          for (Class<?> type : types) {
            callAll(type);
          }
        }
        pool.values().forEach(objects -> objects.forEach(object -> {
          if (object instanceof Op op) {
            op.close();
          }
        }));
      }
      complaints.forEach(System.out::println);
      System.out.println(
          calls + " calls of " + called.size() + " methods, " + complaints.size() + " complaints");
    }

    private static List<Class<?>> types() throws Exception {
      URI home = Backend.class.getProtectionDomain().getCodeSource().getLocation().toURI();
      Path place = Path.of(home);
      if (Files.isDirectory(place)) {
        return types(place);
      }
      try (FileSystem jar = FileSystems.newFileSystem(place)) {
        return types(jar.getPath("/"));
      }
    }

    private static List<Class<?>> types(Path root) throws Exception {
      List<Class<?>> types = new ArrayList<>();
      try (Stream<Path> files = Files.list(root.resolve("org/exeunt"))) {
        for (Path file : files.sorted(Comparator.comparing(Path::toString)).toList()) {
          String name = file.getFileName().toString();
          if (name.endsWith(".class") && !name.startsWith("package-info")) {
            Class<?> type = Class.forName("org.exeunt." + name.replaceAll("\\.class$", ""));
            if (isPublic(type)) {
              types.add(type);
            }
          }
        }
      }
      return types;
    }

    private static boolean isPublic(Class<?> type) {
      return Modifier.isPublic(type.getModifiers())
          && (type.getDeclaringClass() == null || isPublic(type.getDeclaringClass()));
    }

    private void callAll(Class<?> type) throws Exception {
      for (Constructor<?> constructor : type.getConstructors()) {
        call(constructor, null);
      }
      Method[] methods = type.getMethods();
      Arrays.sort(methods, Comparator.comparing(Method::toString));
      for (Method method : methods) {
        String name = type.getSimpleName() + "." + method.getName();
        if (method.getDeclaringClass().getPackage() != Backend.class.getPackage()
            || method.isBridge() || LEFT_OUT.contains(name) || method.getName().equals("equals")
            || Op.class.isAssignableFrom(type) && method.getName().equals("close")) {
          continue;
        }
        if (Modifier.isStatic(method.getModifiers())) {
          call(method, null);
        } else {
          for (Object receiver : List.copyOf(known(type))) {
            call(method, receiver);
          }
        }
      }
    }

    private void call(Executable method, Object receiver) throws Exception {
      Class<?>[] parameters = method.getParameterTypes();
      Object[] usual = new Object[parameters.length];
      Object[][] extremes = new Object[parameters.length][];
      for (int i = 0; i < parameters.length; i++) {
        usual[i] = usual(parameters[i]);
        extremes[i] = extremes(parameters[i]);
      }
      attempt(method, receiver, usual);
      for (int i = 0; i < parameters.length; i++) {
        for (Object value : extremes[i]) {
          Object[] one = usual.clone();
          one[i] = value;
          attempt(method, receiver, one);
          for (int j = i + 1; j < parameters.length && parameters.length < 8; j++) {
            for (Object other : extremes[j]) {
              Object[] two = one.clone();
              two[j] = other;
              attempt(method, receiver, two);
            }
          }
        }
      }
    }

    private void attempt(Executable method, Object receiver, Object[] arguments)
        throws IllegalAccessException, InstantiationException {
      calls++;
      called.add(method.toString());
      try {
        Object result = method instanceof Method m
            ? m.invoke(receiver, arguments)
            : ((Constructor<?>) method).newInstance(arguments);
        if (result != null && result.getClass().getPackage() == Backend.class.getPackage()) {
          add(result);
        }
      } catch (InvocationTargetException e) {
        String complaint = complaint(e.getCause());
        if (complaint != null) {
          String text = text(arguments);
          complaints.add(method.getDeclaringClass().getSimpleName() + "." + method.getName() + ": "
              + complaint + "  [" + text.substring(0, Math.min(90, text.length())) + "]");
        }
      }
    }

    private static String text(Object[] arguments) {
      return Arrays.deepToString(arguments);
    }

    /** Null if the sentence may be shown to a user. */
    private static String complaint(Throwable t) {
      String message = t.getMessage();
      boolean bare = message == null
          || message.matches("(?s)(Cannot (invoke|read|load|store|throw|enter|assign).*"
              + "|Index:? -?\\d+ .*|-?\\d+|(integer|long) overflow"
              + "|Range .* out of bounds.*|/ by zero|Java heap space|.*from.*> to.*"
              + "|Requested array size.*|(Cannot reserve|Out of) direct.*|capacity < 0.*)");
      boolean kind = t instanceof IllegalArgumentException || t instanceof IllegalStateException
          || t instanceof UnsupportedOperationException || t instanceof IndexOutOfBoundsException
          || t instanceof NullPointerException || t instanceof OutOfMemoryError
          || t instanceof org.exeunt.ExeuntException;
      return bare || !kind ? t.getClass().getSimpleName() + ": " + message + where(t) : null;
    }

    private static String where(Throwable t) {
      for (StackTraceElement frame : t.getStackTrace()) {
        if (frame.getClassName().startsWith("org.exeunt.")) {
          return " at " + frame.getFileName() + ":" + frame.getLineNumber();
        }
      }
      return "";
    }

    private void add(Object object) {
      if (object instanceof Tensor && known(Tensor.class).size() >= POOL) {
        return;
      }
      List<Object> known = pool.computeIfAbsent(object.getClass(), type -> new ArrayList<>());
      if (known.size() < POOL) {
        known.add(object);
      } else if (object instanceof Op op) {
        op.close();
      }
    }

    private List<Object> known(Class<?> type) {
      Set<Object> found = new LinkedHashSet<>();
      pool.forEach((key, objects) -> {
        if (type.isAssignableFrom(key)) {
          found.addAll(objects);
        }
      });
      return new ArrayList<>(found);
    }

    private Object usual(Class<?> type) {
      if (type == int.class) {
        return 1;
      } else if (type == long.class) {
        return 1L;
      } else if (type == float.class) {
        return .5f;
      } else if (type == double.class) {
        return .5;
      } else if (type == boolean.class) {
        return false;
      } else if (type == short.class) {
        return (short) 1;
      } else if (type == String.class) {
        return "cpu";
      } else if (type.isEnum()) {
        return type.getEnumConstants()[0];
      } else if (type == Device.class) {
        return Device.CPU;
      } else if (type == org.exeunt.Stream.class) {
        return org.exeunt.Stream.DEFAULT;
      } else if (type.isArray()) {
        Object array = Array.newInstance(type.getComponentType(), 1);
        Object element = usual(type.getComponentType());
        if (element != null) {
          Array.set(array, 0, element);
        }
        return array;
      }
      List<Object> known = known(type);
      return known.isEmpty() ? null : known.get(0);
    }

    private Object[] extremes(Class<?> type) {
      if (type == int.class) {
        return new Object[] {Integer.MIN_VALUE, -1, 0, 2, 100, Integer.MAX_VALUE};
      } else if (type == long.class) {
        return new Object[] {Long.MIN_VALUE, -1L, 0L, 2L, 1L << 62, Long.MAX_VALUE};
      } else if (type == float.class) {
        return new Object[] {Float.NaN, -1f, Float.POSITIVE_INFINITY, 0f};
      } else if (type == double.class) {
        return new Object[] {Double.NaN, -1., Double.POSITIVE_INFINITY, 0.};
      } else if (type == boolean.class) {
        return new Object[] {true};
      } else if (type == short.class) {
        return new Object[] {Short.MIN_VALUE};
      } else if (type.isEnum()) {
        Object[] constants = type.getEnumConstants();
        return new Object[] {null, constants[constants.length - 1]};
      } else if (type.isArray()) {
        return arrays(type.getComponentType());
      }
      List<Object> values = new ArrayList<>(known(type));
      values.add(null);
      return values.toArray();
    }

    private Object[] arrays(Class<?> component) {
      List<Object> values = new ArrayList<>();
      values.add(null);
      values.add(Array.newInstance(component, 0));
      values.add(Array.newInstance(component, 3));
      for (Object element : extremes(component)) {
        Object array = Array.newInstance(component, 2);
        Array.set(array, 0, usual(component));
        if (element != null || !component.isPrimitive()) {
          Array.set(array, 1, element);
        }
        values.add(array);
      }
      return values.toArray();
    }
  }
}
