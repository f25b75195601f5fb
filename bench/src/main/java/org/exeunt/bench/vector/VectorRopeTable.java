// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench.vector;

import jdk.incubator.vector.DoubleVector;
import jdk.incubator.vector.VectorOperators;
import jdk.incubator.vector.VectorSpecies;
import org.exeunt.Tensor;
import org.exeunt.bench.contenders.Problem;
import org.exeunt.bench.vector.lanes.Lanes;
import org.exeunt.bench.vector.lanes.VectorPeer;
import org.exeunt.cases.Facade;
import org.exeunt.jni.DLTensor;
import org.exeunt.jni.exn_rope_table_params;

/** Cosines and sines of whole vectors in double; positions are shared out among the workers. */
final class VectorRopeTable extends VectorPeer {
  private static final VectorSpecies<Double> DOUBLES = DoubleVector.SPECIES_PREFERRED;

  private final DLTensor target;
  private final int positions;
  private final int pairs;
  private final double[] frequencies;
  private final float[] table;

  VectorRopeTable(Problem problem, int threads) {
    super(threads);
    exn_rope_table_params p = problem.params(exn_rope_table_params::new);
    target = p.table();
    Tensor shape = Facade.tensor(target);
    positions = (int) shape.size(0);
    pairs = (int) shape.size(1);
    frequencies = new double[pairs];
    for (int i = 0; i < pairs; i++) {
      frequencies[i] = Math.pow(p.base(), -(double) i / pairs);
    }
    table = new float[2 * positions * pairs];
  }

  @Override
  public Object run() {
    workers.run(this::runPart);
    return table;
  }

  private void runPart(int thread) {
    double[] cosines = new double[pairs];
    double[] sines = new double[pairs];
    int end = workers.begin(thread + 1, positions);
    for (int t = workers.begin(thread, positions); t < end; t++) {
      turn(t, cosines, sines);
      int to = 2 * t * pairs;
      for (int i = 0; i < pairs; i++) {
        table[to + 2 * i] = (float) cosines[i];
        table[to + 2 * i + 1] = (float) sines[i];
      }
    }
  }

  private void turn(int position, double[] cosines, double[] sines) {
    int whole = Lanes.whole(pairs, DOUBLES.length());
    for (int i = 0; i < whole; i += DOUBLES.length()) {
      DoubleVector angle = DoubleVector.fromArray(DOUBLES, frequencies, i).mul(position);
      angle.lanewise(VectorOperators.COS).intoArray(cosines, i);
      angle.lanewise(VectorOperators.SIN).intoArray(sines, i);
    }
    for (int i = whole; i < pairs; i++) {
      cosines[i] = Math.cos(position * frequencies[i]);
      sines[i] = Math.sin(position * frequencies[i]);
    }
  }

  @Override
  public void deliver() {
    Problem.put(target, table);
  }
}
