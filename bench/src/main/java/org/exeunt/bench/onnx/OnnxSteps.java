// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.onnx;

import static org.exeunt.bench.onnx.OnnxContenders.contender;
import static org.exeunt.bench.onnx.OnnxContenders.floatInput;
import static org.exeunt.bench.onnx.OnnxContenders.type;
import static org.exeunt.bench.onnx.OnnxGraph.BOOL;
import static org.exeunt.bench.onnx.OnnxGraph.DOUBLE;
import static org.exeunt.bench.onnx.OnnxGraph.FLOAT;
import static org.exeunt.bench.onnx.OnnxGraph.INT64;

import java.nio.ByteBuffer;
import java.nio.LongBuffer;
import java.util.Arrays;
import java.util.function.Supplier;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.KvCache;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Contender;
import org.exeunt.bench.contenders.Matrix;
import org.exeunt.bench.contenders.Peer;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.cases.Facade;
import org.exeunt.jni.exn_ffn_skip_rule_params;
import org.exeunt.jni.exn_hired_budget_params;
import org.exeunt.jni.exn_kv_append_params;
import org.exeunt.jni.exn_rope_table_params;

/** What is written, decided or tabulated around layers, where operators without state will do. */
abstract class OnnxSteps extends OnnxDrops {
  /** What angles of some thousand radians in f32 are off. */
  private static final double F32_ANGLES = 1e-3;

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
  private Contender kvAppend(Problem problem, int threads) {
    exn_kv_append_params p = problem.params(exn_kv_append_params::new);
    Matrix[] rows = {Matrix.of(p.k()), Matrix.of(p.v())};
    Cells cells = new Cells(p, rows[0]);
    Matrix[] caches = {Matrix.of(p.cache().k()).reshaped(cells.width),
        Matrix.of(p.cache().v()).reshaped(cells.width)};
    OnnxGraph graph = new OnnxGraph();
    int count = cells.numbers.length;
    int type = type(caches[0].storage());
    graph.input("cells", INT64, count, 1);
    for (String side : new String[] {"k", "v"}) {
      graph.input(side, type(rows[0].storage()), rows[0].rows(), rows[0].cols());
      graph.input(side + "_cache", type, caches[0].rows(), cells.width);
      String updates = type == type(rows[0].storage())
          ? side
          : graph.node("Cast", new Attributes().with("to", type), side);
      graph.node("ScatterND", new Attributes(),
          new String[] {side + "_cache", "cells", reshaped(graph, updates, count, cells.width)},
          side + "_after");
      graph.output(side + "_after", type, caches[0].rows(), cells.width);
    }
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("cells", cells.numbers, count, 1);
    session.input("k", rows[0]);
    session.input("v", rows[1]);
    Supplier<float[]> k = session.updated("k_after", "k_cache", caches[0]);
    Supplier<float[]> v = session.updated("v_after", "v_cache", caches[1]);
    return contender(session, () -> {
      Problem.put(p.cache().k(), k.get());
      Problem.put(p.cache().v(), v.get());
    });
  }

  /** Where rows go: pieces of a cache, each as wide as what lies together of a row. */
  private static final class Cells {
    final long[] numbers;
    final int width;

    Cells(exn_kv_append_params p, Matrix rows) {
      KvCache cache = Facade.cache(p.cache());
      Tensor sequence = Facade.tensor(p.sequence());
      int[] slots = Facade.tensor(p.slot()).toIntArray();
      int pieces = cache.layout() == KvCache.Layout.HEAD_MAJOR ? (int) cache.heads() : 1;
      width = rows.cols() / pieces;
      numbers = new long[slots.length * pieces];
      for (int i = 0; i < numbers.length; i++) {
        int row = i / pieces;
        long of = sequence == null ? 0 : sequence.toIntArray()[row];
        if (cache.layout() == KvCache.Layout.PAGED) {
          long page = cache.k().size(1);
          int entry = (int) (of * cache.blockTable().size(1) + slots[row] / page);
          numbers[i] = cache.blockTable().toIntArray()[entry] * page + slots[row] % page;
        } else {
          numbers[i] = (of * pieces + i % pieces) * cache.capacity() + slots[row];
        }
      }
    }
  }

  private Contender ffnSkipRule(Problem problem, int threads) {
    return new SkipRule(problem, threads);
  }

  /** The sum of each cell of the grid, and its share of what the sub-images may keep. */
  private Contender hiredBudget(Problem problem, int threads) {
    exn_hired_budget_params p = problem.params(exn_hired_budget_params::new);
    Matrix received = Matrix.of(p.attention());
    long parts = p.grid_rows() * p.grid_cols();
    long tokens = p.patch_rows() * p.patch_cols();
    long whole = (long) ((1 + parts) * tokens * p.rate());
    long fullImage = Math.min((long) (whole * p.alpha()), tokens);
    long shared = Math.min(whole - fullImage, parts * tokens);
    OnnxGraph graph = new OnnxGraph();
    int images = received.rows();
    String attention = graph.node(
        "Cast", new Attributes().with("to", DOUBLE), floatInput(graph, "attention", received));
    String cells = reshaped(graph, attention, images, p.grid_rows(), p.patch_rows() / p.grid_rows(),
        p.grid_cols(), p.patch_cols() / p.grid_cols());
    String sums = reshaped(graph, summed(graph, cells, 2, 4), images, parts);
    String share = graph.node("Cast", new Attributes().with("to", FLOAT),
        graph.node("Div", sums, summed(graph, sums, 1)));
    String wanted = graph.node("Floor", graph.node("Mul", share, graph.scalar(shared)));
    String given = graph.node("Cast", new Attributes().with("to", INT64),
        graph.node("Min", wanted, graph.scalar(tokens)));
    long[] full = new long[images];
    Arrays.fill(full, fullImage);
    graph.node("Concat", new Attributes().with("axis", 1),
        new String[] {graph.constant(full, images, 1), given}, "budget");
    graph.output("budget", INT64, images, 1 + parts);
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("attention", received);
    LongBuffer budget = session.longOutput("budget", images, 1 + parts);
    return contender(session, () -> Problem.put(p.budget(), ints(budget)));
  }

  private static String summed(OnnxGraph graph, String x, long... axes) {
    return graph.node("ReduceSum", x, graph.constant(axes, axes.length));
  }

  /** Positions times frequencies, in f32 as models compute them; cosines and sines in turn. */
  private Contender ropeTable(Problem problem, int threads) {
    exn_rope_table_params p = problem.params(exn_rope_table_params::new);
    Tensor shape = Facade.tensor(p.table());
    int extent = (int) shape.size(0);
    int pairs = (int) shape.size(1);
    OnnxGraph graph = new OnnxGraph();
    Matrix positions = Matrix.ascending(extent);
    float[] frequencies = new float[pairs];
    for (int i = 0; i < frequencies.length; i++) {
      frequencies[i] = (float) Math.pow(p.base(), -(double) i / pairs);
    }
    String angles = graph.node(
        "Mul", floatInput(graph, "positions", positions), graph.constant(frequencies, 1, pairs));
    long[] apart = {extent, pairs, 1};
    String table = graph.node("Concat", new Attributes().with("axis", 2),
        reshaped(graph, graph.node("Cos", angles), apart),
        reshaped(graph, graph.node("Sin", angles), apart));
    graph.node("Reshape", new Attributes(),
        new String[] {table, graph.constant(new long[] {extent, -1}, 2)}, "table");
    Matrix like = new Matrix(extent, 2 * pairs, DType.F32, new float[2 * extent * pairs]);
    graph.output("table", FLOAT, like.rows(), like.cols());
    OnnxSession session = new OnnxSession(graph.toModel(), threads);
    session.input("positions", positions);
    Supplier<float[]> out = session.matrixOutput("table", like);
    return contender(session, F32_ANGLES, () -> Problem.put(p.table(), out.get()));
  }

  /** After each layer a session: who skipped, or is alike enough now, skips the next one. */
  private static final class SkipRule implements Peer {
    private final Problem problem;
    private final OnnxSession[] layers;
    private final ByteBuffer[] masks;
    private final int rows;

    SkipRule(Problem problem, int threads) {
      this.problem = problem;
      layers = new OnnxSession[problem.opened().calls() - 1];
      masks = new ByteBuffer[layers.length + 1];
      rows = Math.toIntExact(Facade.tensor(call(0).skip()).elements());
      OnnxGraph graph = new OnnxGraph();
      Matrix cosine = new Matrix(1, rows, DType.F32, new float[rows]);
      graph.input("skipped", BOOL, 1, rows);
      graph.node("Or", new Attributes(),
          new String[] {"skipped",
              graph.node("GreaterOrEqual", floatInput(graph, "cosine", cosine),
                  graph.scalar(call(0).threshold()))},
          "skip");
      graph.output("skip", BOOL, 1, rows);
      byte[] model = graph.toModel();
      masks[0] = ByteBuffer.allocateDirect(rows);
      for (int layer = 0; layer < layers.length; layer++) {
        layers[layer] = new OnnxSession(model, threads);
        layers[layer].input("cosine", Matrix.of(call(layer + 1).cosine()));
        layers[layer].boolInput("skipped", masks[layer], 1, rows);
        masks[layer + 1] = layers[layer].boolOutput("skip", 1, rows);
      }
    }

    private exn_ffn_skip_rule_params call(int call) {
      return problem.params(call, exn_ffn_skip_rule_params::new);
    }

    @Override
    public Object run() {
      for (OnnxSession layer : layers) {
        layer.run();
      }
      return masks;
    }

    @Override
    public void deliver() {
      for (int call = 0; call < masks.length; call++) {
        ByteBuffer mask = masks[call];
        Problem.put(call(call).skip(), IntStream.range(0, rows).map(mask::get).toArray());
      }
    }

    @Override
    public void close() {
      for (OnnxSession layer : layers) {
        layer.close();
      }
    }
  }
}
