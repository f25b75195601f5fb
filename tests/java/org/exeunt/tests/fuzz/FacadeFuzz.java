// SPDX-License-Identifier: Apache-2.0
package org.exeunt.tests.fuzz;

import java.lang.reflect.Executable;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.util.ArrayList;
import java.util.BitSet;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.TreeMap;
import java.util.regex.Pattern;
import org.exeunt.Backend;
import org.exeunt.Op;
import org.exeunt.StableMax;
import org.exeunt.Stream;
import org.exeunt.Workspace;

/** Trials of the facade, each repeatable by a seed and its number. */
final class FacadeFuzz {
  /** These cannot be asked for: they need a device, or end what others use. */
  static final Map<String, String> EXCUSED = Map.of("Graph.device", "a CPU has no graphs",
      "Graph.launch", "a CPU has no graphs", "Graph.close", "a CPU has no graphs");

  /** Something is wrong that no exception says. */
  static final class Found extends RuntimeException {
    private static final long serialVersionUID = 1L;

    Found(String sentence, Throwable cause) {
      super(sentence, cause);
    }
  }

  /** One call whose outcome is judged. */
  interface Attempt {
    void run() throws Throwable;
  }

  /** Told of every call. */
  interface Observer {
    void attempt(Attempt attempt) throws Throwable;
  }

  private final long seed;
  private final Arena arena = new Arena();
  private final ApiCalls api = new ApiCalls(arena);
  private final Set<Executable> reached = new HashSet<>();
  private final Map<String, Long> outcomes = new TreeMap<>();
  private final Map<String, Long> sentences = new TreeMap<>();
  private final Map<Class<?>, Pattern> vocabulary = new HashMap<>();
  private long calls;

  FacadeFuzz(long seed) {
    this.seed = seed;
  }

  Set<Executable> reached() {
    return reached;
  }

  Map<String, Long> outcomes() {
    return outcomes;
  }

  Map<String, Long> sentences() {
    return sentences;
  }

  long calls() {
    return calls;
  }

  /** One trial; what it finds comes as a {@link Found}. */
  void trial(long number) {
    Random random = new Random(seed * 0x9e3779b97f4a7c15L ^ number * 0xbf58476d1ce4e5b9L);
    String threads = null;
    try (Trial trial = new Trial(arena, random, reached)) {
      if (random.nextInt(4) > 0) {
        ofPlan(trial);
      } else {
        ofApi(trial);
        threads = "restore";
      }
    } catch (Found e) {
      throw e;
    } catch (RuntimeException e) {
      throw new Found("closing failed: " + e, e);
    } finally {
      if (threads != null) {
        Backend.setIsa(null);
        Backend.setThreads(1);
      }
    }
  }

  private void count(String outcome) {
    outcomes.merge(outcome, 1L, Long::sum);
  }

  private void note(String what, Throwable thrown) {
    if (!Boolean.getBoolean("exeunt.fuzz.sentences")) {
      return;
    }
    String sentence = String.valueOf(thrown.getMessage());
    if (sentence.length() > 300) {
      sentence = sentence.substring(0, 300);
    }
    sentences.merge(what + ": " + thrown.getClass().getSimpleName() + ": "
            + sentence.replaceAll("0x[0-9a-f]+", "ADDRESS").replaceAll("-?\\d[\\d.E+-]*", "#"),
        1L, Long::sum);
  }

  // ---- the rest of the API ----------------------------------------------------------------------

  private void ofApi(Trial trial) {
    try {
      api.chain(trial, attempt -> {
        calls++;
        arena.remember();
        try {
          attempt.run();
          count("api accepted");
        } catch (Throwable t) {
          if (ApiCalls.isSkipped(t)) {
            return;
          }
          judge("api", t, trial.story(), false);
          count("api refused");
        }
      });
    } catch (Found e) {
      throw e;
    } catch (Throwable t) {
      throw new Found("unexpected " + t, t);
    }
  }

  private void judge(String what, Throwable thrown, Object context, boolean harmless) {
    if (thrown instanceof Found found) {
      throw found;
    }
    note(what, thrown);
    String objection = Verdict.objection(thrown);
    if (objection != null) {
      throw new Found(thrown + " " + objection + "\n    " + context, thrown);
    }
    if (harmless) {
      throw new Found("a valid call was refused: " + thrown + "\n    " + context, thrown);
    }
  }

  // ---- ops --------------------------------------------------------------------------------------

  private void ofPlan(Trial trial) {
    try (Plan plan = Plan.any(trial.random(), arena)) {
      judge(plan, trial);
    }
  }

  private void judge(Plan plan, Trial trial) {
    Random random = trial.random();
    Hostile hostile = new Hostile(random, arena);
    List<Hostile.Fault> faults = new ArrayList<>();
    int draw = random.nextInt(10);
    for (int i = draw == 0 ? 0 : draw < 7 ? 1 : 2; i > 0; i--) {
      Hostile.Fault fault = hostile.spoil(plan);
      if (fault != null) {
        faults.add(fault);
      }
    }
    boolean closed = plan.ending == Plan.Ending.RUN_CLOSED
        || plan.ending == Plan.Ending.RUN_BEHIND_SCOPE || plan.ending == Plan.Ending.RUN_ON_NULL;
    boolean sound = faults.stream().allMatch(Hostile.Fault::harmless);
    boolean harmless = sound && !closed && runsAsItIs(plan);
    boolean honest = plan.specs().stream().allMatch(Spec::honest);
    if (!honest && closed) {
      return;
    }
    String context = plan + "\n      faults " + faults;
    BitSet allowed = new BitSet();
    arena.remember();
    calls++;
    Throwable thrown = null;
    try {
      execute(plan, trial, honest, harmless ? 0 : -1);
    } catch (Throwable t) {
      thrown = t;
    }
    if (thrown != null) {
      judge(plan.op, thrown, context, harmless);
      if (thrown instanceof IllegalArgumentException && !names(thrown.getMessage(), plan.built())) {
        throw new Found(thrown + " names no argument\n    " + context, thrown);
      }
      count(thrown.getClass().getSimpleName());
    } else if (honest && mustBeRefused(plan, closed, sound, faults)) {
      throw new Found("was accepted\n    " + context, null);
    } else {
      count("accepted");
    }
    if (thrown == null || plan.ending == Plan.Ending.BUILD_TWICE) {
      plan.specs().stream().filter(spec -> spec.written).forEach(spec -> spec.mark(allowed));
    }
    int stray = arena.firstStray(allowed);
    if (stray >= 0) {
      throw new Found((thrown == null ? "an accepted" : "a refused") + " call wrote byte " + stray
              + (thrown == null ? "" : ": " + thrown) + "\n    " + context,
          thrown);
    }
  }

  /** Not where the ending asks for more than the call: another layer, space for two runs. */
  private static boolean runsAsItIs(Plan plan) {
    return switch (plan.ending) {
      case STEP -> plan.op.equals("exit_rule");
      case BUILD_TWICE ->
        !Set.of("hidden_stack", "kv_length", "stop_rule", "verify").contains(plan.op);
      default -> true;
    };
  }

  private static boolean mustBeRefused(
      Plan plan, boolean closed, boolean sound, List<Hostile.Fault> faults) {
    if (plan.ending == Plan.Ending.RUN_BEHIND_SCOPE && sound) {
      return plan.specs().stream().anyMatch(s -> s.used && s.owner == Spec.Owner.SCOPE);
    }
    if (closed) {
      return plan.ending != Plan.Ending.RUN_BEHIND_SCOPE;
    }
    return faults.size() == 1 && faults.get(0).fatal()
        && faults.get(0).about().stream().allMatch(spec -> spec.used);
  }

  /** Whether a sentence names a setter or a field of the op's struct, and no function of C. */
  private boolean names(String message, Class<?> op) {
    Pattern words = vocabulary.computeIfAbsent(op, FacadeFuzz::vocabulary);
    return !message.contains("exn_")
        && words.matcher(message.replaceFirst("^[A-Z]\\w+: ", "")).find();
  }

  private static Pattern vocabulary(Class<?> op) {
    String snake =
        op == StableMax.class ? "stablemax"
                              : op.getSimpleName()
                                    .replaceAll("(?<=.)(?=[A-Z])", "_")
                                    .toLowerCase(Locale.ROOT);
    List<String> words = new ArrayList<>();
    for (String struct : List.of("exn_" + snake + "_params", "exn_kv_cache", "exn_selection",
             "exn_stats", "exn_kv_layer", "exn_gather_tensor")) {
      try {
        for (Method method : Class.forName("org.exeunt.jni." + struct).getDeclaredMethods()) {
          if (Modifier.isNative(method.getModifiers()) && method.getParameterCount() == 0) {
            words.add(method.getName().replaceFirst("^_", "")); // as JavaCPP avoids its own names
          }
        }
      } catch (ClassNotFoundException e) {
        throw new IllegalStateException(e);
      }
    }
    for (Class<?> inner : op.getDeclaredClasses()) {
      for (Method method : inner.getDeclaredMethods()) {
        words.add(method.getName());
      }
    }
    // Of tensors, whose factories refuse before an op hears of them, and of what several say.
    words.addAll(List.of("shape", "strided", "buffer", "pointer", "blockTable", "workspace",
        "position", "capacity", "[A-Z] \\([a-z ]+\\)", "slots of a page"));
    return Pattern.compile("^[\\w.\\[\\]]+ is null$|\\b(" + String.join("|", words) + ")(?!\\w)");
  }

  private void execute(Plan plan, Trial trial, boolean honest, int least) throws Throwable {
    if (plan.ending == Plan.Ending.RUN_BEHIND_SCOPE) {
      List<Spec> specs = plan.specs();
      specs.get(trial.random().nextInt(specs.size())).owner = Spec.Owner.SCOPE;
    }
    Op.Builder<?> filled = plan.fill(trial);
    if (!honest) {
      filled.build().close(); // a run would believe it
      return;
    }
    switch (plan.ending) {
      case RUN_ONCE -> invoke(trial, filled, "runOnce");
      case RUN_ONCE_ON_STREAM -> invoke(trial, filled, "runOnce", Stream.DEFAULT);
      case BUILD_AND_RUN -> {
        try (Op op = (Op) invoke(trial, filled, "build")) {
          invoke(trial, op, "run", Stream.DEFAULT);
        }
      }
      case BUILD_IN_SCOPE -> {
        Op op = (Op) invoke(trial, filled, "build", trial.ops());
        invoke(trial, op, "run");
        invoke(trial, op, "device");
        invoke(trial, op, "workspaceBytes");
      }
      case BUILD_SHARED -> {
        Workspace shared = Workspace.in(trial.ops());
        Op op = (Op) invoke(trial, filled, "build", trial.ops(), shared);
        invoke(trial, op, "run");
      }
      case BUILD_TWICE -> {
        try (Op first = filled.build(); Op second = filled.build()) {
          second.run();
          first.run();
        }
      }
      case STEP -> step(plan, trial, filled.build(trial.ops()), least);
      case RUN_ON_NULL -> trial.keep(filled.build()).run(null);
      case RUN_CLOSED -> {
        Op op = filled.build();
        op.close();
        invoke(trial, op, "close");
        op.run();
      }
      case RUN_BEHIND_SCOPE -> {
        Op op = trial.keep(filled.build());
        trial.tensors().close();
        op.run();
      }
    }
  }

  /** The op's own ways to run, for some layer and token; {@code least} may be too little. */
  private static void step(Plan plan, Trial trial, Op op, int least) throws Throwable {
    List<Method> ways = plan.runMethods();
    Method way = ways.get(trial.random().nextInt(ways.size()));
    Class<?>[] types = way.getParameterTypes();
    Object[] values = new Object[types.length];
    for (int i = 0; i < types.length; i++) {
      values[i] = types[i] == Stream.class ? (Object) Stream.DEFAULT
          : types[i] == int.class          ? (Object) (trial.random().nextInt(12) + least)
                                           : (Object) trial.random().nextBoolean();
    }
    trial.invoke(way, op, values);
  }

  private static Object invoke(Trial trial, Object receiver, String name, Object... arguments)
      throws Throwable {
    Class<?> owner = receiver instanceof Op ? Op.class : Op.Builder.class;
    for (Method method : owner.getMethods()) {
      if (method.getName().equals(name) && Modifier.isPublic(method.getModifiers())
          && method.getParameterCount() == arguments.length) {
        return trial.invoke(method, receiver, arguments);
      }
    }
    throw new IllegalStateException(name);
  }
}
