// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.util.regex.Pattern;
import org.exeunt.jni.global.exeunt;

/** What a call of the C ABI returned, in the order of its codes. */
public enum Status {
  /** Done, or on CUDA: queued. */
  OK,
  /** An argument is wrong: {@link IllegalArgumentException}. */
  INVALID_ARGUMENT,
  /** The backend has no kernel for these sound arguments: {@link UnsupportedOperationException}. */
  UNSUPPORTED,
  /** The host or the device has not enough memory: {@link OutOfMemoryError}. */
  OUT_OF_MEMORY,
  /** The device's backend is not there: {@link ExeuntException}. */
  BACKEND_UNAVAILABLE,
  /** The backend failed while queueing or running work: {@link ExeuntException}. */
  RUNTIME_FAILURE,
  /** The device context is lost: {@link DeviceLostException}. */
  DEVICE_LOST;

  private static final Status[] BY_CODE = values();

  /** Throws what a status other than 0 stands for, with the native library's sentence about it. */
  static void check(int code) {
    if (code != exeunt.EXN_OK) {
      fail(code, exeunt.exn_last_error());
    }
  }

  /** The same with a sentence that was asked for earlier. */
  static void check(int code, String sentence) {
    if (code != exeunt.EXN_OK) {
      fail(code, sentence);
    }
  }

  /** What the native library said of its last failure in this thread. */
  static String sentence() {
    return inJava(exeunt.exn_last_error());
  }

  /** A sentence of the native library's with our classes where it has its functions. */
  private static String inJava(String sentence) {
    if (!sentence.contains("exn_")) {
      return sentence;
    }
    // What a library of CUDA lacks is no function that anybody calls.
    return Pattern.compile("(?<=^|\\s)exn_(?!cuda_backend)(\\w+)")
        .matcher(sentence)
        .replaceAll(function -> className(function.group(1)));
  }

  /**
   * The class of this package that stands for an op or another function of the C ABI.
   *
   * @param function its name without {@code exn_}
   */
  static String className(String function) {
    String word = function.replace("_", "");
    for (Class<?> op : Op.class.getPermittedSubclasses()) {
      if (op.getSimpleName().equalsIgnoreCase(word)) {
        return op.getSimpleName();
      }
    }
    switch (function.replaceFirst("_.*", "")) {
      case "alloc":
      case "free":
      case "host":
        return "Scope";
      case "copy":
        return function.equals("copy") ? "Tensor" : "Backend";
      case "stream":
        return "Stream";
      case "event":
        return "Event";
      case "graph":
        return "Graph";
      case "mapping":
        return "MappedFile";
      case "blocks":
        return "BlockFormat";
      case "screen":
        return "Screen";
      case "pack":
        return "Packed";
      default:
        return "Backend"; // the instruction set, threads, probes, the CUDA library
    }
  }

  private static void fail(int code, String sentence) {
    Status status = code > 0 && code < BY_CODE.length ? BY_CODE[code] : RUNTIME_FAILURE;
    String text = inJava(sentence);
    switch (status) {
      case INVALID_ARGUMENT:
        throw new IllegalArgumentException(text);
      case UNSUPPORTED:
        throw new UnsupportedOperationException(text);
      case OUT_OF_MEMORY:
        throw new OutOfMemoryError(text);
      case DEVICE_LOST:
        throw new DeviceLostException(text);
      default:
        throw new ExeuntException(status, text);
    }
  }
}
