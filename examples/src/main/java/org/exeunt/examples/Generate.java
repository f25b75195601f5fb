// SPDX-License-Identifier: Apache-2.0
package org.exeunt.examples;

import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.FloatBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.AccessDeniedException;
import java.nio.file.NoSuchFileException;
import java.util.List;
import java.util.Locale;
import org.exeunt.Backend;
import org.exeunt.examples.gguf.GgufFile;
import org.exeunt.examples.io.ModelFormatException;
import org.exeunt.examples.llama.ChatTemplate;
import org.exeunt.examples.llama.DecodeWork;
import org.exeunt.examples.llama.Decoder;
import org.exeunt.examples.llama.DecoderOptions;
import org.exeunt.examples.llama.LlamaConfig;
import org.exeunt.examples.llama.LlamaWeights;
import org.exeunt.examples.llama.Sampler;
import org.exeunt.examples.llama.TextStream;
import org.exeunt.examples.llama.Tokenizer;

/** Answers a prompt and streams the text; see {@link GenerateOptions#USAGE}. */
public final class Generate {
  private final GenerateOptions options;
  private final PrintStream out;
  private final PrintStream log;
  private long prefillNanos;
  private long decodeNanos;

  private Generate(GenerateOptions options, PrintStream out, PrintStream log) {
    this.options = options;
    this.out = out;
    this.log = log;
  }

  /** Runs and ends the process: status 2 if the arguments or the model make no sense. */
  public static void main(String[] arguments) {
    Locale.setDefault(Locale.ROOT);
    PrintStream utf8 =
        new PrintStream(new FileOutputStream(FileDescriptor.out), false, StandardCharsets.UTF_8);
    System.exit(run(utf8, System.err, arguments));
  }

  /** Runs and returns the exit status. */
  static int run(PrintStream out, PrintStream log, String... arguments) {
    try {
      new Generate(GenerateOptions.parse(arguments), out, log).run();
      return 0;
    } catch (NoSuchFileException e) {
      log.println("generate: there is no file " + e.getFile());
    } catch (AccessDeniedException e) {
      log.println("generate: " + e.getFile() + " may not be read");
    } catch (IOException | IllegalArgumentException | UnsupportedOperationException e) {
      log.println("generate: " + e.getMessage());
    } catch (UnsatisfiedLinkError e) {
      log.println("generate: " + e.getMessage());
      return 1;
    } catch (OutOfMemoryError e) {
      log.println("generate: there is not enough memory: " + e.getMessage());
      return 1;
    }
    return 2;
  }

  private void run() throws IOException {
    if (options.help) {
      out.print(GenerateOptions.USAGE);
      out.flush();
      return;
    }
    try (GgufFile file = GgufFile.open(options.model)) {
      LlamaConfig config = LlamaConfig.of(file);
      DecoderOptions decoding = options.decoder(config.layers());
      Tokenizer tokenizer = new Tokenizer(file);
      int[] prompt = tokenizer.encode(prompt(file));
      if (prompt.length == 0 || prompt.length >= config.context()) {
        throw new IllegalArgumentException("the prompt has " + prompt.length
            + " tokens; this model takes 1 to " + (config.context() - 1));
      }
      if (options.threads > 0) {
        Backend.setThreads(options.threads);
      }
      // The last token that is drawn need not go in.
      int capacity = Math.min(config.context(), prompt.length + options.maxTokens);
      try (LlamaWeights weights = LlamaWeights.load(file, options.weights);
          Decoder decoder = new Decoder(weights, decoding, 1, capacity)) {
        answer(decoder, prompt, tokenizer, capacity - prompt.length);
        if (options.stats) {
          report(decoder.work(), weights, prompt.length);
        }
      }
    }
  }

  private String prompt(GgufFile file) throws IOException {
    String text = options.prompt.equals("-")
        ? new String(System.in.readAllBytes(), StandardCharsets.UTF_8) : options.prompt;
    return options.raw ? text
        : new ChatTemplate(file).render(List.of(new ChatTemplate.Message("user", text)));
  }

  private void answer(Decoder decoder, int[] prompt, Tokenizer tokenizer, int most)
      throws ModelFormatException {
    Sampler sampler = options.temperature == 0 ? null : new Sampler(tokenizer.size(),
        options.temperature, options.topP, options.seed);
    FloatBuffer logits = sampler == null ? null : decoder.logits().floatBuffer();
    TextStream text = new TextStream(tokenizer);
    long start = System.nanoTime();
    decoder.prefill(0, prompt);
    long begun = System.nanoTime();
    prefillNanos = begun - start;
    int[] token = new int[1];
    for (int i = 0; i < most; i++) {
      if (decoder.argmax(0) < 0) {
        throw new ModelFormatException(options.model, "after " + decoder.position(0)
            + " tokens its logits are not numbers; it may have been damaged.");
      }
      token[0] = sampler == null ? decoder.argmax(0) : sampler.draw(logits);
      if (token[0] == tokenizer.endOfSequence()) {
        break;
      }
      out.print(text.add(token[0]));
      out.flush();
      if (i + 1 < most) {
        decoder.step(token);
      }
    }
    decodeNanos = System.nanoTime() - begun;
    out.println(text.finish());
    out.flush();
  }

  private void report(DecodeWork work, LlamaWeights weights, int prompt) {
    log.printf("prompt: %d tokens, %.1f per second%n", prompt, 1e9 * prompt / prefillNanos);
    if (work.tokens() == 0) {
      return;
    }
    double tokens = work.tokens();
    log.printf("answer: %d tokens decoded, %.1f per second%n", work.tokens(),
        1e9 * tokens / decodeNanos);
    log.printf("layers per token: %.1f of %d; feed-forward blocks: %.1f; readings of the head: "
        + "%.1f%n", work.layers() / tokens, weights.config().layers(),
        work.feedForwards() / tokens, work.headReadings() / tokens);
    double change = 100.0 * work.bytes() / work.bytesAtFullDepth() - 100;
    log.printf("weights read per token: %.1f MB; at full depth %.1f MB (%.1f %% %s)%n",
        work.bytes() / tokens / 1e6, weights.bytesPerToken() / 1e6, Math.abs(change),
        change > 0 ? "more" : "saved");
    log.printf("weights read per second: %.1f GB%n", work.bytes() / (double) decodeNanos);
  }
}
