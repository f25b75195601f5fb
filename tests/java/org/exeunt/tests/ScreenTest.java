// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.File;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.Scope;
import org.exeunt.Screen;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Screens through the facade; what they compute the native tests judge. */
@ExtendWith(ForcedPath.class)
class ScreenTest {
  /** What exit_head takes beside a screen. */
  static final Set<String> FIELDS = Set.of("screen", "certified", "p1_low", "p1_high", "rows_read",
      "screen_level", "screen_mode", "screen_budget", "screen_factor");
  private static final int VOCABULARY = 300;
  private static final int WIDTH = 40;
  private static final int STATES = 90;

  @TempDir Path folder;
  private final Scope scope = Scope.open();
  private final Random random = new Random(7);
  private final Tensor weight = tensor(DType.BF16, VOCABULARY);
  private final Tensor states = tensor(DType.F32, STATES);

  private Tensor tensor(DType type, int rows) {
    float[] values = new float[rows * WIDTH];
    for (int i = 0; i < values.length; i++) {
      values[i] = (float) random.nextGaussian();
    }
    return scope.allocate(Device.CPU, type, rows, WIDTH).copyFrom(values);
  }

  @AfterEach
  void close() throws InterruptedException {
    scope.close();
    Setup.remove(folder);
  }

  private Screen.Builder builder() {
    return Screen.builder().weight(weight).states(states);
  }

  private ExitHead.Builder head(Statistics out) {
    return ExitHead.builder().hidden(tensor(DType.F32, 5)).weight(weight).out(out);
  }

  @Test
  void findsTheFullHeadsArgmax() throws IOException {
    try (Screen made = builder().build()) {
      assertEquals(VOCABULARY, made.vocabulary());
      assertEquals(WIDTH, made.dim());
      assertEquals(STATES, made.states());
      assertEquals(1, made.levelCount());
      Path file = folder.resolve("head.screen");
      made.save(file);
      try (Screen mapped = Screen.open(file)) {
        mapped.check(weight, null);
        assertArrayEquals(bytes(made), bytes(mapped));
        for (Screen screen : new Screen[] {made, mapped}) {
          Statistics full = Statistics.allocate(scope, Device.CPU, 5);
          Statistics screened =
              Statistics.allocate(scope, Device.CPU, 5, Statistic.ARGMAX, Statistic.MAX_LOGIT);
          Tensor certified = scope.allocate(Device.CPU, DType.U8, 5);
          ExitHead.Builder head = head(full);
          head.runOnce();
          head.screen(screen).certified(certified).out(screened).runOnce();
          assertArrayEquals(full.argmax().toIntArray(), screened.argmax().toIntArray());
          assertArrayEquals(full.maxLogit().toFloatArray(), screened.maxLogit().toFloatArray());
        }
      }
    }
  }

  private static byte[] bytes(Screen screen) {
    byte[] bytes = new byte[Math.toIntExact(screen.image().byteSize())];
    screen.image().byteBuffer().get(bytes);
    return bytes;
  }

  private Tensor copyThere(Tensor tensor) {
    return scope.allocate(Device.defaultDevice(), tensor.dtype(), tensor.shape())
        .copyFrom(tensor, Stream.DEFAULT);
  }

  @Test
  @Tag("kernels")
  void readsAnImageOnTheDevice() {
    Device device = Device.defaultDevice();
    try (Screen screen = builder().build()) {
      Statistics full = Statistics.allocate(scope, device, 5);
      Statistics screened = Statistics.allocate(
          scope, device, 5, Statistic.ARGMAX, Statistic.MAX_LOGIT, Statistic.P1);
      Tensor certified = scope.allocate(device, DType.U8, 5);
      Tensor low = scope.allocate(device, DType.F32, 5);
      Tensor high = scope.allocate(device, DType.F32, 5);
      ExitHead.Builder head =
          ExitHead.builder()
              .hidden(copyThere(tensor(DType.F32, 5)))
              .weight(copyThere(weight))
              .out(full);
      head.runOnce();
      head.screenImage(copyThere(screen.image()))
          .screenBudget(VOCABULARY)
          .certified(certified)
          .p1Low(low)
          .p1High(high)
          .out(screened)
          .runOnce();
      assertArrayEquals(full.argmax().toIntArray(), screened.argmax().toIntArray());
      assertArrayEquals(full.maxLogit().toFloatArray(), screened.maxLogit().toFloatArray());
      for (int row = 0; row < 5; row++) {
        assertEquals(1, certified.toIntArray()[row]);
        float p1 = full.p1().toFloatArray()[row];
        assertTrue(low.toFloatArray()[row] <= p1 && p1 <= high.toFloatArray()[row]);
      }
      if (Setup.cuda()) { // the image must be there, too
        String message =
            assertThrows(IllegalArgumentException.class, () -> head.screen(screen).runOnce())
                .getMessage();
        assertTrue(message.contains("screen is on cpu"), message);
      }
    }
  }

  @Test
  void givesEveryField() {
    int[] levels = new int[STATES];
    for (int i = 0; i < STATES; i++) {
      levels[i] = i % 2;
    }
    Tensor of = scope.allocate(Device.CPU, DType.I32, STATES).copyFrom(levels);
    try (Screen screen = builder().levels(of, 2).bitsPerWeight(6).build()) {
      assertEquals(2, screen.levelCount());
      assertTrue(screen.bitsPerWeight() > 5 && screen.bitsPerWeight() <= 6);
      assertTrue(screen.worstRatio() > 0 && screen.worstRatio() < 8);
      Tensor certified = scope.allocate(Device.CPU, DType.U8, 5);
      Tensor low = scope.allocate(Device.CPU, DType.F32, 5);
      Tensor high = scope.allocate(Device.CPU, DType.F32, 5);
      Tensor read = scope.allocate(Device.CPU, DType.I32, 5);
      Statistics out = Statistics.allocate(scope, Device.CPU, 5, Statistic.ARGMAX, Statistic.P1);
      ExitHead op =
          head(out)
              .screen(screen)
              .screenLevel(1)
              .screenBounds(Screen.Bounds.CALIBRATED)
              .screenFactor(9)
              .screenBudget(VOCABULARY)
              .certified(certified)
              .p1Low(low)
              .p1High(high)
              .rowsRead(read)
              .build(scope);
      Map<String, Object> given = FacadeTest.contents(op, "exit_head");
      assertTrue(given.keySet().containsAll(FIELDS), given::toString);
      assertEquals(Map.of("screen_level", 1, "screen_mode", 1, "screen_budget", VOCABULARY,
                       "screen_factor", 9f),
          Map.of("screen_level", given.get("screen_level"), "screen_mode", given.get("screen_mode"),
              "screen_budget", given.get("screen_budget"), "screen_factor",
              given.get("screen_factor")));
      op.run();
      for (int row = 0; row < 5; row++) {
        float p1 = out.p1().toFloatArray()[row];
        assertTrue(low.toFloatArray()[row] <= p1 && p1 <= high.toFloatArray()[row]);
        assertTrue(read.toIntArray()[row] > 0);
      }
    }
  }

  @Test
  void refusesWhatIsNone() throws IOException {
    try (Screen screen = builder().build()) {
      Tensor other = tensor(DType.BF16, VOCABULARY);
      String message =
          assertThrows(IllegalArgumentException.class, () -> screen.check(other, null))
              .getMessage();
      assertTrue(message.contains("weight"), message);
      Path whole = folder.resolve("whole");
      screen.save(whole);
      Screen.open(whole, weight, null).close();
      assertEquals(message,
          assertThrows(IllegalArgumentException.class, () -> Screen.open(whole, other, null))
              .getMessage());
      assertEquals("weight is null",
          assertThrows(IllegalArgumentException.class, () -> Screen.open(whole, null, null))
              .getMessage());
      Path damaged = folder.resolve("damaged");
      byte[] bytes = bytes(screen);
      bytes[bytes.length / 2] ^= 4;
      Files.write(damaged, bytes);
      assertThrows(IllegalArgumentException.class, () -> Screen.open(damaged));
      assertThrows(IllegalArgumentException.class, () -> Screen.open(damaged, weight, null));
      try (Screen trusted = Screen.map(damaged)) {
        assertEquals(VOCABULARY, trusted.vocabulary());
        assertThrows(IllegalArgumentException.class, () -> trusted.check(weight, null));
      }
      bytes[70] ^= 4;
      Path header = Files.write(folder.resolve("header"), bytes);
      assertThrows(IllegalArgumentException.class, () -> Screen.map(header));
      screen.close();
      assertThrows(IllegalStateException.class, screen::image);
      assertThrows(IllegalStateException.class, () -> screen.save(damaged));
    }
    Tensor few = tensor(DType.F32, WIDTH);
    String message =
        assertThrows(IllegalArgumentException.class, () -> builder().states(few).build())
            .getMessage();
    assertTrue(message.contains("states") && message.contains("" + WIDTH), message);
    message = assertThrows(IllegalArgumentException.class, () -> Screen.open(null)).getMessage();
    assertEquals("file is null", message);
    List<Path> noFiles = new ArrayList<>(List.of(folder, Path.of("/"), Path.of("")));
    if (File.separatorChar == '/') {
      noFiles.add(Path.of("/dev/null"));
    }
    for (Path none : noFiles) {
      message = assertThrows(IOException.class, () -> Screen.open(none)).getMessage();
      assertEquals("file '" + none + "' is no regular file", message);
    }
    try (Screen screen = builder().build()) {
      for (Path none : noFiles) {
        message = assertThrows(IOException.class, () -> screen.save(none)).getMessage();
        assertEquals("file '" + none + "' is no regular file", message);
      }
    }
  }
}
