// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.drops;

import java.io.IOException;
import java.nio.file.Path;
import java.util.Random;
import java.util.stream.IntStream;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Hired;
import org.exeunt.KvCache;
import org.exeunt.Scope;
import org.exeunt.Selection;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.exeunt.examples.report.Png;
import org.exeunt.examples.report.Report;

/** HiRED on a drawn picture: a full view and 2 x 2 sub-images of 24 x 24 tokens each. */
public final class HiredDemo {
  private static final int SIDE = 24;
  private static final int GRID = 2;
  private static final int HEADS = 16;
  private static final int WIDTH = 4; // of a head
  private static final int PATCH = 14; // pixels
  private static final int GAP = 14;
  private static final Hired.Grid CUT = new Hired.Grid(SIDE, SIDE, GRID, GRID);

  private HiredDemo() {}

  /** Runs the whole part; needs no model. */
  public static void run(Report report) throws IOException {
    report.heading("Which parts of an image does a language model need to see?");
    try (Scope scope = Scope.open()) {
      Hired.Block encoder = encoder(scope);
      Selection kept = Hired.standard().choose(scope, Stream.DEFAULT, encoder, encoder, CUT);
      int[] budget = kept.budget().toIntArray();
      Path file = report.file("hired.png");
      draw(kept).write(file);
      int all = CUT.partitions() * CUT.patches();
      report.paragraph("HiRED takes a full view and %d sub-images of %d x %d tokens; attention "
              + "is drawn like the picture, since there is no vision encoder here. Of %d tokens %d "
              + "go on (%s): %d of the full view, and %s of the sub-images, by what the full view "
              + "pays to each. %s shows them; what is dark was dropped.",
          GRID * GRID, SIDE, SIDE, all, IntStream.of(budget).sum(),
          String.format("%.0f %%", 100.0 * IntStream.of(budget).sum() / all), budget[0],
          list(budget), file);
    }
  }

  private static String list(int[] budget) {
    StringBuilder text = new StringBuilder();
    for (int i = 1; i < budget.length; i++) {
      text.append(i == 1 ? "" : i + 1 < budget.length ? ", " : " and ").append(budget[i]);
    }
    return text.toString();
  }

  /** CLS queries and keys whose products are what the scene is worth, different for each head. */
  private static Hired.Block encoder(Scope scope) {
    int partitions = CUT.partitions();
    int slots = 1 + CUT.patches();
    float[] query = new float[partitions * HEADS * WIDTH];
    float[] keys = new float[partitions * HEADS * slots * WIDTH];
    Random random = new Random(1);
    for (int p = 0; p < partitions; p++) {
      for (int h = 0; h < HEADS; h++) {
        query[(p * HEADS + h) * WIDTH] = 2;
        for (int t = 0; t < CUT.patches(); t++) {
          double[] spot = spot(p, t);
          double worth = 3 * Scene.interest(spot[0], spot[1], spot[2]) + .3 * random.nextGaussian();
          keys[((p * HEADS + h) * slots + 1 + t) * WIDTH] = (float) worth;
        }
      }
    }
    Tensor cls = scope.allocate(Device.CPU, DType.F32, partitions, HEADS, WIDTH).copyFrom(query);
    Tensor k =
        scope.allocate(Device.CPU, DType.F32, partitions, HEADS, slots, WIDTH).copyFrom(keys);
    return new Hired.Block(cls, KvCache.ofHeadMajor(k, null));
  }

  /** Where a token lies in the scene, and how far it reaches. */
  private static double[] spot(int partition, int token) {
    double x = (token % SIDE + .5) / SIDE;
    double y = (token / SIDE + .5) / SIDE;
    if (partition == 0) {
      return new double[] {x, y, .4 / SIDE};
    }
    int cell = partition - 1;
    return new double[] {(cell % GRID + x) / GRID, (cell / GRID + y) / GRID, .4 / SIDE / GRID};
  }

  private static Png draw(Selection kept) {
    int view = SIDE * PATCH;
    Png png = new Png(view + GAP + GRID * view, GRID * view);
    int[] list = kept.indices().toIntArray();
    int[] count = kept.count().toIntArray();
    for (int p = 0; p < CUT.partitions(); p++) {
      boolean[] lit = new boolean[CUT.patches()];
      for (int i = 0; i < count[p]; i++) {
        lit[list[p * CUT.patches() + i]] = true;
      }
      int left = p == 0 ? 0 : view + GAP + (p - 1) % GRID * view;
      int top = p == 0 ? 0 : (p - 1) / GRID * view;
      double scale = p == 0 ? view : GRID * view;
      for (int y = 0; y < view; y++) {
        for (int x = 0; x < view; x++) {
          double sceneX = (x + (p == 0 ? 0 : (p - 1) % GRID * view)) / scale;
          double sceneY = (y + (p == 0 ? 0 : (p - 1) / GRID * view)) / scale;
          int colour = Scene.colour(sceneX, sceneY);
          boolean bright = lit[y / PATCH * SIDE + x / PATCH];
          png.set(left + x, top + y, bright ? colour : colour >> 2 & 0x3F3F3F);
        }
      }
    }
    return png;
  }
}
