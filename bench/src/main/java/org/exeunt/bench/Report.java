// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import org.exeunt.bench.measure.Host;

/** Turns JMH's JSON into pages and a short JSON, named after the CPU of the run. */
public final class Report {
  private static final Gson GSON = new GsonBuilder().setPrettyPrinting().create();

  private Report() {}

  /** Arguments: JMH's JSON of a run of {@link Main}, and the folder to write to. */
  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.err.println("Usage: Report JMH.raw.json DIR");
      System.exit(2);
    }
    try {
      write(Path.of(arguments[0]), Path.of(arguments[1]));
    } catch (IOException e) {
      System.err.println("the report cannot be written (" + e + ")");
      System.exit(1);
    } catch (IllegalArgumentException e) {
      System.err.println(e.getMessage());
      System.exit(2);
    }
  }

  static void write(Path raw, Path folder) throws IOException {
    Run run = Run.read(raw);
    Host host = run.host();
    List<Figure> figures = run.figures();
    List<Verdict> verdicts = Verdict.of(Target.load(), Figure.ofLoop(figures));
    Path markdown = folder.resolve(host.slug() + ".md");
    Path page = folder.resolve(host.slug() + ".html");
    Path digest = folder.resolve(host.slug() + ".json");
    Files.createDirectories(folder);
    Files.writeString(markdown, Markdown.render(host, figures, verdicts));
    Files.writeString(page, Page.render(host, figures, verdicts));
    Files.writeString(digest, GSON.toJson(digest(host, figures, verdicts)) + "\n");
    for (Verdict verdict : verdicts) {
      System.out.println(sentence(verdict));
    }
    System.out.println("Report: " + page + ", " + markdown + " and " + digest);
  }

  private static String sentence(Verdict verdict) {
    Target target = verdict.target;
    return String.format(Locale.ROOT, "%s %s/%s %s, threads %d: %.2f, target %s %s",
        verdict.met() ? "met   " : "MISSED", target.op, target.id, target.operands.words(),
        verdict.threads, verdict.measured, target.bound, unit(target.measure));
  }

  private static String unit(Target.Measure measure) {
    switch (measure) {
      case US:
        return "us";
      case LIMIT:
        return "x limit";
      case OF:
        return "x the other case";
      case PEAK:
        return "x the FMA peak";
      default:
        return "ns over the kernel";
    }
  }

  private static JsonObject digest(Host host, List<Figure> figures, List<Verdict> verdicts) {
    JsonObject digest = new JsonObject();
    digest.add("host", GSON.toJsonTree(host.facts()));
    JsonArray targets = new JsonArray();
    for (Verdict verdict : verdicts) {
      JsonObject target = new JsonObject();
      target.addProperty("op", verdict.target.op);
      target.addProperty("id", verdict.target.id);
      target.addProperty("threads", verdict.threads);
      target.addProperty("operands", verdict.target.operands.toString());
      target.addProperty("measured", verdict.measured);
      target.addProperty("bound", verdict.target.bound);
      target.addProperty("unit", unit(verdict.target.measure));
      target.addProperty("limitUs", verdict.figure == null ? 0 : verdict.figure.limitP50);
      target.addProperty("met", verdict.met());
      targets.add(target);
    }
    digest.add("targets", targets);
    digest.add("figuresUs", GSON.toJsonTree(figures));
    return digest;
  }
}
