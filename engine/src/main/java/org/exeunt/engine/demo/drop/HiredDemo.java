// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

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
import org.exeunt.engine.report.Html;
import org.exeunt.engine.report.Png;
import org.exeunt.engine.report.Report;

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
      Panels panels = new Panels(kept);
      panels.whole().write(file);
      int all = CUT.partitions() * CUT.patches();
      report.paragraph("HiRED takes a full view and %d sub-images of %d x %d tokens; attention "
              + "is drawn like the picture, since there is no vision encoder here. Of %d tokens %d "
              + "go on (%s): %d of the full view, and %s of the sub-images, by what the full view "
              + "pays to each. %s shows the picture beside what is kept of the view and of the "
              + "sub-images; what is faded was dropped.",
          GRID * GRID, SIDE, SIDE, all, IntStream.of(budget).sum(),
          String.format("%.0f %%", 100.0 * IntStream.of(budget).sum() / all), budget[0],
          list(budget), file);
      report.figure(panels.figure(budget));
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

  /** The picture, and what is kept of it: in full colours what goes on, faded what was dropped. */
  private static final class Panels {
    private static final int PICTURE = GRID * SIDE * PATCH; // pixels
    private static final int OPAQUE = 0xFF000000;
    private static final int FADED = 0x26000000;

    private final boolean[][] lit = new boolean[CUT.partitions()][CUT.patches()];

    Panels(Selection kept) {
      int[] list = kept.indices().toIntArray();
      int[] count = kept.count().toIntArray();
      for (int p = 0; p < lit.length; p++) {
        for (int i = 0; i < count[p]; i++) {
          lit[p][list[p * CUT.patches() + i]] = true;
        }
      }
    }

    /** All three side by side. */
    Png whole() {
      Png png = new Png(3 * PICTURE + 2 * GAP, PICTURE);
      for (int panel = 0; panel < 3; panel++) {
        draw(png, panel, panel * (PICTURE + GAP));
      }
      return png;
    }

    private Png alone(int panel) {
      Png png = new Png(PICTURE, PICTURE);
      draw(png, panel, 0);
      return png;
    }

    /** 0 the picture, 1 the full view, 2 the sub-images. */
    private void draw(Png png, int panel, int left) {
      for (int y = 0; y < PICTURE; y++) {
        for (int x = 0; x < PICTURE; x++) {
          int colour = Scene.colour((double) x / PICTURE, (double) y / PICTURE);
          png.set(left + x, y, colour | (panel == 0 || isKept(panel, x, y) ? OPAQUE : FADED));
        }
      }
    }

    private boolean isKept(int panel, int x, int y) {
      int side = panel == 1 ? PICTURE : PICTURE / GRID; // of a view or a sub-image
      int patch = side / SIDE;
      int partition = panel == 1 ? 0 : 1 + y / side * GRID + x / side;
      return lit[partition][y % side / patch * SIDE + x % side / patch];
    }

    String figure(int... budget) {
      StringBuilder html = new StringBuilder(
          "<figure class=\"wide\">\n<figcaption>What HiRED keeps of a picture"
          + "</figcaption>\n<div class=\"panels\">\n");
      panel(html, 0, "the picture", "");
      panel(html, 1, "kept of the full view: " + budget[0] + " of " + CUT.patches(), "");
      StringBuilder counts = new StringBuilder("<path class=\"cut\" d=\"M150 0V300M0 150H300\"/>");
      for (int i = 0; i < GRID * GRID; i++) {
        counts.append(String.format("<text class=\"count\" x=\"%d\" y=\"%d\">%d</text>",
            75 + 150 * (i % GRID), 140 + 150 * (i / GRID), budget[1 + i]));
      }
      panel(html, 2, "kept of each sub-image, of " + CUT.patches(), counts.toString());
      return html
          .append("</div>\n<p class=\"keys\"><span>full colour: the token goes on</span>"
              + "<span>faded: the token is dropped</span></p>\n</figure>\n")
          .toString();
    }

    private void panel(StringBuilder html, int panel, String label, String more) {
      html.append(String.format("<svg viewBox=\"0 0 300 330\" role=\"img\" aria-label=\"%s\">"
              + "<image width=\"300\" height=\"300\" href=\"%s\"/>%s"
              + "<text x=\"0\" y=\"321\">%s</text></svg>\n",
          label, Html.source(alone(panel)), more, label));
    }
  }
}
