// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.net.URL;
import java.nio.file.Path;
import org.bytedeco.javacpp.Loader;
import org.exeunt.jni.global.exeunt;
import org.exeunt.presets.LibraryFiles;

/**
 * Loads the native library once and remembers why if that fails, so that every later use says the
 * same sentence instead of a NoClassDefFoundError.
 */
final class Native {
  private static final Throwable FAILURE = observed();

  private Native() {}

  /** Throws if the native library is not there or a system property asks it for the impossible. */
  static void require() {
    if (FAILURE != null) {
      throw again(FAILURE);
    }
  }

  private static RuntimeException again(Throwable failure) {
    if (failure instanceof IllegalArgumentException) {
      return new IllegalArgumentException(failure.getMessage(), failure);
    }
    UnsatisfiedLinkError error = new UnsatisfiedLinkError(failure.getMessage());
    error.initCause(failure);
    throw error;
  }

  private static Throwable observed() {
    long start = System.nanoTime();
    Object event = Jfr.records() ? Records.loading() : null;
    String platform = Loader.Detector.getPlatform();
    if (platform.startsWith("macosx")) {
      Log.untested(platform); // first: what is untested may end the process
    }
    Throwable failure = load();
    if (event != null) {
      Records.loaded(event, failure);
    }
    if (Boolean.getBoolean("exeunt.log")) {
      say(failure, (System.nanoTime() - start) / 1000);
    }
    return failure;
  }

  private static void say(Throwable failure, long micros) {
    if (failure != null) {
      Log.warn("exeunt was not loaded", failure);
    } else {
      Log.info("exeunt " + exeunt.exn_version() + " was loaded from " + exeunt.exn_library_path()
          + " in " + micros / 1000 + "." + micros / 100 % 10 + " ms, runs on "
          + exeunt.exn_backend_name(exeunt.EXN_BACKEND_CPU));
    }
  }

  private static Throwable load() {
    try {
      int version = exeunt.exn_abi_version();
      if (version != exeunt.EXN_ABI_VERSION) {
        return new UnsatisfiedLinkError("libexeunt.so has ABI version " + version + " (library "
            + exeunt.exn_version() + "), this jar was generated for ABI version "
            + exeunt.EXN_ABI_VERSION
            + ": use jars of one release, and no older libexeunt.so on the library path");
      }
      String other = otherLibrary();
      if (!other.isEmpty()) {
        return new UnsatisfiedLinkError(other);
      }
    } catch (LinkageError | RuntimeException e) {
      UnsatisfiedLinkError error = new UnsatisfiedLinkError(explain(e));
      error.initCause(e);
      return error;
    }
    try {
      applyProperties();
      return null;
    } catch (RuntimeException e) {
      return e;
    }
  }

  /** The linker keeps the first library of a name, such as one of another release's jar. */
  private static String otherLibrary() {
    Path unpacked = LibraryFiles.core();
    String used = exeunt.exn_library_path();
    if (unpacked == null
        || used.endsWith(
            unpacked.subpath(unpacked.getNameCount() - 2, unpacked.getNameCount()).toString())) {
      return "";
    }
    return "this process had loaded " + used + " before " + unpacked
        + ", and keeps it: use jars of one release, and no libexeunt.so of your own beside them";
  }

  private static String explain(Throwable failure) {
    String platform = Loader.Detector.getPlatform();
    String resource = "/org/exeunt/" + platform + "/" + System.mapLibraryName("jniexeunt");
    URL found = exeunt.class.getResource(resource);
    if (found == null) {
      found = Native.class.getClassLoader().getResource(resource.substring(1));
    }
    StringBuilder text =
        new StringBuilder("exeunt's native library could not be loaded on ")
            .append(platform)
            .append(". Tried: resource ")
            .append(resource);
    if (found == null) {
      text.append(" (in no ")
          .append(Native.class.getModule().isNamed()
                  ? "module of this program: is org.exeunt.jni." + platform.replace('-', '.')
                      + ", the jar of"
                  : "jar: is")
          .append(" exeunt-jni with classifier ")
          .append(platform)
          .append(" on the path?)");
    } else {
      text.append(" (found at ").append(found).append(")");
    }
    text.append(", java.library.path ").append(System.getProperty("java.library.path")).append(".");
    for (Throwable t = failure; t != null; t = t.getCause()) {
      text.append(' ').append(t.getClass().getSimpleName()).append(": ").append(t.getMessage());
    }
    return text.toString();
  }

  private static void applyProperties() {
    String reason = exeunt.exn_backend_reason(exeunt.EXN_BACKEND_CPU);
    if (!reason.isEmpty()) {
      throw new IllegalArgumentException(reason); // a variable asks for the impossible
    }
    String isa = System.getProperty("exeunt.isa");
    if (isa != null && !isa.isEmpty() && exeunt.exn_cpu_set_isa(isa) != exeunt.EXN_OK) {
      throw new IllegalArgumentException("-Dexeunt.isa=" + isa + ": " + Status.sentence());
    }
    String threads = System.getProperty("exeunt.threads");
    if (threads != null && !threads.isEmpty()
        && exeunt.exn_cpu_set_threads(number(threads)) != exeunt.EXN_OK) {
      throw new IllegalArgumentException("-Dexeunt.threads=" + threads + ": " + Status.sentence());
    }
  }

  private static int number(String threads) {
    try {
      return Integer.parseInt(threads);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException("-Dexeunt.threads=" + threads + " is not a number", e);
    }
  }
}
