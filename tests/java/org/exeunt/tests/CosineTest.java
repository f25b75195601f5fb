// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Expected.F32;

import java.util.stream.Stream;
import org.exeunt.Cosine;
import org.exeunt.DType;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

class CosineTest extends OpTest {
  CosineTest() {
    super("cosine");
  }

  static Stream<CaseRow> cases() {
    return CaseRow.of("cosine");
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("cases")
  void matchesOracle(CaseRow c) {
    String relation = c.text("relation");
    DType dtype = c.dtype("dtype");
    long[] shape = {c.integer("rows"), c.integer("cols")};
    HostTensor a = new HostTensor(dtype, shape, c.int32("pad_a"), c.int32("offset_a"));
    String fill = relation.equals("zero_a") ? "zero" : c.text("fill");
    a.fill(c.seed(), 0, fill, c.number("scale_a"), "-");
    HostTensor b = relation.equals("same") ? a : makeB(c, a, relation);
    a.special(c.seed(), 0, c.text("special"));

    Placed out = new Placed(scope, HostTensor.of(DType.F32, a.rows));
    var tensorA = input(a);
    var tensorB = b == a ? tensorA : input(b);
    Cosine op = Cosine.builder().a(tensorA).b(tensorB).out(out.tensor()).build(scope);
    run(op, out);
    HostTensor got = out.read();
    for (int r = 0; r < a.rows; r++) {
      oracle(a.row(r), b.row(r)).check("row " + r, got.at(r));
    }
  }

  private static HostTensor makeB(CaseRow c, HostTensor a, String relation) {
    HostTensor b = new HostTensor(a.dtype, a.shape, c.int32("pad_b"), c.int32("offset_b"));
    if (relation.equals("independent") || relation.equals("zero_a")) {
      return b.fill(c.seed(), 1, c.text("fill"), c.number("scale_b"), "-");
    }
    if (relation.equals("zero")) {
      return b.fill(c.seed(), 1, "zero", 1, "-");
    }
    if (!b.derive(a, relation, c.seed(), 1)) {
      throw new IllegalStateException("unknown relation '" + relation + "'");
    }
    return b;
  }

  static Expected oracle(double[] a, double[] b) {
    double ab = 0;
    double aa = 0;
    double bb = 0;
    double magnitude = 0;
    for (int i = 0; i < a.length; i++) {
      if (!Double.isFinite(a[i]) || !Double.isFinite(b[i])) {
        return Expected.NAN;
      }
      ab += a[i] * b[i];
      magnitude += Math.abs(a[i] * b[i]);
      aa += a[i] * a[i];
      bb += b[i] * b[i];
    }
    if (aa == 0 || bb == 0) {
      return Expected.ZERO;
    }
    double norms = Math.sqrt(aa) * Math.sqrt(bb);
    double cosine = ab / norms;
    double sums = F32 * Expected.sumError(a.length) * (magnitude / norms + Math.abs(cosine));
    return new Expected(cosine, sums + 4 * F32 * Math.abs(cosine));
  }
}
