// SPDX-License-Identifier: Apache-2.0

import static org.junit.platform.engine.discovery.ClassNameFilter.includeClassNamePatterns;
import static org.junit.platform.engine.discovery.DiscoverySelectors.selectPackage;

import java.io.PrintWriter;
import org.junit.platform.engine.TestExecutionResult;
import org.junit.platform.launcher.TestExecutionListener;
import org.junit.platform.launcher.TestIdentifier;
import org.junit.platform.launcher.core.LauncherDiscoveryRequestBuilder;
import org.junit.platform.launcher.core.LauncherFactory;
import org.junit.platform.launcher.listeners.SummaryGeneratingListener;

/**
 * Runs the test classes whose names match one pattern, then those of the next; ends at the first
 * failure, and fails if there are none.
 */
class RunTests {
  public static void main(String[] patterns) {
    var first = new TestExecutionListener() {
      @Override
      public void executionFinished(TestIdentifier test, TestExecutionResult result) {
        if (result.getStatus() == TestExecutionResult.Status.FAILED) {
          System.out.println(test.getDisplayName() + ": " + result.getThrowable().orElse(null));
          System.out.flush();
          Runtime.getRuntime().halt(1);
        }
      }
    };
    for (String pattern : patterns) {
      var request =
          LauncherDiscoveryRequestBuilder.request()
              .selectors(selectPackage("org.exeunt"))
              .filters(includeClassNamePatterns(".*\\.(" + pattern + ")"))
              .build();
      var listener = new SummaryGeneratingListener();
      LauncherFactory.create().execute(request, first, listener);
      var summary = listener.getSummary();
      summary.printFailuresTo(new PrintWriter(System.out, true));
      if (summary.getTestsSucceededCount() == 0 || summary.getTotalFailureCount() > 0) {
        System.exit(1);
      }
    }
    System.exit(0);
  }
}
