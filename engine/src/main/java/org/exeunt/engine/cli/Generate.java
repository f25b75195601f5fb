// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.BufferedReader;
import java.io.Closeable;
import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.FilterOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;
import java.util.Locale;
import java.util.stream.IntStream;
import org.exeunt.Screen;
import org.exeunt.cli.HelpPage;
import org.exeunt.engine.answer.Answer;
import org.exeunt.engine.answer.BranchedAnswer;
import org.exeunt.engine.answer.HostAnswer;
import org.exeunt.engine.answer.OwningAnswer;
import org.exeunt.engine.answer.Probe;
import org.exeunt.engine.answer.ProbedAnswer;
import org.exeunt.engine.answer.SampledAnswer;
import org.exeunt.engine.answer.Sampling;
import org.exeunt.engine.decode.DecodeWork;
import org.exeunt.engine.decode.Decoder;
import org.exeunt.engine.decode.DecoderOptions;
import org.exeunt.engine.decode.HeadScreen;
import org.exeunt.engine.decode.Loading;
import org.exeunt.engine.decode.Sampler;
import org.exeunt.engine.device.DeviceDecoder;
import org.exeunt.engine.device.GumbelNoise;
import org.exeunt.engine.device.speculate.DeviceSpeculativeDecoder;
import org.exeunt.engine.model.LlamaConfig;
import org.exeunt.engine.model.LlamaWeights;
import org.exeunt.engine.model.Models;
import org.exeunt.engine.model.gguf.GgufFile;
import org.exeunt.engine.model.io.ModelFormatException;
import org.exeunt.engine.model.text.ChatTemplate;
import org.exeunt.engine.model.text.Conversation;
import org.exeunt.engine.model.text.TextStream;
import org.exeunt.engine.model.text.Texts;
import org.exeunt.engine.model.text.Tokenizer;
import org.exeunt.engine.report.Terminal;
import org.exeunt.engine.speculate.DraftFiles;
import org.exeunt.engine.speculate.DraftModel;
import org.exeunt.engine.speculate.Rounds;
import org.exeunt.engine.speculate.Speculation;
import org.exeunt.engine.speculate.SpeculativeAnswer;
import org.exeunt.engine.speculate.SpeculativeDecoder;

/** Answers a prompt and streams the text; the help page says how. */
public final class Generate {
  /** What a shell reports of a program that a closed pipe has ended. */
  private static final int CLOSED_PIPE = 128 + 13;

  private final GenerateOptions options;
  private final Output output;
  private final PrintStream out;
  private final PrintStream log;
  private GgufFile opened; // null: it could not be opened
  private Loading loading; // while it runs
  private final List<String> endings = new ArrayList<>(); // why each answer ended
  private long promptTokens;
  private long prefillNanos;
  private long decodeNanos;
  private Rounds speculative; // null: nothing is drafted
  private List<String> drafters = List.of();
  private ProbedAnswer probed; // null: it is not asked how sure it is

  /** Remembers why it could not be written to, which a PrintStream does not say. */
  private static final class Output extends FilterOutputStream {
    private IOException failure;

    Output(OutputStream out) {
      super(out);
    }

    @Override
    public void write(byte[] bytes, int offset, int length) throws IOException {
      try {
        out.write(bytes, offset, length);
      } catch (IOException e) {
        failure = failure == null ? e : failure;
        throw e;
      }
    }
  }

  /** The answer cannot be written, so there is no use in going on. */
  private static final class UnwrittenException extends IOException {
    private static final long serialVersionUID = 1;

    UnwrittenException(IOException cause) {
      super(cause == null ? "standard output is closed" : cause.getMessage(), cause);
    }
  }

  private Generate(GenerateOptions options, OutputStream out, PrintStream log) {
    this.options = options;
    this.output = new Output(out);
    this.out = new PrintStream(output, false, StandardCharsets.UTF_8);
    this.log = log;
  }

  /** Runs and ends the process: status 2 if the arguments or the model make no sense. */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT);
    System.exit(run(new FileOutputStream(FileDescriptor.out), System.err, arguments));
  }

  /** Runs and returns the exit status. */
  static int run(OutputStream out, PrintStream log, String... arguments) {
    return Ending.of("generate", log, () -> {
      try {
        new Generate(GenerateOptions.parse(arguments), out, log).runUnchanged();
        return 0;
      } catch (UnwrittenException e) {
        if ("Broken pipe".equals(e.getMessage())) {
          return CLOSED_PIPE; // as with `| head`: nothing to complain about
        }
        log.println("generate: the answer could not be written: " + e.getMessage());
        return 1;
      }
    });
  }

  /** Runs; where the model's file changes meanwhile, that is what is wrong, whatever else it is. */
  private void runUnchanged() throws IOException {
    try {
      run();
    } catch (UnwrittenException e) {
      throw e;
    } catch (IOException | RuntimeException | Error e) {
      if (opened != null) {
        opened.requireUnchanged();
      }
      throw e;
    }
  }

  private void run() throws IOException {
    if (options.help) {
      show(HelpPage.text("generate"));
      return;
    }
    try (GgufFile file = opened = GgufFile.open(options.model)) {
      LlamaConfig config = LlamaConfig.of(file);
      DecoderOptions decoding = options.decoder(config.layers());
      Speculation asked = options.speculation(config.layers());
      check(config, decoding, asked);
      try (Loading started = loading = new Loading(file, options.weights, options.threads,
               !options.certified && !options.onGpu(),
               options.packed ? Models.packed(options.model) : null,
               options.certified ? Models.screen(options.model, options.weights) : null, log)) {
        Tokenizer tokenizer = new Tokenizer(file);
        ChatTemplate format = format(file);
        if (options.chat) {
          int room = options.conversation(config.context());
          chat(started.weights(), decoding, asked, tokenizer, new Conversation(format, tokenizer),
              room);
          return;
        }
        int[] prompt = prompt(format, tokenizer);
        if (prompt.length == 0 || prompt.length >= config.context()) {
          throw new IllegalArgumentException("the prompt has " + prompt.length
              + " tokens; this model takes 1 to " + (config.context() - 1));
        }
        // The last token that is drawn need not go in.
        int capacity = Math.min(config.context(), prompt.length + options.maxTokens);
        int most = capacity - prompt.length;
        Probe probe = options.probe(tokenizer);
        checkRoom(config, decoding, asked, capacity);
        LlamaWeights weights = started.weights();
        try (Answer answer = probe != null ? probed(weights, decoding, probe, tokenizer, capacity)
                : options.sampling() != null
                ? samples(weights, decoding, tokenizer, capacity, most)
                : answer(weights, decoding, asked, tokenizer, capacity)) {
          speak(answer, true, prompt, tokenizer, most);
          if (options.stats) {
            report(answer.work(), weights);
          }
        }
      }
    }
  }

  /** Refuses what does not go together, or not with this model, before anything is loaded or made. */
  private void check(LlamaConfig config, DecoderOptions decoding, Speculation asked)
      throws IOException {
    decoding.check(config, options.certified);
    if (asked != null) {
      Speculation.check(decoding);
      asked.check(config);
    }
    if (options.chat) {
      checkRoom(config, decoding, asked, options.conversation(config.context()));
    }
    if (options.onGpu()) {
      if (asked == null) {
        DeviceDecoder.check(decoding, config);
      } else {
        DeviceSpeculativeDecoder.check(decoding, config, asked, config.context());
      }
      options.requireDevice();
    }
  }

  private void checkRoom(
      LlamaConfig config, DecoderOptions decoding, Speculation asked, int capacity) {
    if (asked != null && options.onGpu()) {
      DeviceSpeculativeDecoder.check(decoding, config, asked, capacity);
    } else if (asked != null) {
      asked.checkRoom(capacity);
    }
  }

  /** A conversation, a line of standard input at a time. */
  private void chat(LlamaWeights weights, DecoderOptions decoding, Speculation asked,
      Tokenizer tokenizer, Conversation conversation, int room) throws IOException {
    if (options.system != null) {
      conversation.system(options.system);
    }
    BufferedReader lines =
        new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    try (Answer answer = answer(weights, decoding, asked, tokenizer, room)) {
      String line = options.prompt == null ? ask(lines) : options.prompt;
      for (; line != null && !line.strip().equals("/exit"); line = ask(lines)) {
        if (line.isBlank()) {
          continue;
        }
        Conversation.Turn turn = conversation.say(line, answer.position());
        int most = Math.min(options.maxTokens, room - turn.length());
        if (most < 1) {
          conversation.unsay();
          log.println("generate: with this the conversation would have " + turn.length()
              + " tokens, but there is room for " + (room - 1) + " and an answer: it was not said");
          continue;
        }
        Spoken spoken = speak(answer, turn.anew(), turn.ids(), tokenizer, most);
        conversation.answered(spoken.text, spoken.left);
      }
      if (options.stats) {
        report(answer.work(), weights);
      }
    }
  }

  private String ask(BufferedReader lines) throws IOException {
    if (Terminal.isThere()) {
      log.print("> ");
      log.flush();
    }
    return lines.readLine();
  }

  private Answer probed(LlamaWeights weights, DecoderOptions decoding, Probe probe,
      Tokenizer tokenizer, int capacity) {
    int room = Math.min(weights.config().context(), capacity + probe.room());
    probed = new ProbedAnswer(
        new Decoder(weights, decoding, 1, room), sampler(tokenizer), probe, tokenizer::ends);
    return probed;
  }

  /** An answer that has nothing to do with others, and what it is made of. */
  private Answer answer(LlamaWeights weights, DecoderOptions decoding, Speculation asked,
      Tokenizer tokenizer, int capacity) throws IOException {
    List<Closeable> parts = new ArrayList<>();
    try {
      // What may be refused comes before what takes a minute to make.
      DraftModel drafting = DraftModel.of(asked, options.weights, tokenizer);
      if (drafting != null) {
        parts.add(drafting::close);
      }
      Answer answer;
      if (options.onGpu()) {
        DecoderOptions all = screened(decoding, tokenizer, parts);
        LlamaWeights there = weights.on(options.device);
        parts.add(there::close);
        LlamaWeights drafts = drafting == null ? null : drafting.weights().on(options.device);
        if (drafts != null) {
          parts.add(drafts::close);
        }
        answer = answer(there, all, asked, drafts, tokenizer, capacity);
      } else {
        Speculation speculation =
            DraftFiles.ready(asked, weights, drafting, tokenizer, Texts.essay(), log);
        DecoderOptions all = screened(decoding, tokenizer, parts);
        answer = answer(new Decoder(weights, all, 1, capacity), speculation, drafting, tokenizer);
      }
      return new OwningAnswer(answer, parts);
    } catch (IOException | RuntimeException | Error e) {
      OwningAnswer.closeAll(parts);
      throw e;
    }
  }

  private DecoderOptions screened(
      DecoderOptions decoding, Tokenizer tokenizer, List<Closeable> parts) throws IOException {
    if (!options.certified) {
      return decoding;
    }
    Screen screen = screen(tokenizer);
    parts.add(screen::close);
    return decoding.withScreen(screen);
  }

  /** An answer that is drawn more than once, in parts or as a whole. */
  private Answer samples(
      LlamaWeights weights, DecoderOptions decoding, Tokenizer tokenizer, int capacity, int most) {
    Sampling sampling = options.sampling();
    int[] ends = ends(tokenizer);
    if (!sampling.branches()) {
      return new SampledAnswer(new Decoder(weights, decoding, sampling.samples(), capacity),
          sampling, ends, most, tokens -> text(tokenizer, tokens));
    }
    int room = Math.min(weights.config().context(), capacity + BranchedAnswer.TRIAL_TOKENS);
    return new BranchedAnswer(new Decoder(weights, decoding, sampling.samples(), room), sampling,
        ends, BranchedAnswer.marks(tokenizer));
  }

  private static String text(Tokenizer tokenizer, int... tokens) {
    TextStream text = new TextStream(tokenizer);
    StringBuilder all = new StringBuilder();
    for (int token : tokens) {
      all.append(text.add(token));
    }
    return all.append(text.finish()).toString();
  }

  private Answer answer(
      Decoder decoder, Speculation speculation, DraftModel drafting, Tokenizer tokenizer) {
    Sampler sampler = sampler(tokenizer);
    if (speculation == null) {
      return new HostAnswer(decoder, sampler);
    }
    drafters = speculation.names();
    try {
      speculative = new SpeculativeDecoder(decoder, speculation,
          drafting == null ? null : drafting.weights(), tokenizer::ends,
          sampler == null ? new Sampler[0] : new Sampler[] {sampler});
    } catch (RuntimeException | Error e) {
      decoder.close();
      throw e;
    }
    return new SpeculativeAnswer(speculative);
  }

  /** On a GPU. */
  private Answer answer(LlamaWeights weights, DecoderOptions decoding, Speculation speculation,
      LlamaWeights drafting, Tokenizer tokenizer, int capacity) {
    GumbelNoise noise = noise();
    if (speculation == null) {
      return new DeviceDecoder(weights, decoding, capacity, noise);
    }
    speculative = new DeviceSpeculativeDecoder(weights, decoding, speculation, drafting, 1,
        capacity, ends(tokenizer), noise == null ? new GumbelNoise[0] : new GumbelNoise[] {noise});
    return new SpeculativeAnswer(speculative);
  }

  private static int[] ends(Tokenizer tokenizer) {
    return IntStream.range(0, tokenizer.size()).filter(tokenizer::ends).toArray();
  }

  private GumbelNoise noise() {
    return options.temperature == 0 ? null : new GumbelNoise(options.temperature, options.seed);
  }

  private Sampler sampler(Tokenizer tokenizer) {
    return options.temperature == 0
        ? null
        : new Sampler(tokenizer.size(), options.temperature, options.topP, options.seed);
  }

  private Screen screen(Tokenizer tokenizer) throws IOException {
    Screen kept = loading.screen();
    return kept != null
        ? kept
        : HeadScreen.makeAndKeep(Models.screen(options.model, options.weights), loading.weights(),
              tokenizer, Texts.essay(), log);
  }

  /** How turns are written; null: not at all. */
  private ChatTemplate format(GgufFile file) throws IOException {
    boolean own = ChatTemplate.in(file);
    boolean turns = options.chat || options.system != null;
    if (!options.raw && !own) {
      log.println("generate: the model knows no chat format: "
          + (turns ? "turns are written as ChatML" : "it goes on with the text"));
    }
    return options.raw || !own && !turns ? null : new ChatTemplate(file);
  }

  private int[] prompt(ChatTemplate format, Tokenizer tokenizer) throws IOException {
    String text = options.prompt.equals("-")
        ? new String(System.in.readAllBytes(), StandardCharsets.UTF_8)
        : options.prompt;
    if (format == null) {
      return tokenizer.encodePrompt(text);
    }
    List<ChatTemplate.Message> messages = new ArrayList<>();
    if (options.system != null) {
      messages.add(new ChatTemplate.Message("system", options.system));
    }
    messages.add(new ChatTemplate.Message("user", text));
    return tokenizer.encodeChat(format.render(messages));
  }

  /**
   * What was said.
   *
   * @param left tokens of it that were not taken in
   */
  private record Spoken(String text, int... left) {}

  /**
   * Takes a prompt in and streams what follows.
   *
   * @param anew whether nothing was before
   */
  private Spoken speak(Answer answer, boolean anew, int[] prompt, Tokenizer tokenizer, int most)
      throws IOException {
    TextStream text = new TextStream(tokenizer);
    StringBuilder all = new StringBuilder();
    long start = System.nanoTime();
    if (anew) {
      answer.begin(prompt);
    } else {
      answer.resume(prompt);
    }
    long prompted = System.nanoTime();
    int token = most > 0 ? answer.next() : 0;
    // Of samples, the first token comes with all others.
    long begun = options.sampling() != null ? prompted : System.nanoTime();
    prefillNanos += begun - start;
    promptTokens += prompt.length;
    int[] left = {};
    int given = 0;
    for (; given < most; given++) {
      if (token == Answer.ENDED) {
        break;
      }
      if (token < 0) {
        throw new ModelFormatException(options.model,
            "after " + answer.position()
                + " tokens its logits are not numbers; it may have been damaged.");
      }
      if (tokenizer.ends(token)) {
        break;
      }
      String shown = text.add(token);
      all.append(shown);
      boolean later = options.onGpu() && speculative == null;
      if (!later) {
        show(shown);
      }
      if (given + 1 < most) {
        answer.goOn();
      } else {
        left = new int[] {token};
      }
      if (later) {
        show(shown); // while the device is busy
      }
      if (given + 1 < most) {
        token = answer.next();
      }
    }
    decodeNanos += System.nanoTime() - begun;
    String last = text.finish();
    show(last + System.lineSeparator());
    if (!options.onGpu()) { // which has a copy
      loading.weights().requireUnchanged();
    }
    if (answer.abstained()) {
      log.println("generate: the model is not sure enough of an answer");
    }
    ended(answer, given == most, token, most);
    return new Spoken(all.append(last).toString(), left);
  }

  /** Notes how an answer came to its end, and says so where that was not to be expected. */
  private void ended(Answer answer, boolean whole, int token, int most) {
    if (!whole) {
      endings.add(answer.abstained() || token == Answer.ENDED ? "a rule's" : "the model's");
    } else if (most == options.maxTokens) {
      endings.add("--max-tokens " + most);
    } else {
      String cut = "the context is full after " + (answer.position() + 1) + " tokens";
      log.println("generate: the answer was cut off: " + cut);
      endings.add(cut);
    }
  }

  private void show(String text) throws UnwrittenException {
    out.print(text);
    if (out.checkError()) { // flushes as well
      throw new UnwrittenException(output.failure);
    }
  }

  private void report(DecodeWork work, LlamaWeights weights) {
    log.printf(
        "prompt: %d tokens, %.1f per second%n", promptTokens, 1e9 * promptTokens / prefillNanos);
    log.println("end of the answer: " + String.join("; ", endings));
    if (work.tokens() == 0) {
      return;
    }
    double tokens = work.tokens();
    log.printf(
        "answer: %d tokens decoded, %.1f per second%n", work.tokens(), 1e9 * tokens / decodeNanos);
    log.printf("layers per token: %.1f of %d; feed-forward blocks: %.1f; readings of the head: "
            + "%.1f%n",
        work.layers() / tokens, weights.config().layers(), work.feedForwards() / tokens,
        work.headReadings() / tokens);
    if (speculative != null) {
      log.printf("drafts: %d tokens, %d of them right; %.2f tokens per verification%n",
          speculative.drafted(), speculative.accepted(), tokens / speculative.verifications());
      for (int i = 0; i < drafters.size() && drafters.size() > 1; i++) {
        log.printf("drafts of %s: %d tokens, %d of them right%n", drafters.get(i),
            speculative.drafted(i), speculative.accepted(i));
      }
    }
    if (probed != null) {
      log.printf(
          "probes: %d; the model was sure to %.2g at most%n", probed.asked(), probed.surest());
    }
    if (options.certified) {
      log.printf("certified without the whole head: %d of %d states%n", work.certified(),
          work.rowsAsked());
    }
    if (options.onGpu()) {
      return; // what a graph reads in vain is not counted
    }
    double change = 100.0 * work.bytes() / work.bytesAtFullDepth() - 100;
    log.printf("weights read per token: %.1f MB; at full depth %.1f MB (%.1f %% %s)%n",
        work.bytes() / tokens / 1e6, weights.bytesPerToken() / 1e6, Math.abs(change),
        change > 0 ? "more" : "saved");
    log.printf("weights read per second: %.1f GB%n", work.bytes() / (double) decodeNanos);
  }
}
