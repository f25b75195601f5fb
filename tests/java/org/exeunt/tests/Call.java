// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import org.exeunt.Device;
import org.exeunt.Op;
import org.exeunt.cases.Cases;
import org.exeunt.cases.Facade;
import org.exeunt.cases.OpCase;

/** One of the calls of an open case. */
record Call(OpCase open, int index) {
  /** The calls of a case that tell something. */
  private record Telling(Cases.Listed listed, List<Integer> calls) {}

  private static final Pattern ELEMENT = Pattern.compile("\\[\\d+\\]");
  private static final int ENOUGH = 25;
  private static final int LONG = 100;

  private static final Map<String, List<Telling>> TELLING = new ConcurrentHashMap<>();

  /**
   * Of the small cases of an op those calls that give what none before gives: a tensor, a number
   * that is not 0, another word.
   */
  static void telling(String op, Consumer<Call> use) {
    for (Telling telling : TELLING.computeIfAbsent(op, Call::findTelling)) {
      try (OpCase open = telling.listed.open(Device.CPU)) {
        telling.calls.forEach(index -> use.accept(new Call(open, index)));
      }
    }
  }

  /** Looks until every field was given and a number of cases in a row give nothing new. */
  private static List<Telling> findTelling(String op) {
    Set<String> missing = new TreeSet<>(Structs.leaves(struct(op)).keySet());
    Set<String> given = new TreeSet<>();
    List<Telling> found = new ArrayList<>();
    int inVain = 0;
    for (Cases.Listed listed : Cases.of(op)) {
      if (!listed.tags().contains("small") || listed.tags().contains("spoiled")) {
        continue;
      }
      List<Integer> calls = new ArrayList<>();
      try (OpCase open = listed.open(Device.CPU)) {
        for (int i = 0; i < open.calls(); i++) {
          Call call = new Call(open, i);
          if (call.op().equals(op) && !call.isLong() && given.addAll(call.given())) {
            calls.add(i);
          }
        }
      }
      missing.removeAll(given);
      if (!calls.isEmpty()) {
        found.add(new Telling(listed, calls));
        inVain = 0;
      } else if (++inVain > ENOUGH && missing.isEmpty()) {
        break;
      }
    }
    return found;
  }

  String op() {
    return open.op(index);
  }

  long params() {
    return open.params(index);
  }

  Op.Builder<?> builder() {
    return Facade.builder(op(), params());
  }

  /** Its numbers and tensors, by path; of structs in a row the first two. */
  Map<String, Structs.Place> places() {
    Map<String, Structs.Place> places = Structs.places(struct(op()), params());
    places.keySet().removeIf(name -> name.indexOf('[') >= 0 && !name.matches(".*\\[[01]\\].*"));
    return places;
  }

  /** The tensors that are there. */
  Map<String, Structs.Place> tensors() {
    Map<String, Structs.Place> tensors = places();
    tensors.values().removeIf(place -> !place.field().tensor() || place.dl() == 0);
    return tensors;
  }

  /** Of many structs in a row, which take their time. */
  private boolean isLong() {
    return Structs.places(struct(op()), params()).size() > LONG;
  }

  /** What it gives, without the numbers of elements; of words, which. */
  Set<String> given() {
    Set<String> given = new TreeSet<>();
    places().forEach((name, place) -> {
      Object value = place.value();
      if (place.field().code()) {
        given.add(generic(name) + " " + value);
      }
      if (value instanceof Number number ? number.doubleValue() != 0 : value != null) {
        given.add(generic(name));
      }
    });
    return given;
  }

  static String struct(String op) {
    return "exn_" + op + "_params";
  }

  /** A path without the numbers of elements. */
  static String generic(String name) {
    return ELEMENT.matcher(name).replaceAll("[]");
  }

  @Override
  public String toString() {
    return op() + " of " + open.listed();
  }
}
