// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests;

import static org.exeunt.tests.Refusals.invalid;
import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.TreeMap;
import org.exeunt.Attention;
import org.exeunt.AttentionScores;
import org.exeunt.Backend;
import org.exeunt.Cosine;
import org.exeunt.CrossEntropy;
import org.exeunt.DType;
import org.exeunt.Device;
import org.exeunt.ExitHead;
import org.exeunt.ExitRule;
import org.exeunt.Ffn;
import org.exeunt.FfnSkipRule;
import org.exeunt.Gate;
import org.exeunt.Gather;
import org.exeunt.HiddenStack;
import org.exeunt.HiredBudget;
import org.exeunt.KvAppend;
import org.exeunt.KvCache;
import org.exeunt.KvCompact;
import org.exeunt.KvCopy;
import org.exeunt.KvLength;
import org.exeunt.KvPropagate;
import org.exeunt.LayerSchedule;
import org.exeunt.Linear;
import org.exeunt.Norm;
import org.exeunt.Op;
import org.exeunt.PerpGrad;
import org.exeunt.Rope;
import org.exeunt.RopeTable;
import org.exeunt.RowCompaction;
import org.exeunt.RowStats;
import org.exeunt.Scope;
import org.exeunt.Select;
import org.exeunt.Selection;
import org.exeunt.StableMax;
import org.exeunt.Statistic;
import org.exeunt.Statistics;
import org.exeunt.Stream;
import org.exeunt.Tensor;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.ExtendWith;
import org.junit.jupiter.api.io.TempDir;

/** Tensors over read-only buffers: a write to a file mapped for reading would end the process. */
@ExtendWith(ForcedPath.class)
class ReadOnlyTest {
  @TempDir Path folder;

  private MappedByteBuffer mapped() throws IOException {
    Path file = folder.resolve("weights");
    Files.write(file, new byte[64]);
    try (FileChannel channel = FileChannel.open(file)) {
      return channel.map(FileChannel.MapMode.READ_ONLY, 0, 64);
    }
  }

  @Test
  void viewsAndBuffersAreReadOnlyToo() throws IOException {
    Tensor t = Tensor.of(mapped(), DType.F32, 4, 4);
    assertTrue(t.isReadOnly());
    assertTrue(t.row(1).isReadOnly());
    assertTrue(t.reshape(16).isReadOnly());
    assertTrue(t.reinterpret(DType.U8, 4, 8).isReadOnly());
    assertTrue(t.strided(new long[] {2, 2}, new long[] {8, 2}).isReadOnly());
    assertTrue(t.floatBuffer().isReadOnly());
    assertEquals(ByteOrder.nativeOrder(), t.byteBuffer().order());
    ByteBuffer writable = ByteBuffer.allocateDirect(8);
    assertFalse(Tensor.of(writable, 8).isReadOnly());
    assertFalse(Tensor.of(writable, 8).byteBuffer().isReadOnly());
    assertTrue(Tensor.of(writable.asReadOnlyBuffer(), 8).isReadOnly());
  }

  @Test
  void copiesIntoThemAreRefused() throws IOException {
    Tensor t = Tensor.of(mapped(), DType.F32, 16);
    invalid(() -> t.copyFrom(new float[16]), "copyFrom", "F32[16]", "is read-only");
    invalid(() -> t.copyFrom(new double[16]), "is read-only");
    invalid(() -> t.copyFrom(new int[16]), "is read-only");
    invalid(() -> t.rows(2, 4).copyFrom(new float[2]), "F32[2]", "is read-only");
    try (Scope scope = Scope.open()) {
      Tensor other = scope.allocate(Device.CPU, DType.F32, 16);
      invalid(() -> t.copyFrom(other, Stream.DEFAULT), "is read-only");
      invalid(() -> other.copyTo(t, Stream.DEFAULT), "is read-only");
      invalid(() -> Backend.copyBandwidthProbe(other, t, false), "F32[16]", "is read-only");
      Backend.copyBandwidthProbe(t, other, false);
      other.copyFrom(t, Stream.DEFAULT);
      assertArrayEquals(new float[16], other.toFloatArray());
    }
  }

  @Test
  void inputsMayBeReadOnly() throws IOException {
    Tensor in = Tensor.of(mapped(), DType.F32, 2, 4);
    Tensor out = Tensor.of(ByteBuffer.allocateDirect(8), DType.F32, 2);
    Cosine.builder().a(in).b(in).out(out).runOnce();
    assertTrue(Float.isNaN(out.toFloatArray()[0]) || out.toFloatArray()[0] == 0);
    invalid(
        () -> Cosine.builder().a(in).b(in).out(in.row(0)).build(),
        "exn_cosine: out is written, but F32[4] on cpu",
        "is read-only");
  }

  /** Every argument that some op writes, by the name its refusal gives it. */
  @Test
  void outputsOfEveryOpAreRefused() throws IOException {
    Tensor t = Tensor.of(mapped(), DType.I32, 1, 1, 1);
    Tensor ok = Tensor.of(ByteBuffer.allocateDirect(4), DType.I32, 1, 1, 1);
    KvCache cache = KvCache.ofHeadMajor(t, ok);
    KvCache values = KvCache.ofHeadMajor(ok, t);
    KvPropagate.Layer first = KvPropagate.Layer.of(0, null, null, null, null);
    KvPropagate.Layer second = KvPropagate.Layer.of(1, null, null, null, values);
    Map<String, Op.Builder<?>> writers = new TreeMap<>();
    writers.put("exn_attention: out", Attention.builder().out(t));
    writers.put("exn_attention: scores", Attention.builder().scores(t));
    writers.put("exn_attention_scores: scores", AttentionScores.builder().scores(t));
    writers.put("exn_attention_scores: selection.indices",
        AttentionScores.builder().select(Selection.top(1, t)));
    writers.put("exn_cross_entropy: loss", CrossEntropy.builder().loss(t));
    writers.put("exn_cross_entropy: grad", CrossEntropy.builder().grad(t));
    writers.put("exn_exit_rule: state", ExitRule.builder().patience(1).state(t));
    writers.put("exn_exit_rule: exit_mask", ExitRule.builder().patience(1).exitMask(t));
    writers.put("exn_exit_rule: active_list", ExitRule.builder().patience(1).activeList(t));
    writers.put("exn_exit_rule: active_count", ExitRule.builder().patience(1).activeCount(t));
    writers.put("exn_exit_rule: exit_layer", ExitRule.builder().patience(1).exitLayer(t));
    writers.put("exn_ffn: out", Ffn.builder().out(t));
    writers.put("exn_ffn: cosine", Ffn.builder().cosine(t));
    writers.put("exn_ffn: branch_cosine", Ffn.builder().branchCosine(t));
    writers.put("exn_ffn_skip_rule: state", rule().state(t));
    writers.put("exn_ffn_skip_rule: skip", rule().skip(t));
    writers.put("exn_gate: prob", Gate.builder().prob(t));
    writers.put("exn_gather: position_out", Gather.builder().positions(t, t));
    writers.put("exn_gather: moved", Gather.builder().moved(t));
    writers.put("exn_gather: tensors[1].out", Gather.builder().tensor(t, ok).tensor(ok, t));
    writers.put("exn_hidden_stack: stack", HiddenStack.push().stack(t));
    writers.put("exn_hidden_stack: stack_tags", HiddenStack.push().tags(t, ok));
    writers.put("exn_hidden_stack: count", HiddenStack.clear().count(t));
    writers.put("exn_hidden_stack: rows", HiddenStack.gather().rows(t));
    writers.put("exn_hidden_stack: tags", HiddenStack.gather().tags(ok, t));
    writers.put("exn_hidden_stack: overflow", HiddenStack.push().overflow(t));
    writers.put("exn_hired_budget: budget", HiredBudget.builder().budget(t));
    writers.put("exn_hired_budget: marks", HiredBudget.builder().marks(t));
    writers.put("exn_hired_budget: valid", HiredBudget.builder().valid(t));
    writers.put("exn_kv_append: cache.k", KvAppend.builder().cache(cache));
    writers.put("exn_kv_append: cache.v", KvAppend.builder().cache(values));
    writers.put("exn_kv_compact: new_length", KvCompact.builder().newLength(t));
    writers.put("exn_kv_compact: freed", KvCompact.builder().freed(t, ok));
    writers.put("exn_kv_compact: freed_count", KvCompact.builder().freed(ok, t));
    writers.put("exn_kv_compact: destination.k", cache.compact());
    writers.put("exn_kv_copy: destination.v", KvCopy.builder().source(cache).destination(values));
    writers.put("exn_kv_length: length", KvLength.crop().length(t));
    writers.put("exn_kv_length: slot", KvLength.advance(1).slot(t));
    writers.put("exn_kv_length: visible", KvLength.advance(1).visible(t));
    writers.put("exn_kv_propagate: layers[1].cache.v",
        KvPropagate.builder().layers(List.of(first, second)));
    writers.put("exn_layer_schedule: layers", LayerSchedule.fixed(0).layers(t));
    writers.put("exn_layer_schedule: count", LayerSchedule.fixed(0).count(t));
    writers.put("exn_layer_schedule: exit_test", LayerSchedule.fixed(0).exitTest(t));
    writers.put("exn_linear: out", Linear.builder().out(t));
    writers.put("exn_norm: out", Norm.builder().out(t));
    writers.put("exn_perp_grad: out", PerpGrad.builder().out(t));
    writers.put("exn_rope: out", Rope.builder().out(t));
    writers.put("exn_rope_table: table", RopeTable.builder().table(t));
    writers.put("exn_row_compaction: out", RowCompaction.scatter().out(t));
    writers.put("exn_select: selection.count",
        Select.builder().select(Selection.top(1, ok).withCount(t)));
    writers.put("exn_select: selection.valid",
        Select.builder().select(Selection.top(1, ok).withValid(t)));
    writers.put("exn_stablemax: out", StableMax.forward().out(t));
    for (Statistic statistic : Statistic.values()) {
      Statistics one = only(statistic, t);
      String name = "out." + statistic.name().toLowerCase(Locale.ROOT);
      writers.put("exn_row_stats: " + name, RowStats.builder().out(one));
      writers.put("exn_exit_head: " + name, ExitHead.builder().out(one));
    }
    writers.forEach(
        (name, builder) -> invalid(builder::build, name + " is written, but I32[1, 1, 1] on cpu"));
  }

  private static FfnSkipRule.Builder rule() {
    return FfnSkipRule.builder().modelLayers(1).coldLayers(0, 1).warmUp(0).threshold(1);
  }

  private static Statistics only(Statistic statistic, Tensor tensor) {
    Tensor[] t = new Tensor[Statistic.values().length];
    t[statistic.ordinal()] = tensor;
    return new Statistics(t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9]);
  }
}
