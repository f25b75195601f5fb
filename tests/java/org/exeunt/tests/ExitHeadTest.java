// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import java.util.Map;
import java.util.stream.LongStream;
import java.util.stream.Stream;
import org.exeunt.DType;
import org.exeunt.ExitHead;
import org.exeunt.ExitHead.Translate;
import org.exeunt.Normalizer;
import org.exeunt.Statistic;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class ExitHeadTest extends OpTest {
  ExitHeadTest() {
    super("exit_head");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("exit_head");
  }

  /** The tensors of a case. */
  static final class Inputs {
    final HostTensor hidden;
    final HostTensor weight;
    final HostTensor bias;
    final HostTensor normWeight;
    final HostTensor normBias;
    final HostTensor translator;
    final HostTensor translatorBias;
    final HostTensor shortlist;

    Inputs(CaseRow c) {
      hidden = HostTensor.matrix(c, "dim", "hidden", 0);
      long d = hidden.cols;
      weight = HostTensor.weight(c, c.text("weight_fill"), 1, c.integer("vocab"), d);
      bias = c.given("bias") ? makeBias(c) : null;
      normWeight =
          c.text("norm").equals("none")
              ? null
              : HostTensor.bells(DType.F32, c.seed(), 3, 0.25f, 1, d);
      normBias = c.flag("norm_bias") ? HostTensor.bells(DType.F32, c.seed(), 4, 0.25f, 0, d) : null;
      translator = c.given("translator") ? makeTranslator(c, (int) d) : null;
      translatorBias =
          c.flag("translator_bias") ? HostTensor.bells(DType.F32, c.seed(), 6, 0.125f, 0, d) : null;
      shortlist = c.given("shortlist") ? makeShortlist(c) : null;
    }

    private static HostTensor makeBias(CaseRow c) {
      String special = c.text("bias").equals("normal") ? "-" : c.text("bias");
      return HostTensor.of(DType.F32, c.integer("vocab")).fill(c.seed(), 2, "normal", 1, special);
    }

    private static HostTensor makeTranslator(CaseRow c, int d) {
      HostTensor t =
          new HostTensor(c.dtype("translator"), new long[] {d, d}, c.int32("translator_pad"), 0);
      for (int i = 0; i < d; i++) {
        for (int j = 0; j < d; j++) {
          float v = Words.bell(Words.word(c.seed(), 5, (long) i * d + j)) * 0x1p-5f;
          t.set(i, j, i == j ? v + 1 : v);
        }
      }
      return t;
    }

    private static HostTensor makeShortlist(CaseRow c) {
      String[] list = c.text("shortlist").split(":");
      int n = Integer.parseInt(list[0]);
      HostTensor t = HostTensor.of(DType.I32, n);
      for (int k = 0; k < n; k++) {
        t.setInteger(list.length > 1 ? n - 1 - k : k, k * c.integer("vocab") / n);
      }
      return t;
    }
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    Inputs in = new Inputs(c);
    Normalizer normalizer = c.choice("normalizer", Normalizer.class);
    Translate translate = c.choice("translate", Translate.class);
    float eps = c.number("norm_eps");
    StatsOracle.Outputs out = new StatsOracle.Outputs(scope, c, in.hidden.rows);
    ExitHead.Builder builder =
        ExitHead.builder()
            .hidden(input(in.hidden))
            .weight(input(in.weight))
            .bias(input(in.bias))
            .normEps(eps)
            .translator(input(in.translator), input(in.translatorBias), translate)
            .shortlist(input(in.shortlist))
            .normalizer(normalizer)
            .temperature(c.number("temperature"))
            .softcap(c.number("softcap"))
            .out(out.tensors());
    int norm = c.choice("norm", "none", "rms", "layer");
    if (norm == 1) {
      builder.rmsNorm(input(in.normWeight), eps);
    } else if (norm == 2) {
      builder.layerNorm(input(in.normWeight), input(in.normBias), eps);
    }
    run(builder.build(scope), out.placed());

    Map<Statistic, HostTensor> got = out.read();
    HeadOracle oracle = new HeadOracle(in, norm, eps, translate, c.tag("exact"));
    long[] ids = in.shortlist == null ? null : ids(in.shortlist);
    for (int r = 0; r < in.hidden.rows; r++) {
      HeadOracle.Logits z = oracle.logits(in.hidden.row(r), ids);
      new StatsOracle(
              z.value(), z.error(), ids, normalizer, c.number("temperature"), c.number("softcap"))
          .check(got, r);
    }
  }

  private static long[] ids(HostTensor shortlist) {
    return LongStream.range(0, shortlist.size()).map(k -> shortlist.integerAt((int) k)).toArray();
  }
}
