// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxGraph.BFLOAT16;
import static org.exeunt.bench.onnx.OnnxGraph.BOOL;
import static org.exeunt.bench.onnx.OnnxGraph.DOUBLE;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.ByteBuffer;
import java.nio.LongBuffer;
import java.util.Arrays;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.reference.CacheLayout;
import org.exeunt.bench.reference.FfnSkipRuleProblem;
import org.exeunt.bench.reference.HiredBudgetProblem;
import org.exeunt.bench.reference.KvAppendProblem;
import org.exeunt.bench.reference.Matrix;
import org.exeunt.bench.reference.RopeTableProblem;
import org.exeunt.bench.reference.Storage;

/** What is written, decided or tabulated around layers, where operators without state will do. */
abstract class OnnxSteps extends OnnxDrops {
  OnnxSteps() {
    offer("kv_append", this::kvAppend);
    offer("ffn_skip_rule", this::ffnSkipRule);
    offer("hired_budget", this::hiredBudget);
    offer("rope_table", this::ropeTable);
  }

  /**
   * ScatterND of heads, or of slots where a slot's heads lie together. The new cache lies where the
   * old one does, so that nothing but the rows is moved.
   */
  private Contender<float[]> kvAppend(KvAppendProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    CacheLayout layout = problem.layout;
    int rows = problem.k.rows();
    int pieces = layout.kind == CacheLayout.Kind.HEAD ? layout.heads : 1;
    int width = problem.k.cols() / pieces;
    Matrix cache = Matrix.zeros(layout.elements() / width, width, problem.cache);
    long[] cells = new long[rows * pieces];
    for (int i = 0; i < cells.length; i++) {
      cells[i] = problem.at(i / pieces, i % pieces) / width;
    }
    graph.input("cells", INT64, cells.length, 1);
    for (String side : new String[] {"k", "v"}) {
      graph.input(side, type(problem.k.storage()), rows, problem.k.cols());
      graph.input(side + "_cache", type(problem.cache), cache.rows(), width);
      String updates = problem.k.storage() == problem.cache
          ? side
          : graph.node("Cast", new Attributes().with("to", type(problem.cache)), side);
      graph.node("ScatterND", new Attributes(),
          new String[] {side + "_cache", "cells", reshaped(graph, updates, cells.length, width)},
          side + "_after");
      graph.output(side + "_after", type(problem.cache), cache.rows(), width);
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("cells", cells, cells.length, 1);
    session.input("k", problem.k);
    session.input("v", problem.v);
    Supplier<float[]> k = session.updated("k_after", "k_cache", cache);
    Supplier<float[]> v = session.updated("v_after", "v_cache", cache);
    return contender(session, () -> {
      float[] both = Arrays.copyOf(k.get(), 2 * layout.elements());
      System.arraycopy(v.get(), 0, both, layout.elements(), layout.elements());
      return both;
    });
  }

  private static int type(Storage storage) {
    return storage == Storage.F32 ? FLOAT : BFLOAT16;
  }

  private Contender<int[]> ffnSkipRule(FfnSkipRuleProblem problem, int threads) {
    return new SkipRule(problem, threads);
  }

  /** The sum of each cell of the grid, and its share of what the sub-images may keep. */
  private Contender<int[]> hiredBudget(HiredBudgetProblem problem, int threads) {
    if (problem.count) {
      throw nothing("tokens that are counted and marked");
    }
    OnnxGraph graph = new OnnxGraph();
    int images = problem.images();
    String attention = graph.node("Cast", new Attributes().with("to", DOUBLE),
        floatInput(graph, "attention", problem.attention));
    String cells = reshaped(graph, attention, images, problem.gridRows,
        problem.patchRows / problem.gridRows, problem.gridCols,
        problem.patchCols / problem.gridCols);
    String sums = reshaped(graph, summed(graph, cells, 2, 4), images, problem.parts());
    String share = graph.node("Cast", new Attributes().with("to", FLOAT),
        graph.node("Div", sums, summed(graph, sums, 1)));
    String wanted = graph.node("Floor", graph.node("Mul", share, graph.scalar(problem.shared())));
    String given = graph.node("Cast", new Attributes().with("to", INT64),
        graph.node("Min", wanted, graph.scalar(problem.tokens())));
    long[] full = new long[images];
    Arrays.fill(full, problem.full());
    graph.node("Concat", new Attributes().with("axis", 1),
        new String[] {graph.constant(full, images, 1), given}, "budget");
    graph.output("budget", INT64, images, 1 + problem.parts());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("attention", problem.attention);
    LongBuffer budget = session.longOutput("budget", images, 1 + problem.parts());
    return contender(session, () -> ints(budget));
  }

  private static String summed(OnnxGraph graph, String x, long... axes) {
    return graph.node("ReduceSum", x, graph.constant(axes, axes.length));
  }

  /** Positions times frequencies, in f32 as models compute them; cosines and sines in turn. */
  private Contender<float[]> ropeTable(RopeTableProblem problem, int threads) {
    OnnxGraph graph = new OnnxGraph();
    Matrix positions = Matrix.ascending(problem.positions);
    float[] frequencies = new float[problem.pairs];
    for (int i = 0; i < frequencies.length; i++) {
      frequencies[i] = (float) problem.frequency(i);
    }
    String angles = graph.node("Mul", floatInput(graph, "positions", positions),
        graph.constant(frequencies, 1, problem.pairs));
    long[] apart = {problem.positions, problem.pairs, 1};
    String table = graph.node("Concat", new Attributes().with("axis", 2),
        reshaped(graph, graph.node("Cos", angles), apart),
        reshaped(graph, graph.node("Sin", angles), apart));
    graph.node("Reshape", new Attributes(),
        new String[] {table, graph.constant(new long[] {problem.positions, -1}, 2)}, "table");
    Matrix like = Matrix.zeros(problem.positions, 2 * problem.pairs, Storage.F32);
    graph.output("table", FLOAT, like.rows(), like.cols());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("positions", positions);
    return contender(session, session.matrixOutput("table", like));
  }

  /** After each layer a session: who skipped, or is alike enough now, skips the next one. */
  private static final class SkipRule implements Contender<int[]> {
    private final OnnxSession[] layers;
    private final ByteBuffer[] masks;
    private final int rows;

    SkipRule(FfnSkipRuleProblem problem, int threads) {
      rows = problem.rows();
      layers = new OnnxSession[problem.layers() - 1];
      masks = new ByteBuffer[layers.length + 1];
      OnnxGraph graph = new OnnxGraph();
      Matrix cosine = Matrix.zeros(1, rows, Storage.F32);
      graph.input("skipped", BOOL, 1, rows);
      graph.node("Or", new Attributes(),
          new String[] {"skipped",
              graph.node("GreaterOrEqual", floatInput(graph, "cosine", cosine),
                  graph.scalar(problem.threshold))},
          "skip");
      graph.output("skip", BOOL, 1, rows);
      byte[] model = graph.toModel();
      masks[0] = ByteBuffer.allocateDirect(rows);
      for (int layer = 0; layer < layers.length; layer++) {
        layers[layer] = new OnnxSession(model, threads);
        layers[layer].input("cosine", problem.cosines.row(layer));
        layers[layer].boolInput("skipped", masks[layer], 1, rows);
        masks[layer + 1] = layers[layer].boolOutput("skip", 1, rows);
      }
    }

    @Override
    public Object run() {
      for (OnnxSession layer : layers) {
        layer.run();
      }
      return masks;
    }

    @Override
    public int[] result() {
      return IntStream.range(0, masks.length * rows)
          .map(i -> masks[i / rows].get(i % rows))
          .toArray();
    }

    @Override
    public void close() {
      for (OnnxSession layer : layers) {
        layer.close();
      }
    }
  }
}
