// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.spark;

import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import org.apache.spark.TaskContext;
import org.apache.spark.api.java.function.MapPartitionsFunction;
import org.apache.spark.sql.Row;
import org.apache.spark.sql.RowFactory;
import org.apache.spark.sql.types.DataTypes;
import org.apache.spark.sql.types.StructType;
import org.apache.spark.util.TaskCompletionListener;
import org.exeunt.engine.encode.Classifier;
import org.exeunt.engine.encode.Encoder;
import org.exeunt.engine.encode.ExitPlan;
import org.exeunt.engine.encode.FittedExits;

/**
 * For {@code Dataset.mapPartitions}: rows with a column {@code sentence} in, out the sentence, its
 * label, the label's probability, and the layer after which the sentence left. All three are null
 * where the sentence is.
 */
public final class LabelSentences implements MapPartitionsFunction<Row, Row> {
  /** Of what comes out. */
  public static final StructType SCHEMA =
      new StructType()
          .add("sentence", DataTypes.StringType)
          .add("label", DataTypes.IntegerType)
          .add("confidence", DataTypes.FloatType)
          .add("exit_layer", DataTypes.IntegerType);

  private static final long serialVersionUID = 1;
  private static final int ROWS_AT_ONCE = 256;

  private final String folder;
  private final FittedExits exits;
  private final ExitPlan plan;

  /**
   * What every task is sent.
   *
   * @param folder where each machine has the encoder's files
   */
  public LabelSentences(String folder, FittedExits exits, ExitPlan plan) {
    this.folder = folder;
    this.exits = exits;
    this.plan = plan;
  }

  @Override
  public Iterator<Row> call(Iterator<Row> rows) {
    ExecutorModel model = ExecutorModel.of(folder);
    Encoder encoder = model.borrow();
    // A task may end before its rows do.
    TaskContext.get().addTaskCompletionListener(
        (TaskCompletionListener) context -> model.giveBack(encoder));
    Classifier classifier = new Classifier(encoder, model.tokenizer(), exits, plan);
    TaskContext.get().addTaskCompletionListener(
        (TaskCompletionListener) context -> classifier.close());
    return new Labelled(rows, classifier);
  }

  /** Takes as many rows at once as make a few batches. */
  private static final class Labelled implements Iterator<Row> {
    private final Iterator<Row> rows;
    private final Classifier classifier;
    private Iterator<Row> ready = List.<Row>of().iterator();

    private Labelled(Iterator<Row> rows, Classifier classifier) {
      this.rows = rows;
      this.classifier = classifier;
    }

    @Override
    public boolean hasNext() {
      return ready.hasNext() || rows.hasNext();
    }

    @Override
    public Row next() {
      if (!hasNext()) {
        throw new NoSuchElementException();
      }
      if (!ready.hasNext()) {
        ready = label().iterator();
      }
      return ready.next();
    }

    private List<Row> label() {
      List<String> sentences = new ArrayList<>();
      while (sentences.size() < ROWS_AT_ONCE && rows.hasNext()) {
        sentences.add(rows.next().getAs("sentence"));
      }
      Iterator<Classifier.Answer> answers =
          classifier.classify(sentences.stream().filter(text -> text != null).toList()).iterator();
      List<Row> labelled = new ArrayList<>();
      for (String sentence : sentences) {
        if (sentence == null) {
          labelled.add(RowFactory.create(null, null, null, null));
        } else {
          Classifier.Answer answer = answers.next();
          labelled.add(
              RowFactory.create(sentence, answer.label(), answer.confidence(), answer.exitLayer()));
        }
      }
      return labelled;
    }
  }
}
