// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.spark;

import java.io.IOException;
import java.nio.file.Path;
import java.util.List;
import org.apache.spark.sql.Dataset;
import org.apache.spark.sql.Encoders;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.SparkSession;
import org.exeunt.DType;
import org.exeunt.engine.encode.EncoderFiles;
import org.exeunt.engine.encode.EncoderWeights;
import org.exeunt.engine.encode.FittedExits;
import org.exeunt.engine.encode.Reviews;
import org.exeunt.engine.model.text.WordPiece;

/** What a program with a Spark of its own begins with: a session, data, and fitted exits. */
final class Sessions {
  private static final int LONGEST = 128;

  private Sessions() {}

  /** On this machine, without a page in the browser. */
  static SparkSession.Builder of(String master) {
    return SparkSession.builder()
        .master(master)
        .appName("exeunt")
        .config("spark.ui.enabled", false)
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1");
  }

  /** A column {@code sentence} in so many partitions, in memory. */
  static Dataset<Row> sentences(SparkSession spark, List<String> texts, int partitions) {
    Dataset<Row> sentences =
        spark.createDataset(texts, Encoders.STRING()).toDF("sentence").repartition(partitions);
    sentences.persist().count();
    return sentences;
  }

  /** The rated sentences, always in the same order. */
  static Reviews reviews(EncoderFiles files) throws IOException {
    return Reviews.read(files.reviews(), WordPiece.open(files.tokenizer()), LONGEST).shuffled();
  }

  /** The exits, which the driver fits once. */
  static FittedExits fit(EncoderFiles files, Reviews reviews) throws IOException {
    try (EncoderWeights weights = EncoderWeights.load(files.model(), DType.BF16)) {
      return FittedExits.fit(weights, reviews);
    }
  }

  static String folder(EncoderFiles files) {
    return files.folder().toAbsolutePath().toString();
  }

  /** Files of the encoder in a folder that has them all. */
  static EncoderFiles files(Path folder) {
    EncoderFiles files = new EncoderFiles(folder);
    if (files.missing() != null) {
      throw new IllegalArgumentException(
          files.missing() + " does not exist; launcher/encoder.sh fetches it");
    }
    return files;
  }
}
