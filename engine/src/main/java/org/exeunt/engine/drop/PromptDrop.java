// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.drop;

import org.exeunt.AttentionScores;
import org.exeunt.FastV;
import org.exeunt.GemFilter;
import org.exeunt.H2o;
import org.exeunt.PromptDistill;
import org.exeunt.PyramidDrop;
import org.exeunt.Selection;
import org.exeunt.SnapKv;
import org.exeunt.Stream;
import org.exeunt.engine.policy.Arguments;

/**
 * How a prompt goes through the layers when some of its tokens are dropped on the way. What a
 * method does between the layers is what an engine has to do that wants to use it.
 */
@FunctionalInterface
public interface PromptDrop {
  /** The forms that {@link #parse} takes. */
  String FORMS = "none, promptdistill:LAYER,KEEP,...[:POOL[,TRUNCATED]], gemfilter:LAYER,KEEP, "
      + "snapkv:WINDOW,CAPACITY[:avg|max,POOL], h2o:HEAVY,RECENT, fastv:LAYER,DROPPED or "
      + "pyramiddrop:LAYER,RATIO,...";

  /** Takes the whole prompt through all layers. */
  void run(PromptPass pass);

  /**
   * Reads an option; null for {@code none}. A name alone means its authors' settings.
   *
   * @param layers of the model
   */
  static PromptDrop parse(String text, int layers) {
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    String numbers = colon < 0 ? null : text.substring(colon + 1);
    String option = "--drop " + name;
    switch (name) {
      case "none":
        if (colon < 0) {
          return null;
        }
        break;
      case "promptdistill":
        return of(promptDistill(option, numbers, layers));
      case "gemfilter":
        return of(gemFilter(option, numbers, layers));
      case "snapkv":
        return of(snapKv(option, numbers));
      case "h2o":
        return of(h2o(option, numbers));
      case "fastv":
        return of(fastV(option, numbers, layers));
      case "pyramiddrop":
        return of(pyramidDrop(option, numbers, layers));
      default:
        break;
    }
    throw new IllegalArgumentException("--drop is '" + text + "', not " + FORMS);
  }

  // ---- what each method does

  /** From the stage on, only the kept tokens go up, at their own positions. */
  static PromptDrop of(PromptDistill method) {
    return pass -> {
      for (int layer = 0; layer < pass.layers(); layer++) {
        pass.runLayer(layer);
        int stage = method.stageBehind(layer, pass.layers());
        if (stage >= 0) {
          Selection kept = method.choose(pass.scope(), Stream.DEFAULT, stage, pass.layer(layer));
          for (int below = 0; below <= layer && method.truncates(stage); below++) {
            pass.keepSlots(below, kept);
          }
          pass.keepRows(kept, false);
        }
      }
    };
  }

  /** A first pass finds the tokens, a second one sees nothing else. */
  static PromptDrop of(GemFilter method) {
    return pass -> {
      for (int layer = 0; layer <= method.layer(); layer++) {
        pass.runLayer(layer);
      }
      pass.restart(method.choose(pass.scope(), Stream.DEFAULT, pass.layer(method.layer())));
      runAll(pass);
    };
  }

  /** Each layer's cache shrinks as soon as the prompt has been through the layer. */
  static PromptDrop of(SnapKv method) {
    SnapKv grouped = method.grouped(); // the cache has a head for each group of query heads
    return pass -> {
      for (int layer = 0; layer < pass.layers(); layer++) {
        pass.runLayer(layer);
        if (grouped.prunes(pass.tokens())) {
          pass.keepSlots(layer, grouped.choose(pass.scope(), Stream.DEFAULT, pass.layer(layer)));
        }
      }
    };
  }

  /** As with SnapKV, by what all tokens look at. */
  static PromptDrop of(H2o method) {
    H2o grouped = method.grouped();
    return pass -> {
      for (int layer = 0; layer < pass.layers(); layer++) {
        pass.runLayer(layer);
        pass.keepSlots(layer, grouped.choose(pass.scope(), Stream.DEFAULT, pass.layer(layer)));
      }
    };
  }

  /** A text has no image: all tokens but the last one may go. */
  static PromptDrop of(FastV method) {
    return pass -> {
      for (int layer = 0; layer < pass.layers(); layer++) {
        pass.runLayer(layer);
        if (method.choosesBehind(layer, pass.layers())) {
          pass.keepRows(
              method.choose(pass.scope(), Stream.DEFAULT, pass.layer(layer), 0, pass.tokens() - 1),
              false);
        }
      }
    };
  }

  /** Here too all tokens but the last one may go; those left are renumbered. */
  static PromptDrop of(PyramidDrop method) {
    return pass -> {
      int most = pass.tokens() - 1;
      for (int layer = 0; layer < pass.layers(); layer++) {
        int stage = method.stageBefore(layer);
        if (stage >= 0) {
          pass.keepRows(method.choose(pass.scope(), Stream.DEFAULT, stage, pass.projected(layer), 0,
                            pass.tokens() - 1, most),
              true);
        }
        pass.runLayer(layer);
      }
    };
  }

  private static void runAll(PromptPass pass) {
    for (int layer = 0; layer < pass.layers(); layer++) {
      pass.runLayer(layer);
    }
  }

  // ---- options

  private static PromptDistill promptDistill(String option, String numbers, int layers) {
    if (numbers == null) {
      requireLayers(option, PromptDistill.LAYER + 1, layers);
      return PromptDistill.standard();
    }
    String[] halves = numbers.split(":", 2);
    Arguments a = pairs(option, halves[0], layers, "a layer and how many to keep, for each stage");
    PromptDistill.Stage[] stages = new PromptDistill.Stage[a.count() / 2];
    for (int i = 0; i < stages.length; i++) {
      stages[i] = new PromptDistill.Stage(a.integer(2 * i, "the layer", 0, layers - 2),
          a.integer(2 * i + 1, "the tokens to keep", 0, 1 << 20));
    }
    PromptDistill method = PromptDistill.of(stages);
    if (halves.length == 1) {
      return method;
    }
    Arguments more = new Arguments(option, halves[1], 1, 2,
        "a width to pool over, and after how many stages the caches below shrink");
    method = method.withPooling(more.integer(0, "the width", 1, 255));
    return more.count() == 1
        ? method
        : method.withTruncation(more.integer(1, "the stages", -1, stages.length));
  }

  private static GemFilter gemFilter(String option, String numbers, int layers) {
    if (numbers == null) {
      requireLayers(option, GemFilter.LAYER, layers);
      return GemFilter.standard();
    }
    Arguments a = new Arguments(option, numbers, 2, 2, "a layer and how many to keep");
    return GemFilter.of(
        a.integer(0, "the layer", 0, layers - 1), a.integer(1, "the tokens to keep", 1, 1 << 20));
  }

  private static SnapKv snapKv(String option, String numbers) {
    if (numbers == null) {
      return SnapKv.standard();
    }
    String[] halves = numbers.split(":", 2);
    Arguments a = new Arguments(option, halves[0], 2, 2, "a window and a capacity");
    int window = a.integer(0, "the window", 1, 1 << 16);
    SnapKv method = SnapKv.of(window, a.integer(1, "the capacity", window + 1, 1 << 20));
    if (halves.length == 1) {
      return method;
    }
    boolean average = halves[1].startsWith("avg,");
    if (!average && !halves[1].startsWith("max,")) {
      throw new IllegalArgumentException(
          option + " pools by '" + halves[1] + "', but needs avg or max and a width");
    }
    Arguments more = new Arguments(option, halves[1].substring(4), 1, 1, "a width to pool over");
    return method.withPooling(average ? AttentionScores.Pool.AVG : AttentionScores.Pool.MAX,
        more.integer(0, "the width", 1, 255));
  }

  private static H2o h2o(String option, String numbers) {
    if (numbers == null) {
      return H2o.standard();
    }
    Arguments a = new Arguments(option, numbers, 2, 2, "two shares of the prompt");
    return H2o.of(
        a.number(0, "the share of heavy hitters"), a.number(1, "the share of recent tokens"));
  }

  private static FastV fastV(String option, String numbers, int layers) {
    if (numbers == null) {
      return FastV.standard();
    }
    Arguments a = new Arguments(option, numbers, 2, 2, "a layer and the share to drop");
    return FastV.of(a.integer(0, "the layer", 1, layers - 1), a.number(1, "the share"));
  }

  private static PyramidDrop pyramidDrop(String option, String numbers, int layers) {
    if (numbers == null) {
      PyramidDrop method = PyramidDrop.standard();
      requireLayers(option, method.stages().get(method.stages().size() - 1).layer(), layers);
      return method;
    }
    Arguments a = pairs(option, numbers, layers, "a layer and a share, for each stage");
    PyramidDrop.Stage[] stages = new PyramidDrop.Stage[a.count() / 2];
    for (int i = 0; i < stages.length; i++) {
      stages[i] = new PyramidDrop.Stage(
          a.integer(2 * i, "the layer", 1, layers - 1), a.number(2 * i + 1, "the share"));
    }
    return PyramidDrop.of(stages);
  }

  /** The authors' settings name layers that a smaller model does not have. */
  private static void requireLayers(String option, int last, int layers) {
    if (last >= layers) {
      throw new IllegalArgumentException(option + " alone is meant for models with a layer " + last
          + ", but this one has " + layers + " layers: name its own after a colon");
    }
  }

  private static Arguments pairs(String option, String numbers, int layers, String form) {
    Arguments a = new Arguments(option, numbers, 2, 2 * layers, form);
    if (a.count() % 2 != 0) {
      throw new IllegalArgumentException(option + " is '" + numbers + "', but needs " + form);
    }
    return a;
  }
}
