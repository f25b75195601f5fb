// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.jinja;

import java.time.LocalDateTime;
import java.time.format.DateTimeFormatter;
import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import org.exeunt.engine.model.jinja.Values.Callable;
import org.exeunt.engine.model.jinja.Values.Namespace;
import org.exeunt.engine.model.jinja.Values.Undefined;

/** The functions, filters, tests, methods and operators that templates may use. */
final class Builtins {
  private static final String BLANKS = " \t\n\r\f\u000b";

  private final Budget budget;
  private final LocalDateTime now;

  Builtins(Budget budget, LocalDateTime now) {
    this.budget = budget;
    this.now = now;
  }

  private TemplateException problem(String what) {
    return budget.problem(what);
  }

  // ---- arguments

  private Object argument(List<Object> arguments, int index, String what) throws TemplateException {
    if (index >= arguments.size()) {
      throw problem(what + " needs an argument more than " + arguments.size());
    }
    return arguments.get(index);
  }

  private String string(Object value, String what) throws TemplateException {
    if (value instanceof String text) {
      return text;
    } else if (value instanceof Undefined undefined) {
      throw undefined.problem(budget);
    }
    throw problem(what + " needs a string, not " + Values.type(value));
  }

  private long integer(Object value, String what) throws TemplateException {
    if (value instanceof Long number) {
      return number;
    } else if (value instanceof Boolean flag) {
      return flag ? 1 : 0;
    }
    throw problem(what + " needs an integer, not " + Values.type(value));
  }

  private String made(String text) throws TemplateException {
    budget.characters(text.length());
    return text;
  }

  private List<Object> made(List<Object> list) throws TemplateException {
    budget.characters(list.size());
    return list;
  }

  // ---- functions

  Map<String, Object> functions() {
    Map<String, Object> functions = new HashMap<>();
    functions.put("range", (Callable) this::range);
    functions.put("namespace",
        (Callable) (arguments, named) -> new Namespace(mapping(arguments, named, "namespace")));
    functions.put("dict", (Callable) (arguments, named) -> mapping(arguments, named, "dict"));
    functions.put("raise_exception", (Callable) (arguments, named) -> {
      throw problem(string(argument(arguments, 0, "raise_exception"), "raise_exception"));
    });
    functions.put("strftime_now",
        (Callable) (arguments,
            named) -> date(string(argument(arguments, 0, "strftime_now"), "strftime_now")));
    return functions;
  }

  private Object range(List<Object> arguments, Map<String, Object> named) throws TemplateException {
    long first = integer(argument(arguments, 0, "range"), "range");
    long begin = arguments.size() > 1 ? first : 0;
    long end = arguments.size() > 1 ? integer(arguments.get(1), "range") : first;
    long step = arguments.size() > 2 ? integer(arguments.get(2), "range") : 1;
    if (step == 0) {
      throw problem("range has a step of 0");
    }
    List<Object> numbers = new ArrayList<>();
    for (long i = begin; step > 0 ? i < end : i > end; i += step) {
      budget.steps(1);
      budget.characters(1);
      numbers.add(i);
      if (step > 0 ? i > Long.MAX_VALUE - step : i < Long.MIN_VALUE - step) {
        break;
      }
    }
    return numbers;
  }

  private Map<Object, Object> mapping(
      List<Object> arguments, Map<String, Object> named, String what) throws TemplateException {
    Map<Object, Object> map = new LinkedHashMap<>();
    if (!arguments.isEmpty()) {
      if (!(arguments.get(0) instanceof Map<?, ?> given)) {
        throw problem(what + " needs a mapping, not " + Values.type(arguments.get(0)));
      }
      map.putAll(given);
    }
    map.putAll(named);
    budget.characters(map.size());
    return map;
  }

  private String date(String format) throws TemplateException {
    StringBuilder text = new StringBuilder();
    for (int i = 0; i < format.length(); i++) {
      char c = format.charAt(i);
      if (c != '%' || ++i == format.length()) {
        text.append(c);
        continue;
      }
      boolean bare = format.charAt(i) == '-' && i + 1 < format.length();
      i += bare ? 1 : 0;
      String shown = date(format.charAt(i));
      text.append(bare && shown.startsWith("0") && shown.length() > 1 ? shown.substring(1) : shown);
    }
    return made(text.toString());
  }

  private String date(char field) throws TemplateException {
    String pattern = switch (field) {
      case 'Y' -> "yyyy";
      case 'y' -> "yy";
      case 'm' -> "MM";
      case 'd' -> "dd";
      case 'B' -> "MMMM";
      case 'b' -> "MMM";
      case 'A' -> "EEEE";
      case 'a' -> "EEE";
      case 'H' -> "HH";
      case 'I' -> "hh";
      case 'M' -> "mm";
      case 'S' -> "ss";
      case 'p' -> "a";
      case 'j' -> "DDD";
      case '%' -> "'%'";
      default -> throw problem("strftime_now knows no %" + field);
    };
    return now.format(DateTimeFormatter.ofPattern(pattern, Locale.ENGLISH));
  }

  // ---- parts of values

  /** {@code value.name}. */
  Object attribute(Object value, String name) throws TemplateException {
    if (value instanceof Undefined undefined) {
      throw undefined.problem(budget);
    } else if (value instanceof Namespace space) {
      return space.values().getOrDefault(name, new Undefined(name));
    } else if (value instanceof Map<?, ?> map) {
      Callable method = method(map, name);
      return method != null ? method : map.containsKey(name) ? map.get(name) : new Undefined(name);
    } else if (value instanceof String text) {
      Callable method = Methods.has(name) ? (arguments, named)
          -> new Methods(this, budget).call(text, name, arguments)
          : null;
      return method != null ? method : new Undefined(name);
    }
    return new Undefined(name);
  }

  private Callable method(Map<?, ?> map, String name) {
    return switch (name) {
      case "items" -> (arguments, named) -> items(map);
      case "keys" -> (arguments, named) -> made(new ArrayList<>(map.keySet()));
      case "values" -> (arguments, named) -> made(new ArrayList<>(map.values()));
      case "get" ->
        (arguments, named) -> {
          Object found = map.get(Values.key(argument(arguments, 0, "get"), budget));
          return found != null ? found : arguments.size() > 1 ? arguments.get(1) : Values.NONE;
        };
      default -> null;
    };
  }

  private List<Object> items(Map<?, ?> map) throws TemplateException {
    List<Object> items = new ArrayList<>();
    for (Map.Entry<?, ?> entry : map.entrySet()) {
      budget.characters(3);
      items.add(List.of(entry.getKey(), entry.getValue()));
    }
    return items;
  }

  /** {@code value[key]}. */
  Object item(Object value, Object key) throws TemplateException {
    if (value instanceof Undefined undefined) {
      throw undefined.problem(budget);
    } else if (value instanceof Map<?, ?> map && !(key instanceof Undefined)) {
      Object found = map.get(Values.key(key, budget));
      return found != null ? found : new Undefined(Values.text(key, budget));
    } else if ((value instanceof List || value instanceof String) && key instanceof Long index) {
      long size = value instanceof List<?> list ? list.size() : ((String) value).length();
      long at = index < 0 ? index + size : index;
      return at < 0 || at >= size ? new Undefined("index " + index)
          : value instanceof List<?> list
          ? list.get((int) at)
          : String.valueOf(((String) value).charAt((int) at));
    } else if (key instanceof String name) {
      return attribute(value, name);
    }
    return new Undefined(Values.type(key));
  }

  /** A bound of a slice; null: none. */
  Long bound(Object value) throws TemplateException {
    return value == Values.NONE ? null : (Long) integer(value, "a slice");
  }

  /** {@code value[from:to:step]}; null: not given. */
  Object slice(Object value, Long from, Long to, Long step) throws TemplateException {
    if (value instanceof Undefined undefined) {
      throw undefined.problem(budget);
    } else if (!(value instanceof List) && !(value instanceof String)) {
      throw problem("of " + Values.type(value) + " there is no slice");
    }
    long by = step == null ? 1 : step;
    if (by == 0) {
      throw problem("a slice has a step of 0");
    }
    long size = value instanceof List<?> list ? list.size() : ((String) value).length();
    long least = by > 0 ? 0 : -1;
    long most = by > 0 ? size : size - 1;
    long begin = from == null ? by > 0 ? least : most : clamped(from, size, least, most);
    long end = to == null ? by > 0 ? most : least : clamped(to, size, least, most);
    budget.characters(size);
    List<Object> elements = new ArrayList<>();
    StringBuilder text = new StringBuilder();
    long at = begin;
    while (by > 0 ? at < end : at > end) {
      if (value instanceof List<?> list) {
        elements.add(list.get((int) at));
      } else {
        text.append(((String) value).charAt((int) at));
      }
      if (Math.abs(by) >= size) {
        break;
      }
      at += by;
    }
    return value instanceof List ? elements : (Object) text.toString();
  }

  private static long clamped(long bound, long size, long least, long most) {
    return Math.max(least, Math.min(most, bound < 0 ? Math.max(bound, -size - 1) + size : bound));
  }

  // ---- operators

  Object negative(Object value) throws TemplateException {
    return value instanceof Double number
        ? (Object) (-number)
        : (Object) exact("-", 0, integer(value, "'-'"));
  }

  Object binary(String operator, Object left, Object right) throws TemplateException {
    if (operator.equals("~")) {
      return made(Values.text(left, budget) + Values.text(right, budget));
    }
    for (Object side : new Object[] {left, right}) {
      if (side instanceof Undefined undefined) {
        throw undefined.problem(budget);
      }
    }
    if (operator.equals("+") && left instanceof String a && right instanceof String b) {
      budget.characters((long) a.length() + b.length());
      return a + b;
    } else if (operator.equals("+") && left instanceof List<?> a && right instanceof List<?> b) {
      budget.characters((long) a.size() + b.size());
      List<Object> both = new ArrayList<>(a);
      both.addAll(b);
      return both;
    } else if (operator.equals("*") && left instanceof String text && right instanceof Long times) {
      budget.characters(exact("*", text.length(), Math.max(0, times)));
      return text.repeat((int) Math.max(0, text.isEmpty() ? 0 : times));
    } else if (left instanceof String || right instanceof String || left instanceof List
        || right instanceof List) {
      throw problem(
          "'" + operator + "' stands between " + Values.type(left) + " and " + Values.type(right));
    }
    boolean whole = !(left instanceof Double || right instanceof Double || operator.equals("/"));
    if (whole) {
      return exact(
          operator, integer(left, "'" + operator + "'"), integer(right, "'" + operator + "'"));
    }
    double a = real(left, operator);
    double b = real(right, operator);
    if (b == 0 && (operator.equals("/") || operator.equals("//") || operator.equals("%"))) {
      throw problem("'" + operator + "' divides by 0");
    }
    return switch (operator) {
      case "+" -> a + b;
      case "-" -> a - b;
      case "*" -> a* b;
      case "/" -> a / b;
      case "//" -> Math.floor(a / b);
      case "%" -> a - b* Math.floor(a / b);
      default -> Math.pow(a, b);
    };
  }

  private double real(Object value, String operator) throws TemplateException {
    return value instanceof Double number ? number : integer(value, "'" + operator + "'");
  }

  private long exact(String operator, long a, long b) throws TemplateException {
    try {
      return switch (operator) {
        case "+" -> Math.addExact(a, b);
        case "-" -> Math.subtractExact(a, b);
        case "*" -> Math.multiplyExact(a, b);
        case "//" -> Math.floorDiv(a, b);
        case "%" -> Math.floorMod(a, b);
        default -> {
          if (b < 0 || b > 63) {
            throw problem("the exponent " + b + " is not 0 to 63");
          }
          long power = 1;
          for (long i = 0; i < b; i++) {
            power = Math.multiplyExact(power, a);
          }
          yield power;
        }
      };
    } catch (ArithmeticException e) {
      throw problem("'" + operator + "' of " + a + " and " + b + " is no 64-bit integer");
    }
  }

  // ---- filters

  Object filter(String name, Object value, List<Object> arguments, Map<String, Object> named)
      throws TemplateException {
    switch (name) {
      case "default", "d" -> {
        boolean empty = Values.truth(
            named.getOrDefault("boolean", arguments.size() > 1 ? arguments.get(1) : Boolean.FALSE));
        Object usual =
            arguments.isEmpty() ? named.getOrDefault("default_value", "") : arguments.get(0);
        return value instanceof Undefined || empty && !Values.truth(value) ? usual : value;
      }
      case "string", "safe", "forceescape" -> {
        return made(Values.text(value, budget));
      }
      case "trim" -> {
        return stripped(Values.text(value, budget),
            arguments.isEmpty() ? null : string(arguments.get(0), name), true, true);
      }
      case "tojson" -> {
        Object indent =
            named.getOrDefault("indent", arguments.isEmpty() ? Values.NONE : arguments.get(0));
        long by = indent == Values.NONE ? -1 : Math.max(0, integer(indent, name));
        return Values.json(value, by, budget);
      }
      case "length", "count" -> {
        return size(value);
      }
      default -> {
        // Below.
      }
    }
    return switch (name) {
      case "upper", "lower", "capitalize", "title", "replace" ->
        new Methods(this, budget).call(Values.text(value, budget), name, arguments);
      case "join" -> join(value, arguments, named);
      case "first" -> end(value, true);
      case "last" -> end(value, false);
      case "list" -> Values.elements(value, budget);
      case "items" -> items(map(value, name));
      case "dictsort" -> sorted(items(map(value, name)), 0L, false);
      case "int" -> number(value, arguments, true);
      case "float" -> number(value, arguments, false);
      case "abs" ->
        value instanceof Double number ? (Object) Math.abs(number)
            : integer(value, name) < 0
            ? negative(value)
            : value;
      case "round" -> rounded(value, arguments, named);
      case "indent" -> indented(Values.text(value, budget), arguments, named);
      case "reverse" -> reversed(value);
      case "sort" ->
        sorted(Values.elements(value, budget), named.get("attribute"),
            Values.truth(named.getOrDefault("reverse", Boolean.FALSE)));
      case "unique" -> unique(Values.elements(value, budget));
      case "sum", "min", "max" -> folded(name, Values.elements(value, budget));
      case "map" -> mapped(value, arguments, named);
      case "select", "reject", "selectattr", "rejectattr" -> selected(name, value, arguments);
      case "escape", "e" ->
        made(Values.text(value, budget)
                .replace("&", "&amp;")
                .replace("<", "&lt;")
                .replace(">", "&gt;")
                .replace("\"", "&#34;")
                .replace("'", "&#39;"));
      default -> throw problem("there is no filter '" + name + "'");
    };
  }

  private Map<?, ?> map(Object value, String name) throws TemplateException {
    if (value instanceof Map<?, ?> map) {
      return map;
    } else if (value instanceof Undefined) {
      return Map.of();
    }
    throw problem(name + " needs a mapping, not " + Values.type(value));
  }

  private long size(Object value) throws TemplateException {
    if (value instanceof String text) {
      return text.codePointCount(0, text.length());
    } else if (value instanceof List<?> list) {
      return list.size();
    } else if (value instanceof Map<?, ?> map) {
      return map.size();
    } else if (value instanceof Undefined) {
      return 0;
    }
    throw problem(Values.type(value) + " has no length");
  }

  /** @param which characters to take away; null: white space */
  String stripped(String text, String which, boolean left, boolean right) throws TemplateException {
    String away = which == null ? BLANKS : which;
    budget.search(text, away);
    int begin = 0;
    int end = text.length();
    while (left && begin < end && isAway(text.charAt(begin), away, which == null)) {
      begin++;
    }
    while (right && begin < end && isAway(text.charAt(end - 1), away, which == null)) {
      end--;
    }
    return made(text.substring(begin, end));
  }

  private static boolean isAway(char c, String away, boolean blanks) {
    return away.indexOf(c) >= 0 || blanks && c > 127 && (Character.isSpaceChar(c) || c == 0x85);
  }

  private Object end(Object value, boolean first) throws TemplateException {
    List<Object> elements = Values.elements(value, budget);
    return elements.isEmpty()
        ? new Undefined(first ? "first" : "last")
        : elements.get(first ? 0 : elements.size() - 1);
  }

  private String join(Object value, List<Object> arguments, Map<String, Object> named)
      throws TemplateException {
    Object between = arguments.isEmpty() ? named.getOrDefault("d", "") : arguments.get(0);
    Object by = arguments.size() > 1 ? arguments.get(1) : named.get("attribute");
    String separator = Values.text(between, budget);
    StringBuilder text = new StringBuilder();
    boolean first = true;
    for (Object element : Values.elements(value, budget)) {
      String part = Values.text(by == null ? element : item(element, by), budget);
      budget.characters((long) separator.length() + part.length());
      text.append(first ? "" : separator).append(part);
      first = false;
    }
    return text.toString();
  }

  private Object number(Object value, List<Object> arguments, boolean whole)
      throws TemplateException {
    Object usual = arguments.isEmpty() ? whole ? (Object) 0L : (Object) 0.0 : arguments.get(0);
    if (value instanceof Boolean flag) {
      return whole ? (Object) (flag ? 1L : 0L) : (Object) (flag ? 1.0 : 0.0);
    } else if (Values.isNumber(value)) {
      double number = ((Number) value).doubleValue();
      return whole && value instanceof Long ? value : whole ? (Object) (long) number : number;
    } else if (value instanceof String text && text.length() < 400) {
      try {
        double number = Double.parseDouble(text.strip());
        return whole ? (Object) (long) number : (Object) number;
      } catch (NumberFormatException e) {
        return usual;
      }
    }
    return usual;
  }

  private Object rounded(Object value, List<Object> arguments, Map<String, Object> named)
      throws TemplateException {
    long digits = integer(
        arguments.isEmpty() ? named.getOrDefault("precision", 0L) : arguments.get(0), "round");
    if (digits < 0 || digits > 15) {
      throw problem("round needs a precision from 0 to 15, not " + digits);
    }
    double scale = Math.pow(10, digits);
    return Math.rint(real(value, "round") * scale) / scale;
  }

  private String indented(String text, List<Object> arguments, Map<String, Object> named)
      throws TemplateException {
    long by =
        integer(arguments.isEmpty() ? named.getOrDefault("width", 4L) : arguments.get(0), "indent");
    boolean first = Values.truth(
        arguments.size() > 1 ? arguments.get(1) : named.getOrDefault("first", Boolean.FALSE));
    if (by < 0 || by > 256) {
      throw problem("indent needs a width from 0 to 256, not " + by);
    }
    budget.characters(text.length() * (by + 1));
    String blanks = " ".repeat((int) by);
    StringBuilder out = new StringBuilder();
    String[] lines = text.split("\n", -1);
    for (int i = 0; i < lines.length; i++) {
      out.append(i == 0 ? "" : "\n");
      out.append((i > 0 || first) && !lines[i].isEmpty() ? blanks : "").append(lines[i]);
    }
    return out.toString();
  }

  private Object reversed(Object value) throws TemplateException {
    if (value instanceof String text) {
      return made(new StringBuilder(text).reverse().toString());
    }
    List<Object> elements = made(new ArrayList<>(Values.elements(value, budget)));
    Collections.reverse(elements);
    return elements;
  }

  private List<Object> sorted(List<Object> elements, Object by, boolean down)
      throws TemplateException {
    List<Object> sorted = made(new ArrayList<>(elements));
    // A merge sort whose comparisons may fail, and cost steps.
    for (int width = 1; width < sorted.size(); width *= 2) {
      List<Object> merged = made(new ArrayList<>(sorted.size()));
      for (int begin = 0; begin < sorted.size(); begin += 2 * width) {
        int middle = Math.min(begin + width, sorted.size());
        int end = Math.min(begin + 2 * width, sorted.size());
        int left = begin;
        int right = middle;
        while (left < middle || right < end) {
          boolean takesLeft = right == end
              || left < middle && order(sorted.get(left), sorted.get(right), by, down) <= 0;
          merged.add(sorted.get(takesLeft ? left++ : right++));
        }
      }
      sorted = merged;
    }
    return sorted;
  }

  private int order(Object a, Object b, Object by, boolean down) throws TemplateException {
    Object left = by == null ? a : item(a, by);
    Object right = by == null ? b : item(b, by);
    int order = left instanceof String s && right instanceof String t
        ? Values.compare(s.toLowerCase(Locale.ROOT), t.toLowerCase(Locale.ROOT), budget)
        : Values.compare(left, right, budget);
    return down ? -order : order;
  }

  private List<Object> unique(List<Object> elements) throws TemplateException {
    List<Object> unique = new ArrayList<>();
    for (Object element : elements) {
      if (!Values.contains(unique, element, budget)) {
        budget.characters(1);
        unique.add(element);
      }
    }
    return unique;
  }

  private Object folded(String name, List<Object> elements) throws TemplateException {
    Object result = name.equals("sum") ? 0L : new Undefined(name);
    for (int i = 0; i < elements.size(); i++) {
      Object element = elements.get(i);
      if (name.equals("sum")) {
        result = binary("+", result, element);
      } else if (i == 0 || Values.compare(element, result, budget) < 0 == name.equals("min")) {
        result = element;
      }
    }
    return result;
  }

  private List<Object> mapped(Object value, List<Object> arguments, Map<String, Object> named)
      throws TemplateException {
    List<Object> mapped = new ArrayList<>();
    Object attribute = named.get("attribute");
    for (Object element : Values.elements(value, budget)) {
      budget.characters(1);
      if (attribute == null) {
        mapped.add(filter(string(argument(arguments, 0, "map"), "map"), element,
            arguments.subList(1, arguments.size()), named));
      } else {
        Object found = item(element, attribute);
        mapped.add(found instanceof Undefined && named.containsKey("default")
                ? named.get("default")
                : found);
      }
    }
    return mapped;
  }

  private List<Object> selected(String name, Object value, List<Object> arguments)
      throws TemplateException {
    boolean wanted = name.startsWith("select");
    boolean attribute = name.endsWith("attr");
    int first = attribute ? 1 : 0;
    String test = arguments.size() > first ? string(arguments.get(first), name) : null;
    List<Object> more =
        arguments.size() > first + 1 ? arguments.subList(first + 1, arguments.size()) : List.of();
    List<Object> selected = new ArrayList<>();
    for (Object element : Values.elements(value, budget)) {
      budget.steps(1);
      Object tested = attribute ? item(element, argument(arguments, 0, name)) : element;
      if (wanted == (test == null ? Values.truth(tested) : test(test, tested, more))) {
        budget.characters(1);
        selected.add(element);
      }
    }
    return selected;
  }

  // ---- tests

  boolean test(String name, Object value, List<Object> arguments) throws TemplateException {
    return switch (name) {
      case "defined" -> !(value instanceof Undefined);
      case "undefined" -> value instanceof Undefined;
      case "none" -> value == Values.NONE;
      case "string" -> value instanceof String;
      case "number" -> Values.isNumber(value) || value instanceof Boolean;
      case "integer" -> value instanceof Long;
      case "float" -> value instanceof Double;
      case "boolean" -> value instanceof Boolean;
      case "true" -> Boolean.TRUE.equals(value);
      case "false" -> Boolean.FALSE.equals(value);
      case "mapping" -> value instanceof Map;
      case "iterable", "sequence" ->
        value instanceof List || value instanceof Map || value instanceof String
            || value instanceof Undefined;
      case "callable" -> value instanceof Callable;
      case "odd" -> Math.floorMod(integer(value, name), 2L) == 1;
      case "even" -> Math.floorMod(integer(value, name), 2L) == 0;
      case "divisibleby" ->
        exact("%", integer(value, name), integer(argument(arguments, 0, name), name)) == 0;
      case "lower" -> string(value, name).equals(string(value, name).toLowerCase(Locale.ROOT));
      case "upper" -> string(value, name).equals(string(value, name).toUpperCase(Locale.ROOT));
      case "in" -> Values.contains(argument(arguments, 0, name), value, budget);
      case "eq", "equalto", "sameas" -> Values.equal(value, argument(arguments, 0, name), budget);
      case "ne" -> !Values.equal(value, argument(arguments, 0, name), budget);
      case "lt", "lessthan" -> Values.compare(value, argument(arguments, 0, name), budget) < 0;
      case "le" -> Values.compare(value, argument(arguments, 0, name), budget) <= 0;
      case "gt", "greaterthan" -> Values.compare(value, argument(arguments, 0, name), budget) > 0;
      case "ge" -> Values.compare(value, argument(arguments, 0, name), budget) >= 0;
      default -> throw problem("there is no test '" + name + "'");
    };
  }
}
