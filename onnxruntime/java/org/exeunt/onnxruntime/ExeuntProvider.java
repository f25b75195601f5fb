// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtEpDevice;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.io.IOException;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.bytedeco.javacpp.Loader;
import org.exeunt.presets.LibraryFiles;

/**
 * exeunt as an execution provider of ONNX Runtime 1.24 or newer: models and programs stay as they
 * are, and the nodes that exeunt computes faster, or that ONNX Runtime cannot compute on a CPU at
 * all, run on exeunt's kernels.
 *
 * <pre>{@code
 * OrtSession.SessionOptions options = new OrtSession.SessionOptions();
 * ExeuntProvider.addTo(options);
 * OrtSession session = environment.createSession("model.onnx", options);
 * }</pre>
 *
 * <p>It works with the threads of the session. It also brings the ops of the domain {@code
 * org.exeunt}, for graphs that were made for them.
 */
public final class ExeuntProvider {
  /** The name that ONNX Runtime's profiles and logs show. */
  public static final String NAME = "ExeuntExecutionProvider";

  private static final String REGISTRATION = "exeunt";
  private static final String LIBRARY = "exeunt_ort";

  private static List<OrtEpDevice> devices;

  private final Map<String, String> options = new LinkedHashMap<>();

  private ExeuntProvider() {}

  /**
   * Adds the provider to a session, before ONNX Runtime's own.
   *
   * @param session options of a session that is created later
   * @throws OrtException with the reason if it cannot be added; the options are as they were
   */
  public static void addTo(OrtSession.SessionOptions session) throws OrtException {
    configure().add(session);
  }

  /**
   * Adds the provider where that is possible. Elsewhere the session runs as it would without.
   *
   * @param session options of a session that is created later
   * @return "" if it was added, else the reason in one sentence
   */
  public static String addIfPossible(OrtSession.SessionOptions session) {
    return configure().tryAdd(session);
  }

  /**
   * A provider with other settings than {@link #addTo} takes.
   *
   * @return settings to be changed
   */
  public static ExeuntProvider configure() {
    return new ExeuntProvider();
  }

  /**
   * Into how many parts a product is cut. They run on the session's threads, so this is of use only
   * where a session has fewer of them than the machine has cores.
   *
   * @param threads 1 to 256; 0: one per core
   * @return this
   */
  public ExeuntProvider threads(int threads) {
    return option("threads", Integer.toString(threads));
  }

  void threadsUnlessSet(int threads) {
    options.putIfAbsent("threads", Integer.toString(Math.min(threads, 256)));
  }

  /**
   * Lists which nodes of a model are taken, and why others are not, when the session is created.
   *
   * @param file to append to
   * @return this
   */
  public ExeuntProvider report(Path file) {
    return option("report", file.toAbsolutePath().toString());
  }

  /**
   * Sets an option by its name.
   *
   * @param name of the option
   * @param value as text
   * @return this
   */
  public ExeuntProvider option(String name, String value) {
    options.put(name, value);
    return this;
  }

  /**
   * Adds the provider to a session, before ONNX Runtime's own.
   *
   * @param session options of a session that is created later
   * @throws OrtException with the reason if it cannot be added; the options are as they were
   */
  public void add(OrtSession.SessionOptions session) throws OrtException {
    String reason = tryAdd(session);
    if (!reason.isEmpty()) {
      throw new OrtException(reason);
    }
  }

  private String tryAdd(OrtSession.SessionOptions session) {
    try {
      session.addExecutionProvider(devices(), options);
      return "";
    } catch (OrtException | IOException e) {
      return e.getMessage();
    } catch (LinkageError e) {
      return "ONNX Runtime " + OrtEnvironment.getEnvironment().getVersion()
          + " takes no providers from outside, expected 1.24 or newer";
    }
  }

  /**
   * The one environment of a process. DJL insists on making it, and fails for good where another
   * has; so where DJL's engine is on the class path, it goes first.
   */
  static OrtEnvironment environment() {
    try {
      Object djl =
          Class.forName("ai.djl.onnxruntime.engine.OrtEngineProvider")
              .getDeclaredConstructor()
              .newInstance();
      djl.getClass().getMethod("getEngine").invoke(djl);
    } catch (ReflectiveOperationException | LinkageError e) {
      // There is no DJL, or the program made the environment before: DJL will say so when it is used.
    }
    return OrtEnvironment.getEnvironment();
  }

  /** Registers the library, once for the environment, of which a process has one. */
  private static synchronized List<OrtEpDevice> devices() throws OrtException, IOException {
    if (devices == null) {
      OrtEnvironment environment = environment();
      String platform = Loader.Detector.getPlatform();
      Path library = LibraryFiles.unpacked(platform, LIBRARY);
      if (library == null) {
        throw new IOException("no jar holds org/exeunt/" + platform + "/"
            + System.mapLibraryName(LIBRARY) + ": add exeunt-onnxruntime with the classifier "
            + platform);
      }
      environment.registerExecutionProviderLibrary(REGISTRATION, library.toString());
      devices =
          environment.getEpDevices()
              .stream()
              .filter(device -> device.getEpName().equals(NAME))
              .toList();
    }
    return devices;
  }
}
