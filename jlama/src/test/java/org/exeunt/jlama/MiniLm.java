// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.onnx.OnnxFile;

/** The demo's encoder as Hugging Face and Jlama know it, made of its ONNX file. */
final class MiniLm {
  private static final int WIDTH = 384;
  private static final int FEED_FORWARD = 1536;
  private static final int LAYERS = 6;
  private static final EncoderFiles FILES = new EncoderFiles(Models.encoder());

  private MiniLm() {}

  /** Whether the demo's encoder is in the cache. */
  static boolean present() {
    return Files.exists(FILES.model()) && Files.exists(FILES.tokenizer());
  }

  /** A folder with the model in f32. */
  static Path folder() throws IOException {
    return TestModels.folder("minilm", folder -> {
      Map<String, Object> fields = new LinkedHashMap<>();
      fields.put("model_type", "bert");
      fields.put("max_position_embeddings", 512);
      fields.put("hidden_size", WIDTH);
      fields.put("intermediate_size", FEED_FORWARD);
      fields.put("num_attention_heads", 12);
      fields.put("num_hidden_layers", LAYERS);
      fields.put("layer_norm_eps", 1e-12);
      fields.put("hidden_act", "gelu");
      fields.put("vocab_size", 30522);
      new ObjectMapper().writeValue(folder.resolve("config.json").toFile(), fields);
      Files.copy(FILES.tokenizer(), folder.resolve("tokenizer.json"));
      try (OnnxFile file = OnnxFile.open(FILES.model())) {
        writeWeights(folder.resolve("model.safetensors"), file);
      }
    });
  }

  private static void writeWeights(Path path, OnnxFile file) throws IOException {
    Safetensors out = new Safetensors();
    for (OnnxFile.Tensor tensor : file.tensors().values()) {
      if (tensor.name().matches("(embeddings|encoder)\\..*(weight|bias)")) {
        out.add(tensor.name(), "F32", tensor.shape(), tensor.bytes(),
            () -> bytes(file, tensor, 1, (int) (tensor.bytes() / Float.BYTES)));
      }
    }
    for (int layer = 0; layer < LAYERS; layer++) {
      for (String block : List.of("query", "key", "value")) {
        matrix(out, file, layer, "attention/self/" + block, WIDTH, WIDTH);
      }
      matrix(out, file, layer, "attention/output/dense", WIDTH, WIDTH);
      matrix(out, file, layer, "intermediate/dense", WIDTH, FEED_FORWARD);
      matrix(out, file, layer, "output/dense", FEED_FORWARD, WIDTH);
    }
    // Jlama wants what the file lacks, and averages without it.
    out.add("pooler.dense.weight", "F32", List.of((long) WIDTH, (long) WIDTH),
        WIDTH * WIDTH * Float.BYTES, () -> ByteBuffer.allocate(WIDTH * WIDTH * Float.BYTES));
    out.add("pooler.dense.bias", "F32", List.of((long) WIDTH), WIDTH * Float.BYTES,
        () -> ByteBuffer.allocate(WIDTH * Float.BYTES));
    out.write(path, 0);
  }

  /** ONNX has a column for each output, Hugging Face a row. */
  private static void matrix(Safetensors out, OnnxFile file, int layer, String block, int inputs,
      int outputs) throws IOException {
    String product = "/encoder/layer." + layer + "/" + block + "/MatMul_output_0";
    OnnxFile.Tensor tensor =
        file.require(file.producer(product).inputs().get(1), OnnxFile.Type.F32, inputs, outputs);
    out.add("encoder.layer." + layer + "." + block.replace('/', '.') + ".weight", "F32",
        List.of((long) outputs, (long) inputs), tensor.bytes(),
        () -> bytes(file, tensor, inputs, outputs));
  }

  private static ByteBuffer bytes(OnnxFile file, OnnxFile.Tensor tensor, int rows, int columns)
      throws IOException {
    float[] values = new float[rows * columns];
    file.read(tensor, 0, values);
    ByteBuffer bytes =
        ByteBuffer.allocate(values.length * Float.BYTES).order(ByteOrder.LITTLE_ENDIAN);
    for (int column = 0; column < columns; column++) {
      for (int row = 0; row < rows; row++) {
        bytes.putFloat(values[row * columns + column]);
      }
    }
    return bytes.flip();
  }
}
