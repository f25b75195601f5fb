// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.ops;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Locale;
import java.util.function.Consumer;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.parallel.ResourceLock;
import org.junit.jupiter.api.parallel.Resources;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.Arguments;
import org.junit.jupiter.params.provider.MethodSource;

/** What the small programs print, against values worked out by hand. */
class OpExamplesTest {
  private static final Pattern NUMBER = Pattern.compile("-?[0-9]+[.][0-9]+(E-?[0-9]+)?");

  static Stream<Arguments> programs() {
    return Stream.of(
        program("StableMax", StableMaxExample::main,
            "SOFTMAX [1.0, 0.0, 0.0]",
            "STABLEMAX [0.9974813, 0.0000249, 0.0024937]"),
        program("CrossEntropy", CrossEntropyExample::main,
            "mean loss 2.5217125",
            "gradient of row 1 [0.1, 0.1, 0.1, 0.1, -0.4]"),
        program("PerpGrad", PerpGradExample::main,
            "gradient [-1.788854, 1.341641]",
            "along the weights 0"),
        program("RowStats", RowStatsExample::main,
            "row 0: token 0, p 0.6439, margin 0.4070, entropy 0.9475 nats",
            "row 1: token 0, p 0.9996, margin 0.9995, entropy 0.0037 nats"),
        program("ExitHead", ExitHeadExample::main,
            "token 0 with p 0.7413",
            "token 2 with p 0.8702"),
        program("ExitRule", ExitRuleExample::main,
            "after layer 0 go on with [0, 2, -1]",
            "after layer 1 go on with [0, 2, -1]",
            "after layer 2 go on with [2, -1, -1]",
            "after layer 3 go on with [-1, -1, -1]",
            "left after [2, 0, 3]"),
        program("Gate", GateExample::main, "[0.5, 0.182426]"),
        program("Cosine", CosineExample::main, "[0.96, 0.0]"),
        program("Norm", NormExample::main,
            "RMSNorm   [0.8485281, 1.1313708, 0.4472136, 1.3416408]",
            "LayerNorm [-1.0, 1.0, -1.0, 1.0]"),
        program("Rope", RopeExample::main, "[1.0, 0.0, 0.5403023, 0.8414710]"),
        program("Linear", LinearExample::main, "[11.5, 22.0, 33.0]"),
        program("Attention", AttentionExample::main,
            "slot 0 sees 1: [1.0, 0.0]",
            "slot 1 sees 2: [0.25, 0.75]"),
        program("KvCache", KvCacheExample::main,
            "keys    [1.0, 2.0, 3.0, 0.0, 1.0, 2.0, 3.0, 0.0]",
            "lengths [3, 2]"),
        program("KvPropagate", KvPropagateExample::main,
            "layer 0: k [0.0, 0.0], v [0.0, 0.0]",
            "layer 1: k [1.0, 2.0], v [20.0, 10.0]",
            "layer 2: k [1.0, 2.0], v [20.0, 10.0]"),
        program("HiddenStack", HiddenStackExample::main,
            "rows [1.0, 2.0, 5.0, 6.0]",
            "positions [7, 9, -1]",
            "keys [1.0, 2.0, 0.0, 0.0, 5.0, 6.0]"),
        program("RowCompaction", RowCompactionExample::main,
            "list     [0, 2, -1]",
            "together [3.0, 3.0, 4.0, 4.0, 0.0, 0.0]",
            "back     [3.0, 6.0, 5.0, 6.0, 4.0, 8.0]"),
        program("LayerSchedule", LayerScheduleExample::main,
            "position 0 runs [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]",
            "position 5 runs [0, 4, 5, 6, 7, 8, 9]",
            "position 10 runs [0, 7, 8, 9]"),
        program("Ffn", FfnExample::main,
            "out [1.0, 0.7310586, 0.0, 1.0]",
            "cosine [0.8072798, NaN]"),
        program("FfnSkipRule", FfnSkipRuleExample::main,
            "layer 0 runs",
            "layer 1 runs",
            "layer 2 skips",
            "layer 3 skips",
            "layer 4 runs"),
        program("Select", SelectExample::main, "4 tokens stay: [2, 3, 4, 5, -1]"),
        program("AttentionScores", AttentionScoresExample::main,
            "scores [0.2, 1.2, 1.2, 1.0, 0.6, 0.6, -0.4, -Infinity]",
            "kept   [1, 2, 7]"),
        program("HiredBudget", HiredBudgetExample::main,
            "budgets [3, 2, 1]",
            "partition 0 keeps [0, 2, 3, -1]",
            "partition 1 keeps [2, 3, -1, -1]",
            "partition 2 keeps [1, -1, -1, -1]"),
        program("Gather", GatherExample::main,
            "hidden    [10.0, 11.0, 30.0, 31.0]",
            "head 0    [2.0, 4.0]",
            "head 1    [6.0, 8.0]",
            "positions [6, 8]"),
        program("KvCompact", KvCompactExample::main,
            "page 2  [10.0, 21.0, 40.0, 11.0]",
            "lengths [2, 1]",
            "freed   [0, 1, -1]"));
  }

  private static Arguments program(String name, Consumer<String[]> main, String... lines) {
    return Arguments.of(name, main, List.of(lines));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("programs")
  @ResourceLock(Resources.SYSTEM_OUT)
  void prints(String name, Consumer<String[]> main, List<String> expected) {
    PrintStream console = System.out;
    Locale locale = Locale.getDefault();
    ByteArrayOutputStream printed = new ByteArrayOutputStream();
    System.setOut(new PrintStream(printed, true, StandardCharsets.UTF_8));
    Locale.setDefault(Locale.ROOT);
    try {
      main.accept(new String[0]);
    } finally {
      System.setOut(console);
      Locale.setDefault(locale);
    }
    List<String> lines = printed.toString(StandardCharsets.UTF_8).lines().toList();
    assertEquals(rounded(expected), rounded(lines));
  }

  /** Backends may differ in the last bits, so numbers are compared to five decimals. */
  private static List<String> rounded(List<String> lines) {
    return lines.stream().map(line -> {
      Matcher number = NUMBER.matcher(line);
      return number.replaceAll(found ->
          String.format(Locale.ROOT, "%.5f", Double.parseDouble(found.group()) + 0.0));
    }).toList();
  }
}
