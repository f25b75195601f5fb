// SPDX-License-Identifier: Apache-2.0
package org.exeunt.engine.cli;

import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.AccessDeniedException;
import java.nio.file.NoSuchFileException;
import org.exeunt.ExeuntException;
import org.exeunt.engine.model.io.ModelChangedException;

/** How a program ends: with what went wrong in one sentence, and an exit status. */
final class Ending {
  private Ending() {}

  /** What a program does; it returns the exit status. */
  interface Work {
    int run() throws IOException;
  }

  /** The exit status of some work: 2 if the arguments or the model make no sense, 1 if it failed. */
  static int of(String program, PrintStream log, Work work) {
    try {
      return work.run();
    } catch (NoSuchFileException e) {
      log.println(program + ": there is no file " + e.getFile());
    } catch (AccessDeniedException e) {
      log.println(program + ": " + e.getFile() + " may not be read");
    } catch (IOException | IllegalArgumentException | UnsupportedOperationException e) {
      log.println(program + ": " + e.getMessage());
    } catch (UnsatisfiedLinkError | ExeuntException | ModelChangedException e) {
      log.println(program + ": " + e.getMessage());
      return 1;
    } catch (OutOfMemoryError e) {
      log.println(program + ": there is not enough memory: " + e.getMessage());
      return 1;
    }
    return 2;
  }
}
