// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.policy;

import java.util.stream.IntStream;
import org.exeunt.LayerSchedule;

/** Which layers a token runs by its position alone, whatever it looks like. */
@FunctionalInterface
public interface Schedule {
  /** The forms that {@link #parse} takes. */
  String FORMS = "none, skipdecode:MOST,LEAST,HORIZON,WARM_UP, unified:N or fixed:LAYER,LAYER,...";

  /** The op's schedule after a prompt of this length. */
  LayerSchedule.Builder after(int prompt);

  /**
   * Reads an option; null for {@code none}.
   *
   * <p>{@code skipdecode} falls from MOST to LEAST layers over the first HORIZON tokens after the
   * prompt and always runs the WARM_UP bottom layers; {@code unified} keeps N evenly spaced layers
   * after the prompt; {@code fixed} runs the layers named, for the prompt too. CALM's schedule, of
   * all layers and the questions between them, is an {@link ExitPolicy}.
   */
  static Schedule parse(String text, int layers) {
    int colon = text.indexOf(':');
    String name = colon < 0 ? text : text.substring(0, colon);
    String numbers = colon < 0 ? "" : text.substring(colon + 1);
    String option = "--schedule " + name;
    switch (name) {
      case "none":
        if (colon < 0) {
          return null;
        }
        break;
      case "skipdecode":
        Arguments a = new Arguments(option, numbers, 4, 4, "MOST,LEAST,HORIZON,WARM_UP");
        int most = a.integer(0, "the most layers", 1, layers);
        int least = a.integer(1, "the least layers", 1, most);
        int horizon = a.integer(2, "the horizon", 1, 1 << 20);
        int warmUp = a.integer(3, "the warm-up layers", 0, least);
        return prompt -> LayerSchedule.skipDecode(prompt, prompt + horizon, most, least, warmUp);
      case "unified":
        int kept =
            new Arguments(option, numbers, 1, 1, "one number").integer(0, "the count", 1, layers);
        return prompt -> LayerSchedule.unified(prompt, kept);
      case "fixed":
        Arguments list = new Arguments(option, numbers, 1, layers, "the layers in order");
        int[] order =
            IntStream.range(0, list.count())
                .map(i -> list.integer(i, "each layer", 0, layers - 1))
                .toArray();
        if (IntStream.of(order).distinct().count() < order.length) {
          throw new IllegalArgumentException(option + " is '" + numbers + "', but names a layer "
              + "twice");
        }
        return prompt -> LayerSchedule.fixed(order);
      default:
        break;
    }
    throw new IllegalArgumentException("--schedule is '" + text + "', not " + FORMS);
  }

  /** For each position up to {@code positions}, the layers it runs, in order. */
  static int[][] tabulate(Schedule schedule, int prompt, int positions, int layers) {
    if (schedule == null) {
      int[] all = IntStream.range(0, layers).toArray();
      return IntStream.range(0, positions).mapToObj(p -> all).toArray(int[][] ::new);
    }
    LayerSchedule.Table table = schedule.after(prompt).table(positions, layers);
    return IntStream.range(0, positions).mapToObj(table::layers).toArray(int[][] ::new);
  }
}
