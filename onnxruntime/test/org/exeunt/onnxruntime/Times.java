// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * MiniLM by ONNX Runtime alone and with the provider, and the same with weights of bf16 and in bf16
 * altogether, which only the provider runs: milliseconds of a run, the median of many, in turns.
 * Where ONNX Runtime has OpenVINO's provider (docs/tuning.md says how to come by one) and {@code
 * -Dexeunt.openvino=true} asks for it, f32 by that as well.
 *
 * <p>Arguments: seconds for each line, and numbers of threads.
 */
final class Times {
  private Times() {}

  private enum By { ALONE, EXEUNT, OPENVINO }

  private static OrtSession session(byte[] model, int threads, By provider) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_ERROR);
      if (provider == By.EXEUNT) {
        ExeuntProvider.configure().threads(threads).add(options);
      } else if (provider == By.OPENVINO) {
        options.addOpenVINO("CPU");
      }
      return OrtEnvironment.getEnvironment().createSession(model, options);
    }
  }

  private static double median(List<Double> times) {
    double[] sorted = times.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    return sorted[sorted.length / 2];
  }

  public static void main(String[] arguments) throws Exception {
    if (!String.join(" ", arguments).matches("([0-9]{1,4}(\\.[0-9]+)?( [1-9][0-9]{0,2})*)?")) {
      System.err.println("usage: Times [SECONDS [THREADS...]]");
      System.exit(2);
    }
    double seconds = arguments.length > 0 ? Double.parseDouble(arguments[0]) : 2;
    int[] threads = arguments.length > 1
        ? Arrays.stream(arguments).skip(1).mapToInt(Integer::parseInt).toArray()
        : new int[] {1, 2};
    MiniLm.environment();
    byte[] model = MiniLm.model();
    boolean openVino = Boolean.getBoolean("exeunt.openvino");
    System.out.println("ONNX Runtime " + OrtEnvironment.getEnvironment().getVersion()
        + ": milliseconds of it alone, and that divided by those of the others");
    System.out.println("threads  batch x tokens   alone    with  bf16 weights  all bf16"
        + (openVino ? "  OpenVINO" : ""));
    try (HuggingFaceTokenizer tokenizer = MiniLm.tokenizer()) {
      List<List<String>> batches = new ArrayList<>(List.of(List.of("early exit"),
          List.of("where does the river bank end?"), MiniLm.sentences(1, 5)));
      batches.add(List.of(String.join(" ", MiniLm.sentences(4, 6))));
      batches.add(MiniLm.sentences(8, 7));
      batches.add(MiniLm.sentences(32, 8));
      for (int t : threads) {
        List<OrtSession> sessions = new ArrayList<>();
        try {
          sessions.add(session(model, t, By.ALONE));
          sessions.add(session(model, t, By.EXEUNT));
          sessions.add(session(MiniLm.inBf16(model), t, By.EXEUNT));
          sessions.add(session(MiniLm.allInBf16(model), t, By.EXEUNT));
          if (openVino) {
            sessions.add(session(model, t, By.OPENVINO));
          }
          for (List<String> batch : batches) {
            long[][][] inputs = MiniLm.encode(tokenizer, batch);
            double[] ms = times(sessions, MiniLm.tensors(inputs), seconds);
            System.out.printf("%7d %6d x %-6d %7.2f %7.2f %13.2f %9.2f", t, batch.size(),
                inputs[0][0].length, ms[0], ms[0] / ms[1], ms[0] / ms[2], ms[0] / ms[3]);
            System.out.println(openVino ? String.format(" %9.2f", ms[0] / ms[4]) : "");
          }
        } finally {
          for (OrtSession session : sessions) {
            session.close();
          }
        }
      }
    }
  }

  /**
   * In turns. The threads of a session spin for a while after a run, and would take a core from the
   * next one: each waits for that to end, and runs twice before it is timed.
   */
  private static double[] times(List<OrtSession> sessions, Map<String, OnnxTensor> inputs,
      double seconds) throws OrtException, InterruptedException {
    List<List<Double>> times = new ArrayList<>();
    sessions.forEach(session -> times.add(new ArrayList<>()));
    long end = System.nanoTime() + (long) (seconds * 1e9);
    for (int round = 0; round < 2 || System.nanoTime() < end; round++) {
      for (int i = 0; i < sessions.size(); i++) {
        Thread.sleep(60);
        long timed = Long.MAX_VALUE;
        for (int run = 0; run < 5 || System.nanoTime() < timed; run++) {
          long start = System.nanoTime();
          sessions.get(i).run(inputs).close();
          if (run >= 2) {
            timed = Math.min(timed, start + 40_000_000);
            times.get(i).add((System.nanoTime() - start) * 1e-6);
          }
        }
      }
    }
    inputs.values().forEach(OnnxTensor::close);
    return times.stream().mapToDouble(Times::median).toArray();
  }
}
