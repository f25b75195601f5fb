// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.exeunt.onnxruntime.Graph.attribute;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.onnxruntime.OnnxJavaType;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OnnxValue;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtLoggingLevel;
import ai.onnxruntime.OrtSession;
import ai.onnxruntime.OrtSession.SessionOptions.OptLevel;
import ai.onnxruntime.TensorInfo;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.LongBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.stream.Collectors;
import org.junit.jupiter.api.io.TempDir;

/** What tests share that run a graph by ONNX Runtime alone and with the provider. */
abstract class GraphTestBase {
  static final OrtEnvironment ENVIRONMENT = MiniLm.environment();
  static final int K = 64;
  static final int N = 96;
  static final String PLAIN = "linear of 96 x 64 f32";
  private static final int GUARD = 4096;

  final Random random = new Random(7);
  /** The standard deviation of what is drawn. */
  float spread = 1;

  @TempDir Path folder;

  /** A provider that takes small products, too, which ONNX Runtime computes as fast. */
  static ExeuntProvider everything() {
    return ExeuntProvider.configure().threads(2).option("all", "1");
  }

  float[] random(int count) {
    float[] values = new float[count];
    for (int i = 0; i < count; i++) {
      values[i] = (float) random.nextGaussian() * spread;
    }
    return values;
  }

  OnnxTensor tensor(long... shape) throws OrtException {
    int count = 1;
    for (long extent : shape) {
      count *= (int) extent;
    }
    return OnnxTensor.createTensor(ENVIRONMENT, FloatBuffer.wrap(random(count)), shape);
  }

  // ---- what many graphs begin and end with ----

  /** From x of [-1,K] to y of [-1,N]. */
  static Graph graph() {
    return new Graph().input("x", Graph.FLOAT, -1, K).output("y", Graph.FLOAT, -1, N);
  }

  String product(Graph graph, String x) {
    return graph.node("MatMul", x, graph.floats(random(K * N), K, N));
  }

  String row(Graph graph, int width) {
    return graph.floats(random(width), width);
  }

  static String cast(Graph graph, int type, String value) {
    return graph.node("Cast", List.of(attribute("to", type)), value);
  }

  static Graph end(Graph graph, String value) {
    return graph.node("Identity", List.of(), new String[] {value}, "y");
  }

  static byte[] bytes(double[] values) {
    ByteBuffer raw = ByteBuffer.allocate(8 * values.length).order(ByteOrder.LITTLE_ENDIAN);
    raw.asDoubleBuffer().put(values);
    return raw.array();
  }

  byte[] quants(int count) {
    byte[] quants = new byte[count];
    random.nextBytes(quants);
    return quants;
  }

  float[] scales(int count) {
    float[] scales = new float[count];
    for (int i = 0; i < count; i++) {
      scales[i] = (1 + random.nextInt(1000)) / 262144f; // as f16 holds it
    }
    return scales;
  }

  // ---- runs ----

  record Output(long[] shape, float[] values) {}

  /** All outputs, of floats or i64. */
  private static List<Output> outputs(byte[] model, ExeuntProvider provider,
      Map<String, OnnxTensor> inputs, OptLevel level) throws OrtException {
    try (OrtSession.SessionOptions options = new OrtSession.SessionOptions()) {
      options.setIntraOpNumThreads(2);
      options.addConfigEntry("session.intra_op.allow_spinning", "0"); // many sessions, few cores
      options.setOptimizationLevel(level);
      options.setSessionLogLevel(OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL); // refusals may be wanted
      if (provider != null) {
        provider.add(options);
      }
      try (OrtSession session = ENVIRONMENT.createSession(model, options);
          OrtSession.Result result = session.run(inputs)) {
        List<Output> outputs = new ArrayList<>();
        for (Map.Entry<String, OnnxValue> output : result) {
          outputs.add(output((OnnxTensor) output.getValue()));
        }
        if (provider != null) {
          nothingBehind(session, inputs, result);
        }
        return outputs;
      }
    }
  }

  private static Output output(OnnxTensor tensor) {
    float[] values;
    if (tensor.getInfo().type == OnnxJavaType.INT64) {
      LongBuffer longs = tensor.getLongBuffer();
      values = new float[longs.remaining()];
      for (int i = 0; i < values.length; i++) {
        values[i] = longs.get(i);
      }
    } else {
      values = new float[tensor.getFloatBuffer().remaining()];
      tensor.getFloatBuffer().get(values);
    }
    return new Output(tensor.getInfo().getShape(), values);
  }

  /** Runs again, into memory of the test's own: what lies after an output stays as it is. */
  private static void nothingBehind(OrtSession session, Map<String, OnnxTensor> inputs,
      OrtSession.Result result) throws OrtException {
    Map<String, OnnxTensor> into = new LinkedHashMap<>();
    List<ByteBuffer> buffers = new ArrayList<>();
    for (Map.Entry<String, OnnxValue> output : result) {
      TensorInfo info = ((OnnxTensor) output.getValue()).getInfo();
      int bytes = (int) info.getNumElements() * info.type.size;
      if (bytes == 0) {
        continue; // ONNX Runtime takes no empty buffers
      }
      ByteBuffer buffer = ByteBuffer.allocateDirect(bytes + GUARD).order(ByteOrder.nativeOrder());
      for (int i = bytes; i < buffer.capacity(); i++) {
        buffer.put(i, (byte) 77);
      }
      buffers.add(buffer.duplicate().position(bytes));
      into.put(output.getKey(),
          OnnxTensor.createTensor(ENVIRONMENT,
              buffer.limit(bytes).slice().order(ByteOrder.nativeOrder()), info.getShape(),
              info.type));
    }
    try {
      if (!into.isEmpty()) {
        session.run(inputs, Set.of(), into).close();
      }
    } catch (OrtException e) { // the graph says of an output what is not so
      assertTrue(e.getMessage().matches("(?s).*(Got invalid dimensions|Invalid rank) for output.*"),
          e.getMessage());
      into.values().forEach(OnnxTensor::close);
      return;
    }
    for (Map.Entry<String, OnnxTensor> one : into.entrySet()) {
      OnnxTensor first = (OnnxTensor) result.get(one.getKey()).orElseThrow();
      assertArrayEquals(output(first).values(), output(one.getValue()).values(), 0, "another run");
      one.getValue().close();
    }
    for (ByteBuffer buffer : buffers) {
      while (buffer.hasRemaining()) {
        assertEquals(77, buffer.get(), "what lies behind an output");
      }
    }
  }

  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs)
      throws OrtException {
    return run(model, provider, inputs, OptLevel.ALL_OPT);
  }

  static List<float[]> run(byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs,
      OptLevel level) throws OrtException {
    return outputs(model, provider, inputs, level).stream().map(Output::values).toList();
  }

  /** Null if the model cannot be loaded or run. */
  private static List<Output> outputsOrNull(
      byte[] model, ExeuntProvider provider, Map<String, OnnxTensor> inputs, OptLevel level) {
    try {
      return outputs(model, provider, inputs, level);
    } catch (OrtException e) {
      return null;
    }
  }

  /**
   * Compares with ONNX Runtime alone, without optimisations and with all: the same outputs, or
   * neither has any. Returns the last report.
   */
  String beside(byte[] model, Map<String, OnnxTensor> inputs, float tolerance) throws IOException {
    Path report = Files.createTempFile(folder, "report", ".txt");
    for (OptLevel level : List.of(OptLevel.NO_OPT, OptLevel.ALL_OPT)) {
      Files.writeString(report, "");
      List<Output> expected = outputsOrNull(model, null, inputs, level);
      List<Output> actual = outputsOrNull(model, everything().report(report), inputs, level);
      assertEquals(expected == null, actual == null,
          "whether it runs at " + level + "; " + Files.readString(report));
      for (int i = 0; expected != null && i < expected.size(); i++) {
        assertArrayEquals(expected.get(i).shape(), actual.get(i).shape(), "at " + level);
        assertArrayEquals(
            expected.get(i).values(), actual.get(i).values(), tolerance, "at " + level);
      }
    }
    return Files.readString(report);
  }

  static long claims(String report) {
    return report.lines().filter(line -> line.startsWith("claimed ")).count();
  }

  /** Runs with the provider, compares, and returns the report. */
  List<String> report(byte[] model, Map<String, OnnxTensor> inputs, List<float[]> expected,
      float tolerance, OptLevel level) throws Exception {
    Path report = Files.createTempFile(folder, "report", ".txt");
    List<float[]> actual = run(model, everything().report(report), inputs, level);
    assertEquals(expected.size(), actual.size());
    for (int i = 0; i < expected.size(); i++) {
      assertArrayEquals(expected.get(i), actual.get(i), tolerance, "output " + i);
    }
    return Files.readAllLines(report);
  }

  /** Runs both ways, compares, and returns the first line of the report. */
  String check(byte[] model, Map<String, OnnxTensor> inputs, float tolerance) throws Exception {
    return check(model, inputs, run(model, null, inputs), tolerance);
  }

  String check(byte[] model, Map<String, OnnxTensor> inputs, List<float[]> expected,
      float tolerance) throws Exception {
    List<String> lines = report(model, inputs, expected, tolerance, OptLevel.ALL_OPT);
    return lines.isEmpty() ? "" : lines.get(0);
  }

  /** What the report says was claimed, without the names of nodes. */
  static String claimed(List<String> report) {
    return report.stream()
        .filter(line -> line.startsWith("claimed "))
        .distinct()
        .map(line -> line.substring(line.indexOf(": ") + 2))
        .collect(Collectors.joining("; "));
  }

  /**
   * Compares results as ONNX Runtime optimises a graph and as it is, and what is claimed of the
   * latter: ONNX Runtime's own fusions come first, and would leave less to be mistaken.
   */
  void expect(String claims, Graph graph, int opset, Map<String, OnnxTensor> inputs,
      float tolerance) throws Exception {
    byte[] model = graph.model(opset);
    for (OptLevel level : List.of(OptLevel.ALL_OPT, OptLevel.NO_OPT)) {
      List<float[]> alone = run(model, null, inputs, level);
      List<String> report = report(model, inputs, alone, tolerance, level);
      if (level == OptLevel.NO_OPT) {
        assertEquals(claims, claimed(report), () -> String.join("\n", report));
      }
    }
  }

  void expect(String claims, Graph graph, int opset, Map<String, OnnxTensor> inputs)
      throws Exception {
    expect(claims, graph, opset, inputs, 5e-4f);
  }

  void expect(String claims, Graph graph, int opset) throws Exception {
    for (int rows : new int[] {3, 1}) {
      try (OnnxTensor x = tensor(rows, K)) {
        expect(claims, graph, opset, Map.of("x", x));
      }
    }
  }

  void expect(String claims, Graph graph) throws Exception {
    expect(claims, graph, 17);
  }
}
