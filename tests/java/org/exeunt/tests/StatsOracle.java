// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;

/** Statistics of one row of logits in double. */
final class StatsOracle {
  private final boolean valid;

  /** The argmax, and all that rounding of the logits may make the maximum. */
  private final TreeSet<Long> argmax = new TreeSet<>();

  private final Map<Statistic, Expected> values = new EnumMap<>(Statistic.class);

  /**
   * Takes logits with an absolute error each.
   *
   * @param ids what argmax calls them; null: their position
   */
  StatsOracle(
      double[] logits,
      double[] errors,
      long[] ids,
      Normalizer normalizer,
      float temperature,
      float softcap) {
    valid = Scores.valid(logits);
    if (!valid) {
      argmax.add(-1L);
      return;
    }
    double[] z = logits.clone();
    double[] error = errors.clone();
    transform(z, error, temperature, softcap);
    int best = findArgmax(z, error, logits, errors, ids);
    statistics(z, error, best, normalizer);
  }

  private static void transform(double[] z, double[] error, float temperature, float softcap) {
    for (int j = 0; j < z.length; j++) {
      if (Double.isInfinite(z[j])) {
        continue;
      }
      if (softcap > 0) {
        z[j] = softcap * Math.tanh(z[j] / softcap);
        error[j] += 6 * F32 * Math.abs(z[j]);
      }
      if (temperature != 1) {
        z[j] /= temperature;
        error[j] = error[j] / temperature + 2 * F32 * Math.abs(z[j]);
      }
    }
  }

  private int findArgmax(
      double[] z, double[] error, double[] raw, double[] rawError, long[] ids) {
    int best = 0;
    for (int j = 1; j < z.length; j++) {
      if (z[j] > z[best] || z[j] == z[best] && id(ids, j) < id(ids, best)) {
        best = j;
      }
    }
    List<Integer> near = new ArrayList<>();
    for (int j = 0; j < z.length; j++) {
      double slack = error[j] + error[best];
      if (j == best || slack > 0 && z[j] >= z[best] - slack) {
        near.add(j);
      }
    }
    // Logits that are equal before they are treated are so whatever rounding does: of those only
    // the smallest id may win.
    for (int j : near) {
      boolean beaten = false;
      for (int k : near) {
        beaten |= raw[k] == raw[j] && rawError[k] == rawError[j] && id(ids, k) < id(ids, j);
      }
      if (!beaten) {
        argmax.add(id(ids, j));
      }
    }
    values.put(Statistic.MAX_LOGIT, new Expected(z[best], error[best]));
    return best;
  }

  private static long id(long[] ids, int j) {
    return ids == null ? j : ids[j];
  }

  private void statistics(double[] z, double[] error, int best, Normalizer normalizer) {
    double[] x = z.clone();
    double largestError = 0;
    double logError = 0;
    for (int j = 0; j < z.length; j++) {
      if (z[j] == Double.NEGATIVE_INFINITY) {
        continue;
      }
      double own = error[j];
      if (normalizer == Normalizer.STABLEMAX) {
        x[j] = Scores.logS(z[j]);
        own /= 1 + Math.abs(z[j]);
        logError = Math.max(logError, 2 * F32 * (Math.abs(x[j]) + 1));
      }
      largestError = Math.max(largestError, own);
    }
    Scores s = new Scores(x, 1, largestError, logError, F32);
    values.put(
        Statistic.LSE,
        new Expected(s.lse, s.sumBound + F32 * 2 * (Math.abs(s.lse) + Math.abs(s.top))));
    probabilities(s, best);
    values.put(Statistic.ENTROPY, new Expected(s.entropy, s.entropyBound()));
    Scores squared = new Scores(x, 2, 2 * largestError, 2 * logError, F32);
    values.put(Statistic.POW2_ENTROPY, new Expected(squared.entropy, squared.entropyBound()));
    meanLogP(s);
  }

  private void probabilities(Scores s, int best) {
    int second = -1;
    for (int j = 0; j < s.x.length; j++) {
      second = j != best && (second < 0 || s.x[j] > s.x[second]) ? j : second;
    }
    Expected p1 = probability(s, best);
    Expected p2 = second < 0 ? Expected.ZERO : probability(s, second);
    values.put(Statistic.P1, p1);
    values.put(Statistic.P2, p2);
    values.put(
        Statistic.MARGIN, new Expected(p1.value() - p2.value(), p1.bound() + p2.bound()));
  }

  private static Expected probability(Scores s, int j) {
    if (s.x[j] == Double.NEGATIVE_INFINITY) {
      return Expected.ZERO;
    }
    double bound = s.probabilityBound(j, F32) + Expected.smallest(DType.F32);
    return new Expected(s.p[j], bound);
  }

  private void meanLogP(Scores s) {
    double sum = 0;
    double magnitude = 0;
    for (double v : s.x) {
      sum += v;
      magnitude += Math.abs(v) + Math.abs(v - s.top);
    }
    int n = s.x.length;
    double mean = sum / n - s.lse;
    double bound =
        Expected.STATS * (magnitude / n + Math.abs(s.lse)) + s.sumBound + s.logError;
    values.put(Statistic.MEAN_LOG_P, new Expected(mean, Double.isFinite(mean) ? bound : 0));
  }

  /** Compares a row of what was asked for. */
  void check(Map<Statistic, HostTensor> got, int row) {
    got.forEach(
        (statistic, tensor) -> {
          String what = statistic + " of row " + row;
          if (statistic == Statistic.VALID) {
            assertEquals(valid ? 1 : 0, tensor.integerAt(row), what);
          } else if (statistic == Statistic.ARGMAX) {
            long id = tensor.integerAt(row);
            assertTrue(argmax.contains(id), () -> what + ": got " + id + ", expected " + argmax);
          } else {
            values.getOrDefault(statistic, Expected.NAN).check(what, tensor.at(row));
          }
        });
  }

  /** Output tensors for the statistics that a case asks for, and how to read them. */
  static final class Outputs {
    private final Map<Statistic, Placed> placed = new EnumMap<>(Statistic.class);

    Outputs(Scope scope, CaseRow c, long rows) {
      String[] names = new String[Statistic.values().length];
      for (Statistic s : Statistic.values()) {
        names[s.ordinal()] = s.name().toLowerCase();
      }
      for (String name : c.subset("outputs", names)) {
        Statistic s = Statistic.valueOf(name.toUpperCase());
        placed.put(s, new Placed(scope, HostTensor.of(s.dtype(), rows)));
      }
    }

    Statistics tensors() {
      return new Statistics(
          get(Statistic.ARGMAX),
          get(Statistic.MAX_LOGIT),
          get(Statistic.LSE),
          get(Statistic.P1),
          get(Statistic.P2),
          get(Statistic.MARGIN),
          get(Statistic.ENTROPY),
          get(Statistic.POW2_ENTROPY),
          get(Statistic.MEAN_LOG_P),
          get(Statistic.VALID));
    }

    Placed[] placed() {
      return placed.values().toArray(Placed[]::new);
    }

    private Tensor get(Statistic statistic) {
      return placed.containsKey(statistic) ? placed.get(statistic).tensor() : null;
    }

    Map<Statistic, HostTensor> read() {
      Map<Statistic, HostTensor> read = new EnumMap<>(Statistic.class);
      placed.forEach((statistic, tensor) -> read.put(statistic, tensor.read()));
      return read;
    }
  }
}
