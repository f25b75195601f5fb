// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import ai.djl.MalformedModelException;
import ai.djl.Model;
import ai.djl.engine.Engine;
import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.djl.inference.Predictor;
import ai.djl.ndarray.NDArray;
import ai.djl.ndarray.NDList;
import ai.djl.ndarray.NDManager;
import ai.djl.ndarray.types.Shape;
import ai.djl.repository.zoo.Criteria;
import ai.djl.repository.zoo.ZooModel;
import ai.djl.translate.NoopTranslator;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtSession;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** DJL's ONNX Runtime on exeunt, by the name of an engine and by options of a session. */
class DjlTest {
  private static final String[] NAMES = {"input_ids", "attention_mask", "token_type_ids"};

  @TempDir static Path folder;
  private static Path file;
  private static long[][][] inputs;
  private static float[][] expected;

  @BeforeAll
  static void load() throws Exception {
    OrtEnvironment environment = MiniLm.environment();
    file = Files.write(folder.resolve("model.onnx"), MiniLm.model());
    try (HuggingFaceTokenizer tokenizer = MiniLm.tokenizer();
        OrtSession alone = environment.createSession(file.toString())) {
      inputs = MiniLm.encode(tokenizer, MiniLm.sentences(3, 4));
      expected = MiniLm.embed(alone, inputs);
    }
  }

  /** Embeds three sentences, and compares them with what ONNX Runtime alone makes of them. */
  private static void check(Predictor<NDList, NDList> predictor, String engine) throws Exception {
    try (NDManager manager = NDManager.newBaseManager(null, engine)) {
      NDList arrays = new NDList();
      for (int i = 0; i < NAMES.length; i++) {
        long[] flat = Arrays.stream(inputs[i]).flatMapToLong(Arrays::stream).toArray();
        NDArray array = manager.create(flat, new Shape(inputs[i].length, inputs[i][0].length));
        array.setName(NAMES[i]);
        arrays.add(array);
      }
      float[] hidden = predictor.predict(arrays).get(0).toFloatArray();
      int tokens = inputs[0][0].length;
      int width = expected[0].length;
      for (int i = 0; i < expected.length; i++) {
        float[] mean = new float[width];
        for (int t = 0; t < tokens; t++) {
          for (int d = 0; inputs[1][i][t] != 0 && d < width; d++) {
            mean[d] += hidden[(i * tokens + t) * width + d];
          }
        }
        double cosine = MiniLm.cosine(expected[i], mean);
        assertTrue(cosine >= 0.9999, "cosine " + cosine);
      }
    }
  }

  private static Criteria.Builder<NDList, NDList> criteria() {
    return Criteria.builder()
        .setTypes(NDList.class, NDList.class)
        .optModelPath(file)
        .optEngine(ExeuntEngine.NAME);
  }

  @Test
  void criteriaTakeItsName() throws Exception {
    Path report = folder.resolve("criteria.txt");
    try (ZooModel<NDList, NDList> model = criteria()
             .optOption("exeunt.report", report.toString())
             .optOption("intraOpNumThreads", "2")
             .build()
             .loadModel();
        Predictor<NDList, NDList> predictor = model.newPredictor()) {
      check(predictor, ExeuntEngine.NAME);
      assertEquals("model", model.getName());
      assertEquals(folder.toRealPath(), model.getModelPath().toRealPath());
    }
    assertTrue(Files.readString(report).contains("claimed MatMul"), "exeunt took nothing");
  }

  @Test
  void soDoModels() throws Exception {
    try (Model model = Model.newInstance("model", ExeuntEngine.NAME)) {
      model.load(folder);
      try (Predictor<NDList, NDList> predictor = model.newPredictor(new NoopTranslator())) {
        check(predictor, "OnnxRuntime");
      }
    }
    Path report = folder.resolve("stream.txt");
    try (Model model = Model.newInstance("stream", ExeuntEngine.NAME);
        OrtSession.SessionOptions given = new OrtSession.SessionOptions()) {
      model.load(new ByteArrayInputStream(Files.readAllBytes(file)),
          Map.of("sessionOptions", given, "exeunt.report", report));
      try (Predictor<NDList, NDList> predictor = model.newPredictor(new NoopTranslator())) {
        check(predictor, ExeuntEngine.NAME);
      }
    }
    assertTrue(Files.readString(report).contains("claimed MatMul"), "exeunt took nothing");
  }

  @Test
  void itIsNobodysDefault() {
    assertNotEquals(ExeuntEngine.NAME, Engine.getDefaultEngineName());
    assertTrue(Engine.hasEngine(ExeuntEngine.NAME));
  }

  @Test
  void unsoundOptionsAreNamed() {
    Exception e = assertThrows(
        Exception.class, () -> criteria().optOption("exeunt.treads", "2").build().loadModel());
    assertTrue(e.getCause().getMessage().contains("there is no option 'treads'"), e.toString());
    try (Model model = Model.newInstance("model", ExeuntEngine.NAME);
        OrtSession.SessionOptions given = new OrtSession.SessionOptions()) {
      ExeuntProvider.addIfPossible(given);
      Exception twice = assertThrows(MalformedModelException.class,
          () -> model.load(folder, null, Map.of("sessionOptions", given)));
      assertTrue(
          twice.getCause().getMessage().contains("already been registered"), twice.toString());
    }
  }

  /** DJL wants to make the one environment of a process. Each order in a process of its own. */
  @Test
  void theOrderDoesNotMatter() throws IOException, InterruptedException {
    for (String order : List.of("provider", "model")) {
      Process process =
          new ProcessBuilder(Path.of(System.getProperty("java.home"), "bin", "java").toString(),
              "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "--enable-native-access=ALL-UNNAMED",
              "-cp", System.getProperty("java.class.path"), Order.class.getName(), order,
              folder.toString())
              .redirectErrorStream(true)
              .start();
      String output = new String(process.getInputStream().readAllBytes());
      assertEquals(0, process.waitFor(), output);
      assertTrue(output.contains("loaded"), output);
    }
  }

  /** {@code Order provider|model FOLDER}: what comes first. */
  static final class Order {
    private Order() {}

    public static void main(String[] arguments) throws Exception {
      OrtSession.SessionOptions options = new OrtSession.SessionOptions();
      boolean first = arguments[0].equals("provider");
      if (first) {
        ExeuntProvider.addTo(options);
      }
      try (Model model = Model.newInstance("model", "OnnxRuntime")) {
        if (!first) {
          ExeuntProvider.addTo(options);
        }
        model.load(Path.of(arguments[1]), null, Map.of("sessionOptions", options));
        System.out.println("loaded " + model.getName());
      }
    }
  }
}
