// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;

/** What JMH measured for one contender on one case. Times are in microseconds. */
final class Figure {
  String op;
  String id;
  String contender;
  int threads;
  /** Whether each call was given the same operands, or the next copy. */
  Operands operands;
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
  /** Median and fastest pass over those bytes, measured between this benchmark's iterations. */
  double limitP50;
  double limitMin;
  /** Multiply-adds that the op must do, and how long as many take in registers; 0 if few. */
  double multiplyAdds;
  double arithmeticP50;
  double load;

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
    JsonObject primary = entry.getAsJsonObject("primaryMetric");
    JsonObject percentiles = primary.getAsJsonObject("scorePercentiles");
    double unit = microseconds(primary.get("scoreUnit").getAsString());
    figure.p50 = percentiles.get("50.0").getAsDouble() * unit;
    figure.min = percentiles.get("0.0").getAsDouble() * unit;
    figure.p90 = percentiles.get("90.0").getAsDouble() * unit;
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
      figure.limitP50 = median(secondary, Limit.MEDIAN);
      figure.limitMin = iterations(secondary, Limit.FASTEST).get(0);
    }
    if (secondary.has(Limit.MULTIPLY_ADDS)) {
      figure.multiplyAdds = median(secondary, Limit.MULTIPLY_ADDS);
      figure.arithmeticP50 = median(secondary, Limit.ARITHMETIC);
    }
    return figure;
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
        && operands == other.operands;
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
    List<Double> values = iterations(metrics, name);
    int middle = values.size() / 2;
    return values.size() % 2 == 1
        ? values.get(middle)
        : (values.get(middle - 1) + values.get(middle)) / 2;
  }

  /** The values of all iterations, ascending. */
  private static List<Double> iterations(JsonObject metrics, String name) {
    List<Double> values = new ArrayList<>();
    JsonArray forks = metrics.getAsJsonObject(name).getAsJsonArray("rawData");
    for (JsonElement fork : forks) {
      fork.getAsJsonArray().forEach(value -> values.add(value.getAsDouble()));
    }
    Collections.sort(values);
    return values;
  }
}
