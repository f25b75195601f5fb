// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.InputStream;
import java.lang.management.ManagementFactory;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.atomic.AtomicReference;
import javax.management.ObjectName;
import org.bytedeco.javacpp.BytePointer;
import org.bytedeco.javacpp.FloatPointer;
import org.bytedeco.javacpp.Loader;
import org.bytedeco.javacpp.Pointer;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_cosine_params;
import org.exeunt.jni.global.exeunt;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.ValueSource;

/**
 * An op runs before JavaCPP's Pointer, which takes a new JVM long, is initialised; and whatever a
 * program begins with, the rest works.
 */
class StartTest {
  /** Does what its arguments name, in this order, or all at once after "together". */
  static final class Steps {
    public static void main(String[] steps) throws Exception {
      if (!steps[0].equals("together")) {
        for (String step : steps) {
          step(step);
        }
        System.out.print("done");
        return;
      }
      AtomicReference<Throwable> failure = new AtomicReference<>();
      CountDownLatch ready = new CountDownLatch(steps.length - 1);
      List<Thread> threads = new ArrayList<>();
      for (int i = 1; i < steps.length; i++) {
        String step = steps[i];
        threads.add(new Thread(() -> {
          try {
            ready.countDown();
            ready.await();
            step(step);
          } catch (Throwable t) {
            failure.set(t);
          }
        }));
      }
      threads.forEach(Thread::start);
      for (Thread thread : threads) {
        thread.join();
      }
      if (failure.get() != null) {
        throw new AssertionError(failure.get());
      }
      System.out.print("done");
    }

    private static void step(String step) throws Exception {
      switch (step) {
        case "op":
          op();
          break;
        case "light":
          String maps = loaded();
          require(
              maps.contains(System.mapLibraryName("jniexeunt")) && !maps.contains("jnijavacpp"));
          break;
        case "pointer":
          try (FloatPointer three = new FloatPointer(1, 2, 3); Scope scope = Scope.open()) {
            require(three.get(2) == 3);
            Tensor tensor = Tensor.of(three, DType.F32, Device.CPU, 3);
            require(tensor.toFloatArray()[1] == 2 && scope != null);
          }
          break;
        case "struct":
          struct();
          break;
        case "load":
          Loader.load(exeunt.class);
          require(Loader.offsetof(DLTensor.class, "data") == 0);
          break;
        case "raw": // a pointer that is no struct
          require(exeunt.exn_cosine((Pointer) null, null, 0, null) == exeunt.EXN_INVALID_ARGUMENT);
          require(exeunt.exn_last_error().startsWith("exn_cosine: "));
          BytePointer params = new BytePointer(64).fill(0);
          require(exeunt.exn_cosine_supported(params) == exeunt.EXN_INVALID_ARGUMENT);
          break;
        default:
          throw new IllegalArgumentException(step);
      }
    }

    /** The libraries of this process. */
    private static String loaded() throws Exception {
      return (String) ManagementFactory.getPlatformMBeanServer().invoke(
          new ObjectName("com.sun.management:type=DiagnosticCommand"), "vmDynlibs", null, null);
    }

    private static void op() {
      try (Scope scope = Scope.open()) {
        Tensor a = scope.copyOf(new float[] {3, 4}, 1, 2);
        Tensor out = scope.allocate(DType.F32, 1);
        Cosine.compute(a, a, out);
        require(out.toFloatArray()[0] == 1);
      }
    }

    private static void struct() {
      exn_cosine_params params = new exn_cosine_params(2);
      params.position(1).struct_size(5);
      params.position(0).struct_size(params.sizeof()).a(null);
      require(params.sizeof() == Loader.sizeof(exn_cosine_params.class));
      require(params.position(1).struct_size() == 5 && params.position(0).a() == null);
      require(exeunt.exn_cosine_supported(params) == exeunt.EXN_INVALID_ARGUMENT);
      require(exeunt.exn_last_error().startsWith("exn_cosine: a is null"));
    }

    private static void require(boolean holds) {
      if (!holds) {
        throw new AssertionError();
      }
    }
  }

  @ParameterizedTest
  @ValueSource(
      strings = {"op light pointer struct raw load", "pointer op struct", "struct op raw",
          "load pointer op raw", "raw op pointer", "together op struct pointer raw load op"})
  void steps(String steps) {
    assertEquals("done", Subprocess.of(Steps.class, steps.split(" ")).run());
  }

  /**
   * Handles of variables and connections to jars take a JVM that has just started milliseconds,
   * events and loggers tens of them.
   */
  @ParameterizedTest
  @ValueSource(strings = {"plain", "a blank"})
  void loadsNothingBesides(String name, @TempDir Path folder) throws Exception {
    Path log = folder.resolve("loaded");
    Path jars = Files.createDirectory(folder.resolve(name));
    List<String> entries = new ArrayList<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      Path jar = Path.of(entry);
      entries.add(entry.matches(".*exeunt-jni[^/]*\\.jar")
              ? Files.copy(jar, jars.resolve(jar.getFileName())).toString()
              : entry);
    }
    Subprocess.java("-cp", String.join(File.pathSeparator, entries), Steps.class.getName(), "op")
        .option("-Xlog:class+load:file=" + log)
        .run();
    String loaded = Files.readString(log);
    assertTrue(loaded.contains("org.exeunt.Cosine "), loaded);
    for (String slow : new String[] {"java.lang.invoke.VarHandleInts", "JarURLConnection",
             "jdk.jfr.Event ", "java.util.logging.Logger ", "org.exeunt.Records "}) {
      assertFalse(loaded.contains(slow), slow);
    }
  }

  /** Without the jar of the libraries JavaCPP loads them, and what it wants is done at once. */
  @Test
  void librariesOnThePath(@TempDir Path folder) throws Exception {
    for (String name : new String[] {"exeunt", "jniexeunt"}) {
      String file = System.mapLibraryName(name);
      String resource = "/org/exeunt/" + Loader.getPlatform() + "/" + file;
      try (InputStream in = exeunt.class.getResourceAsStream(resource)) {
        Files.copy(in, folder.resolve(file));
      }
    }
    List<String> entries = new ArrayList<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      if (!entry.matches(".*exeunt-jni.*" + Loader.getPlatform() + "\\.jar")) {
        entries.add(entry);
      }
    }
    String classPath = String.join(File.pathSeparator, entries);
    Subprocess process =
        Subprocess.java("-cp", classPath, Steps.class.getName(), "op", "pointer", "struct", "raw");
    assertEquals("done", process.option("-Djava.library.path=" + folder).run());
  }
}
