// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.concurrent.CompletableFuture;
import java.util.function.Consumer;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Normalizer;
import org.exeunt.PruneMask;
import org.exeunt.PruneSchedule;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.exeunt.engine.report.Table;
import org.exeunt.engine.train.Blas;
import org.exeunt.engine.train.Matrix;

/**
 * Lottery tickets (Frankle and Carbin 2019) in the network that groks modular addition: train,
 * prune a fifth of what is left of each layer by magnitude, put what is left back to its values at
 * the start (or after a few epochs: Frankle et al. 2019), and train again. Beside each ticket
 * trains the same sparse network from new values: if only those of the start lead to a network
 * that learns as well, the ticket has won.
 *
 * <p>Here it wins little. With up to 36 % of the weights pruned it answers 95 % of the unseen pairs
 * at epoch 90, the other at 120 to 150; with half of them pruned the other is ahead, and with two
 * thirds neither learns in 200 epochs all that it is shown. That is perpGrad's doing more than the
 * weights' number: it keeps them from growing longer, and those of a sparse network begin short.
 * Without it a random 30 % of them learn all pairs that they are shown, and none of the others.
 *
 * <p>{@code LotteryTicket [ROUNDS [EPOCHS [REWIND]]]}: 12 rounds of 200 epochs that begin at epoch
 * 0 take some minutes.
 */
public final class LotteryTicket implements AutoCloseable {
  private static final double SHARE = .2; // of what is left, that a round prunes
  private static final int STEP = 10; // epochs from one look to the next
  private static final double LEARNT = .95;
  private static final int MOST_ROUNDS = 100; // after which nothing is left
  private static final Training.Setup SETUP =
      new Training.Setup(Normalizer.SOFTMAX, true, .4, .01f);

  private final Size size;
  private final Scope scope = Scope.open();
  private final List<Tensor> masks = new ArrayList<>();
  private List<float[]> start;
  private int round;

  /**
   * How much is done.
   *
   * @param modulus of the addition
   * @param hidden width of the hidden layers
   * @param epochs of each training
   * @param rewind the epoch whose weights a ticket begins with
   */
  record Size(int modulus, int hidden, int epochs, int rewind) {}

  /**
   * What a training comes to.
   *
   * @param end the model at its end
   * @param learntAt the first epoch looked at that answers 95 % of the unseen pairs; -1: none
   */
  record Outcome(Training.Snapshot end, int learntAt) {}

  /**
   * What a round comes to.
   *
   * @param pruned share of the weights that is 0
   * @param ticket begins with the weights of the first training
   * @param drawn begins with new ones
   */
  record Round(double pruned, Outcome ticket, Outcome drawn) {}

  LotteryTicket(Size size) {
    if (size.rewind < 0 || size.rewind >= size.epochs || size.rewind % STEP != 0) {
      throw new IllegalArgumentException("the epoch to begin with is " + size.rewind
          + ", expected a multiple of " + STEP + " below the " + size.epochs + " epochs");
    }
    this.size = size;
  }

  /** Trains the ticket as it is now, beside one with new weights, and prunes it for the next. */
  Round next() {
    CompletableFuture<Outcome> other = CompletableFuture.supplyAsync(() -> {
      try (Training training = new Training(SETUP, size.modulus, size.hidden, 1000 + round)) {
        return train(training, null);
      }
    });
    try (Training training = new Training(SETUP, size.modulus, size.hidden, 42)) {
      if (start != null) {
        for (int i = 0; i < start.size(); i++) {
          training.weights().get(i).tensor().floatBuffer().put(0, start.get(i));
        }
      }
      Outcome ticket = train(training, start == null ? this::remember : null);
      Round result = new Round(pruned(), ticket, other.join()); // which reads the masks
      prune(training.weights());
      return result;
    }
  }

  /** {@code remember}: takes the weights that tickets begin with; null: they are known. */
  private Outcome train(Training training, Consumer<Training> remember) {
    if (!masks.isEmpty()) {
      training.prune(masks);
    }
    int learntAt = -1;
    Training.Snapshot now = training.evaluate();
    while (now.epoch() < size.epochs) {
      if (remember != null && now.epoch() == size.rewind) {
        remember.accept(training);
      }
      training.run(Math.min(STEP, size.epochs - now.epoch()));
      now = training.evaluate();
      if (learntAt < 0 && now.testAccuracy() > LEARNT) {
        learntAt = now.epoch();
      }
    }
    return new Outcome(now, learntAt);
  }

  private void remember(Training training) {
    start = training.weights().stream().map(w -> w.tensor().toFloatArray()).toList();
  }

  private void prune(List<Matrix> weights) {
    boolean first = masks.isEmpty();
    PruneMask.Builder builder =
        PruneMask.builder().ratio(PruneSchedule.afterRounds(SHARE, ++round)).keepPruned(!first);
    for (int i = 0; i < weights.size(); i++) {
      Matrix weight = weights.get(i);
      if (first) {
        masks.add(scope.allocate(Device.CPU, DType.U8, weight.rows(), weight.columns()));
      }
      builder.tensor(weight.tensor(), masks.get(i));
    }
    builder.runOnce();
  }

  private double pruned() {
    long zeros = 0;
    long all = 0;
    for (Tensor mask : masks) {
      all += mask.elements();
      for (int kept : mask.toIntArray()) {
        zeros += kept == 0 ? 1 : 0;
      }
    }
    return zeros == 0 ? 0 : (double) zeros / all;
  }

  /** The masks of the next ticket. */
  List<Tensor> masks() {
    return masks;
  }

  /** The weights that every ticket begins with. */
  List<float[]> start() {
    return start;
  }

  @Override
  public void close() {
    scope.close();
  }

  /** Prints a line for each round, and then the table; status 2 if the arguments make no sense. */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT); // the table is for programs too
    try {
      run(arguments);
    } catch (IllegalArgumentException e) {
      System.err.println("LotteryTicket [ROUNDS [EPOCHS [REWIND]]]: " + e.getMessage());
      System.exit(2);
    }
  }

  private static void run(String... arguments) {
    if (arguments.length > 3) {
      throw new IllegalArgumentException("'" + arguments[3] + "' is one argument too many");
    }
    int rounds = integer(arguments, 0, "ROUNDS", 12);
    Size size = new Size(
        113, 200, integer(arguments, 1, "EPOCHS", 200), integer(arguments, 2, "REWIND", 0));
    if (rounds < 1 || rounds > MOST_ROUNDS) {
      throw new IllegalArgumentException("ROUNDS is " + rounds + ", expected 1 to " + MOST_ROUNDS);
    }
    Table table = new Table("pruned", "ticket: train", "test", "test > 95 % at",
        "new values: train", "test", "test > 95 % at");
    try (LotteryTicket lottery = new LotteryTicket(size)) {
      Blas.setThreads(1); // of each of two trainings
      for (int i = 0; i < rounds; i++) {
        Round round = lottery.next();
        String[] row = row(round);
        System.out.println(String.join("  ", row));
        table.row(row);
      }
    }
    System.out.println();
    System.out.print(table.toMarkdown());
  }

  private static int integer(String[] arguments, int at, String name, int otherwise) {
    if (at >= arguments.length) {
      return otherwise;
    }
    try {
      return Integer.parseInt(arguments[at]);
    } catch (NumberFormatException e) {
      throw new IllegalArgumentException(
          name + " is '" + arguments[at] + "', which is no integer", e);
    }
  }

  private static String[] row(Round round) {
    List<String> cells = new ArrayList<>(List.of(percent(round.pruned)));
    for (Outcome outcome : List.of(round.ticket, round.drawn)) {
      cells.add(percent(outcome.end.trainAccuracy()));
      cells.add(percent(outcome.end.testAccuracy()));
      cells.add(outcome.learntAt < 0 ? "never" : "epoch " + outcome.learntAt);
    }
    return cells.toArray(String[] ::new);
  }

  private static String percent(double share) {
    return String.format("%.1f %%", 100 * share);
  }
}
