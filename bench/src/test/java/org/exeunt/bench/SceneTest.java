// SPDX-License-Identifier: Apache-2.0
package org.exeunt.bench;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.TimeUnit;
import java.util.regex.Pattern;
import java.util.stream.Collectors;
import java.util.stream.IntStream;
import org.exeunt.bench.measure.Between;
import org.exeunt.bench.measure.Bursts;
import org.exeunt.bench.measure.Callers;
import org.exeunt.bench.measure.Host;
import org.exeunt.bench.measure.Limit;
import org.exeunt.bench.measure.Neighbour;
import org.exeunt.cli.HelpPage;
import org.junit.jupiter.api.Test;

/** What goes on around calls is what the report says. */
class SceneTest {
  private static void take(long millis) {
    try {
      Thread.sleep(millis);
    } catch (InterruptedException e) {
      throw new IllegalStateException(e);
    }
  }

  private static Map<String, Double> results(Between between) {
    return between.results().stream().collect(
        Collectors.toMap(r -> r.getLabel(), r -> r.getScore()));
  }

  @Test
  void burstsBeginAfterIdlingAndTheirFirstCallsCountApart() {
    Bursts bursts = new Bursts();
    bursts.begin();
    int idled = 0;
    for (int call = 0; call < 8; call++) {
      long start = System.nanoTime();
      bursts.before();
      boolean first = System.nanoTime() - start >= TimeUnit.MILLISECONDS.toNanos(50);
      idled += first ? 1 : 0;
      // The second call begins more than 2 ms after the first one, and takes the rest of the burst.
      take(first ? 3 : 60);
      bursts.after();
    }
    assertTrue(idled >= 4 && idled < 8, idled + " bursts");
    double median = results(bursts).get(Limit.FIRST);
    assertTrue(median >= 3000 && median < 60000, median + " us");
  }

  @Test
  void theFirstCallerIsAloneBeforeBothCall() {
    CyclicBarrier both = new CyclicBarrier(2);
    long[] begun = new long[2];
    List<Callers> callers =
        IntStream.range(0, 2)
            .mapToObj(i
                -> new Callers(
                    ()
                        -> {
                      begun[i] = begun[i] == 0 ? System.nanoTime() : begun[i];
                      take(2);
                      return begun;
                    },
                    i, both))
            .toList();
    List<CompletableFuture<Void>> threads =
        callers.stream()
            .map(caller
                -> CompletableFuture.runAsync(
                    ()
                        -> {
                      caller.begin();
                      for (int call = 0; call < 20; call++) {
                        caller.before();
                        caller.op.run();
                        caller.after();
                      }
                    },
                    task -> new Thread(task).start()))
            .toList();
    threads.forEach(CompletableFuture::join);
    long alone = TimeUnit.NANOSECONDS.toMillis(begun[1] - begun[0]);
    assertTrue(alone >= 100, alone + " ms");
    for (int i = 0; i < 2; i++) {
      double median = results(callers.get(i)).get(Limit.CALLER + i);
      assertTrue(median >= 2000, median + " us");
      assertEquals(i == 0, results(callers.get(i)).containsKey(Limit.ALONE));
    }
    assertTrue(results(callers.get(0)).get(Limit.ALONE) >= 2000);
  }

  @Test
  void aNeighbourKeepsACoreBusyAtTheLowestPriority() throws IOException, InterruptedException {
    Neighbour neighbour = new Neighbour();
    Process process = neighbour.process();
    try {
      Duration busy = Duration.ZERO;
      for (int i = 0; i < 300 && busy.toMillis() < 50; i++) {
        take(100);
        assertTrue(process.isAlive());
        busy = process.info().totalCpuDuration().orElse(Duration.ZERO);
      }
      assertTrue(busy.toMillis() >= 50, busy.toString());
      String stat = Files.readString(Path.of("/proc/" + process.pid() + "/stat"));
      String[] fields = stat.substring(stat.lastIndexOf(')') + 2).split(" ");
      assertEquals("19", fields[16], stat); // nice
    } finally {
      neighbour.close();
    }
    assertTrue(process.waitFor(10, TimeUnit.SECONDS));
  }

  private static List<Plan.Step> steps(boolean quick, List<Scene> scenes, String filter) {
    return Plan.steps(quick, scenes, Pattern.compile(filter), 2, false);
  }

  private static List<String> names(List<Plan.Step> steps) {
    return steps.stream().map(Plan.Step::toString).toList();
  }

  @Test
  void everyContenderIsTimedInBothPlacesWithOneThreadAndTwo() {
    List<String> all = names(steps(false, List.of(Scene.LOOP), "linear/model_576x1536_r1 "));
    for (String contender : List.of("exeunt", "onnxruntime", "vector")) {
      for (String threads : List.of("1 thread", "2 threads")) {
        for (String place : List.of("in cache", "from memory")) {
          String step = "linear/model_576x1536_r1 " + contender + " " + threads + " " + place;
          assertTrue(all.contains(step), step + " in " + all);
        }
      }
    }
    assertEquals(12, all.size());
    // A quick run tries two threads where the target is judged.
    List<String> quick = names(steps(true, List.of(Scene.LOOP), "linear/model_576x1536_r1 "));
    assertEquals(9, quick.size());
    assertFalse(
        quick.contains("linear/model_576x1536_r1 vector 2 threads in cache"), quick::toString);
    // No more threads than cores.
    assertTrue(Plan.steps(false, List.of(Scene.LOOP), Pattern.compile("linear/"), 1, false)
            .stream()
            .allMatch(step -> step.threads() == 1));
  }

  @Test
  void scenesAreStepsOfTheirOwn() {
    List<Scene> two = List.of(Scene.BURSTS, Scene.CALLERS);
    List<Plan.Step> steps = steps(true, two, "gather/drop_from_bf16 .*memory");
    assertEquals(8, steps.size());
    assertEquals(two, steps.stream().map(Plan.Step::scene).distinct().toList());
    assertTrue(names(steps).contains(
        "gather/drop_from_bf16 onnxruntime 2 threads from memory from two callers"));
    assertTrue(steps(true, two, "call_cost").isEmpty());
  }

  private static Main main(String forks) {
    return new Main(HelpPage.parse("bench", "--forks", forks));
  }

  @Test
  void asManyForksAsAreAskedFor() {
    Plan.Step step = steps(true, List.of(Scene.LOOP), "call_cost.* empty").get(0);
    Host host = Host.current("quick", "");
    Path log = Path.of("0.log");
    assertEquals(1, new Main(List.of()).options(step, host, log).getForkCount().get());
    assertEquals(12, main("12").options(step, host, log).getForkCount().get());
    for (String wrong : new String[] {"0", "-1", "100", "two"}) {
      Exception said = assertThrows(IllegalArgumentException.class, () -> main(wrong));
      assertEquals("--forks is '" + wrong + "', expected 1 to 99", said.getMessage());
    }
  }
}
