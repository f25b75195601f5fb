// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.model.io;

import com.google.gson.Strictness;
import com.google.gson.stream.JsonReader;
import com.google.gson.stream.MalformedJsonException;
import java.io.EOFException;
import java.io.IOException;
import java.io.StringReader;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.regex.Pattern;

/**
 * JSON of files that may be hostile: gson's strict reader, and no member twice, no deep nesting and
 * no long numbers. Objects become {@code Map}, arrays {@code List}, strings {@code String}, whole
 * numbers {@code Long}, others {@code Double}, and true, false and null themselves.
 */
public final class StrictJson {
  /** Enough for any real header, and shallow enough that nesting cannot exhaust the stack. */
  private static final int MAX_DEPTH = 64;

  private static final int LONGEST_NUMBER = 64;
  private static final Pattern WHOLE = Pattern.compile("-?(0|[1-9][0-9]{0,17})");

  /** What gson says where nothing else is known. */
  private static final String ADVICE =
      "Use JsonReader.setStrictness(Strictness.LENIENT) to accept malformed JSON";

  /** What follows the place in gson's sentences: keys of the file, and a link. */
  private static final Pattern REST = Pattern.compile("(?s)(?<= column [0-9]{1,10}) .*");

  private StrictJson() {}

  /**
   * Parses the one value that {@code text} holds.
   *
   * @throws IllegalArgumentException if it holds anything else; the message says where
   */
  public static Object parse(String text) {
    try (JsonReader reader = new JsonReader(new StringReader(text))) {
      reader.setStrictness(Strictness.STRICT);
      reader.setNestingLimit(MAX_DEPTH);
      Object value = value(reader);
      reader.peek(); // refuses what is not the end
      return value;
    } catch (EOFException | MalformedJsonException e) {
      String sentence = REST.matcher(e.getMessage().replace(ADVICE, "malformed")).replaceFirst("");
      throw new IllegalArgumentException(sentence.replaceAll("\\p{Cntrl}", "?"), e);
    } catch (IOException e) {
      throw new IllegalStateException(e); // a text can be read
    }
  }

  private static Object value(JsonReader reader) throws IOException {
    switch (reader.peek()) {
      case BEGIN_OBJECT:
        return object(reader);
      case BEGIN_ARRAY:
        List<Object> elements = new ArrayList<>();
        reader.beginArray();
        while (reader.hasNext()) {
          elements.add(value(reader));
        }
        reader.endArray();
        return elements;
      case NUMBER:
        return number(reader);
      case BOOLEAN:
        return reader.nextBoolean();
      case NULL:
        reader.nextNull();
        return null;
      default:
        return reader.nextString();
    }
  }

  private static Map<String, Object> object(JsonReader reader) throws IOException {
    Map<String, Object> members = new LinkedHashMap<>();
    reader.beginObject();
    while (reader.hasNext()) {
      String key = reader.nextName();
      if (members.containsKey(key)) {
        throw problem(reader, "member \"" + key + "\" twice");
      }
      members.put(key, value(reader));
    }
    reader.endObject();
    return members;
  }

  private static Number number(JsonReader reader) throws IOException {
    String digits = reader.nextString();
    if (WHOLE.matcher(digits).matches()) {
      return Long.valueOf(digits);
    }
    if (digits.length() > LONGEST_NUMBER) {
      throw problem(reader, "a number of " + digits.length() + " characters");
    }
    return Double.valueOf(digits);
  }

  private static MalformedJsonException problem(JsonReader reader, String what) {
    return new MalformedJsonException(
        what + reader.toString().substring(JsonReader.class.getSimpleName().length()));
  }
}
