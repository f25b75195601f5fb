// SPDX-License-Identifier: Apache-2.0
package org.exeunt;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.bytedeco.javacpp.Loader;
import org.exeunt.jni.global.exeunt;
import org.exeunt.presets.LibraryFiles;
import org.jspecify.annotations.Nullable;

/**
 * What runs the ops. The CPU backend is part of the native library; the CUDA backend is a library
 * of its own that is opened at the first use of CUDA, and {@link #reason()} says why where that
 * fails.
 *
 * <p>The CUDA library is looked for in this order, and the first place that names one decides: the
 * system property {@code exeunt.cuda.library}, the environment variable {@code
 * EXEUNT_CUDA_LIBRARY}, the jar of {@code exeunt-jni} with the classifier of the platform and
 * {@code -cuda}, {@code libexeunt_cuda.so} beside {@code libexeunt.so}.
 *
 * <p>Libraries of the jars are unpacked before they are loaded, each into a folder named by its
 * SHA-256 in {@code exeunt} below JavaCPP's cache: the system property {@code
 * org.bytedeco.javacpp.cachedir}, else {@code .javacpp/cache} in the user's home folder. A folder
 * that others may write to is not used, nor is one that cannot be written, unless the library lies
 * there already; a private one in the temporary folder is used then. {@link #library()} tells.
 *
 * <p>System properties, read once: {@code exeunt.isa} and {@code exeunt.threads} when the native
 * library is loaded, {@code exeunt.backend} ({@code cpu}: CUDA stays closed; {@code cuda}: {@link
 * Device#defaultDevice()} is the first CUDA device, and allocating there fails with the reason if
 * it is not available). Left out: the CPU is the default and CUDA may be used.
 *
 * <p>All methods may be called from any thread.
 */
public enum Backend {
  /** CPU kernels; always available. */
  CPU(exeunt.EXN_BACKEND_CPU, exeunt.kDLCPU),
  /** CUDA kernels. */
  CUDA(exeunt.EXN_BACKEND_CUDA, exeunt.kDLCUDA);

  private final int code;
  private final int dlpackCode;

  Backend(int code, int dlpackCode) {
    this.code = code;
    this.dlpackCode = dlpackCode;
  }

  int dlpackCode() {
    return dlpackCode;
  }

  static Backend ofDlpack(int deviceType) {
    for (Backend backend : values()) {
      if (backend.dlpackCode == deviceType) {
        return backend;
      }
    }
    throw new IllegalArgumentException("DLPack device type " + deviceType + " is neither "
        + exeunt.kDLCPU + " (CPU) nor " + exeunt.kDLCUDA + " (CUDA)");
  }

  /**
   * The backend of {@link Device#defaultDevice()}.
   *
   * @return {@link #CPU}, or what {@code -Dexeunt.backend} names
   * @throws IllegalArgumentException if the property names no backend
   */
  public static Backend defaultBackend() {
    return Choice.forced() == null ? CPU : Choice.forced();
  }

  /**
   * Whether ops can run on this backend now. Opens the CUDA backend if it is not open.
   *
   * @return true if they can
   */
  public boolean available() {
    return reason().isEmpty();
  }

  /**
   * Why this backend is not available.
   *
   * @return one sentence, or "" if it is available
   */
  public String reason() {
    Native.require();
    if (this == CPU) {
      return "";
    }
    if (Choice.forced() == CPU) {
      return "the CUDA backend is kept closed by -Dexeunt.backend=cpu";
    }
    CudaLibrary.open();
    if (exeunt.exn_backend_available(code) == 1) {
      return "";
    }
    return CudaLibrary.failure != null ? CudaLibrary.failure : exeunt.exn_backend_reason(code);
  }

  /** Throws the reason if this backend is not available. */
  void require() {
    if (this == CUDA) {
      String reason = reason();
      if (!reason.isEmpty()) {
        throw new ExeuntException(
            Status.BACKEND_UNAVAILABLE, "the CUDA backend is not available: " + reason);
      }
    }
  }

  /**
   * Number of devices.
   *
   * @return 1 for the CPU; 0 if the backend is not available
   */
  public int deviceCount() {
    return available() ? exeunt.exn_device_count(code) : 0;
  }

  /**
   * The backend and what it runs on, for people.
   *
   * @return for example "cpu (avx512, 2 threads)"
   */
  public String description() {
    return available()
        ? exeunt.exn_backend_name(code)
        : name().toLowerCase() + " (" + reason() + ")";
  }

  /**
   * Opens the CUDA backend from a given file. The first attempt that succeeds decides; after a
   * failed one another file may be tried.
   *
   * @param library file name of {@code libexeunt_cuda.so}
   * @throws ExeuntException with {@link Status#BACKEND_UNAVAILABLE} and the reason if it cannot be
   *     used
   */
  public static void openCuda(Path library) {
    Named.present("library", library);
    Native.require();
    if (Choice.forced() == CPU) {
      CUDA.require();
    }
    Status.check(exeunt.exn_cuda_open(library.toString()));
  }

  /**
   * The file that the native library was loaded from.
   *
   * @return its path, as the dynamic linker knows it
   */
  public static Path library() {
    Native.require();
    Path unpacked = LibraryFiles.core();
    // Of an unpacked one Native has made sure; the linker's bytes need not be text in every locale.
    return unpacked != null ? unpacked : Path.of(exeunt.exn_library_path());
  }

  /**
   * Version of the native library.
   *
   * @return for example "0.1.0"
   */
  public static String version() {
    Native.require();
    return exeunt.exn_version();
  }

  /**
   * Instruction set of the CPU kernels in use.
   *
   * @return "baseline", "avx2", "vnni", "avx512", "amx" or "neon"
   */
  public static String isa() {
    Native.require();
    return exeunt.exn_cpu_isa();
  }

  /**
   * Instruction sets that this machine can run.
   *
   * @return their names, best first
   */
  public static List<String> isas() {
    Native.require();
    return List.of(exeunt.exn_cpu_isas().split(","));
  }

  /**
   * Forces the instruction set of the CPU kernels, as {@code -Dexeunt.isa} does. Ops that were
   * built before run on it as well; the first run of one that needs a larger workspace there
   * allocates it, and may throw an {@link OutOfMemoryError}.
   *
   * @param isa one of {@link #isas()}; null: the best
   * @throws IllegalArgumentException if this machine cannot run it; nothing has changed then
   */
  public static void setIsa(@Nullable String isa) {
    Native.require();
    Status.check(exeunt.exn_cpu_set_isa(isa));
  }

  /**
   * Threads that CPU runs may use, the calling one included. Callers that run at the same time share
   * them: each gets as many as any other, or one more, but its own at least.
   *
   * @return 1 or more
   */
  public static int threads() {
    Native.require();
    return exeunt.exn_cpu_threads();
  }

  /**
   * Sets the number of threads of a CPU run, as {@code -Dexeunt.threads} does. Results do not
   * depend on it. Waits for CPU runs in progress.
   *
   * @param threads 1 to 256; 0: one per usable core
   * @throws IllegalArgumentException if out of range
   */
  public static void setThreads(int threads) {
    Native.require();
    Status.check(exeunt.exn_cpu_set_threads(threads));
  }

  /**
   * What the CPU kernels choose by processor, a line {@code name value} for each choice; no result
   * depends on it. Lines that begin with {@code #} say which processor this is, where the choices
   * come from and, after {@link #tune}, what other values would take.
   *
   * <p>They come from the file that the environment variable {@code EXEUNT_TUNING} names, or are the
   * defaults where it is {@code default}; else from the file that {@link #tune} wrote for this
   * processor and instruction set, if it did; else they are the defaults.
   *
   * @return some lines
   */
  public static String tuning() {
    Native.require();
    return exeunt.exn_cpu_tuning();
  }

  /**
   * Makes the choices that some lines of {@link #tuning()} name, and all others by default.
   *
   * @param text the lines; null: as the process began
   * @throws IllegalArgumentException if a line makes no sense; nothing has changed then
   */
  public static void setTuning(@Nullable String text) {
    Native.require();
    Status.check(exeunt.exn_cpu_set_tuning(text));
  }

  /**
   * Measures which choices are the fastest on this processor, with the instruction set and the
   * threads in use, and makes them. Takes 102 MiB of memory meanwhile.
   *
   * @param milliseconds how long it takes, about, 1 to 60000; 300 tell enough where nothing else
   *     runs
   * @param keep whether to write them into the user's cache folder, from where later processes take
   *     them by themselves
   * @throws IllegalArgumentException if {@code milliseconds} is out of range
   * @throws ExeuntException with {@link Status#RUNTIME_FAILURE} if the file cannot be written; the
   *     choices are made all the same
   */
  public static void tune(int milliseconds, boolean keep) {
    Native.require();
    Status.check(exeunt.exn_cpu_tune(milliseconds, keep ? "" : null));
  }

  /**
   * Bytes of native memory that the tensors, ops and workspaces of this process hold at present, on
   * the host and on devices: 0 when every scope, and every op that has none, is closed. Memory of
   * others that tensors were made of, and mapped files, do not count. {@link NativeMemory#held()}
   * has the parts.
   *
   * @return 0 or more
   */
  public static long heldBytes() {
    return NativeMemory.held().total();
  }

  /**
   * Which kernel this thread's last run dispatched to; set by the kernel that ran.
   *
   * @return for example "cpu/avx512/row_stats"; "" before the first run
   */
  public static String lastPath() {
    Native.require();
    return exeunt.exn_last_path();
  }

  /**
   * Reads a CPU tensor's memory once, linearly, with the threads and the instruction set in use:
   * what a memory-bound kernel can at best reach. For benchmarks.
   *
   * @param tensor a compact CPU tensor
   * @return a checksum that depends on every byte
   */
  public static long readBandwidthProbe(Tensor tensor) {
    Native.require();
    Named.present("tensor", tensor).requireCpu("readBandwidthProbe");
    tensor.requireCompact("readBandwidthProbe");
    long[] checksum = new long[1];
    tensor.acquire();
    try {
      Status.check(exeunt.exn_read_probe(tensor.address(), tensor.byteSize(), 0, checksum));
    } finally {
      tensor.release();
    }
    return checksum[0];
  }

  /**
   * Copies a CPU tensor's memory once, linearly, with the threads and the instruction set in use:
   * what a kernel that moves what it reads can at best reach. For benchmarks.
   *
   * @param source a compact CPU tensor
   * @param destination a compact CPU tensor of as many bytes, elsewhere
   * @param pastCaches whether to store past the caches, which is faster where the destination is
   *     not in them
   * @throws IllegalArgumentException if the sizes differ, the two overlap or the destination is
   *     read-only
   */
  public static void copyBandwidthProbe(Tensor source, Tensor destination, boolean pastCaches) {
    Native.require();
    Named.present("source", source).requireCpu("copyBandwidthProbe");
    source.requireCompact("copyBandwidthProbe");
    Named.present("destination", destination).requireCpu("copyBandwidthProbe");
    destination.requireCompact("copyBandwidthProbe");
    destination.requireWritable("copyBandwidthProbe");
    if (source.byteSize() != destination.byteSize()) {
      throw new IllegalArgumentException("copyBandwidthProbe: source has " + source.byteSize()
          + " bytes, but destination " + destination.byteSize());
    }
    source.acquire();
    try {
      destination.acquire();
      try {
        Status.check(exeunt.exn_copy_probe(
            destination.address(), source.address(), source.byteSize(), pastCaches ? 2 : 0));
      } finally {
        destination.release();
      }
    } finally {
      source.release();
    }
  }

  /**
   * Does f32 multiply-adds in registers with the threads and the instruction set in use: the FMA
   * peak, what a kernel bound by its arithmetic can at best reach. For benchmarks.
   *
   * @param multiplyAdds how many to do, 0 or more; rounded up to a multiple of at most 192
   * @return how many were done
   * @throws IllegalArgumentException if {@code multiplyAdds} is negative
   */
  public static long fmaProbe(long multiplyAdds) {
    Native.require();
    if (multiplyAdds < 0) {
      throw new IllegalArgumentException(
          "fmaProbe: multiplyAdds is " + multiplyAdds + ", expected 0 or more");
    }
    long[] done = new long[1];
    Status.check(exeunt.exn_fma_probe(multiplyAdds, done));
    return done[0];
  }

  /** The value of -Dexeunt.backend. */
  private static final class Choice {
    private static final String NAME = System.getProperty("exeunt.backend", "");

    static Backend forced() {
      switch (NAME) {
        case "":
          return null;
        case "cpu":
          return CPU;
        case "cuda":
          return CUDA;
        default:
          throw new IllegalArgumentException(
              "-Dexeunt.backend=" + NAME + " is neither cpu nor cuda");
      }
    }
  }

  /** Opens the CUDA library at class initialisation, once. */
  private static final class CudaLibrary {
    /** Why the library in the jar could not be unpacked, or null. */
    static final String failure;

    static {
      String path = null;
      String why = null;
      try {
        path = find();
      } catch (IOException e) {
        why = "the CUDA backend's library could not be unpacked: " + e.getMessage();
      }
      failure = why;
      if (path != null) {
        exeunt.exn_cuda_open(path);
      } else if (failure == null) {
        exeunt.exn_cuda_open((byte[]) null);
      }
      if (Boolean.getBoolean("exeunt.log")) {
        say();
      }
    }

    /**
     * Null leaves the search to the native library. The outcome is asked for with
     * exn_backend_reason.
     */
    private static String find() throws IOException {
      String forced = System.getProperty("exeunt.cuda.library");
      if (forced != null && !forced.isEmpty()) {
        return forced;
      }
      String variable = System.getenv("EXEUNT_CUDA_LIBRARY");
      if (variable != null && !variable.isEmpty()) {
        return null;
      }
      Path unpacked = LibraryFiles.unpacked(Loader.Detector.getPlatform() + "-cuda", "exeunt_cuda");
      return unpacked == null ? null : unpacked.toString();
    }

    private static void say() {
      int cuda = exeunt.EXN_BACKEND_CUDA;
      boolean opened = exeunt.exn_backend_available(cuda) == 1;
      Log.info("the CUDA backend "
          + (opened ? "runs on " + exeunt.exn_backend_name(cuda)
                    : "is not available: "
                      + (failure != null ? failure : exeunt.exn_backend_reason(cuda))));
    }

    static void open() {}
  }
}
