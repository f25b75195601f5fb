// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import java.util.Arrays;
import org.exeunt.LayerSchedule;

/** SkipDecode for ten layers: fewer and fewer of them, layer 0 and the top ones always. */
public final class LayerScheduleExample {
  private LayerScheduleExample() {}

  // Prints
  //   position 0 runs [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  //   position 5 runs [0, 4, 5, 6, 7, 8, 9]
  //   position 10 runs [0, 7, 8, 9]
  public static void main(String[] arguments) {
    LayerSchedule.Table table = LayerSchedule.skipDecode(0, 10, 10, 4, 1).table(11, 10);
    for (int position = 0; position <= 10; position += 5) {
      System.out.println(
          "position " + position + " runs " + Arrays.toString(table.layers(position)));
    }
  }
}
