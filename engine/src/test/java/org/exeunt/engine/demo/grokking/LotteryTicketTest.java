// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.demo.grokking;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.List;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.Normalizer;
import org.exeunt.Scope;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;

class LotteryTicketTest {
  private static final LotteryTicket.Size SMALL = new LotteryTicket.Size(23, 40, 30, 10);

  @Test
  void roundsPruneAFifthOfWhatIsLeft() {
    try (LotteryTicket lottery = new LotteryTicket(SMALL)) {
      double[] expected = {0, .2, .36, .488};
      for (double share : expected) {
        List<int[]> before = lottery.masks().stream().map(Tensor::toIntArray).toList();
        LotteryTicket.Round round = lottery.next();
        assertEquals(share, round.pruned(), .001);
        assertEquals(30, round.ticket().end().epoch());
        assertTrue(round.ticket().end().trainAccuracy() > .05, round.toString());
        for (int i = 0; i < before.size(); i++) { // what is pruned stays so
          int[] after = lottery.masks().get(i).toIntArray();
          for (int j = 0; j < after.length; j++) {
            assertTrue(after[j] <= before.get(i)[j]);
          }
        }
      }
    }
  }

  /** The weights of epoch 10, which are no longer those of epoch 0. */
  @Test
  void aTicketBeginsWithTheFirstTraining() {
    Training.Setup setup = new Training.Setup(Normalizer.SOFTMAX, true, .4, .01f);
    try (LotteryTicket lottery = new LotteryTicket(SMALL);
        Training training = new Training(setup, 23, 40, 42)) {
      lottery.next();
      training.run(10);
      for (int i = 0; i < 3; i++) {
        Tensor weight = training.weights().get(i).tensor();
        assertArrayEquals(weight.toFloatArray(), lottery.start().get(i));
      }
    }
  }

  @Test
  void prunedWeightsStayZero() {
    Training.Setup setup = new Training.Setup(Normalizer.SOFTMAX, true, .4, .01f);
    try (Scope scope = Scope.open(); Training training = new Training(setup, 23, 40, 42)) {
      List<Tensor> masks =
          training.weights()
              .stream()
              .map(w -> {
                Tensor mask = scope.allocate(Device.CPU, DType.U8, w.rows(), w.columns());
                for (int i = 0; i < mask.elements(); i++) {
                  mask.byteBuffer().put(i, (byte) (i % 3));
                }
                return mask;
              })
              .toList();
      training.prune(masks);
      training.run(5);
      for (int i = 0; i < masks.size(); i++) {
        float[] weight = training.weights().get(i).tensor().toFloatArray();
        for (int j = 0; j < weight.length; j++) {
          assertEquals(j % 3 == 0, weight[j] == 0, i + ", " + j);
        }
      }
    }
  }

  @Test
  void epochsThatAreNotLookedAtAreRefused() {
    for (int wrong : new int[] {-10, 5, 30}) {
      LotteryTicket.Size size = new LotteryTicket.Size(23, 40, 30, wrong);
      String said =
          assertThrows(IllegalArgumentException.class, () -> new LotteryTicket(size)).getMessage();
      assertTrue(said.contains(Integer.toString(wrong)), said);
    }
  }
}
