// SPDX-License-Identifier: Apache-2.0
package org.exeunt.onnxruntime;

import ai.djl.huggingface.tokenizers.HuggingFaceTokenizer;
import ai.onnxruntime.OnnxTensor;
import ai.onnxruntime.OrtEnvironment;
import ai.onnxruntime.OrtException;
import ai.onnxruntime.OrtSession;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/**
 * Makes a classifier with two exits out of MiniLM: after its third layer an exit head says how
 * sure it is, and an ONNX If runs the other three only where that is not enough. Each head has a
 * row for each label, which points from the mean of all examples to the mean of the label's.
 *
 * <p>{@code main} prints what leaving early saves, and what it costs.
 */
final class EarlyExit {
  static final int EXIT_LAYER = 3;
  static final int LAYERS = 6;

  private static final int WIDTH = 384;
  private static final float SHARPNESS = 5;

  private EarlyExit() {}

  /** What a sentence was taken for. */
  record Answer(int label, float p1, int layer) {}

  private static String hidden(int layer) {
    return layer == LAYERS
        ? "last_hidden_state"
        : "/encoder/layer." + (layer - 1) + "/output/LayerNorm/Add_1_output_0";
  }

  /** MiniLM with the mean hidden state after a layer as its output: what heads are made from. */
  static byte[] upTo(byte[] model, int layer) {
    Message parsed = Message.parse(model);
    Message graph = parsed.message(7);
    Graph outputs = new Graph().output("pooled", Graph.FLOAT, -1, WIDTH);
    graph.without(12).with(12, outputs.info(0));
    graph.with(1, pooling(hidden(layer), "pooled"));
    return withOurOps(parsed, graph);
  }

  /** A head of a row and a bias for each label. */
  record Head(float[] weight, float[] bias) {
    static Head of(List<float[]> states, int[] labels, int count) {
      float[] mean = new float[WIDTH];
      float[][] means = new float[count][WIDTH];
      int[] sizes = new int[count];
      for (int i = 0; i < labels.length; i++) {
        sizes[labels[i]]++;
        for (int d = 0; d < WIDTH; d++) {
          mean[d] += states.get(i)[d] / labels.length;
          means[labels[i]][d] += states.get(i)[d];
        }
      }
      float[] weight = new float[count * WIDTH];
      float[] bias = new float[count];
      for (int c = 0; c < count; c++) {
        double norm = 0;
        for (int d = 0; d < WIDTH; d++) {
          weight[c * WIDTH + d] = means[c][d] / sizes[c] - mean[d];
          norm += weight[c * WIDTH + d] * weight[c * WIDTH + d];
        }
        for (int d = 0; d < WIDTH; d++) {
          weight[c * WIDTH + d] *= SHARPNESS / Math.sqrt(norm);
          // A state half-way between the label and the mean of all is at 0.
          bias[c] -= weight[c * WIDTH + d] * (means[c][d] / sizes[c] + mean[d]) / 2;
        }
      }
      return new Head(weight, bias);
    }
  }

  /** The model with two heads. It leaves at the first where all of a batch have p1 >= threshold. */
  static byte[] build(byte[] model, Head first, Head last, int labels, float threshold) {
    Message parsed = Message.parse(model);
    Message graph = parsed.message(7);
    List<Message> nodes = graph.messages(1);
    Set<String> needed = new HashSet<>(Set.of(hidden(EXIT_LAYER)));
    boolean[] early = new boolean[nodes.size()];
    for (int i = nodes.size(); i-- > 0;) {
      if (nodes.get(i).texts(2).stream().anyMatch(needed::contains)) {
        early[i] = true;
        needed.addAll(nodes.get(i).texts(1));
      }
    }
    Graph stay = new Graph();
    graph.without(1).without(12);
    for (int i = 0; i < nodes.size(); i++) {
      if (early[i]) {
        graph.with(1, nodes.get(i));
      } else {
        stay.add(nodes.get(i));
      }
    }
    Graph added = new Graph();
    added.add(pooling(hidden(EXIT_LAYER), "exit_state"));
    head(added, "exit_state", first, labels, "exit_label", "exit_p1");
    String least = added.node("ReduceMin", List.of(Graph.attribute("keepdims", 0)), "exit_p1");
    String sure =
        added.node("Not", added.node("Less", least, added.scalar("threshold", threshold)));
    Graph leave = new Graph();
    leave.node("Identity", List.of(), new String[] {"exit_label"}, "left_label");
    leave.node("Identity", List.of(), new String[] {"exit_p1"}, "left_p1");
    leave.scalar("left_layer", EXIT_LAYER);
    stay.add(pooling(hidden(LAYERS), "last_state"));
    head(stay, "last_state", last, labels, "last_label", "last_p1");
    stay.scalar("last_layer", LAYERS);
    leave.output("left_label", Graph.INT64, -1).output("left_p1", Graph.FLOAT, -1);
    leave.output("left_layer", Graph.FLOAT, 1);
    stay.output("last_label", Graph.INT64, -1).output("last_p1", Graph.FLOAT, -1);
    stay.output("last_layer", Graph.FLOAT, 1);
    added.node("If",
        List.of(Graph.attribute("then_branch", leave), Graph.attribute("else_branch", stay)),
        new String[] {sure}, "label", "p1", "layer");
    added.output("label", Graph.INT64, -1).output("p1", Graph.FLOAT, -1);
    added.output("layer", Graph.FLOAT, 1);
    added.appendTo(graph);
    return withOurOps(parsed, graph);
  }

  private static void head(
      Graph graph, String state, Head head, int labels, String label, String p1) {
    String prefix = label + "_head_";
    graph.floats(prefix + "weight", head.weight, labels, WIDTH);
    graph.floats(prefix + "bias", head.bias, labels);
    graph.node("org.exeunt:ExitHead", List.of(),
        new String[] {state, prefix + "weight", prefix + "bias"}, label, p1);
  }

  private static Message pooling(String from, String to) {
    return Graph.nodeOf("ReduceMean",
        List.of(Graph.attribute("axes", new long[] {1}), Graph.attribute("keepdims", 0)),
        new String[] {from}, to);
  }

  private static byte[] withOurOps(Message model, Message graph) {
    return model.without(7)
        .with(7, graph)
        .with(8, new Message().with(1, "org.exeunt").with(2, 1L))
        .toBytes();
  }

  // ---- running it ----

  static List<Answer> run(OrtSession session, HuggingFaceTokenizer tokenizer,
      List<String> sentences) throws OrtException {
    List<Answer> answers = new ArrayList<>();
    for (String sentence : sentences) {
      Map<String, OnnxTensor> inputs = MiniLm.tensors(MiniLm.encode(tokenizer, List.of(sentence)));
      try (OrtSession.Result result = session.run(inputs)) {
        answers.add(new Answer((int) ((long[]) result.get(0).getValue())[0],
            ((float[]) result.get(1).getValue())[0],
            (int) ((float[]) result.get(2).getValue())[0]));
      } finally {
        inputs.values().forEach(OnnxTensor::close);
      }
    }
    return answers;
  }

  /** Sentences of three topics, some of words of their own, some of words that several share. */
  static List<String> sentences(int count, long seed, int[] labels) {
    String[][] words = {
        "team match goal coach season player league scored won injured stadium cup".split(" "),
        "bank market shares profit interest investors loan price fell rose stock tax".split(" "),
        "virus doctor patients vaccine hospital disease cells drug trial surgery clinic dose".split(
            " ")};
    String[] shared = "the new in after a report said that for its on more last".split(" ");
    java.util.Random random = new java.util.Random(seed);
    List<String> sentences = new ArrayList<>();
    for (int i = 0; i < count; i++) {
      labels[i] = random.nextInt(words.length);
      double clarity = 0.2 + 0.6 * random.nextDouble();
      StringBuilder text = new StringBuilder();
      for (int n = 6 + random.nextInt(8); n > 0; n--) {
        int topic = random.nextDouble() < 0.85 ? labels[i] : random.nextInt(words.length);
        String[] from = random.nextDouble() < clarity ? words[topic] : shared;
        text.append(text.length() == 0 ? "" : " ").append(from[random.nextInt(from.length)]);
      }
      sentences.add(text.append('.').toString());
    }
    return sentences;
  }

  /** The mean states after a layer. */
  static List<float[]> states(byte[] model, int layer, HuggingFaceTokenizer tokenizer,
      List<String> sentences) throws OrtException {
    List<float[]> states = new ArrayList<>();
    try (OrtSession.SessionOptions options = options(2);
        OrtSession session =
            OrtEnvironment.getEnvironment().createSession(upTo(model, layer), options)) {
      for (String sentence : sentences) {
        Map<String, OnnxTensor> inputs =
            MiniLm.tensors(MiniLm.encode(tokenizer, List.of(sentence)));
        try (OrtSession.Result result = session.run(inputs)) {
          states.add(((float[][]) result.get(0).getValue())[0]);
        } finally {
          inputs.values().forEach(OnnxTensor::close);
        }
      }
    }
    return states;
  }

  static OrtSession.SessionOptions options(int threads) throws OrtException {
    OrtSession.SessionOptions options = new OrtSession.SessionOptions();
    options.setIntraOpNumThreads(threads);
    options.addConfigEntry("session.intra_op.allow_spinning", "0"); // few cores, many sessions
    ExeuntProvider.configure().threads(threads).add(options);
    return options;
  }

  public static void main(String[] arguments) throws Exception {
    OrtEnvironment environment = MiniLm.environment();
    byte[] model = MiniLm.model();
    int[] known = new int[120];
    int[] asked = new int[300];
    List<String> examples = sentences(known.length, 1, known);
    List<String> questions = sentences(asked.length, 2, asked);
    try (HuggingFaceTokenizer tokenizer = MiniLm.tokenizer()) {
      Head first = Head.of(states(model, EXIT_LAYER, tokenizer, examples), known, 3);
      Head last = Head.of(states(model, LAYERS, tokenizer, examples), known, 3);
      System.out.println("threshold   left early   right   sentences/s");
      for (float threshold : new float[] {2, 0.99f, 0.95f, 0.9f, 0.7f, 0}) {
        byte[] graph = build(model, first, last, 3, threshold);
        try (OrtSession.SessionOptions options = options(1);
            OrtSession session = environment.createSession(graph, options)) {
          run(session, tokenizer, questions.subList(0, 50));
          long start = System.nanoTime();
          List<Answer> answers = run(session, tokenizer, questions);
          double seconds = (System.nanoTime() - start) * 1e-9;
          int right = 0;
          int early = 0;
          for (int i = 0; i < asked.length; i++) {
            right += answers.get(i).label() == asked[i] ? 1 : 0;
            early += answers.get(i).layer() == EXIT_LAYER ? 1 : 0;
          }
          System.out.printf("%9s %10.0f %% %5.1f %% %12.0f%n", threshold > 1 ? "never" : threshold,
              100.0 * early / asked.length, 100.0 * right / asked.length, asked.length / seconds);
        }
      }
    }
  }
}
