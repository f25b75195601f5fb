// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Executable;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.net.URI;
import java.net.URISyntaxException;
import java.nio.Buffer;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.CharBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.FileSystem;
import java.nio.file.FileSystems;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.Comparator;
import java.util.IdentityHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Stream;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.IntPointer;
import org.bytedeco.javacpp.LongPointer;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Backend;
import org.exeunt.BlockFormat;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.FfnSkipFit;
import org.exeunt.Hired;
import org.exeunt.KvCache;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Op;
import org.exeunt.Packed;
import org.exeunt.PromptLayer;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Tensor;
import org.exeunt.TranslatorFit;
import org.exeunt.Workspace;
import org.exeunt.jni.DLTensor;

/** Calls of everything public, one after the other, with arguments that their types allow. */
final class ApiCalls {
  /** Methods that read or write elements: not called where memory is promised that is not there. */
  private static final Set<String> TOUCHING = Set.of("toFloatArray", "toDoubleArray", "toIntArray",
      "copyFrom", "copyTo", "readBandwidthProbe", "copyBandwidthProbe", "compute", "forward",
      "logForward", "choose", "run", "runOnce", "scores");
  private static final int MOST_CALLS = 5;
  private static final int DEEPEST = 4;
  private static final int SCREEN_HEADER = 4096; // screen.h

  private final Arena arena;
  private final List<Executable> targets;
  private Random random;
  private Hostile hostile;
  private Trial trial;
  private List<Object> pool;
  private Set<Object> untrusted; // may lie about their memory

  ApiCalls(Arena arena) {
    this.arena = arena;
    targets = publicApi();
  }

  /** Every public method and constructor of the facade that a caller can reach. */
  static List<Executable> publicApi() {
    List<Executable> all = new ArrayList<>();
    for (Class<?> type : publicClasses()) {
      for (Method method : type.getDeclaredMethods()) {
        if (Modifier.isPublic(method.getModifiers()) && !method.isSynthetic()
            && !isGiven(type, method)) {
          all.add(method);
        }
      }
      if (!Modifier.isAbstract(type.getModifiers()) && !Throwable.class.isAssignableFrom(type)) {
        all.addAll(List.of(type.getConstructors()));
      }
    }
    all.sort(Comparator.comparing(Executable::toString));
    return all;
  }

  /** What the compiler makes. */
  private static boolean isGiven(Class<?> type, Method method) {
    Set<String> names = type.isEnum() ? Set.of("values", "valueOf")
        : type.isRecord()
        ? Set.of("equals", "hashCode", "toString")
        : Set.of();
    return names.contains(method.getName()) || Throwable.class.isAssignableFrom(type);
  }

  private static List<Class<?>> publicClasses() {
    try {
      URI place = Op.class.getProtectionDomain().getCodeSource().getLocation().toURI();
      Path path = Path.of(place);
      if (Files.isDirectory(path)) {
        return publicClasses(path);
      }
      try (FileSystem jar = FileSystems.newFileSystem(path)) {
        return publicClasses(jar.getPath("/"));
      }
    } catch (IOException e) {
      throw new UncheckedIOException(e);
    } catch (URISyntaxException e) {
      throw new IllegalStateException(e);
    }
  }

  private static List<Class<?>> publicClasses(Path root) throws IOException {
    try (Stream<Path> files = Files.list(root.resolve("org/exeunt"))) {
      List<Class<?>> classes = new ArrayList<>();
      for (Path file : files.filter(f -> f.toString().endsWith(".class")).sorted().toList()) {
        String name = file.getFileName().toString().replace(".class", "");
        try {
          Class<?> type = Class.forName("org.exeunt." + name, false, Op.class.getClassLoader());
          boolean reachable = !type.isAnonymousClass();
          for (Class<?> c = type; c != null && reachable; c = c.getEnclosingClass()) {
            reachable = Modifier.isPublic(c.getModifiers());
          }
          if (reachable && !name.equals("package-info")) {
            classes.add(type);
          }
        } catch (ClassNotFoundException e) {
          throw new IllegalStateException(e);
        }
      }
      return classes;
    }
  }

  /** A few calls, of which each may use what those before it returned. */
  void chain(Trial now, FacadeFuzz.Observer observer) throws Throwable {
    trial = now;
    random = now.random();
    hostile = new Hostile(random, arena);
    pool = new ArrayList<>();
    untrusted = Collections.newSetFromMap(new IdentityHashMap<>());
    arena.reset();
    for (int i = 1 + random.nextInt(MOST_CALLS); i > 0; i--) {
      Executable target = targets.get(random.nextInt(targets.size()));
      observer.attempt(() -> call(target, 0));
    }
  }

  // ---- calls ------------------------------------------------------------------------------------

  /** Thrown to leave a call that would be wrong of the caller, or last too long. */
  private static final class Skipped extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Skipped() {
      super("skipped", null, false, false);
    }
  }

  static boolean isSkipped(Throwable thrown) {
    return thrown instanceof Skipped;
  }

  private Object call(Executable target, int depth) throws Throwable {
    boolean isStatic = Modifier.isStatic(target.getModifiers()) || target instanceof Constructor;
    Object receiver = isStatic ? null : receiver(target.getDeclaringClass(), depth);
    Object[] values = arguments(target, depth);
    boolean doubtful =
        Stream.concat(Stream.of(values), Stream.ofNullable(receiver)).anyMatch(this::doubtful);
    if (doubtful && TOUCHING.contains(target.getName()) || tooLong(target, values)) {
      throw new Skipped();
    }
    Scope scope = scopeOf(receiver, values);
    if (scope != null && tooLarge(values)) {
      throw new Skipped();
    }
    long held = scope == null ? 0 : scope.allocatedBytes();
    Object result;
    try {
      trial.tell(target, receiver, values);
      result = trial.invoke(target, receiver, values);
    } catch (Throwable t) {
      if (scope != null && scope.isOpen() && scope.allocatedBytes() != held) {
        throw new FacadeFuzz.Found(
            "a refused " + target.getDeclaringClass().getSimpleName() + "." + target.getName()
                + " left " + (scope.allocatedBytes() - held) + " bytes in its scope",
            t);
      }
      throw t;
    }
    if (result != null) {
      if ((doubtful || promises(target)) && !verified(result)) {
        untrusted.add(result);
      }
      pool.add(result);
      if (result instanceof AutoCloseable resource && !(result instanceof Pointer)) {
        trial.keep(resource);
      }
    }
    return result;
  }

  private boolean doubtful(Object value) {
    return untrusted.contains(value)
        || value instanceof List<?> list && list.stream().anyMatch(untrusted::contains);
  }

  private static boolean promises(Executable target) {
    return target.getDeclaringClass() == Tensor.class
        && (Set.of("ofAddress", "ofDlpack", "strided").contains(target.getName())
            || target.getName().equals("of") && target.getParameterTypes()[0] == Pointer.class);
  }

  /** Whether a tensor's elements lie in the arena for certain. */
  private boolean verified(Object result) {
    if (!(result instanceof Tensor tensor) || tensor.device() != Device.CPU) {
      return false;
    }
    Spec spec = new Spec("", tensor, tensor.address() - arena.address(), List.of());
    return spec.honest() && (tensor.elements() == 0 || tensor.address() >= arena.address());
  }

  /** Calls that are right, but take seconds or gigabytes. */
  private static boolean tooLong(Executable target, Object... values) {
    Class<?> owner = target.getDeclaringClass();
    if (owner == TranslatorFit.class && target instanceof Constructor) {
      return (int) values[0] > 64 && (int) values[0] <= 16384;
    } else if (owner == FfnSkipFit.class && target instanceof Constructor) {
      return (int) values[0] > 1 << 16;
    } else if (owner == LayerSchedule.Builder.class && target.getName().equals("table")) {
      long entries = (long) (int) values[0] * (int) values[1];
      return entries > 1 << 16 && entries < 1L << 30
          || (int) values[0] > 1 << 16 && (int) values[0] < 1 << 30;
    } else if (owner == Backend.class && target.getName().equals("fmaProbe")) {
      return (long) values[0] > 1 << 16;
    } else if (owner == Backend.class && target.getName().equals("setThreads")) {
      return (int) values[0] > 4 && (int) values[0] <= 256;
    } else if (owner == Backend.class && target.getName().equals("tune")) {
      return (int) values[0] > 0 && (int) values[0] <= 60000; // and the user's file is not ours
    }
    return false;
  }

  private static Scope scopeOf(Object receiver, Object... values) {
    return Stream.concat(Stream.ofNullable(receiver), Stream.of(values))
        .filter(Scope.class ::isInstance)
        .map(Scope.class ::cast)
        .findFirst()
        .orElse(null);
  }

  /** Memory that the machine might give, and then would have to find. */
  private static boolean tooLarge(Object... values) {
    double product = 1;
    for (Object value : values) {
      if (value instanceof long[] extents) {
        for (long extent : extents) {
          product *= extent;
        }
      } else if (value instanceof Long || value instanceof Integer) {
        product *= ((Number) value).doubleValue();
      }
    }
    return product > 1 << 20 && product < 0x1p45;
  }

  private Object receiver(Class<?> type, int depth) throws Throwable {
    Object receiver = null;
    for (int i = 0; i < 3 && receiver == null; i++) {
      receiver = value(type, depth + 1);
    }
    if (receiver == null) {
      throw new Skipped();
    }
    return receiver;
  }

  private Object[] arguments(Executable target, int depth) throws Throwable {
    if (target.getName().equals("choose") && random.nextInt(4) > 0
        && target.getDeclaringClass() == Hired.class) {
      return hiredArguments();
    } else if (target.getName().equals("ofDlpack")) { // an address is the caller's word
      Pointer pointer = random.nextInt(6) == 0 ? new DLTensor((Pointer) null) : dlTensor();
      return new Object[] {
          target.getParameterTypes()[0] == long.class ? (Object) pointer.address() : pointer};
    }
    Class<?>[] types = target.getParameterTypes();
    Object[] values = new Object[types.length];
    for (int i = 0; i < types.length; i++) {
      values[i] = value(types[i], depth + 1);
    }
    return values;
  }

  // ---- values -----------------------------------------------------------------------------------

  private int small() {
    return random.nextInt(7);
  }

  private Object value(Class<?> type, int depth) throws Throwable {
    if (type == int.class) {
      return random.nextInt(3) > 0 ? (Object) small() : hostile.other(type, null);
    } else if (type == long.class) {
      return random.nextInt(3) > 0 ? (Object) (long) small() : hostile.other(type, null);
    } else if (type == short.class) {
      return (short) random.nextInt();
    } else if (type.isPrimitive()) {
      return random.nextInt(3) > 0 && type == double.class ? (Object) random.nextDouble()
                                                           : hostile.other(type, null);
    }
    if (random.nextInt(25) == 0) {
      return null;
    }
    if (type.isEnum()) {
      return type.getEnumConstants()[random.nextInt(type.getEnumConstants().length)];
    } else if (type.isArray()) {
      return array(type.getComponentType(), depth);
    }
    List<Object> known = pool.stream().filter(type::isInstance).toList();
    boolean vague = type == Object.class || type == List.class; // a list of what, it does not say
    if (!known.isEmpty() && !vague && random.nextInt(3) > 0) {
      return known.get(random.nextInt(known.size()));
    }
    Object made = simple(type, depth);
    return made != null ? made : depth > DEEPEST ? null : produced(type, depth);
  }

  private Object array(Class<?> element, int depth) throws Throwable {
    if (element == long.class) {
      return shape();
    }
    int length = small();
    Object array = Array.newInstance(element, length);
    for (int i = 0; i < length; i++) {
      Array.set(array, i,
          element.isPrimitive() && random.nextInt(3) > 0
              ? plain(element)
              : value(element, depth + 1));
    }
    return array;
  }

  private Object plain(Class<?> type) {
    return type == int.class    ? (Object) small()
        : type == boolean.class ? (Object) random.nextBoolean()
        : type == float.class   ? (Object) random.nextFloat()
                                : (Object) random.nextDouble();
  }

  private long[] shape() {
    long[] shape = random.longs(random.nextInt(5), 0, 6).toArray();
    if (random.nextInt(3) == 0) {
      shape = Arrays.copyOf(shape, shape.length + 1);
      shape[random.nextInt(shape.length)] = Hostile.LONGS[random.nextInt(Hostile.LONGS.length)];
    }
    return shape;
  }

  /** Values of types that no method of the facade makes, or makes too seldom of good ones. */
  private Object simple(Class<?> type, int depth) throws Throwable {
    if (type == Tensor.class) {
      return random.nextInt(4) > 0 ? tensor() : null;
    } else if (type == Scope.class) {
      return scope();
    } else if (type == Device.class) {
      return random.nextInt(4) > 0 ? Device.CPU : Device.cuda(random.nextInt(3));
    } else if (type == Workspace.class) {
      return random.nextInt(3) > 0 ? Workspace.in(trial.ops(), Device.CPU) : null;
    } else if (type == org.exeunt.Stream.class) {
      return random.nextInt(3) > 0 ? org.exeunt.Stream.DEFAULT : null;
    } else if (type == PromptLayer.class) {
      return random.nextInt(4) > 0 ? prompt() : null;
    } else if (type == Packed.class) {
      return random.nextInt(4) > 0 ? packed() : null;
    } else if (type == Screen.class) {
      return random.nextInt(4) > 0 ? screen() : null;
    } else if (type == LayerSchedule.Table.class) {
      return LayerSchedule.unified(0, 1).table(2, 4);
    } else if (type == Hired.Block.class) {
      return random.nextInt(4) > 0 ? hiredArguments()[2] : null;
    } else if (type == Buffer.class) {
      return buffer();
    } else if (type == Pointer.class) {
      return pointer();
    } else if (type == FileChannel.class) {
      return channel();
    } else if (type == Path.class) {
      return Path.of(
          List.of("", "/", "no/such/file", "/dev/null", "/proc/self/maps").get(random.nextInt(5)));
    } else if (type == String.class) {
      List<String> texts = new ArrayList<>(Backend.isas());
      texts.addAll(List.of("", "avx", "AVX2", "\0", "avx2,baseline", "x".repeat(5000), "\ud800"));
      return texts.get(random.nextInt(texts.size()));
    } else if (type == Object.class) {
      return random.nextBoolean() ? new Object() : buffer();
    } else if (type == List.class) {
      List<Object> layers = new ArrayList<>();
      for (int i = random.nextInt(3); i > 0; i--) {
        layers.add(value(KvPropagate.Layer.class, depth + 1));
      }
      return layers;
    }
    return null;
  }

  /** What some method or constructor of the facade makes of arguments of its own. */
  private Object produced(Class<?> type, int depth) throws Throwable {
    List<Executable> makers = targets.stream().filter(t -> makes(t, type)).toList();
    return makers.isEmpty() ? null : call(makers.get(random.nextInt(makers.size())), depth + 1);
  }

  private static boolean makes(Executable target, Class<?> type) {
    return target instanceof Method method
        ? type.isAssignableFrom(method.getReturnType()) && method.getReturnType() != Object.class
        : type.isAssignableFrom(target.getDeclaringClass());
  }

  private Scope scope() {
    switch (random.nextInt(6)) {
      case 0:
        Scope closed = Scope.open();
        closed.close();
        return closed;
      case 1:
        return trial.keep(Scope.open());
      default:
        return trial.ops();
    }
  }

  private Tensor tensor() throws Throwable {
    DType dtype = DType.values()[random.nextInt(DType.values().length)];
    return tensor(dtype, random.longs(random.nextInt(4), 0, 5).toArray());
  }

  private Tensor tensor(DType dtype, long... shape) throws Throwable {
    long elements = Arrays.stream(shape).reduce(1, (a, b) -> a * b);
    int at = arena.take(elements * 8);
    Tensor view = Tensor.ofAddress(arena.address() + at, dtype, Device.CPU, shape);
    Spec spec = new Spec("", view, at, List.of("written"));
    for (int i = 0; i < elements; i++) {
      arena.memory().putInt((int) spec.offset + 4 * i,
          dtype == DType.F32 ? Float.floatToIntBits(random.nextFloat()) : 0);
    }
    spec.owner = Spec.Owner.values()[random.nextInt(Spec.Owner.ABSENT.ordinal())];
    if (random.nextInt(3) > 0) {
      spec.owner = Spec.Owner.ADDRESS;
    }
    return spec.value(trial);
  }

  private PromptLayer prompt() throws Throwable {
    int tokens = 1 + random.nextInt(8);
    int kvHeads = 1 + random.nextInt(2);
    int heads = kvHeads * (1 + random.nextInt(2));
    int headDim = 1 + random.nextInt(6);
    Tensor k = tensor(DType.F32, 1, kvHeads, tokens + random.nextInt(3), headDim);
    return new PromptLayer(
        tensor(DType.F32, tokens, heads, headDim), KvCache.ofHeadMajor(k, k), 0, tokens);
  }

  private Packed packed() throws Throwable {
    long bytes = BlockFormat.Q8_0.rowBytes(32L * (1 + random.nextInt(3)));
    Packed made = random.nextBoolean()
        ? Packed.of(tensor(DType.U8, 1 + random.nextInt(4), bytes), BlockFormat.Q8_0)
        : Packed.of(tensor(DType.BF16, 1 + random.nextInt(40), 1 + random.nextInt(9)));
    trial.keep(made);
    return made;
  }

  private Screen screen() throws Throwable {
    int width = 1 + random.nextInt(4);
    Screen made =
        Screen.builder()
            .weight(tensor(DType.F32, 2 + random.nextInt(5), width))
            .states(tensor(DType.F32, width + 1 + random.nextInt(4), width))
            .build();
    trial.keep(made);
    return random.nextInt(3) > 0 ? made : damaged(made);
  }

  /** With numbers that a header says nothing of: they may make any answer, and read nothing else. */
  private Screen damaged(Screen screen) throws IOException {
    Path file = Files.createTempFile("exeunt-fuzz", ".screen");
    try {
      screen.save(file);
      byte[] bytes = Files.readAllBytes(file);
      for (int n = random.nextInt(100); n >= 0; n--) {
        bytes[SCREEN_HEADER + random.nextInt(bytes.length - SCREEN_HEADER)] =
            (byte) random.nextInt();
      }
      Files.write(file, bytes);
      Screen mapped = Screen.map(file);
      trial.keep(mapped);
      return mapped;
    } finally {
      Files.delete(file);
    }
  }

  /** Of a file that is gone when its channel is. */
  private FileChannel channel() throws IOException {
    Path file = Files.createTempFile("exeunt-fuzz", ".bytes");
    try {
      Files.write(file, new byte[random.nextInt(20)]);
      return trial.keep(FileChannel.open(file));
    } finally {
      Files.delete(file);
    }
  }

  private Object[] hiredArguments() throws Throwable {
    Hired.Grid grid = new Hired.Grid(2, 4, random.nextInt(2) + 1, 2);
    int partitions = grid.partitions();
    int headDim = 1 + random.nextInt(4);
    Tensor k = tensor(DType.F32, partitions, 1, grid.patches() + 1, headDim);
    Hired.Block block =
        new Hired.Block(tensor(DType.F32, partitions, 2, headDim), KvCache.ofHeadMajor(k, k));
    return new Object[] {scope(), org.exeunt.Stream.DEFAULT, block, block, grid};
  }

  private Buffer buffer() {
    int bytes = 8 * random.nextInt(16);
    ByteBuffer direct = trial.slice(arena.take(bytes)).slice(0, bytes);
    ByteBuffer raw = switch (random.nextInt(5)) {
      case 0 -> ByteBuffer.allocate(bytes);
      case 1 -> direct.asReadOnlyBuffer();
      case 2 -> direct.position(bytes / 2);
      default -> direct;
    };
    raw.order(random.nextInt(4) == 0 ? ByteOrder.BIG_ENDIAN : ByteOrder.LITTLE_ENDIAN);
    return switch (random.nextInt(8)) {
      case 0 -> raw.asFloatBuffer();
      case 1 -> raw.asIntBuffer();
      case 2 -> raw.asLongBuffer();
      case 3 -> raw.asShortBuffer();
      case 4 -> raw.asDoubleBuffer();
      case 5 -> random.nextBoolean() ? raw.asCharBuffer() : CharBuffer.wrap("text");
      default -> raw;
    };
  }

  private Pointer pointer() {
    switch (random.nextInt(6)) {
      case 0:
        BytePointer closed = new BytePointer(16);
        closed.close();
        return closed;
      case 1:
        FloatPointer floats = trial.keep(new FloatPointer(16));
        return floats.position(random.nextInt(17));
      case 2:
        return new BytePointer(trial.slice(arena.take(64)).slice(0, 64));
      case 3:
        return new IntPointer((Pointer) null);
      default:
        return dlTensor();
    }
  }

  /** A DLPack tensor over the arena with some field or other out of order. */
  private Pointer dlTensor() {
    DLTensor dl = trial.keep(new DLTensor());
    int rank = random.nextInt(4);
    LongPointer shape = trial.keep(new LongPointer(80));
    LongPointer strides = trial.keep(new LongPointer(80));
    for (int i = 0; i < 80; i++) {
      shape.put(i, i < rank || random.nextBoolean() ? small() : 1);
      strides.put(i, small());
    }
    DType dtype = DType.values()[random.nextInt(DType.values().length)];
    dl.data(new BytePointer(trial.slice(arena.take(2048))));
    dl.byte_offset(8L * random.nextInt(3));
    dl.ndim(rank);
    dl.shape(shape);
    dl.strides(random.nextBoolean() ? null : strides);
    dl.dtype().code((byte) (dtype == DType.BF16 ? 4
            : dtype.isFloat()                   ? 2
            : dtype == DType.U8                 ? 1
                                                : 0));
    dl.dtype().bits((byte) (8 * dtype.bytes()));
    dl.dtype().lanes((short) 1);
    dl.device().device_type(1).device_id(0);
    switch (random.nextInt(10)) {
      case 0 -> dl.ndim((int) hostile.other(int.class, null));
      case 1 -> shape.put(0, (long) hostile.other(long.class, null));
      case 2 -> dl.dtype().bits((byte) random.nextInt());
      case 3 -> dl.dtype().lanes((short) random.nextInt());
      case 4 -> dl.device().device_type(random.nextInt(20));
      case 5 -> dl.device().device_id((int) hostile.other(int.class, null));
      case 6 -> dl.data(null);
      case 7 -> dl.shape(null);
      case 8 -> strides.put(0, (long) hostile.other(long.class, null));
      default -> {
      }
    }
    return dl;
  }

  /** Names of what was not called yet. */
  static List<String> missing(Set<Executable> reached, Map<String, String> excused) {
    return publicApi()
        .stream()
        .filter(e -> !reached.contains(e))
        .map(e -> e.getDeclaringClass().getName().replace("org.exeunt.", "") + "." + e.getName())
        .filter(name -> !excused.containsKey(name))
        .distinct()
        .toList();
  }
}
