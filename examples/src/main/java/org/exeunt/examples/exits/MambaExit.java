// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples.exits;

import org.exeunt.DType;
import org.exeunt.Gate;
import org.exeunt.Linear;
import org.exeunt.Scope;
import org.exeunt.SsmStep;
import org.exeunt.Tensor;

/**
 * A Mamba block as an exit's classifier, as DYNAMAX has it: one token of each row goes through the
 * block, whose last projection has one output, and the probability of that says whether the row may
 * leave here. What the block remembers of earlier tokens is its states.
 *
 * <pre>
 *   (x, z) = W_in h;  x &lt;- conv(x);  (dt_r, b, c) = W_x x;  dt = W_dt dt_r
 *   y = scan(x, dt, b, c, z);  p = sigmoid(w_out y + bias)
 * </pre>
 *
 * <p>The four products are {@link Linear} and {@link Gate}, the rest {@link SsmStep}. A row whose
 * {@code active} is 0 leaves its states as they are, which is what DYNAMAX does with tokens that
 * have left before; its probability is that of {@code y = 0}.
 */
public final class MambaExit {
  /**
   * The parameters of a block of Di channels over hidden states of D: a state of n, a convolution of
   * width w, steps of rank r.
   *
   * @param in W_in [2 Di,D]
   * @param conv [Di,w]
   * @param convBias [Di]
   * @param x W_x [r + 2 n,Di]
   * @param dt W_dt [Di,r]
   * @param dtBias [Di]
   * @param a [Di,n], which is -exp(A_log)
   * @param skip D [Di]
   * @param out w_out [1,Di]
   * @param outBias [1]
   */
  public record Weights(Tensor in, Tensor conv, Tensor convBias, Tensor x, Tensor dt, Tensor dtBias,
      Tensor a, Tensor skip, Tensor out, Tensor outBias) {}

  private final Linear in;
  private final SsmStep convolution;
  private final Linear x;
  private final Linear dt;
  private final SsmStep scan;
  private final Gate gate;

  /**
   * Builds the block for R rows; run it once for each token.
   *
   * @param scope owns its memory
   * @param w its parameters
   * @param hidden [R,D]
   * @param sequence [R], of each row; null: all belong to sequence 0
   * @param active [R]; null: all rows are active
   * @param sequences S, whose states start as 0
   * @param probability [R], out
   */
  public MambaExit(Scope scope, Weights w, Tensor hidden, Tensor sequence, Tensor active,
      long sequences, Tensor probability) {
    long rows = hidden.shape()[0];
    long channels = w.conv().shape()[0];
    long states = w.a().shape()[1];
    long rank = w.dt().shape()[1];
    Tensor both = scope.allocate(DType.F32, rows, 2 * channels);
    Tensor u = both.slice(1, 0, channels);
    in = Linear.builder().input(hidden).weight(w.in()).out(both).build(scope);
    convolution =
        SsmStep.convolution()
            .x(u)
            .state(zeros(scope, sequences, channels, w.conv().shape()[1]))
            .weight(w.conv())
            .bias(w.convBias())
            .out(u)
            .sequence(sequence)
            .active(active)
            .build(scope);
    Tensor made = scope.allocate(DType.F32, rows, rank + 2 * states);
    x = Linear.builder().input(u).weight(w.x()).out(made).build(scope);
    Tensor step = scope.allocate(DType.F32, rows, channels);
    dt = Linear.builder().input(made.slice(1, 0, rank)).weight(w.dt()).out(step).build(scope);
    scan =
        SsmStep.scan()
            .x(u)
            .state(zeros(scope, sequences, channels, states))
            .weight(w.a())
            .bias(w.dtBias())
            .dt(step)
            .b(made.slice(1, rank, rank + states))
            .c(made.slice(1, rank + states, rank + 2 * states))
            .skip(w.skip())
            .z(both.slice(1, channels, 2 * channels))
            .out(u)
            .sequence(sequence)
            .active(active)
            .build(scope);
    gate =
        Gate.builder()
            .features(u)
            .linear()
            .output(w.out(), w.outBias())
            .prob(probability)
            .build(scope);
  }

  private static Tensor zeros(Scope scope, long... shape) {
    Tensor tensor = scope.allocate(DType.F32, shape);
    return tensor.copyFrom(new float[(int) tensor.elements()]);
  }

  /** Takes the next token of each row; does not synchronise. */
  public void run() {
    in.run();
    convolution.run();
    x.run();
    dt.run();
    scan.run();
    gate.run();
  }
}
