// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.Collection;
import java.util.Optional;
import java.util.stream.Stream;
import org.exeunt.CrossEntropy;
import org.exeunt.CrossEntropy.Reduction;
import org.exeunt.DType;
import org.exeunt.Normalizer;
import org.exeunt.PerpGrad;
import org.exeunt.Scope;
import org.exeunt.StableMax;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Assumptions;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.MethodSource;

/**
 * What the official implementations returned, recorded: StableMax and perpGrad of Prieto et al.
 * Folder: the environment variable EXEUNT_GOLDEN, else ../shared/golden beside the repository.
 * Values are compared with the official f64 run.
 */
@Tag("kernels")
@ExtendWith(ForcedPath.class)
class GoldenTest {
  private static final String NONE = "no recorded vectors";

  private static Stream<String> cases(String method) {
    Optional<Path> file = Setup.golden("official/" + method + ".safetensors");
    if (file.isEmpty()) {
      return Stream.of(NONE);
    }
    Collection<String> cases = new Safetensors(file.get()).cases();
    assertFalse(cases.isEmpty(), file.get() + " has no cases");
    return cases.stream();
  }

  private static Path file(String method) {
    return Setup.golden().resolve("official").resolve(method + ".safetensors");
  }

  static Stream<String> stableMaxCases() {
    return cases("stablemax");
  }

  private static boolean isRun(String name) {
    return new Safetensors(file("orthograd")).find(name + "/expected_weights") != null;
  }

  static Stream<String> orthoGradCases() {
    // Runs of a whole optimiser around the projection are checked from C++.
    return cases("orthograd").filter(name -> name.equals(NONE) || !isRun(name));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("stableMaxCases")
  void stableMax(String name) {
    Assumptions.assumeFalse(name.equals(NONE), NONE);
    Safetensors file = new Safetensors(file("stablemax"));
    HostTensor logits = file.get(name + "/logits");
    double noise = 2 * Expected.sumError(logits.cols);
    try (Scope scope = Scope.open()) {
      var z = new Placed(scope, logits).tensor();
      Placed log = new Placed(scope, HostTensor.of(logits.dtype, logits.shape));
      StableMax.logForward(z, log.tensor());
      compare(
          name + " log", file.get(name + "/log_stablemax_f64"), log.read(), logits.dtype, noise, 1);

      DType lossType = logits.dtype == DType.F64 ? DType.F64 : DType.F32;
      var labels = new Placed(scope, file.get(name + "/labels")).tensor();
      Placed rows = new Placed(scope, HostTensor.of(lossType, logits.rows));
      Placed mean = new Placed(scope, HostTensor.of(lossType, 1));
      Placed grad = new Placed(scope, HostTensor.of(logits.dtype, logits.shape));
      CrossEntropy.Builder builder = StableMax.crossEntropy().logits(z).labels(labels);
      builder.loss(rows.tensor()).reduction(Reduction.NONE).runOnce();
      builder.loss(mean.tensor()).grad(grad.tensor()).reduction(Reduction.MEAN).runOnce();
      compare(
          name + " rows",
          file.get(name + "/stablemax_ce_rows_f64"),
          rows.read(),
          lossType,
          noise,
          1);
      compare(
          name + " mean",
          file.get(name + "/stablemax_ce_mean_f64"),
          mean.read(),
          lossType,
          noise,
          1);
      HostTensor official = file.find(name + "/stablemax_ce_grad_f64");
      compare(
          name + " grad",
          official == null ? file.get(name + "/stablemax_ce_grad") : official,
          grad.read(),
          logits.dtype,
          noise,
          1.0 / logits.rows);
      softmax(file, name, z, labels, grad, logits.dtype);
    }
  }

  private static void softmax(
      Safetensors file, String name, Tensor z, Tensor labels, Placed grad, DType dtype) {
    HostTensor official = file.find(name + "/ce_f64_grad");
    if (official == null) {
      return; // not recorded where the reference overflows
    }
    CrossEntropy.builder()
        .logits(z)
        .labels(labels)
        .grad(grad.tensor())
        .normalizer(Normalizer.SOFTMAX)
        .reduction(Reduction.MEAN)
        .runOnce();
    compare(
        name + " softmax grad",
        official,
        grad.read(),
        dtype,
        2 * Expected.sumError((int) z.size(1)),
        1.0 / z.size(0));
  }

  @ParameterizedTest(name = "{0}")
  @MethodSource("orthoGradCases")
  void orthoGrad(String name) {
    Assumptions.assumeFalse(name.equals(NONE), NONE);
    Safetensors file = new Safetensors(file("orthograd"));
    if (file.find(name + "/grad") != null) {
      project(file, name, "");
      return;
    }
    int tensors = 0;
    while (file.find(name + "/weight" + tensors) != null) {
      project(file, name, "" + tensors++);
    }
    assertTrue(tensors > 0, name + " has no gradients");
  }

  private static void project(Safetensors file, String name, String index) {
    HostTensor weight = file.get(name + "/weight" + index).flat();
    HostTensor grad = file.get(name + "/grad" + index).flat();
    HostTensor wide = file.find(name + "/expected_grad" + index + "_f64");
    HostTensor official = (wide == null ? file.get(name + "/expected_grad" + index) : wide).flat();
    try (Scope scope = Scope.open()) {
      Placed out = new Placed(scope, HostTensor.of(grad.dtype, grad.size()));
      PerpGrad.compute(
          new Placed(scope, weight).tensor(), new Placed(scope, grad).tensor(), out.tensor());
      org.exeunt.Stream.DEFAULT.synchronize();
      double length = length(grad);
      if (parallel(weight, grad)) {
        double got = length(out.read());
        assertTrue(got <= length * 1.01, "noise longer than the gradient: " + got + " > " + length);
      } else {
        double amplified = 16 * length / perpendicular(weight, grad);
        compare(name + index, official, out.read(), grad.dtype, amplified, 0);
      }
    }
  }

  /**
   * So nearly that the official code scales rounding noise to full length, where ours returns 0.
   */
  private static boolean parallel(HostTensor w, HostTensor g) {
    return perpendicular(w, g) <= 8 * Expected.rounding(g.dtype) * length(g);
  }

  private static double length(HostTensor t) {
    double sum = 0;
    for (double v : t.row(0)) {
      sum += v * v;
    }
    return Math.sqrt(sum);
  }

  private static double perpendicular(HostTensor w, HostTensor g) {
    double wg = 0;
    double ww = 0;
    for (int i = 0; i < w.size(); i++) {
      wg += w.at(i) * g.at(i);
      ww += w.at(i) * w.at(i);
    }
    double sum = 0;
    for (int i = 0; i < w.size(); i++) {
      double p = g.at(i) - wg / (ww + 1e-30) * w.at(i);
      sum += p * p;
    }
    return Math.sqrt(sum);
  }

  /**
   * Largest error against largest value; where the official code overflows or divides 0 by 0, ours
   * must be finite.
   *
   * @param noise rounding errors to allow, in unit roundoffs of the arithmetic
   * @param scale size of the numbers whose difference the result is
   */
  private static void compare(
      String what, HostTensor official, HostTensor got, DType dtype, double noise, double scale) {
    double worst = 0;
    double largest = 0;
    for (int i = 0; i < official.size(); i++) {
      double expected = official.at(i / official.cols, i % official.cols);
      double actual = got.at(i / got.cols, i % got.cols);
      if (Double.isFinite(expected)) {
        worst = Math.max(worst, Math.abs(actual - expected));
        largest = Math.max(largest, Math.abs(expected));
      }
      assertTrue(
          Double.isFinite(actual), what + " [" + i + "]: " + actual + ", officially " + expected);
    }
    double bound =
        noise * Expected.arithmetic(dtype) * (largest + scale)
            + 1.01 * Expected.rounding(dtype) * largest
            + Expected.smallest(dtype);
    assertTrue(worst <= bound, what + ": off by " + worst + ", allowed are " + bound);
  }
}
