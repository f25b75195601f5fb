// SPDX-License-Identifier: Apache-2.0
package org.exeunt.jlama;

import java.util.List;

/** Vectors as the programs print them. */
final class Vectors {
  private Vectors() {}

  /** Those of a program's output. */
  static List<float[]> of(String output) {
    return output.lines()
        .filter(line -> line.startsWith("vector ["))
        .map(line -> line.substring("vector [".length(), line.length() - 1).split(", "))
        .map(words -> {
          float[] vector = new float[words.length];
          for (int i = 0; i < vector.length; i++) {
            vector[i] = Float.parseFloat(words[i]);
          }
          return vector;
        })
        .toList();
  }

  static double cosine(float[] a, float[] b) {
    double product = 0;
    double squareA = 0;
    double squareB = 0;
    for (int i = 0; i < a.length; i++) {
      product += (double) a[i] * b[i];
      squareA += (double) a[i] * a[i];
      squareB += (double) b[i] * b[i];
    }
    return product / Math.sqrt(squareA * squareB);
  }
}
