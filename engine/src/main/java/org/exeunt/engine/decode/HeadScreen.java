// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.decode;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.DirectoryIteratorException;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Norm;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Tensor;
import org.exeunt.engine.layer.LayerObserver;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Weight;
import org.exeunt.engine.model.io.KeptFiles;
import org.exeunt.engine.model.text.Tokenizer;

/**
 * The screen of a model's head, made from states that the model itself runs through: those of a
 * text, and of what it writes after pieces of it.
 */
public final class HeadScreen {
  /** States for each column of the head. */
  private static final int STATES_PER_COLUMN = 3;
  /** Bits of a screen's elements, and those that do where these let too many rows pass. */
  private static final float FEW_BITS = 4.5f;
  private static final float MORE_BITS = 5;
  /** States of which rows are counted. */
  private static final int COUNTED = 64;
  private static final long SILENT_NANOS = 500_000_000L;
  private static final Pattern KEPT = Pattern.compile("(.+)-([0-9a-f]{8})\\.screen");

  private final LlamaWeights weights;
  private final PrintStream log; // null: no log
  private final int width;
  private final float[] states;
  private int count; // floats of states
  private long shown;
  private boolean told;

  private HeadScreen(LlamaWeights weights, PrintStream log) {
    this.weights = weights;
    this.log = log;
    width = weights.config().width();
    states = new float[STATES_PER_COLUMN * width * width];
  }

  /**
   * Opens a screen that was kept, if its digests say that it is whole and of this very head, of
   * which all is read for that.
   *
   * @param kept where it may be
   * @param log where it is said if it cannot be used; null: nowhere
   * @return null if there is none, or it cannot be used
   */
  public static Screen open(Path kept, LlamaWeights weights, PrintStream log) {
    try {
      Screen screen = Screen.open(kept, weights.head().tensor(), weights.head().blocks());
      try {
        weights.requireUnchanged();
        return screen;
      } catch (RuntimeException | Error e) {
        screen.close();
        throw e;
      }
    } catch (NoSuchFileException e) {
      return null;
    } catch (IOException | IllegalArgumentException e) {
      weights.requireUnchanged(); // of which it may not be, then
      if (log != null) {
        log.println("making the certified head anew: " + KeptFiles.why(e));
      }
      return null;
    }
  }

  /**
   * Makes a screen, which takes seconds to a minute, and keeps it. If it cannot be kept, that is
   * said, and it serves as well; of several processes that do so at once the last one's is kept.
   *
   * @param kept where it goes: {@code NAME-PLACE.screen}
   * @param text to begin with
   * @param log where progress is shown if it takes long; null: nowhere
   */
  public static Screen makeAndKeep(
      Path kept, LlamaWeights weights, Tokenizer tokenizer, String text, PrintStream log) {
    Screen made = make(weights, tokenizer.encodePrompt(text), log);
    try {
      Files.createDirectories(kept.toAbsolutePath().getParent());
      made.save(kept);
      removeOlder(kept.toAbsolutePath());
    } catch (IOException e) {
      if (log != null) {
        log.println(
            "the certified head cannot be kept, and is made anew each time: " + KeptFiles.why(e));
      }
    }
    return made;
  }

  /** The first of the two that can be done. */
  public static Screen openOrMake(
      Path kept, LlamaWeights weights, Tokenizer tokenizer, String text, PrintStream log) {
    Screen screen = open(kept, weights, log);
    return screen != null ? screen : makeAndKeep(kept, weights, tokenizer, text, log);
  }

  /** Those of earlier releases, whose names had a size, a date and a version as well. */
  private static void removeOlder(Path kept) throws IOException {
    Matcher name = KEPT.matcher(kept.getFileName().toString());
    if (!name.matches()) {
      return;
    }
    Pattern older = Pattern.compile(
        Pattern.quote(name.group(1)) + "-[0-9a-f]+-[0-9a-f]+-" + name.group(2) + "-.+\\.screen");
    try (DirectoryStream<Path> beside = Files.newDirectoryStream(
             kept.getParent(), other -> older.matcher(other.getFileName().toString()).matches())) {
      for (Path other : beside) {
        Files.deleteIfExists(other);
      }
    } catch (DirectoryIteratorException e) {
      throw e.getCause();
    }
  }

  /**
   * Makes a screen.
   *
   * @param text tokens to begin with, at least 8
   */
  public static Screen make(LlamaWeights weights, int[] text, PrintStream log) {
    HeadScreen maker = new HeadScreen(weights, log);
    maker.shown = System.nanoTime();
    Screen made = null;
    boolean done = false;
    try (Scope scope = Scope.open()) {
      maker.collect(text);
      Tensor normed = maker.normed(scope);
      maker.tell("building");
      made = maker.build(scope, normed);
      weights.requireUnchanged();
      done = true;
      return made;
    } finally {
      if (made != null && !done) {
        made.close();
      }
      if (maker.told) {
        log.println("\rmaking the certified head: " + (done ? "done    " : "stopped "));
      }
    }
  }

  /** Builds it with the fewer bits, if what they save is more than the rows that a step then reads. */
  private Screen build(Scope scope, Tensor normed) {
    Screen few = build(normed, FEW_BITS);
    try {
      Weight head = weights.head();
      double saved = (MORE_BITS - FEW_BITS) / 8 * head.rows() * width;
      if (rowsRead(scope, normed, few) * head.bytes() / head.rows() <= saved) {
        Screen chosen = few;
        few = null;
        return chosen;
      }
    } finally {
      if (few != null) {
        few.close();
      }
    }
    return build(normed, MORE_BITS);
  }

  private Screen build(Tensor normed, float bits) {
    return Screen.builder()
        .weight(weights.head().tensor())
        .weightBlocks(weights.head().blocks())
        .states(normed)
        .bitsPerWeight(bits)
        .build();
  }

  /** Rows of the head that a step reads, on average. */
  private double rowsRead(Scope scope, Tensor normed, Screen screen) {
    long some = Math.min(COUNTED, normed.size(0));
    long step = normed.size(0) / some;
    Tensor read = scope.allocate(Device.CPU, DType.I32, 1);
    double sum = 0;
    try (Scope own = Scope.open()) {
      Tensor state = own.allocate(Device.CPU, DType.F32, 1, width);
      ExitHead head =
          Head.screened(weights, screen.image())
              .hidden(state)
              .noNorm()
              .rowsRead(read)
              .out(Statistics.allocate(own, Device.CPU, 1, Statistic.ARGMAX))
              .build(own);
      for (long i = 0; i < some; i++) {
        state.floatBuffer().put(normed.rows(i * step, i * step + 1).floatBuffer());
        head.run();
        sum += read.intBuffer().get(0);
      }
    }
    return sum / some;
  }

  /** Runs the text, and then whatever the model goes on with. */
  private void collect(int... text) {
    LayerObserver keep = (depth, rows) -> {
      if (depth == weights.config().layers()) {
        float[] now = rows.hidden().toFloatArray();
        int taken = Math.min(now.length, states.length - count);
        System.arraycopy(now, 0, states, count, taken);
        count += taken;
        tell(100L * count / states.length + " %");
      }
    };
    OwnText.run(weights, states.length / width, keep, () -> count < states.length, text);
  }

  private Tensor normed(Scope scope) {
    Tensor hidden = scope.copyOf(Arrays.copyOf(states, count), count / width, width);
    Tensor out = scope.allocate(Device.CPU, DType.F32, count / width, width);
    Norm.builder()
        .input(hidden)
        .rms(weights.outputNorm(), weights.config().epsilon())
        .out(out)
        .runOnce();
    return out;
  }

  private void tell(String what) {
    long now = System.nanoTime();
    if (log != null && now - shown > SILENT_NANOS) {
      log.print("\rmaking the certified head: " + what + "    ");
      log.flush();
      shown = now;
      told = true;
    }
  }
}
