// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.List;
import java.util.stream.DoubleStream;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;
import org.exeunt.bench.measure.Interval;
import org.exeunt.bench.measure.Limit;
import org.exeunt.bench.measure.Operands;

/** What JMH measured for one contender on one case. Times are in microseconds. */
final class Figure {
  String op;
  String id;
  String contender;
  int threads;
  /** Whether each call was given the same operands, or the next copy. */
  Operands operands;
  /** How it was called. */
  String scene;
  double p50;
  double min;
  double p90;
  /** Bytes that the op must read and write; 0 where there is no limit. */
  double bytes;
  /** Of them those that are written as they were read; they count twice. */
  double moved;
  /** What the limit does: reads, or also copies. */
  String limit;
  /** Bytes of memory that the limit's passes went through, round after round. */
  double limitRound;
  /** Median and fastest pass over those bytes, measured in turns with this benchmark. */
  double limitP50;
  double limitMin;
  /** Multiply-adds that the op must do, and how long as many take in registers; 0 if few. */
  double multiplyAdds;
  double arithmeticP50;
  double load;
  /** The medians as far as one run can tell. They are for {@link Compare}, not for a digest. */
  transient Interval time;
  transient Interval limitTime;
  transient Interval arithmeticTime;
  /** Median of the calls in the first 2 ms of bursts; 0 in other scenes. */
  double first;
  /** Medians of two callers, and of the first one alone; null and 0 in other scenes. */
  double[] callers;
  double alone;

  /** Reads an entry of JMH's JSON. */
  static Figure of(JsonObject entry) {
    Figure figure = new Figure();
    JsonObject params = entry.getAsJsonObject("params");
    figure.op = params.has("op") ? params.get("op").getAsString() : Plan.CALL_COST;
    figure.id = params.has("id") ? params.get("id").getAsString() : Plan.CALL_CASE;
    figure.contender = params.get("contender").getAsString();
    figure.threads = params.get("threads").getAsInt();
    figure.operands =
        Operands.of(params.has("operands") ? params.get("operands").getAsString() : "cache");
    figure.scene = params.has("scene") ? params.get("scene").getAsString() : "loop";
    JsonObject primary = entry.getAsJsonObject("primaryMetric");
    JsonObject percentiles = primary.getAsJsonObject("scorePercentiles");
    double unit = microseconds(primary.get("scoreUnit").getAsString());
    figure.p50 = percentiles.get("50.0").getAsDouble() * unit;
    figure.min = percentiles.get("0.0").getAsDouble() * unit;
    figure.p90 = percentiles.get("90.0").getAsDouble() * unit;
    figure.time = Interval.of(stretches(primary, unit), figure.p50);
    JsonObject secondary = entry.getAsJsonObject("secondaryMetrics");
    figure.load = median(secondary, Limit.LOAD);
    if (secondary.has(Limit.BYTES)) {
      figure.bytes = median(secondary, Limit.BYTES);
      figure.moved = median(secondary, Limit.MOVED);
      figure.limitRound = median(secondary, Limit.ROUND);
      figure.limit = figure.moved == 0 ? "read"
          : figure.moved * 2 == figure.bytes
          ? "copy"
          : "read + copy";
      figure.limitTime = interval(secondary, Limit.MEDIAN);
      figure.limitP50 = figure.limitTime.middle();
      figure.limitMin =
          forks(secondary, Limit.FASTEST)
              .stream()
              .mapToDouble(fork -> fork.get(0))
              .min()
              .getAsDouble();
    }
    if (secondary.has(Limit.MULTIPLY_ADDS)) {
      figure.multiplyAdds = median(secondary, Limit.MULTIPLY_ADDS);
      figure.arithmeticTime = interval(secondary, Limit.ARITHMETIC);
      figure.arithmeticP50 = figure.arithmeticTime.middle();
    }
    if (secondary.has(Limit.FIRST)) {
      figure.first = median(secondary, Limit.FIRST);
    }
    if (secondary.has(Limit.ALONE)) {
      figure.alone = median(secondary, Limit.ALONE);
      figure.callers =
          new double[] {median(secondary, Limit.CALLER + 0), median(secondary, Limit.CALLER + 1)};
    }
    return figure;
  }

  /** Those of the scene that targets and tables speak of. */
  static List<Figure> ofLoop(List<Figure> figures) {
    return figures.stream().filter(Figure::loops).toList();
  }

  boolean hasLimit() {
    return bytes > 0;
  }

  /** Median over the median limit. */
  double overLimit() {
    return p50 / limitP50;
  }

  /** Share of the FMA peak; more than 1 where an instruction does more than one f32 FMA. */
  double ofPeak() {
    return arithmeticP50 / p50;
  }

  double gigabytesPerSecond() {
    return bytes / p50 / 1e3;
  }

  boolean sameCase(Figure other) {
    return op.equals(other.op) && id.equals(other.id) && threads == other.threads
        && operands == other.operands && scene.equals(other.scene);
  }

  /** Not a peer's. */
  boolean ours() {
    return contender.equals(Plan.OURS)
        || op.equals(Plan.CALL_COST) && !contender.equals("onnxruntime");
  }

  /** Whether it was called again and again, with nothing going on beside. */
  boolean loops() {
    return in(Scene.LOOP);
  }

  boolean in(Scene which) {
    return scene.equals(which.toString());
  }

  /** Where and how the case ran, in words. */
  String circumstances() {
    return operands.words() + ", " + threads + (threads == 1 ? " thread" : " threads")
        + (loops() ? "" : ", " + scene);
  }

  @Override
  public String toString() {
    return op + "/" + id + " " + contender + " " + circumstances();
  }

  /**
   * The samples of each fork, ascending; those of each iteration if there is but one fork. Averages
   * of iterations are samples.
   */
  private static List<double[]> stretches(JsonObject metric, double unit) {
    List<double[]> stretches = new ArrayList<>();
    if (!metric.has("rawDataHistogram")) {
      for (JsonElement fork : metric.getAsJsonArray("rawData")) {
        stretches.add(ascending(fork.getAsJsonArray()).mapToDouble(v -> v * unit).toArray());
      }
      return stretches;
    }
    JsonArray forks = metric.getAsJsonArray("rawDataHistogram");
    for (JsonElement fork : forks) {
      List<JsonElement> iterations = list(fork);
      int together = forks.size() == 1 ? 1 : iterations.size();
      for (int i = 0; i < iterations.size(); i += together) {
        stretches.add(iterations.subList(i, i + together)
                .stream()
                .flatMap(iteration -> list(iteration).stream())
                .map(JsonElement::getAsJsonArray)
                .flatMapToDouble(pair
                    -> DoubleStream.generate(() -> pair.get(0).getAsDouble() * unit)
                        .limit(pair.get(1).getAsLong()))
                .sorted()
                .toArray());
      }
    }
    return stretches;
  }

  private static double microseconds(String scoreUnit) {
    switch (scoreUnit) {
      case "us/op":
        return 1;
      case "ns/op":
        return 1e-3;
      default:
        throw new IllegalArgumentException("no benchmark here reports in " + scoreUnit);
    }
  }

  private static double median(JsonObject metrics, String name) {
    return interval(metrics, name).middle();
  }

  /** Of a value that each iteration has; as {@link #stretches}. */
  private static Interval interval(JsonObject metrics, String name) {
    List<List<Double>> forks = forks(metrics, name);
    return Interval.of(forks.size() == 1
            ? forks.get(0)
            : forks.stream().map(fork -> Interval.of(fork).middle()).sorted().toList());
  }

  /** The values of each fork's iterations, ascending. */
  private static List<List<Double>> forks(JsonObject metrics, String name) {
    return list(metrics.getAsJsonObject(name).get("rawData"))
        .stream()
        .map(fork -> ascending(fork.getAsJsonArray()).toList())
        .toList();
  }

  private static Stream<Double> ascending(JsonArray values) {
    return list(values).stream().map(JsonElement::getAsDouble).sorted();
  }

  private static List<JsonElement> list(JsonElement array) {
    return StreamSupport.stream(array.getAsJsonArray().spliterator(), false).toList();
  }
}
