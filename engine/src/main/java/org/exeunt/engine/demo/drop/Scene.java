// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.drop;

/**
 * A drawn landscape, and how much a viewer would look at each spot of it: stands in for a picture
 * and for the attention of a vision encoder, which the demo has not.
 */
final class Scene {
  private Scene() {}

  private record Thing(int colour, double weight) {}

  private static final Thing SKY = new Thing(0x9CC9EE, 0);
  private static final Thing MEADOW = new Thing(0x7FB069, .1);

  /** The colour at a spot, both coordinates from 0 to 1. */
  static int colour(double x, double y) {
    return at(x, y).colour;
  }

  /** How much there is to see around a spot: things, and above all their edges. */
  static double interest(double x, double y, double reach) {
    double sum = 0;
    boolean edge = false;
    int middle = colour(x, y);
    for (int i = -1; i <= 1; i++) {
      for (int j = -1; j <= 1; j++) {
        Thing thing = at(x + i * reach, y + j * reach);
        sum += thing.weight / 9;
        edge |= thing.colour != middle;
      }
    }
    return sum + (edge ? .5 : 0);
  }

  private static Thing at(double x, double y) {
    if (Math.hypot(x - .8, y - .18) < .09) {
      return new Thing(0xF6D743, .8);
    }
    if (inHouse(x, y)) {
      boolean door = x > .27 && x < .33 && y > .58;
      boolean window = x > .38 && x < .46 && y > .52 && y < .6;
      return door || window ? new Thing(0x3B3B58, 1) : new Thing(0xD8A47F, .7);
    }
    if (y < .5 && y > .32 && Math.abs(x - .35) < (y - .32) * 1.05) {
      return new Thing(0xA63D40, .9);
    }
    if (Math.hypot(x - .72, y - .55) < .09) {
      return new Thing(0x2E6F40, .7);
    }
    if (Math.abs(x - .72) < .015 && y > .6 && y < .76) {
      return new Thing(0x6B4226, .7);
    }
    return y < .66 + .03 * Math.sin(7 * x) ? SKY : MEADOW;
  }

  private static boolean inHouse(double x, double y) {
    return x > .2 && x < .5 && y > .48 && y < .72;
  }
}
