// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;

/**
 * MiniLM by ONNX Runtime alone and with the provider, and the same in bf16, which only the provider
 * runs: milliseconds of a run, the median of many, in turns.
 *
 * <p>Arguments: seconds for each line, and numbers of threads.
 */
final class Times {
  private Times() {}

  private static OrtSession session(byte[] model, int threads, boolean provider)
      throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(threads);
      if (provider) {
        ExeuntProvider.configure().threads(threads).add(options);
      }
      return OrtEnvironment.getEnvironment().createSession(model, options);
    }
  }

  private static double median(List<Double> times) {
    double[] sorted = times.stream().mapToDouble(Double::doubleValue).sorted().toArray();
    return sorted[sorted.length / 2];
  }

  public static void main(String[] arguments) throws Exception {
    double seconds = arguments.length > 0 ? Double.parseDouble(arguments[0]) : 2;
    int[] threads = arguments.length > 1
        ? Arrays.stream(arguments).skip(1).mapToInt(Integer::parseInt).toArray()
        : new int[] {1, 2};
    MiniLm.environment();
    byte[] model = MiniLm.model();
    byte[] narrow = MiniLm.inBf16(model);
    System.out.println("threads  batch x tokens   alone   with  in bf16   alone / with, in bf16");
    try (HuggingFaceTokenizer tokenizer = MiniLm.tokenizer()) {
      List<List<String>> batches = new ArrayList<>(List.of(List.of("early exit"),
          List.of("where does the river bank end?"), MiniLm.sentences(1, 5)));
      batches.add(List.of(String.join(" ", MiniLm.sentences(4, 6))));
      batches.add(MiniLm.sentences(8, 7));
      batches.add(MiniLm.sentences(32, 8));
      for (int t : threads) {
        try (OrtSession alone = session(model, t, false); OrtSession with = session(model, t, true);
            OrtSession bf16 = session(narrow, t, true)) {
          for (List<String> batch : batches) {
            long[][][] inputs = MiniLm.encode(tokenizer, batch);
            double[] ms = times(List.of(alone, with, bf16), MiniLm.tensors(inputs), seconds);
            System.out.printf("%7d %6d x %-6d %7.2f %6.2f %8.2f %14.2f %9.2f%n", t, batch.size(),
                inputs[0][0].length, ms[0], ms[1], ms[2], ms[0] / ms[1], ms[0] / ms[2]);
          }
        }
      }
    }
  }

  private static double[] times(List<OrtSession> sessions, Map<String, OnnxTensor> inputs,
      double seconds) throws OrtException {
    List<List<Double>> times = new ArrayList<>();
    sessions.forEach(session -> times.add(new ArrayList<>()));
    long end = System.nanoTime() + (long) (seconds * 1e9);
    for (int round = 0; round < 5 || System.nanoTime() < end; round++) {
      for (int i = 0; i < sessions.size(); i++) {
        long start = System.nanoTime();
        sessions.get(i).run(inputs).close();
        if (round >= 2) {
          times.get(i).add((System.nanoTime() - start) * 1e-6);
        }
      }
    }
    inputs.values().forEach(OnnxTensor::close);
    return times.stream().mapToDouble(Times::median).toArray();
  }
}
