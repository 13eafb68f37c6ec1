package examples;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.OpenOption;
import java.nio.file.Paths;
import org.apache.flink.api.common.JobExecutionResult;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;

/**
 * Runs two jobs that do nothing, one after the other, and writes to a file what {@code execute()} returned: a line
 * for each, {@code with result} when the job had ended by then, and {@code submitted} when not.
 *
 * <p>The source stays within what Janino compiles.
 */
@SuppressWarnings("unchecked")
public final class TwoJobs {
    private TwoJobs() {}

    public static void main(String[] arguments) throws Exception {
        StringBuilder lines = new StringBuilder();
        for (int i = 1; i <= 2; i++) {
            StreamExecutionEnvironment environment = StreamExecutionEnvironment.getExecutionEnvironment();
            environment.setParallelism(1);
            environment.fromSequence(1, 10).sinkTo(new DiscardingSink());
            JobExecutionResult result = environment.execute("job " + i);
            lines.append(result.isJobExecutionResult() ? "with result\n" : "submitted\n");
        }
        System.out.println("two jobs were made");
        byte[] text = lines.toString().getBytes(StandardCharsets.UTF_8);
        Files.write(Paths.get(arguments[0], new String[0]), text, new OpenOption[0]);
    }
}
