// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.spark;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import org.apache.spark.SparkException;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.exeunt.Backend;
import org.exeunt.DType;
import org.exeunt.engine.encode.Classifier;
import org.exeunt.engine.encode.Encoder;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.EncoderWeights;
import org.exeunt.engine.encode.ExitPlan;
import org.exeunt.engine.encode.FittedExits;
import org.exeunt.engine.encode.Reviews;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.text.WordPiece;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** Tasks in this JVM, and in executors of a cluster on this machine. */
class LabelSentencesTest {
  private static final int FITTED = 240;
  private static final int LABELLED = 160;
  private static final ExitPlan PLAN = ExitPlan.parse("threshold:0.75");
  /**
   * Of a confidence. With AMX, more than 64 rows meet bf16 weights in tiles, whose sums go in another
   * order (exeunt/linear.h); everywhere else a sentence has the same bits in every batch.
   */
  private static final float MOST_DIFFERENCE = Backend.isa().equals("amx") ? 1e-4f : 0;

  private static EncoderFiles files;
  private static FittedExits exits;
  private static List<String> texts;
  private static final Map<String, Classifier.Answer> EXPECTED = new HashMap<>();

  /** One classifier, sentence by sentence. */
  @BeforeAll
  static void label() throws Exception {
    files = new EncoderFiles(Models.encoder());
    Assumptions.assumeTrue(files.missing() == null,
        () -> files.missing() + " is not here (launcher/encoder.sh fetches it)");
    Reviews reviews = Sessions.reviews(files);
    exits = Sessions.fit(files, reviews.part(0, FITTED));
    texts = reviews.part(FITTED, FITTED + LABELLED).texts();
    try (EncoderWeights weights = EncoderWeights.load(files.model(), DType.BF16);
        Encoder encoder = new Encoder(weights, 1, 128);
        Classifier classifier =
            new Classifier(encoder, WordPiece.open(files.tokenizer()), exits, PLAN)) {
      List<Classifier.Answer> answers = classifier.classify(texts);
      for (int i = 0; i < texts.size(); i++) {
        EXPECTED.put(texts.get(i), answers.get(i));
      }
    }
    Set<Integer> layers = new TreeSet<>();
    EXPECTED.values().forEach(answer -> layers.add(answer.exitLayer()));
    assertTrue(layers.size() > 2, "all leave after layers " + layers);
  }

  private static Dataset<Row> labelled(SparkSession spark, List<String> sentences, int partitions) {
    return Sessions.sentences(spark, sentences, partitions)
        .mapPartitions(new LabelSentences(Sessions.folder(files), exits, PLAN),
            Encoders.row(LabelSentences.SCHEMA));
  }

  private static void assertLabelled(Dataset<Row> labelled) {
    List<Row> rows = labelled.collectAsList();
    assertEquals(LABELLED, rows.size());
    Set<String> found = new TreeSet<>();
    for (Row row : rows) {
      assertTrue(found.add(row.getAs("sentence")));
      Classifier.Answer answer = new Classifier.Answer(
          row.getAs("label"), row.<Float>getAs("confidence"), row.getAs("exit_layer"));
      Classifier.Answer expected = EXPECTED.get(row.<String>getAs("sentence"));
      assertEquals(expected.label(), answer.label());
      assertEquals(expected.exitLayer(), answer.exitLayer());
      assertTrue(Math.abs(expected.confidence() - answer.confidence()) <= MOST_DIFFERENCE,
          () -> "expected " + expected + " but was " + answer);
    }
  }

  /** Processes that have run a task, and how many models each has loaded. */
  private static Map<Long, Integer> models(SparkSession spark) {
    Map<Long, Integer> models = new HashMap<>();
    spark.range(0, 16, 1, 16)
        .mapPartitions((MapPartitionsFunction<Long, String>) rows
            -> List.of(ProcessHandle.current().pid() + " " + ExecutorModel.loaded()).iterator(),
            Encoders.STRING())
        .collectAsList()
        .forEach(line
            -> models.put(Long.valueOf(line.split(" ")[0]), Integer.valueOf(line.split(" ")[1])));
    return models;
  }

  @Test
  void tasksShareAModelOfTheirJvm() throws Exception {
    try (SparkSession spark = Sessions.of("local[2]").getOrCreate()) {
      assertLabelled(labelled(spark, texts, 4));
      assertLabelled(labelled(spark, texts, 1));
      // A task that ends before its rows do gives its encoder back.
      assertEquals(1, labelled(spark, texts, 1).limit(1).collectAsList().size());
      assertLabelled(labelled(spark, texts, 2));
      assertEquals(Map.of(ProcessHandle.current().pid(), 1), models(spark));
    }
  }

  @Test
  void nullsStayNull() throws Exception {
    List<String> sentences = new ArrayList<>(texts.subList(0, 3));
    sentences.add(1, null);
    try (SparkSession spark = Sessions.of("local[1]").getOrCreate()) {
      int nulls = 0;
      for (Row row : labelled(spark, sentences, 1).collectAsList()) {
        if (row.isNullAt(0)) {
          nulls++;
          assertNull(row.get(1));
          assertNull(row.get(2));
          assertNull(row.get(3));
        } else {
          assertFalse(row.isNullAt(1));
        }
      }
      assertEquals(1, nulls);
    }
  }

  @Test
  void whatIsMissingIsNamed() throws Exception {
    try (SparkSession spark = Sessions.of("local[1]").getOrCreate()) {
      spark.sparkContext().setLogLevel("OFF"); // what fails here is meant to
      Dataset<Row> labelled =
          Sessions.sentences(spark, texts.subList(0, 1), 1)
              .mapPartitions(new LabelSentences("/no/such/folder", exits, PLAN),
                  Encoders.row(LabelSentences.SCHEMA));
      String message = assertThrows(SparkException.class, labelled::collectAsList).getMessage();
      assertTrue(message.contains("/no/such/folder/all-MiniLM-L6-v2.tokenizer.json does not exist"),
          message);
    }
  }

  /** Each executor is a JVM, with the class path of this one. */
  @Test
  void executorsLoadAModelEach() throws Exception {
    try (SparkSession spark = Sessions.of("local-cluster[2,1,1024]")
             .config("spark.executor.memory", "768m")
             .config("spark.executor.extraClassPath", System.getProperty("java.class.path"))
             .config("spark.executorEnv.SPARK_SCALA_VERSION", "2.13")
             .getOrCreate()) {
      assertLabelled(labelled(spark, texts, 8));
      Map<Long, Integer> models = models(spark);
      assertEquals(2, models.size(), models.toString());
      assertFalse(models.containsKey(ProcessHandle.current().pid()));
      models.values().forEach(loaded -> assertEquals(1, loaded, models.toString()));
    }
  }
}
