// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.speculate;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Path;
import java.util.List;
import java.util.stream.IntStream;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.policy.ExitPolicy;
import org.exeunt.engine.policy.FfnSkip;
import org.exeunt.engine.policy.KvPolicy;
import org.exeunt.engine.policy.Schedule;
import org.exeunt.engine.speculate.draft.DraftPolicy;
import org.exeunt.engine.speculate.draft.DraftRules;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;

/** How options are read; what they do is {@code DecoderTest}'s. */
class OptionsTest {
  private static void assertRefused(String expected, Executable reading) {
    String message = assertThrows(IllegalArgumentException.class, reading).getMessage();
    assertTrue(message.contains(expected), message);
    assertEquals(1, message.lines().count());
  }

  @Test
  void exitRulesAskWhereTheyAreTold() {
    ExitPolicy byDefault = ExitPolicy.parse("threshold:0.9", null, 30);
    assertArrayEquals(
        new int[] {20, 25, 30}, IntStream.rangeClosed(1, 30).filter(byDefault::asksAt).toArray());
    ExitPolicy chosen = ExitPolicy.parse("entropy:1.5", "12,6", 30);
    assertArrayEquals(
        new int[] {12, 18, 24, 30}, IntStream.rangeClosed(1, 30).filter(chosen::asksAt).toArray());
    assertTrue(chosen.readsHead());
    ExitPolicy calm = ExitPolicy.parse("calm:0.9,4,128", "12,6", 30);
    assertTrue(calm.readsHead() && calm.asksAt(18) && !calm.asksAt(20));
    ExitPolicy fixed = ExitPolicy.parse("fixed:7", null, 30);
    assertEquals(0, fixed.verdict(5, 6));
    assertEquals(1, fixed.verdict(5, 7));
    assertTrue(!fixed.readsHead() && !ExitPolicy.parse("none", null, 30).mayLeave());
  }

  @Test
  void senselessExitRulesAreRefused() {
    for (String text : new String[] {"", "threshold", "maybe:1", "none:1", "Threshold:0.9"}) {
      assertRefused("--exit", () -> ExitPolicy.parse(text, null, 30));
    }
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("margin:x", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("margin:NaN", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("threshold:2", null, 30));
    assertRefused("to be 0 to 100", () -> ExitPolicy.parse("entropy:-1", null, 30));
    assertRefused("needs one number", () -> ExitPolicy.parse("threshold:0.9,2", null, 30));
    assertRefused("P,TAU,LENGTH", () -> ExitPolicy.parse("calm:0.9,4", null, 30));
    assertRefused("to be 0 to 1", () -> ExitPolicy.parse("calm:1.1,4,128", null, 30));
    assertRefused("to be 0 to 100", () -> ExitPolicy.parse("calm:0.9,-1,128", null, 30));
    assertRefused("the length to be 1", () -> ExitPolicy.parse("calm:0.9,4,0", null, 30));
    assertRefused("to be 1 to 30", () -> ExitPolicy.parse("fixed:31", null, 30));
    assertRefused("to be 1 to 30", () -> ExitPolicy.parse("patience:0", null, 30));
    assertRefused("--exit-points", () -> ExitPolicy.parse("margin:.5", "0,2", 30));
    assertRefused("FIRST,STRIDE", () -> ExitPolicy.parse("margin:.5", "4", 30));
    assertRefused("asks nowhere", () -> ExitPolicy.parse("none", "4,2", 30));
    assertRefused("asks nowhere", () -> ExitPolicy.parse("fixed:7", "4,2", 30));
  }

  @Test
  void schedulesSayWhichLayersRun() {
    assertNull(Schedule.parse("none", 30));
    int[][] unified = Schedule.tabulate(Schedule.parse("unified:3", 30), 4, 6, 30);
    assertEquals(30, unified[3].length);
    assertArrayEquals(new int[] {0, 15, 29}, unified[4]);
    int[][] decreasing = Schedule.tabulate(Schedule.parse("skipdecode:10,4,10,1", 30), 5, 20, 30);
    assertEquals(10, decreasing[5].length);
    assertEquals(7, decreasing[10].length);
    assertArrayEquals(new int[] {0, 27, 28, 29}, decreasing[15]);
    assertArrayEquals(
        new int[] {2, 1}, Schedule.tabulate(Schedule.parse("fixed:2,1", 3), 1, 1, 3)[0]);
    assertEquals(30, Schedule.tabulate(null, 1, 1, 30)[0].length);
  }

  @Test
  void senselessSchedulesAreRefused() {
    for (String text : new String[] {"", "unified", "none:1", "other:1"}) {
      assertRefused("--schedule", () -> Schedule.parse(text, 30));
    }
    assertRefused("to be 1 to 30", () -> Schedule.parse("unified:31", 30));
    assertRefused("MOST,LEAST,HORIZON,WARM_UP", () -> Schedule.parse("skipdecode:10,4", 30));
    assertRefused("to be 1 to 10", () -> Schedule.parse("skipdecode:10,11,5,1", 30));
    assertRefused("to be 0 to 4", () -> Schedule.parse("skipdecode:10,4,5,5", 30));
    assertRefused("to be 0 to 29", () -> Schedule.parse("fixed:30", 30));
    assertRefused("a layer twice", () -> Schedule.parse("fixed:1,2,1", 30));
    assertRefused("to be 0 to 29", () -> Schedule.parse("fixed:1,,2", 30));
  }

  @Test
  void feedForwardSkipsAreRead() {
    assertNull(FfnSkip.parse("none", 30));
    assertEquals(new FfnSkip(5, 25, 64, .97f, -1), FfnSkip.parse("5,25,64,0.97", 30));
    assertEquals(new FfnSkip(5, 25, 64, .97f, 8), FfnSkip.parse("5, 25, 64, 0.97, 8", 30));
    assertRefused("COLD_START", () -> FfnSkip.parse("5,25", 30));
    assertRefused("to be 25 to 30", () -> FfnSkip.parse("25,5,0,.9", 30));
    assertRefused("the threshold", () -> FfnSkip.parse("5,25,0,much", 30));
  }

  private static Executable speculation(String text, int length, String rule) {
    return () -> Speculation.parse(text, length, rule, 30);
  }

  @Test
  void draftsAreRead() {
    assertNull(Speculation.parse("none", 0, null, 30));
    assertEquals(7, Speculation.parse("lookup", 0, null, 30).length(100));
    assertEquals(4, Speculation.parse("lookup", 0, "gain", 30).length(5));
    assertEquals(20, Speculation.parse("selfdraft:29", 20, "confidence:0.5", 30).length(100));
    assertEquals(9, Speculation.parse("lookup:16", 0, "fixed:9", 30).length(100));
    assertEquals("a.gguf", Speculation.parse("model:a.gguf", 0, null, 30).model().toString());
    assertEquals(18, Speculation.parse("del", 0, null, 30).length(100));
    assertEquals(9, Speculation.parse("del-paper:3,4", 9, null, 30).length(100));
    assertEquals(20, Speculation.parse("selfdraft:3", 0, "specdec:a,b,.5", 30).length(100));
    assertEquals(
        "a,b", Speculation.parse("model:c", 4, "specdec:a,b,.5", 30).acceptanceFile().toString());
    assertEquals(7, Speculation.parse("lookup+selfdraft:3", 0, null, 30).length(100));
    assertEquals(4, Speculation.parse("selfdraft:3+lookup:2", 0, "fixed:4", 30).length(100));
    Speculation three = Speculation.parse("lookup+selfdraft:3+model:a+b:c.gguf", 0, "gain", 30);
    assertEquals(List.of("lookup", "selfdraft", "model"), three.names());
    assertEquals("a+b:c.gguf", three.model().toString(), "a file may have any name");
    DraftPolicy confident = DraftRules.parse("confidence:0.5", 6).make(null, null, 0, 1, 1);
    assertEquals(6, confident.most(0));
    assertTrue(confident.goesOn(0.5f) && confident.goesOn(Float.NaN) && !confident.goesOn(0.4f));
  }

  @Test
  void senselessDraftsAreRefused() {
    for (String text : new String[] {"", "draft", "none:1", "Lookup", "del:1;2"}) {
      assertRefused("--speculate", speculation(text, 0, null));
    }
    assertRefused("the layers to be 1 to 29", speculation("selfdraft:30", 0, null));
    assertRefused("the layers to be 1 to 29", speculation("selfdraft:0", 0, null));
    assertRefused("needs one number", speculation("selfdraft", 0, null));
    assertRefused("needs the first layers and a stride", speculation("del:3", 0, null));
    assertRefused("the first layers to be 1 to 29", speculation("del:30,1", 0, null));
    assertRefused("the stride to be 1 to 29", speculation("del-paper:3,0", 0, null));
    assertRefused("has a rule of its own", speculation("del", 0, "gain"));
    assertRefused("this model has 1", () -> Speculation.parse("del", 0, null, 1));
    assertRefused("the tokens to look up to be 1 to 16", speculation("lookup:0", 0, null));
    assertRefused("the tokens to look up to be 1 to 16", speculation("lookup:many", 0, null));
    assertRefused("needs a file", speculation("model:", 0, null));
    for (String text :
        new String[] {"lookup+", "+lookup", "none+lookup", "lookup++model:a", "lookup+none"}) {
      assertRefused("--speculate is '" + text + "', not none, ", speculation(text, 0, null));
    }
    assertRefused("'lookup+del', but del chooses", speculation("lookup+del", 0, null));
    assertRefused("of each kind there can be one", speculation("lookup+lookup:2", 0, null));
    assertRefused("the layers to be 1 to 29", speculation("lookup+selfdraft:30", 0, null));
    assertRefused("has no probability", speculation("lookup+selfdraft:3", 0, "confidence:0.5"));
    assertRefused("has no hidden state", speculation("lookup+model:a", 0, "specdec:head"));
    assertRefused("gain and fixed alone", speculation("selfdraft:3+model:a", 0, "confidence:0.5"));
    assertRefused("--draft-rule is 'half'", speculation("lookup", 0, "half"));
    assertRefused("--draft-rule is 'fixed'", speculation("lookup", 0, "fixed"));
    assertRefused("needs one number", speculation("selfdraft:3", 0, "confidence:.5,2"));
    assertRefused("to be 1 to 63", speculation("lookup", 0, "fixed:0"));
    assertRefused("to be 1 to 63", speculation("lookup", 0, "fixed:64"));
    assertRefused("to be 0 to 1", speculation("selfdraft:3", 0, "confidence:2"));
    assertRefused("both say how long a draft is", speculation("lookup", 5, "fixed:4"));
    assertRefused("has no probability", speculation("lookup", 5, "confidence:0.5"));
    assertRefused("only selfdraft and del draft with the model's own first layers",
        () -> Speculation.parse("lookup", 0, null, 30).withTranslators(Path.of("file")));
    assertRefused("has no hidden state", speculation("lookup", 0, "specdec:head"));
    assertRefused("has a rule of its own", speculation("del-paper", 0, "specdec:head"));
    assertRefused("specdec needs a file", speculation("selfdraft:3", 0, "specdec"));
    assertRefused("specdec needs a file", speculation("selfdraft:3", 0, "specdec:,.5"));
    assertRefused("the threshold to be 0 to 1", speculation("selfdraft:3", 0, "specdec:head,2"));
    assertRefused("a threshold after the comma", speculation("selfdraft:3", 0, "specdec:head,"));
    assertRefused("--speculate none drafts nothing", speculation("none", 5, null));
    assertRefused("--speculate none drafts nothing", speculation("none", 0, "gain"));
  }

  @Test
  void whatContradictsItselfIsRefused() {
    ExitPolicy exit = ExitPolicy.parse("fixed:3", null, 5);
    FfnSkip skip = new FfnSkip(1, 4, 0, .9f, -1);
    assertRefused("an exit rule and a schedule",
        ()
            -> DecoderOptions.FULL.withExit(exit, KvPolicy.NONE)
                .withSchedule(Schedule.parse("unified:2", 5))
                .check());
    assertRefused("recomputed",
        () -> DecoderOptions.FULL.withExit(exit, KvPolicy.RECOMPUTE).withFfnSkip(skip).check());
    DecoderOptions.FULL.withExit(exit, KvPolicy.PROPAGATE).withFfnSkip(skip).check();
  }
}
